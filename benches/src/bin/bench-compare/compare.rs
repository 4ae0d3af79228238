//! Ours beside theirs: the best peer of an entry, and ratios round by round.

use std::collections::BTreeSet;

use crate::contender::OURS;
use crate::output::Better;
use crate::results::{Entry, Key, Results};
use crate::statistics::{self, Spread};

/// Ours divided by theirs.
#[derive(Clone, Debug)]
pub(crate) struct Ratio<'a> {
    pub(crate) theirs: &'a Entry,
    pub(crate) spread: Spread,
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

    /// The best over all configurations of all peers, by the median over rounds.
    pub(crate) fn best_peer<'a>(&'a self, key: &'a Key) -> Option<&'a Entry> {
        best(self.theirs(key))
    }

    /// The best of one peer, over its configurations.
    pub(crate) fn best_of<'a>(&'a self, peer: &str, key: &'a Key) -> Option<&'a Entry> {
        best(
            self.theirs(key)
                .filter(|entry| self.contestant(&entry.contender).is_some_and(|it| it.peer == peer)),
        )
    }

    pub(crate) fn ratio_to<'a>(&'a self, key: &Key, theirs: &'a Entry) -> Option<Ratio<'a>> {
        let ratios = statistics::ratios(&self.ours(key)?.rounds, &theirs.rounds);
        Some(Ratio { theirs, spread: statistics::spread(&ratios)? })
    }

    pub(crate) fn ratio_to_best<'a>(&'a self, key: &'a Key) -> Option<Ratio<'a>> {
        self.ratio_to(key, self.best_peer(key)?)
    }

    /// The ratio to the better one of Open MPI 4.1 and 5 at their defaults.
    pub(crate) fn ratio_to_open_mpi<'a>(&'a self, key: &'a Key) -> Option<Ratio<'a>> {
        let defaults = ["openmpi4-default", "openmpi5-default"];
        let entries = self.theirs(key).filter(|entry| defaults.contains(&entry.contender.as_str()));
        self.ratio_to(key, best(entries)?)
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
    fn an_entry_without_a_peer_has_no_ratio() {
        assert!(sample().ratio_to_best(&key("latency", 128, 8)).is_none());
    }
}
