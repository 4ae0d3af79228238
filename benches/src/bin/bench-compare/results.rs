//! All that was measured: `results.json`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::blocks::{Block, State};
use crate::contender::Contender;
use crate::machine::Conditions;
use crate::output::Better;
use crate::peers::{Peer, Peers};
use crate::rounds::FLOOR;
use crate::series;
use crate::statistics::{self, Spread};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) conditions: Conditions,
    pub(crate) contenders: Vec<Contestant>,
    /// Peers that could not be set up, and why.
    pub(crate) missing: BTreeMap<String, String>,
    /// What each peer's library says that it is, when the benchmark program runs with it.
    pub(crate) programs: BTreeMap<String, String>,
    pub(crate) blocks: Vec<Block>,
    /// Tests whose data was verified before anything was measured.
    pub(crate) verified: Vec<Verified>,
    pub(crate) failures: Vec<Failure>,
    #[serde(rename = "series", with = "series")]
    pub(crate) entries: Vec<Entry>,
}

/// What is known of a contender apart from its figures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Contestant {
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) peer: String,
    pub(crate) version: String,
    pub(crate) is_default: bool,
    pub(crate) purpose: String,
    pub(crate) settings: String,
    pub(crate) crowded_settings: String,
    pub(crate) source: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Verified {
    pub(crate) contender: String,
    pub(crate) ranks: usize,
    pub(crate) tests: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) contender: String,
    pub(crate) group: String,
    /// `None`: in the checked run.
    pub(crate) round: Option<usize>,
    pub(crate) tests: Vec<String>,
    pub(crate) reason: String,
}

/// What a figure is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) test: String,
    pub(crate) ranks: usize,
    pub(crate) size: usize,
}

/// The figures of one contender for one test at one size, one per round.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) contender: String,
    pub(crate) key: Key,
    pub(crate) unit: String,
    pub(crate) better: Better,
    /// Medians of each round's batches; `None` where it failed or did not run.
    pub(crate) rounds: Vec<Option<f64>>,
}

impl Results {
    pub(crate) fn new(conditions: Conditions, contenders: &[Contender], peers: &Peers) -> Self {
        let missing = peers.iter().filter_map(|(name, peer)| match peer {
            Peer::Missing { unavailable } => Some((name.clone(), unavailable.clone())),
            Peer::Ready(_) => None,
        });
        Self {
            conditions,
            contenders: contenders.iter().map(Contestant::of).collect(),
            missing: missing.collect(),
            programs: BTreeMap::new(),
            blocks: Vec::new(),
            verified: Vec::new(),
            failures: Vec::new(),
            entries: Vec::new(),
        }
    }

    pub(crate) fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is damaged", file.display()))
    }

    /// A series is one line, so that versions of the file can be compared.
    pub(crate) fn write(&self, file: &Path) -> Result<()> {
        let mut text = Vec::new();
        self.write_to(&mut text)?;
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
    }

    fn write_to(&self, text: &mut Vec<u8>) -> Result<()> {
        writeln!(text, "{{\"conditions\": {},", serde_json::to_string_pretty(&self.conditions)?)?;
        writeln!(text, "\"missing\": {},", serde_json::to_string(&self.missing)?)?;
        writeln!(text, "\"programs\": {},", serde_json::to_string(&self.programs)?)?;
        write_lines(text, "contenders", &self.contenders, ",")?;
        write_lines(text, "blocks", &self.blocks, ",")?;
        write_lines(text, "verified", &self.verified, ",")?;
        write_lines(text, "failures", &self.failures, ",")?;
        write_lines(text, "series", &series::of_entries(&self.entries), "}")
    }

    /// Adds the figure of one round.
    pub(crate) fn add(
        &mut self,
        contender: &str,
        key: &Key,
        unit: &str,
        better: Better,
        round: usize,
        value: f64,
    ) {
        let found = self.entries.iter().position(|entry| entry.contender == contender && entry.key == *key);
        let index = found.unwrap_or_else(|| {
            let (contender, key, unit) = (contender.to_owned(), key.clone(), unit.to_owned());
            self.entries.push(Entry { contender, key, unit, better, rounds: Vec::new() });
            self.entries.len() - 1
        });
        let rounds = &mut self.entries[index].rounds;
        rounds.resize(rounds.len().max(round + 1), None);
        rounds[round] = Some(rounded(value));
    }

    /// Only what was measured in this state.
    pub(crate) fn in_state(&self, state: State) -> Self {
        let mut part = self.clone();
        for entry in &mut part.entries {
            entry.rounds = self.rounds_in_state(entry, Some(state));
        }
        part
    }

    /// An entry's figures, without those of other states. `None`: those of runs whose state is not known.
    pub(crate) fn rounds_in_state(&self, entry: &Entry, state: Option<State>) -> Vec<Option<f64>> {
        let is_of_it = |round| self.state(entry, round) == state;
        entry.rounds.iter().enumerate().map(|(round, figure)| figure.filter(|_| is_of_it(round))).collect()
    }

    /// Of the machine while this figure was measured.
    fn state(&self, entry: &Entry, round: usize) -> Option<State> {
        // What the machine can do is measured beside a group that has other tests.
        let has_it = |block: &&Block| entry.contender == FLOOR || block.measures(&entry.key);
        let blocks = self.blocks.iter().filter(|block| block.round == round).filter(has_it);
        let mut runs = blocks.flat_map(|block| &block.runs);
        runs.find(|run| run.contender == entry.contender)?.state
    }

    pub(crate) fn entry(&self, contender: &str, key: &Key) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.contender == contender && entry.key == *key)
    }

    pub(crate) fn contestant(&self, name: &str) -> Option<&Contestant> {
        self.contenders.iter().find(|contestant| contestant.name == name)
    }

    pub(crate) fn rounds(&self) -> usize {
        self.blocks.iter().map(|block| block.round + 1).max().unwrap_or(0)
    }
}

impl Entry {
    pub(crate) fn spread(&self) -> Option<Spread> {
        statistics::spread(&self.rounds.iter().flatten().copied().collect::<Vec<_>>())
    }
}

impl Contestant {
    fn of(contender: &Contender) -> Self {
        let (settings, crowded_settings) = contender.settings();
        Self {
            name: contender.name.clone(),
            title: contender.title.clone(),
            peer: contender.peer.clone(),
            version: contender.version.clone(),
            is_default: contender.is_default,
            purpose: contender.purpose.to_owned(),
            settings,
            crowded_settings,
            source: contender.source.to_owned(),
        }
    }
}

fn write_lines<T: Serialize>(text: &mut Vec<u8>, name: &str, lines: &[T], end: &str) -> Result<()> {
    writeln!(text, "\"{name}\": [")?;
    for (index, line) in lines.iter().enumerate() {
        let comma = if index + 1 < lines.len() { "," } else { "" };
        writeln!(text, "{}{comma}", serde_json::to_string(line)?)?;
    }
    writeln!(text, "]{end}")?;
    Ok(())
}

/// To four digits: more are noise, and a large file.
fn rounded(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::blocks::find_states;
    use crate::blocks::tests::{block, run};
    use crate::contender::OURS;
    use crate::rounds::HAND_OFF;

    pub(crate) fn key(test: &str, ranks: usize, size: usize) -> Key {
        Key { test: test.to_owned(), ranks, size }
    }

    /// Two rounds of ranks, of a peer at its defaults and of the same peer tuned.
    pub(crate) fn sample() -> Results {
        let conditions = Conditions {
            processor: "Test CPU".to_owned(),
            cores: 2,
            kernel: "Linux 6".to_owned(),
            compilers: "rustc 1; cc 2".to_owned(),
            pinning: "one rank per core".to_owned(),
            commit: "0123456789ab".to_owned(),
            date: "2026-01-01 00:00 UTC".to_owned(),
            mode: "quick".to_owned(),
            load_at_begin: 0.5,
            load_at_end: 2.0,
        };
        let contestant = |name: &str, peer: &str, is_default| Contestant {
            name: name.to_owned(),
            title: name.to_owned(),
            peer: peer.to_owned(),
            version: "1.0".to_owned(),
            is_default,
            purpose: "as installed".to_owned(),
            settings: String::new(),
            crowded_settings: String::new(),
            source: "a page".to_owned(),
        };
        let mut results = Results {
            conditions,
            contenders: vec![
                contestant(OURS, OURS, true),
                contestant("openmpi5-default", "openmpi5", true),
                contestant("openmpi5-ucx", "openmpi5", false),
            ],
            missing: BTreeMap::from([("impi".to_owned(), "no wheel".to_owned())]),
            programs: BTreeMap::from([("openmpi5".to_owned(), "Open MPI v5.0.0".to_owned())]),
            blocks: Vec::new(),
            verified: Vec::new(),
            failures: Vec::new(),
            entries: Vec::new(),
        };
        let latency = key("latency", 2, 8);
        let rates = [(OURS, 0.1, 1000.0), ("openmpi5-default", 0.4, 200.0), ("openmpi5-ucx", 0.2, 250.0)];
        for round in 0..2 {
            // The second round is twice as slow for all.
            let slow = (round + 1) as f64;
            for (contender, time, rate) in rates {
                results.add(contender, &latency, "us", Better::Lower, round, time * slow);
                results.add(contender, &key("bw", 2, 8), "MB/s", Better::Higher, round, rate / slow);
            }
            let floor = 0.05 * (1.0 + 2.0 * round as f64);
            let runs = rates.map(|(contender, ..)| run(contender, floor, floor)).to_vec();
            results.blocks.push(block(&["latency", "bw"], round, runs));
        }
        results
    }

    #[test]
    fn a_round_that_is_missing_stays_empty() {
        let mut results = sample();
        results.add("late", &key("latency", 2, 8), "us", Better::Lower, 1, 1.0);
        assert_eq!(results.entry("late", &key("latency", 2, 8)).unwrap().rounds, [None, Some(1.0)]);
    }

    #[test]
    fn each_state_has_its_own_figures() {
        let mut results = sample();
        find_states(&mut results.blocks);
        let rounds =
            |state| results.in_state(state).entry(OURS, &key("latency", 2, 8)).unwrap().rounds.clone();
        assert_eq!(rounds(State::Near), [Some(0.1), None]);
        assert_eq!(rounds(State::Distant), [None, Some(0.2)]);
        assert_eq!(rounds(State::Changed), [None, None]);
    }

    /// In which states a figure counts that is measured by a run of `tests`, after which and before which the floor was this.
    fn counts(figure: &str, tests: &[&str], floor: f64) -> [bool; 2] {
        let mut results = sample();
        let key = key(figure, 2, 8);
        results.add(OURS, &key, "us", Better::Lower, 0, 0.3);
        results.blocks.push(block(tests, 0, vec![run(OURS, floor, floor)]));
        find_states(&mut results.blocks);
        [State::Near, State::Distant]
            .map(|state| results.in_state(state).entry(OURS, &key).unwrap().rounds == [Some(0.3)])
    }

    #[test]
    fn figures_of_a_test_that_has_several_have_its_state() {
        assert_eq!(counts("idle-recv", &["idle"], 0.05), [true, false]);
    }

    #[test]
    fn data_in_use_has_the_state_of_its_own_run() {
        assert_eq!(counts("latency-in-use", &["latency-in-use"], 0.2), [false, true]);
    }

    #[test]
    fn the_machines_own_figures_have_a_state_too() {
        let mut results = sample();
        let hand_off = key(HAND_OFF, 2, 64);
        for (round, floor) in [0.05, 0.15].into_iter().enumerate() {
            results.add(FLOOR, &hand_off, "us", Better::Lower, round, floor);
            results.blocks[round].runs.push(run(FLOOR, floor, floor));
        }
        find_states(&mut results.blocks);
        let rounds = |state| results.in_state(state).entry(FLOOR, &hand_off).unwrap().rounds.clone();
        assert_eq!(rounds(State::Near), [Some(0.05), None]);
        assert_eq!(rounds(State::Distant), [None, Some(0.15)]);
    }

    #[test]
    fn what_is_written_can_be_read() {
        let results = sample();
        let mut text = Vec::new();
        results.write_to(&mut text).unwrap();
        let read: Results = serde_json::from_slice(&text).unwrap();
        assert_eq!(format!("{read:?}"), format!("{results:?}"));
    }

    #[test]
    fn figures_have_four_digits() {
        assert_eq!([rounded(0.123456), rounded(98765.4), rounded(0.0)], [0.1235, 98770.0, 0.0]);
    }
}
