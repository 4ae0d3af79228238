//! Statistics as text: who sent how much to whom, who waited, which lines of source did most.

use std::fmt::Write;

use ranks::launch::{Count, Observation, SiteObservation};

use super::units::{bytes, number, share, time};

/// Up to so many ranks the traffic is a matrix, beyond that a list of the busiest pairs.
const MATRIX_RANKS: usize = 12;
/// Lines of a list.
const LISTED: usize = 12;

/// All of it.
pub(super) fn text(observation: &Observation) -> String {
    let ranks = observation.ranks.len();
    let mut text = format!(
        "statistics of {ranks} rank{}, {}\n",
        if ranks == 1 { "" } else { "s" },
        time(observation.duration)
    );
    let parts = [traffic(observation), waiting(observation), call_sites(&observation.call_sites)];
    for part in parts {
        text.push('\n');
        text.push_str(&part);
    }
    text
}

/// A table: the first column to the left, the others to the right.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::from(" ");
        for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            // Writing to a string cannot fail.
            let _ = match column {
                0 => write!(line, " {cell:<width$}"),
                _ => write!(line, "  {cell:>width$}"),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn row<S: Into<String>>(cells: impl IntoIterator<Item = S>) -> Vec<String> {
    cells.into_iter().map(Into::into).collect()
}

fn cell(Count { messages, bytes: sum }: Count) -> String {
    match messages {
        0 => "·".to_owned(),
        _ => format!("{} / {}", number(messages as f64), bytes(sum as f64)),
    }
}

fn traffic(observation: &Observation) -> String {
    let ranks = &observation.ranks;
    let pairs = ranks
        .iter()
        .enumerate()
        .flat_map(|(from, rank)| rank.sent.iter().enumerate().map(move |(to, &count)| (from, to, count)));
    let total = pairs.clone().fold(Count::default(), |sum, (.., count)| sum.and(count));
    if total.messages == 0 {
        return "no messages from rank to rank\n".to_owned();
    }
    if ranks.len() <= MATRIX_RANKS {
        let head = std::iter::once("from".to_owned()).chain((0..ranks.len()).map(|to| format!("to {to}")));
        let mut rows = vec![row(head)];
        rows.extend(ranks.iter().enumerate().map(|(from, rank)| {
            row(std::iter::once(from.to_string()).chain(rank.sent.iter().map(|&count| cell(count))))
        }));
        return format!("messages / bytes from rank to rank, {} in all\n{}", cell(total), table(&rows));
    }
    let mut busiest: Vec<_> = pairs.filter(|(.., count)| count.messages > 0).collect();
    busiest.sort_by_key(|&(from, to, count)| (std::cmp::Reverse((count.bytes, count.messages)), from, to));
    let mut rows = vec![row(["from", "to", "messages / bytes"])];
    let listed = busiest.iter().take(LISTED);
    rows.extend(listed.map(|&(from, to, count)| row([from.to_string(), to.to_string(), cell(count)])));
    format!("messages from rank to rank, {} in all; the busiest pairs\n{}", cell(total), table(&rows))
}

fn waiting(observation: &Observation) -> String {
    let mut rows = vec![row(["rank", "waiting", "share", "waits", "sent", "received", "at the end"])];
    let sum = |counts: &[Count]| counts.iter().fold(Count::default(), |sum, &count| sum.and(count));
    rows.extend(observation.ranks.iter().enumerate().map(|(number, rank)| {
        row([
            number.to_string(),
            time(rank.waiting),
            share(rank.waiting, observation.duration),
            rank.waits.to_string(),
            cell(sum(&rank.sent)),
            cell(sum(&rank.received)),
            rank.last_wait.as_ref().map_or(String::new(), |wait| format!("waits in {}", wait.operation)),
        ])
    }));
    format!("time in calls that waited for other ranks\n{}", table(&rows))
}

fn call_sites(sites: &[SiteObservation]) -> String {
    let mut busiest: Vec<_> = sites.iter().collect();
    busiest.sort_by_key(|site| std::cmp::Reverse((site.waiting, site.bytes, site.calls)));
    let mut rows = vec![row(["call site", "operation", "calls", "bytes", "waiting"])];
    rows.extend(busiest.iter().take(LISTED).map(|site| {
        row([
            site.at.clone().unwrap_or_else(|| "other lines".to_owned()),
            site.operation.to_owned(),
            site.calls.to_string(),
            bytes(site.bytes as f64),
            time(site.waiting),
        ])
    }));
    format!("busiest call sites, all ranks together\n{}", table(&rows))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ranks::launch::RankObservation;

    use super::*;

    fn observation(ranks: usize) -> Observation {
        let sent = |from: usize| (0..ranks).map(move |to| from * 10 + to);
        let rank = |from| RankObservation {
            sent: sent(from).map(|n| Count { messages: n as u64, bytes: 100 * n as u64 }).collect(),
            ..Default::default()
        };
        Observation { ranks: (0..ranks).map(rank).collect(), ..Default::default() }
    }

    #[test]
    fn few_ranks_make_a_matrix_and_many_a_list() {
        let few = text(&observation(2));
        assert!(few.contains("  from         to 0          to 1\n"), "{few}");
        assert!(few.contains("  1     10 / 1000 B  11 / 1.1 KiB\n"), "{few}");
        let many = text(&observation(20));
        assert!(many.contains("  19    19    209 / 20.4 KiB\n"), "{many}");
        assert!(!many.contains("to 0"), "{many}");
    }

    #[test]
    fn sites_that_waited_most_come_first() {
        let site = |at: &str, calls, waiting| SiteObservation {
            at: Some(at.to_owned()),
            operation: "recv",
            calls,
            bytes: 0,
            waiting: Duration::from_millis(waiting),
        };
        let text = call_sites(&[site("a.rs:1:1", 9, 0), site("b.rs:2:2", 1, 5)]);
        let place = |name: &str| text.find(name).unwrap();
        assert!(place("b.rs:2:2") < place("a.rs:1:1"), "{text}");
    }
}
