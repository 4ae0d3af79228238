//! Ours beside theirs: the best peer of an entry, and ratios round by round.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::blocks::State;
use crate::contender::OURS;
use crate::output::Better;
use crate::results::{Entry, Key, Results};
use crate::statistics::{self, Spread};

/// Rounds that the two figures of a ratio may be apart.
const NEIGHBOURS: usize = 2;

/// Ours divided by theirs.
#[derive(Clone, Debug)]
pub(crate) struct Ratio<'a> {
    pub(crate) theirs: &'a Entry,
    pub(crate) spread: Spread,
    /// On which it rests.
    pub(crate) rounds: usize,
}

impl Ratio<'_> {
    /// How many times as fast as theirs ours is, whichever direction is good.
    pub(crate) fn times_as_fast(&self) -> f64 {
        match self.theirs.better {
            Better::Lower => 1.0 / self.spread.median,
            Better::Higher => self.spread.median,
        }
    }
}

impl Results {
    pub(crate) fn ours(&self, key: &Key) -> Option<&Entry> {
        self.entry(OURS, key)
    }

    /// The peers' entries for `key`, in the order of their table.
    pub(crate) fn theirs<'a>(&'a self, key: &'a Key) -> impl Iterator<Item = &'a Entry> {
        self.contenders
            .iter()
            .filter(|contestant| contestant.peer != OURS)
            .filter_map(move |contestant| self.entry(&contestant.name, key))
    }

    /// The best over all configurations of all peers: the one to which ours has the worst ratio, so that no peer is preferred for
    /// having met the better state of the machine more often. By the median where there is no ratio.
    pub(crate) fn best_peer<'a>(&'a self, key: &'a Key) -> Option<&'a Entry> {
        self.ratio_to_best(key).map(|ratio| ratio.theirs).or_else(|| best(self.theirs(key)))
    }

    /// The best of one peer, over its configurations.
    pub(crate) fn best_of<'a>(&'a self, peer: &str, key: &'a Key) -> Option<&'a Entry> {
        best(
            self.theirs(key)
                .filter(|entry| self.contestant(&entry.contender).is_some_and(|it| it.peer == peer)),
        )
    }

    pub(crate) fn ratio_to<'a>(&'a self, key: &Key, theirs: &'a Entry) -> Option<Ratio<'a>> {
        self.ratio(self.ours(key)?, theirs)
    }

    /// Of any two entries: of two figures of one round and of one state of the machine. Where the other side was in
    /// another state in that round, its nearest round in this one counts, since states differ by more than the machine
    /// wanders in one.
    pub(crate) fn ratio<'a>(&self, ours: &Entry, theirs: &'a Entry) -> Option<Ratio<'a>> {
        let in_state = |state: Option<State>| {
            let [ours, theirs] = [ours, theirs].map(|entry| self.rounds_in_state(entry, state));
            statistics::ratios(&ours, &theirs, if state.is_some() { NEIGHBOURS } else { 0 })
        };
        let ratios: Vec<_> =
            [Some(State::Near), Some(State::Distant), None].into_iter().flat_map(in_state).collect();
        Some(Ratio { theirs, spread: statistics::spread(&ratios)?, rounds: ratios.len() })
    }

    pub(crate) fn ratio_to_best<'a>(&'a self, key: &'a Key) -> Option<Ratio<'a>> {
        self.worst_ratio(key, self.theirs(key))
    }

    fn worst_ratio<'a>(&'a self, key: &Key, theirs: impl Iterator<Item = &'a Entry>) -> Option<Ratio<'a>> {
        let ratios = theirs.filter_map(|entry| self.ratio_to(key, entry));
        ratios.min_by(|left, right| left.times_as_fast().total_cmp(&right.times_as_fast()))
    }

    /// Those that are the best of all peers in at least one line of these tests, those that are so in most lines first.
    pub(crate) fn fastest_peers(&self, tests: &[String], ranks: usize) -> Vec<String> {
        let mut lines: BTreeMap<&str, usize> = BTreeMap::new();
        for entry in self.entries.iter().filter(|entry| entry.contender == OURS) {
            let is_wanted = entry.key.ranks == ranks && tests.contains(&entry.key.test);
            if is_wanted && let Some(best) = self.best_peer(&entry.key) {
                *lines.entry(&best.contender).or_default() += 1;
            }
        }
        let mut fastest: Vec<_> = lines.into_iter().collect();
        fastest.sort_by_key(|(_, lines)| Reverse(*lines));
        fastest.into_iter().map(|(name, _)| name.to_owned()).collect()
    }

    /// The ratio to the better one of Open MPI 4.1 and 5 at their defaults.
    pub(crate) fn ratio_to_open_mpi<'a>(&'a self, key: &'a Key) -> Option<Ratio<'a>> {
        let defaults = ["openmpi4-default", "openmpi5-default"];
        let entries = self.theirs(key).filter(|entry| defaults.contains(&entry.contender.as_str()));
        self.worst_ratio(key, entries)
    }

    /// What was measured of `test` with `ranks`: the sizes in ascending order.
    pub(crate) fn sizes(&self, test: &str, ranks: usize) -> Vec<usize> {
        let entries = self.entries.iter().filter(|entry| entry.key.test == test && entry.key.ranks == ranks);
        entries.map(|entry| entry.key.size).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The numbers of ranks with which `test` was measured of at least one peer.
    pub(crate) fn compared_ranks(&self, test: &str) -> Vec<usize> {
        let theirs = self.entries.iter().filter(|entry| entry.key.test == test && entry.contender != OURS);
        theirs.map(|entry| entry.key.ranks).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

fn best<'a>(entries: impl Iterator<Item = &'a Entry>) -> Option<&'a Entry> {
    let with_median = entries.filter_map(|entry| Some((entry, entry.spread()?.median)));
    let better = |(entry, median): &(&Entry, f64)| match entry.better {
        Better::Lower => -median,
        Better::Higher => *median,
    };
    with_median.max_by(|left, right| better(left).total_cmp(&better(right))).map(|(entry, _)| entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::tests::{block, run};
    use crate::blocks::{State, find_states};
    use crate::results::tests::{key, sample};

    #[test]
    fn the_best_peer_is_the_best_of_all_settings() {
        let results = sample();
        let (latency, bw) = (key("latency", 2, 8), key("bw", 2, 8));
        assert_eq!(results.best_peer(&latency).unwrap().contender, "openmpi5-ucx");
        assert_eq!(results.best_peer(&bw).unwrap().contender, "openmpi5-ucx");
    }

    #[test]
    fn ratios_are_ours_to_theirs() {
        let results = sample();
        let (latency, bw) = (key("latency", 2, 8), key("bw", 2, 8));
        assert!((results.ratio_to_best(&latency).unwrap().spread.median - 0.5).abs() < 1e-9);
        assert!((results.ratio_to_open_mpi(&latency).unwrap().spread.median - 0.25).abs() < 1e-9);
        assert!((results.ratio_to_best(&bw).unwrap().spread.median - 4.0).abs() < 1e-9);
    }

    #[test]
    fn faster_is_more_in_both_directions() {
        let results = sample();
        for (test, times) in [("latency", 2.0), ("bw", 4.0)] {
            let key = key(test, 2, 8);
            assert!((results.ratio_to_best(&key).unwrap().times_as_fast() - times).abs() < 1e-9);
        }
    }

    #[test]
    fn the_fastest_peers_are_those_that_are_so_in_most_lines() {
        let mut results = sample();
        for (size, peer) in [(64, "openmpi5-ucx"), (128, "openmpi5-default")] {
            results.add(OURS, &key("latency", 2, size), "us", Better::Lower, 0, 0.1);
            results.add(peer, &key("latency", 2, size), "us", Better::Lower, 0, 0.1);
        }
        let tests = ["latency".to_owned()];
        assert_eq!(results.fastest_peers(&tests, 2), ["openmpi5-ucx", "openmpi5-default"]);
        assert!(results.fastest_peers(&tests, 4).is_empty());
    }

    #[test]
    fn an_entry_without_a_peer_has_no_ratio() {
        assert!(sample().ratio_to_best(&key("latency", 128, 8)).is_none());
    }

    const NEAR: f64 = 0.04;
    const DISTANT: f64 = 0.17;
    /// The floors before and after a run.
    type Around = (f64, f64);

    /// Rounds in which ours and one peer had these floors. Where the cores are distant all takes ten times as long; ours
    /// takes half as long as the peer where they are near, and as long where they are distant.
    fn two_states(floors: &[(Around, Around)]) -> Results {
        let mut results = sample();
        results.blocks.clear();
        results.entries.clear();
        let time = |floors: Around, near: f64| if floors.1 == NEAR { near } else { 20.0 };
        for (round, (ours, theirs)) in floors.iter().enumerate() {
            let add = |results: &mut Results, contender: &str, time: f64| {
                results.add(contender, &key("latency", 2, 8), "us", Better::Lower, round, time);
            };
            add(&mut results, OURS, time(*ours, 1.0));
            add(&mut results, "openmpi5-ucx", time(*theirs, 2.0));
            let runs = vec![run(OURS, ours.0, ours.1), run("openmpi5-ucx", theirs.0, theirs.1)];
            results.blocks.push(block(&["latency"], round, runs));
        }
        find_states(&mut results.blocks);
        results
    }

    fn in_state(results: &Results, state: State) -> Option<(Spread, usize)> {
        let part = results.in_state(state);
        let latency = key("latency", 2, 8);
        let ratio = part.ratio_to_best(&latency)?;
        Some((ratio.spread, ratio.rounds))
    }

    fn exactly(value: f64) -> Spread {
        Spread { median: value, min: value, max: value }
    }

    #[test]
    fn a_state_has_only_ratios_of_two_figures_of_that_state() {
        let (near, distant) = ((NEAR, NEAR), (DISTANT, DISTANT));
        let results = two_states(&[(near, distant), (distant, near), (near, near), (distant, distant)]);
        assert_eq!(in_state(&results, State::Near), Some((exactly(0.5), 2)));
        assert_eq!(in_state(&results, State::Distant), Some((exactly(1.0), 2)));
        let latency = key("latency", 2, 8);
        let all = results.ratio_to_best(&latency).unwrap();
        assert_eq!((all.spread, all.rounds), (Spread { median: 0.75, min: 0.5, max: 1.0 }, 4));
    }

    #[test]
    fn a_run_in_which_the_state_changed_has_no_ratio() {
        let results = two_states(&[
            ((DISTANT, NEAR), (NEAR, NEAR)),
            ((NEAR, NEAR), (NEAR, DISTANT)),
            ((NEAR, DISTANT), (DISTANT, DISTANT)),
        ]);
        assert_eq!(in_state(&results, State::Near), Some((exactly(0.5), 1)));
        assert_eq!(in_state(&results, State::Distant), None);
        assert_eq!(results.ratio_to_best(&key("latency", 2, 8)).unwrap().rounds, 1);
    }

    #[test]
    fn figures_of_a_state_are_too_far_apart_beyond_two_rounds() {
        let (near, distant) = ((NEAR, NEAR), (DISTANT, DISTANT));
        let results = two_states(&[(near, distant), (distant, distant), (distant, distant), (distant, near)]);
        assert_eq!(in_state(&results, State::Near), None);
        assert_eq!(in_state(&results, State::Distant), Some((exactly(1.0), 3)));
    }
}
