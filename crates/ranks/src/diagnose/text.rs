//! A table of the ranks, with a title and advice.

use std::time::Duration;

use super::advice;
use super::find::{Finding, waiting_time};
use super::snapshot::{Life, Outside, Snapshot, View};
use super::words::{at, call, ranks, seconds, verb};

/// The most rows of a table; equal ranks share one.
const ROWS: usize = 24;
/// A longer call does not push the columns behind it further.
const CALL_WIDTH: usize = 44;

/// Ranks that do the same.
struct Row {
    ranks: Vec<usize>,
    what: String,
    /// The time of the rank that has waited for the shortest time.
    waiting: Option<Duration>,
    place: String,
}

/// A finding as lines: what it is, who takes part in it, what to do.
pub(crate) fn describe(snapshot: &Snapshot, finding: &Finding) -> String {
    let mut members = finding.ranks();
    members.sort_unstable();
    let mut lines = vec![title(snapshot, finding)];
    lines.extend(table(snapshot, &members));
    match finding {
        Finding::Deadlock { core, .. } => lines.extend(indented(advice::lines(snapshot, core))),
        Finding::Stall { .. } => {}
    }
    lines.join("\n")
}

/// What every rank does, and which of them can never go on.
pub(crate) fn state(snapshot: &Snapshot, findings: &[Finding]) -> String {
    let all: Vec<usize> = (0..snapshot.size()).collect();
    let mut lines = table(snapshot, &all);
    for finding in findings {
        if let Finding::Deadlock { core, .. } = finding {
            lines.push(format!("  {}", title(snapshot, finding)));
            lines.extend(indented(advice::lines(snapshot, core)));
        }
    }
    lines.join("\n")
}

/// What is the same in two findings that need not be told twice.
pub(crate) fn key(snapshot: &Snapshot, finding: &Finding) -> String {
    let members = finding.ranks();
    let rows = rows(snapshot, &members);
    let rows = rows.iter().map(|row| format!("{:?} {} {}\n", row.ranks, row.what, row.place));
    rows.fold(format!("{}\n", finding.is_certain()), |key, row| key + &row)
}

fn indented(lines: Vec<String>) -> impl Iterator<Item = String> {
    lines.into_iter().map(|line| format!("  {line}"))
}

fn title(snapshot: &Snapshot, finding: &Finding) -> String {
    let age = seconds(finding.age(snapshot));
    match finding {
        Finding::Deadlock { core, behind } => {
            let kind = if advice::is_cycle(snapshot, core) { "cycle" } else { "knot" };
            let others = match behind.len() {
                0 => String::new(),
                1 => ", 1 more rank waits for it".to_owned(),
                more => format!(", {more} more ranks wait for it"),
            };
            format!("no progress for {age}: deadlock ({kind} of {}){others}", core.len())
        }
        Finding::Stall { waiting, others } => {
            let mut clauses: Vec<String> = Vec::new();
            for row in rows(snapshot, others) {
                let clause = doing(snapshot, &row.ranks);
                clauses.extend((!clauses.contains(&clause)).then_some(clause));
            }
            if let count @ 1.. = waiting.len() {
                clauses.push(format!("{count} {}", if count == 1 { "rank waits" } else { "ranks wait" }));
            }
            format!("no progress for {age}: {}", clauses.join(", "))
        }
    }
}

/// `rank 2 is computing`
fn doing(snapshot: &Snapshot, members: &[usize]) -> String {
    let is = verb(members, "is", "are");
    let view = &snapshot.ranks[members[0]];
    format!("{} {is} {}", ranks(members), activity(view))
}

/// What a rank does that is in no call, after "is".
fn activity(view: &View) -> &str {
    match (view.life, &view.outside) {
        (Life::Finished, _) => "finished",
        (Life::Failed, _) => "failed",
        (_, Outside::Stopped) => "stopped",
        (_, Outside::Traced) => "stopped in a debugger",
        (Life::Attached, _) if view.out_of_turn => "waiting for its turn (--chaos)",
        (_, Outside::Computing) => "computing",
        (_, Outside::Sleeping(Some(what))) => what,
        (_, Outside::Sleeping(None)) => "asleep outside of ranks",
        (Life::Absent, Outside::Unknown) => "not attached",
        (Life::Attached, Outside::Unknown) => "in no call",
    }
}

fn table(snapshot: &Snapshot, members: &[usize]) -> Vec<String> {
    let rows = rows(snapshot, members);
    let who: Vec<String> = rows.iter().map(|row| ranks(&row.ranks)).collect();
    let who_width = who.iter().map(String::len).max().unwrap_or(0);
    let width = rows.iter().map(|row| row.what.len()).max().unwrap_or(0).min(CALL_WIDTH);
    let line = |(row, who): (&Row, &String)| {
        let time = row.waiting.map_or_else(String::new, |time| format!("waiting {}", seconds(time)));
        let line = format!("  {who:who_width$}  {:width$}  {time:13}  {}", row.what, row.place);
        line.trim_end().to_owned()
    };
    let mut lines: Vec<String> = rows.iter().zip(&who).map(line).take(ROWS).collect();
    if rows.len() > ROWS {
        lines.push(format!("  ... and {} more lines like these", rows.len() - ROWS));
    }
    lines
}

fn rows(snapshot: &Snapshot, members: &[usize]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for &rank in members {
        let (what, place) = row(&snapshot.ranks[rank]);
        let waiting = waiting_time(snapshot, rank).filter(|_| snapshot.ranks[rank].waits());
        match rows.iter_mut().find(|row| row.what == what && row.place == place) {
            Some(row) => {
                row.ranks.push(rank);
                row.waiting = row.waiting.min(waiting);
            }
            None => rows.push(Row { ranks: vec![rank], what, waiting, place }),
        }
    }
    rows
}

/// What a rank does, and where.
fn row(view: &View) -> (String, String) {
    let before = || match (&view.wait, &view.last_collective) {
        (Some(wait), _) if view.blocked => format!("in {}{}", call(wait), at(wait.site.as_ref())),
        (Some(wait), _) => format!("waited last in {}{}", call(wait), at(wait.site.as_ref())),
        (None, Some(collective)) => format!("last collective: {collective}"),
        (None, None) => String::new(),
    };
    match &view.wait {
        Some(wait) if view.waits() => (call(wait), wait.site.clone().unwrap_or_default()),
        _ => match (&view.outside, view.life) {
            (_, Life::Finished | Life::Failed) => (activity(view).to_owned(), String::new()),
            (_, Life::Absent) => (format!("{}, before init", activity(view)), String::new()),
            _ => (activity(view).to_owned(), before()),
        },
    }
}

/// Kinds of ranks that a short text tells apart.
const KINDS: usize = 4;

/// Where all ranks but one stand, in one line.
pub(crate) fn stand(snapshot: &Snapshot, except: usize) -> String {
    let others: Vec<usize> = (0..snapshot.size()).filter(|&rank| rank != except).collect();
    let rows = rows(snapshot, &others);
    let word = |row: &Row| {
        let view = &snapshot.ranks[row.ranks[0]];
        match view.blocked && !row.place.is_empty() {
            true => format!("{} in {} at {}", ranks(&row.ranks), row.what, row.place),
            false => format!("{} {}", ranks(&row.ranks), row.what),
        }
    };
    let mut words: Vec<String> = rows.iter().take(KINDS).map(word).collect();
    let more: usize = rows.iter().skip(KINDS).map(|row| row.ranks.len()).sum();
    words.extend((more > 0).then(|| format!("{more} more elsewhere")));
    words.join("; ")
}

/// What a rank was doing when it was seen last.
pub(crate) fn last_seen(snapshot: &Snapshot, rank: usize) -> Option<String> {
    let view = &snapshot.ranks[rank];
    let wait = view.wait.as_ref();
    let call = wait.map(|wait| format!("{}{}", call(wait), at(wait.site.as_ref())));
    match (call, wait, &view.last_collective) {
        (Some(call), Some(wait), _) if view.blocked => {
            Some(format!("it was in {call}, waiting {}", seconds(wait.time)))
        }
        (Some(call), ..) => Some(format!("it was in no call that waits; before, it waited in {call}")),
        (None, _, Some(collective)) => {
            Some(format!("it was in no call that waits; its last collective was {collective}"))
        }
        (None, ..) => None,
    }
}
