//! The figures to reach, and whether they are: the one place that knows them.

use crate::compare::Ratio;
use crate::plan::START_UP;
use crate::results::{Entry, Key, Results};
use crate::rounds::{FLOOR, HAND_OFF};
use crate::statistics;

/// One line of the table: ratios of ours to theirs, which every size and number of ranks has to reach.
struct Goal {
    what: &'static str,
    test: &'static str,
    ranks: &'static [usize],
    /// The smallest and the largest.
    sizes: (usize, usize),
    /// Against the better one of Open MPI 4.1 and 5 at their defaults.
    open_mpi: Limit,
    /// Against the best of all peers in all their configurations.
    best: Limit,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

use Limit::{AtLeast, AtMost};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const ALL: (usize, usize) = (0, usize::MAX);

#[rustfmt::skip]
static GOALS: [Goal; 19] = [
    Goal { what: "latency, 0–128 B", test: "latency", ranks: &[2], sizes: (0, 128), open_mpi: AtMost(0.5), best: AtMost(0.55) },
    Goal { what: "latency, 1 KiB", test: "latency", ranks: &[2], sizes: (KIB, KIB), open_mpi: AtMost(0.6), best: AtMost(0.7) },
    Goal { what: "latency, 4 KiB", test: "latency", ranks: &[2], sizes: (4 * KIB, 4 * KIB), open_mpi: AtMost(0.25), best: AtMost(0.9) },
    Goal { what: "latency, 16–64 KiB", test: "latency", ranks: &[2], sizes: (16 * KIB, 64 * KIB), open_mpi: AtMost(0.4), best: AtMost(0.9) },
    Goal { what: "latency, 1–4 MiB", test: "latency", ranks: &[2], sizes: (MIB, 4 * MIB), open_mpi: AtMost(0.45), best: AtMost(0.95) },
    Goal { what: "bw, 8–64 B", test: "bw", ranks: &[2], sizes: (8, 64), open_mpi: AtLeast(4.0), best: AtLeast(4.0) },
    Goal { what: "bw, 4–16 KiB", test: "bw", ranks: &[2], sizes: (4 * KIB, 16 * KIB), open_mpi: AtLeast(4.0), best: AtLeast(2.0) },
    Goal { what: "bw, 64 KiB–4 MiB", test: "bw", ranks: &[2], sizes: (64 * KIB, 4 * MIB), open_mpi: AtLeast(2.0), best: AtLeast(1.8) },
    Goal { what: "barrier", test: "barrier", ranks: &[2], sizes: ALL, open_mpi: AtMost(0.5), best: AtMost(0.6) },
    Goal { what: "allreduce, 8 B–1 KiB", test: "allreduce", ranks: &[2], sizes: (8, KIB), open_mpi: AtMost(0.5), best: AtMost(0.6) },
    Goal { what: "bcast, all sizes", test: "bcast", ranks: &[2], sizes: ALL, open_mpi: AtMost(0.6), best: AtMost(0.8) },
    Goal { what: "allgather, all sizes", test: "allgather", ranks: &[2], sizes: ALL, open_mpi: AtMost(0.6), best: AtMost(0.8) },
    Goal { what: "alltoall, all sizes", test: "alltoall", ranks: &[2], sizes: ALL, open_mpi: AtMost(0.6), best: AtMost(0.8) },
    Goal { what: "allreduce, 64 KiB–4 MiB", test: "allreduce", ranks: &[2], sizes: (64 * KIB, 4 * MIB), open_mpi: AtMost(0.4), best: AtMost(0.8) },
    Goal { what: "4 and 8 ranks: barrier", test: "barrier", ranks: &[4, 8], sizes: ALL, open_mpi: AtMost(0.6), best: AtMost(0.95) },
    Goal { what: "4 and 8 ranks: allreduce, 8 B", test: "allreduce", ranks: &[4, 8], sizes: (8, 8), open_mpi: AtMost(0.4), best: AtMost(0.95) },
    Goal { what: "4 and 8 ranks: bcast, 8 B–64 KiB", test: "bcast", ranks: &[4, 8], sizes: (8, 64 * KIB), open_mpi: AtMost(0.8), best: AtMost(0.95) },
    Goal { what: "start-up, 2 ranks", test: START_UP, ranks: &[2], sizes: ALL, open_mpi: AtMost(0.02), best: AtMost(0.1) },
    Goal { what: "start-up, 8 ranks", test: START_UP, ranks: &[8], sizes: ALL, open_mpi: AtMost(0.04), best: AtMost(0.1) },
];

/// A line of the table as it came out.
pub(crate) struct Outcome {
    pub(crate) what: String,
    pub(crate) against: &'static str,
    pub(crate) limit: Limit,
    /// Over all entries of the line. `None`: nothing of it was measured.
    pub(crate) reached: Option<Reached>,
}

/// The figures of a line's entries: the worst decides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Reached {
    pub(crate) worst: f64,
    pub(crate) best: f64,
    /// That each of them rests on, at least.
    pub(crate) rounds: usize,
    /// Entries that both sides measured, but never in one state of the machine.
    pub(crate) without_ratio: usize,
}

impl Outcome {
    pub(crate) fn rounds(&self) -> usize {
        self.reached.map_or(0, |reached| reached.rounds)
    }

    /// `None` where that cannot be said.
    pub(crate) fn is_met(&self) -> Option<bool> {
        let reached = self.reached?;
        let is_met = match self.limit {
            AtMost(limit) => reached.worst <= limit,
            AtLeast(limit) => reached.worst >= limit,
        };
        (!is_met || reached.without_ratio == 0).then_some(is_met)
    }
}

pub(crate) fn outcomes(results: &Results) -> Vec<Outcome> {
    let mut outcomes: Vec<_> = GOALS.iter().flat_map(|goal| of_goal(results, goal)).collect();
    outcomes.extend(own_goals(results));
    outcomes
}

fn of_goal(results: &Results, goal: &Goal) -> [Outcome; 2] {
    let keys = keys(results, goal);
    let measured =
        keys.iter().filter(|key| results.ours(key).is_some() && results.theirs(key).next().is_some()).count();
    let line = |against, limit, ratios: Vec<Ratio<'_>>| Outcome {
        what: goal.what.to_owned(),
        against,
        limit,
        reached: reached(limit, &ratios, measured),
    };
    let to_open_mpi = keys.iter().filter_map(|key| results.ratio_to_open_mpi(key)).collect();
    let to_best = keys.iter().filter_map(|key| results.ratio_to_best(key)).collect();
    [line("Open MPI at its defaults", goal.open_mpi, to_open_mpi), line("best peer", goal.best, to_best)]
}

fn keys(results: &Results, goal: &Goal) -> Vec<Key> {
    let (smallest, largest) = goal.sizes;
    let of_ranks = |&ranks: &usize| {
        let sizes = results.sizes(goal.test, ranks).into_iter();
        sizes.filter(move |size| (smallest..=largest).contains(size)).map(move |size| Key {
            test: goal.test.to_owned(),
            ranks,
            size,
        })
    };
    goal.ranks.iter().flat_map(of_ranks).collect()
}

/// Of the ratios of as many entries as were `measured`.
fn reached(limit: Limit, ratios: &[Ratio<'_>], measured: usize) -> Option<Reached> {
    let medians: Vec<_> = ratios.iter().map(|ratio| ratio.spread.median).collect();
    let spread = statistics::spread(&medians)?;
    let rounds = ratios.iter().map(|ratio| ratio.rounds).min()?;
    let without_ratio = measured.saturating_sub(ratios.len());
    let (worst, best) = match limit {
        AtMost(_) => (spread.max, spread.min),
        AtLeast(_) => (spread.min, spread.max),
    };
    Some(Reached { worst, best, rounds, without_ratio })
}

/// Those that compare ours with itself, with the machine's limits or with nothing.
fn own_goals(results: &Results) -> Vec<Outcome> {
    let key = |test: &str, ranks, size| Key { test: test.to_owned(), ranks, size };
    let against = |what: &str, against, limit, ours: Option<&Entry>, other: Option<&Entry>| {
        let ratio = ours.zip(other).and_then(|(ours, other)| results.ratio(ours, other));
        Outcome { what: what.to_owned(), against, limit, reached: reached(limit, ratio.as_slice(), 1) }
    };
    let latency = results.ours(&key("latency", 2, 8));
    let any_latency = results.ours(&key("any-latency", 2, 8));
    let mut outcomes = vec![
        against(
            "latency, 8 B, 2 ranks of 128",
            "2 ranks of 2",
            AtMost(1.2),
            results.ours(&key("latency", 128, 8)),
            latency,
        ),
        against(
            "any-latency, 8 B, 2 ranks of 128",
            "2 ranks of 2",
            AtMost(1.2),
            results.ours(&key("any-latency", 128, 8)),
            any_latency,
        ),
        against(
            "latency, 8 B",
            "hand-off of a cache line",
            AtMost(1.5),
            latency,
            results.entry(FLOOR, &key(HAND_OFF, 2, 64)),
        ),
        against(
            "bw, 1 MiB",
            "memcpy of 256 KiB in one core's cache",
            AtLeast(0.5),
            results.ours(&key("bw", 2, MIB)),
            results.entries.iter().find(|entry| {
                entry.contender == FLOOR && entry.key.test == "memcpy" && entry.key.size == 256 * KIB
            }),
        ),
    ];
    for what in ["idle-recv", "idle-any-source", "idle-barrier", "idle-launcher"] {
        let percent = results.ours(&key(what, 2, 0)).and_then(|entry| Some((entry.spread()?.median, entry)));
        let reached = percent.map(|(percent, entry)| {
            let rounds = entry.rounds.iter().flatten().count();
            Reached { worst: percent, best: percent, rounds, without_ratio: 0 }
        });
        outcomes.push(Outcome { what: what.to_owned(), against: "% of a core", limit: AtMost(0.1), reached });
    }
    outcomes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::{key, sample};
    use crate::statistics::Spread;

    fn outcome<'a>(outcomes: &'a [Outcome], what: &str, against: &str) -> &'a Outcome {
        outcomes.iter().find(|outcome| outcome.what == what && outcome.against == against).unwrap()
    }

    #[test]
    fn a_goal_is_met_where_every_size_is_within_it() {
        let outcomes = outcomes(&sample());
        let to_best = outcome(&outcomes, "latency, 0–128 B", "best peer");
        assert!((to_best.reached.unwrap().worst - 0.5).abs() < 1e-9);
        assert_eq!(to_best.is_met(), Some(true));
        assert_eq!(outcome(&outcomes, "bw, 8–64 B", "best peer").is_met(), Some(true));
    }

    #[test]
    fn the_worst_size_decides_and_the_fewest_rounds_count() {
        let results = sample();
        let latency = key("latency", 2, 8);
        let theirs = results.best_peer(&latency).unwrap();
        let ratio =
            |median, rounds| Ratio { theirs, spread: Spread { median, min: median, max: median }, rounds };
        let ratios = [ratio(0.5, 3), ratio(2.0, 2)];
        let figures = Reached { worst: 2.0, best: 0.5, rounds: 2, without_ratio: 0 };
        assert_eq!(reached(AtMost(1.0), &ratios, 2), Some(figures));
        assert_eq!(reached(AtLeast(1.0), &ratios, 2), Some(Reached { worst: 0.5, best: 2.0, ..figures }));
        assert_eq!(reached(AtLeast(1.0), &[], 2), None);
    }

    #[test]
    fn a_size_without_a_ratio_leaves_open_whether_a_goal_is_met() {
        let figures = Reached { worst: 2.0, best: 0.5, rounds: 2, without_ratio: 1 };
        let is_met = |limit, without_ratio| {
            let (what, reached) = (String::new(), Some(Reached { without_ratio, ..figures }));
            Outcome { what, against: "", limit: AtMost(limit), reached }.is_met()
        };
        assert_eq!([is_met(3.0, 0), is_met(3.0, 1), is_met(1.0, 1)], [Some(true), None, Some(false)]);
    }

    #[test]
    fn what_was_not_measured_is_neither_met_nor_missed() {
        let outcomes = outcomes(&sample());
        assert_eq!(outcome(&outcomes, "barrier", "best peer").is_met(), None);
        assert_eq!(outcome(&outcomes, "idle-recv", "% of a core").is_met(), None);
    }
}
