//! The page that people read: `results.md`.

use std::fmt::Write;

use crate::blocks::{FLAGGED_FROM, State};
use crate::contender::{OURS, peer_title};
use crate::goals::{self, Limit, Outcome, Reached};
use crate::output::Better;
use crate::plan::START_UP;
use crate::plot;
use crate::results::{Entry, Key, Results};
use crate::statistics::{self, Spread};

const PEERS: [&str; 4] = ["openmpi4", "openmpi5", "mpich5", "impi"];
/// In the order of the page.
const TESTS: [&str; 19] = [
    "latency",
    "any-latency",
    "bw",
    "bibw",
    "mbw-mr",
    "barrier",
    "bcast",
    "reduce",
    "allreduce",
    "allgather",
    "alltoall",
    "gather",
    "scatter",
    "latency-in-use",
    "bcast-in-use",
    "allreduce-in-use",
    "allgather-in-use",
    "alltoall-in-use",
    START_UP,
];

pub(crate) fn markdown(results: &Results) -> String {
    let mut page = String::from("# Results\n\n");
    page.push_str("What every test is and how to read this: [../benchmarks.md](../benchmarks.md).\n");
    page.push_str("`cargo bench-compare` writes this page and all that is beside it.\n\n");
    for section in [conditions, pictures, goals_table, figures, growth, alone, configurations, troubles] {
        page.push_str(&section(results));
    }
    page
}

fn conditions(results: &Results) -> String {
    let at = &results.conditions;
    let versions = results.contenders.iter().filter(|contestant| contestant.is_default);
    let versions: Vec<_> = versions
        .map(|contestant| {
            let Some(ran) = results.programs.get(&contestant.peer) else {
                return format!("{} {}", contestant.title, contestant.version);
            };
            format!("{}: {} ({})", contestant.title, contestant.version, one_line(ran))
        })
        .collect();
    let lines = [
        ("machine", format!("{}, {} cores in use", at.processor, at.cores)),
        ("kernel", at.kernel.clone()),
        ("compilers", at.compilers.clone()),
        ("versions", versions.join("; ")),
        ("commit", at.commit.clone()),
        ("date", at.date.clone()),
        ("pinning", at.pinning.clone()),
        ("mode", format!("{}, {} rounds", at.mode, results.rounds())),
        (
            "load average (1 minute)",
            format!("{:.1} at the begin, {:.1} at the end", at.load_at_begin, at.load_at_end),
        ),
        ("flagged", flagged(results)),
    ];
    let mut text = String::new();
    for (name, value) in lines {
        let _ = writeln!(text, "- {name}: {value}");
    }
    text + "\n"
}

/// Runs that did not meet the machine in its best state.
fn flagged(results: &Results) -> String {
    let runs: Vec<_> = results.blocks.iter().flat_map(|block| &block.runs).collect();
    let count = |state| runs.iter().filter(|run| run.state == Some(state)).count();
    format!(
        "{} of {} runs, before and after which a cache line took more than {FLAGGED_FROM} times as long from core to core as \
         at best, and {} in which this changed; all count in the medians, and those that changed in no ratio",
        count(State::Distant),
        runs.len(),
        count(State::Changed),
    )
}

fn pictures(results: &Results) -> String {
    let mut text = String::new();
    for picture in plot::pictures(results) {
        let _ = writeln!(text, "![{}]({})\n", picture.title, picture.file);
    }
    text
}

fn goals_table(results: &Results) -> String {
    let mut text = String::from(
        "## Goals\n\nRatios of ranks to the peer, medians over the rounds. A line is met if its worst size is. The machine \
         has two states: in `distant` a cache line takes several times as long from core to core as in `near`. Ratios are \
         of two runs in one state; the columns `near` and `distant` have only those of that state, against the best peer \
         there; `rounds` says of how many rounds the median is, at the size that has fewest.\n\n\
         | what | against | goal | reached: worst (best) | | near | rounds | distant | rounds |\n\
         |---|---|--:|--:|---|--:|--:|--:|--:|\n",
    );
    let states = [State::Near, State::Distant].map(|state| goals::outcomes(&results.in_state(state)));
    for (index, outcome) in goals::outcomes(results).iter().enumerate() {
        let [near, distant] = states.each_ref().map(|state| &state[index]);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            outcome.what,
            outcome.against,
            limit(outcome.limit),
            reached(outcome),
            match outcome.is_met() {
                Some(true) => "met",
                Some(false) => "**not met**",
                None => "",
            },
            reached(near),
            near.rounds(),
            reached(distant),
            distant.rounds(),
        );
    }
    text + "\n"
}

fn limit(limit: Limit) -> String {
    match limit {
        Limit::AtMost(limit) => format!("≤ {limit}"),
        Limit::AtLeast(limit) => format!("≥ {limit}"),
    }
}

fn reached(outcome: &Outcome) -> String {
    match outcome.reached {
        None => "not measured".to_owned(),
        Some(Reached { worst, best, without_ratio, .. }) => {
            let range =
                if worst == best { figure(worst) } else { format!("{} ({})", figure(worst), figure(best)) };
            match without_ratio {
                0 => range,
                sizes => format!("{range}, {sizes} more without a ratio"),
            }
        }
    }
}

fn figures(results: &Results) -> String {
    let mut text = String::from(
        "## Figures\n\nranks: median over the rounds (min–max). Peers: at their defaults / at the best of their \
         settings for this line. Ratios: ranks / peer round by round, median (min–max).\n\n",
    );
    for test in TESTS {
        for ranks in results.compared_ranks(test) {
            text.push_str(&table(results, test, ranks));
        }
    }
    text
}

fn table(results: &Results, test: &str, ranks: usize) -> String {
    let sizes = results.sizes(test, ranks);
    let keys: Vec<_> = sizes.iter().map(|&size| Key { test: test.to_owned(), ranks, size }).collect();
    let Some(entry) = keys.iter().find_map(|key| results.ours(key)) else { return String::new() };
    let good = match entry.better {
        Better::Lower => "below 1 is good",
        Better::Higher => "above 1 is good",
    };
    let takes_part = |peer: &&&str| results.contenders.iter().any(|contestant| contestant.peer == **peer);
    let peers: Vec<_> = PEERS.iter().filter(takes_part).collect();
    let mut text =
        format!("### {test}, {ranks} ranks, {}\n\n| bytes | ranks |", entry.unit.replace("us", "µs"));
    for peer in &peers {
        let _ = write!(text, " {} |", peer_title(peer));
    }
    let _ = writeln!(text, " best peer | to Open MPI's defaults | to the best peer ({good}) |");
    let _ = writeln!(text, "|{}", "--:|".repeat(peers.len() + 5));
    for key in &keys {
        let peers = peers.iter().map(|peer| default_and_best(results, peer, key));
        let columns: Vec<_> = [key.size.to_string(), results.ours(key).map_or("failed".to_owned(), of_entry)]
            .into_iter()
            .chain(peers)
            .chain([best_title(results, key)])
            .chain(
                [results.ratio_to_open_mpi(key), results.ratio_to_best(key)]
                    .map(|ratio| ratio.map_or(String::new(), |ratio| of_spread(ratio.spread))),
            )
            .collect();
        let _ = writeln!(text, "| {} |", columns.join(" | "));
    }
    text + "\n"
}

/// Of one peer: a failure is said, not left out.
fn default_and_best(results: &Results, peer: &str, key: &Key) -> String {
    let median = |entry: Option<&Entry>| entry.and_then(Entry::spread).map(|spread| spread.median);
    let default = median(results.entry(&format!("{peer}-default"), key));
    match (default, median(results.best_of(peer, key))) {
        (None, None) => "failed".to_owned(),
        (None, Some(best)) => format!("failed / {}", figure(best)),
        (Some(default), Some(best)) if default != best => format!("{} / {}", figure(default), figure(best)),
        (Some(default), _) => figure(default),
    }
}

fn best_title(results: &Results, key: &Key) -> String {
    let best = results.best_peer(key).and_then(|entry| results.contestant(&entry.contender));
    best.map_or(String::new(), |contestant| contestant.title.clone())
}

/// What becomes of ours with more ranks.
fn growth(results: &Results) -> String {
    let mut text = String::from(
        "## Growth\n\nOf ranks: median over the rounds by the number of ranks. The last column is the power of the number \
         of ranks with which the time grows, fitted to those that have more ranks than cores.\n\n",
    );
    for (test, size) in [("barrier", 0), ("allreduce", 8), (START_UP, 0)] {
        let entries =
            results.entries.iter().filter(|entry| entry.contender == OURS && entry.key.test == test);
        let mut points: Vec<_> = entries
            .filter(|entry| entry.key.size == size)
            .filter_map(|entry| Some((entry.key.ranks, entry.spread()?.median, &entry.unit)))
            .collect();
        points.sort_by_key(|(ranks, ..)| *ranks);
        let Some((_, _, unit)) = points.first() else { continue };
        let ranks: Vec<_> = points.iter().map(|(ranks, ..)| ranks.to_string()).collect();
        let times: Vec<_> = points.iter().map(|(_, median, _)| figure(*median)).collect();
        let crowded = points.iter().filter(|(ranks, ..)| *ranks > results.conditions.cores);
        let crowded: Vec<_> = crowded.map(|(ranks, median, _)| (*ranks as f64, *median)).collect();
        let power = statistics::growth(&crowded).map_or(String::new(), figure);
        let _ = writeln!(text, "| {test}, ranks | {} | power |", ranks.join(" | "));
        let _ = writeln!(text, "|---|{}", "--:|".repeat(points.len() + 1));
        let _ = writeln!(text, "| {} | {} | {power} |\n", unit.replace("us", "µs"), times.join(" | "));
    }
    text
}

/// What has no counterpart of a peer.
fn alone(results: &Results) -> String {
    let has_counterpart = |entry: &Entry| {
        results.entries.iter().any(|other| other.key == entry.key && other.contender != entry.contender)
    };
    let mut entries: Vec<_> = results
        .entries
        .iter()
        .filter(|entry| {
            (entry.contender == OURS || entry.contender == crate::rounds::FLOOR) && !has_counterpart(entry)
        })
        .collect();
    entries.sort_by(|left, right| left.key.cmp(&right.key));
    if entries.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "## Of ranks and of the machine alone\n\n| test | ranks | bytes | unit | median (min–max) |\n|---|--:|--:|---|--:|\n",
    );
    for entry in entries {
        let Key { test, ranks, size } = &entry.key;
        let _ = writeln!(
            text,
            "| {test} | {ranks} | {size} | {} | {} |",
            entry.unit.replace("us", "µs"),
            of_entry(entry)
        );
    }
    text + "\n"
}

fn configurations(results: &Results) -> String {
    let mut text = String::from(
        "## Configurations\n\n| peer | version | settings | with more ranks than cores also | documented in |\n|---|---|---|---|---|\n",
    );
    for contestant in results.contenders.iter().filter(|contestant| contestant.peer != OURS) {
        let code = |words: &str| if words.is_empty() { String::new() } else { format!(" `{words}`") };
        let _ = writeln!(
            text,
            "| {} | {} | {}{} |{} | {} |",
            contestant.title,
            contestant.version,
            contestant.purpose,
            code(&contestant.settings),
            code(&contestant.crowded_settings),
            contestant.source,
        );
    }
    text + "\n"
}

fn troubles(results: &Results) -> String {
    let mut text = String::from("## Verified, failed, missing\n\n");
    let verified: usize = results.verified.iter().map(|verified| verified.tests.len()).sum();
    let _ = writeln!(
        text,
        "Before anything was measured, {verified} tests of {} contenders were run with every byte verified.\n",
        results.contenders.len()
    );
    for (peer, reason) in &results.missing {
        let _ = writeln!(text, "- {} is missing: {}", peer_title(peer), one_line(reason));
    }
    for failure in &results.failures {
        let title = results.contestant(&failure.contender).map_or(failure.contender.as_str(), |it| &it.title);
        let when =
            failure.round.map_or("while verifying".to_owned(), |round| format!("in round {}", round + 1));
        let tests = failure.tests.join(", ");
        let _ = writeln!(
            text,
            "- {title} failed in {tests} ({}) {when}, and was not tried again there: {}",
            failure.group,
            one_line(&failure.reason)
        );
    }
    if results.missing.is_empty() && results.failures.is_empty() {
        text.push_str("Nothing failed, and no peer is missing.\n");
    }
    text
}

fn one_line(text: &str) -> String {
    const LONGEST: usize = 300;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "/");
    line.chars().take(LONGEST).collect()
}

fn of_entry(entry: &Entry) -> String {
    entry.spread().map_or("failed".to_owned(), of_spread)
}

fn of_spread(spread: Spread) -> String {
    format!("{} ({}–{})", figure(spread.median), figure(spread.min), figure(spread.max))
}

/// Three digits.
pub(crate) fn figure(value: f64) -> String {
    let digits = match value.abs() {
        below if below < 1.0 => 3,
        below if below < 10.0 => 2,
        below if below < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::find_states;
    use crate::results::Failure;
    use crate::results::tests::{key, sample};

    #[test]
    fn a_line_has_our_figure_theirs_and_the_ratios() {
        let page = markdown(&sample());
        let line = "| 8 | 0.150 (0.100–0.200) | 0.600 / 0.300 | openmpi5-ucx | 0.250 (0.250–0.250) | 0.500 (0.500–0.500) |";
        assert!(page.contains(line), "{page}");
        assert!(page.contains("### latency, 2 ranks, µs") && page.contains("above 1 is good"));
    }

    #[test]
    fn the_conditions_stand_beside_the_figures() {
        let page = markdown(&sample());
        for fact in
            ["Test CPU, 2 cores", "0123456789ab", "2026-01-01", "one rank per core", "quick, 2 rounds"]
        {
            assert!(page.contains(fact), "{fact}: {page}");
        }
    }

    #[test]
    fn goals_are_met_or_not() {
        let page = markdown(&sample());
        assert!(page.contains("| latency, 0–128 B | best peer | ≤ 0.55 | 0.500 | met |"), "{page}");
        assert!(page.contains("| bw, 8–64 B | best peer | ≥ 4 | 4.00 | met |"), "{page}");
        assert!(page.contains("not measured"));
    }

    #[test]
    fn each_state_is_said_with_the_rounds_it_rests_on() {
        let mut results = sample();
        find_states(&mut results.blocks);
        let page = markdown(&results);
        let line = "| latency, 0–128 B | best peer | ≤ 0.55 | 0.500 | met | 0.500 | 1 | 0.500 | 1 |";
        assert!(page.contains(line), "{page}");
        assert!(page.contains("- flagged: 3 of 6 runs"), "{page}");
        assert!(
            page.contains("| barrier | best peer | ≤ 0.6 | not measured |  | not measured | 0 |"),
            "{page}"
        );
    }

    #[test]
    fn failures_and_missing_peers_are_named() {
        let mut results = sample();
        results.failures.push(Failure {
            contender: "openmpi5-ucx".to_owned(),
            group: "pair".to_owned(),
            round: Some(1),
            tests: vec!["bibw".to_owned()],
            reason: "exit status 14:\nno | memory".to_owned(),
        });
        let page = markdown(&results);
        assert!(page.contains("openmpi5-ucx failed in bibw (pair) in round 2"), "{page}");
        assert!(page.contains("exit status 14: no / memory"));
        assert!(page.contains("Intel MPI is missing: no wheel"));
    }

    #[test]
    fn a_peer_without_a_figure_has_failed() {
        let mut results = sample();
        results.entries.retain(|entry| entry.contender == OURS || entry.key.test == "latency");
        results.add("other", &key("bw", 2, 8), "MB/s", Better::Higher, 0, 1.0);
        let page = markdown(&results);
        assert!(page.contains("| 8 | 750 (500–1000) | failed |"), "{page}");
    }

    #[test]
    fn figures_have_three_digits() {
        assert_eq!([0.1234, 1.234, 12.34, 1234.5].map(figure), ["0.123", "1.23", "12.3", "1234"]);
    }
}
