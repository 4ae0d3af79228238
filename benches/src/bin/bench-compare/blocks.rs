//! When and in which order contenders ran, and in which state the machine was meanwhile.
//!
//! Cores of a virtual machine are near to each other for some seconds or minutes, and then distant: a cache line takes
//! several times as long from one to the other. Which library is the fastest depends on that. So the hand-off of a
//! cache line is measured between all runs: the measurement after one run is the one before the next.

use serde::{Deserialize, Serialize};

use crate::plan::IN_USE;
use crate::results::Key;

/// Floors that differ by more than this are of different states.
pub(crate) const FLAGGED_FROM: f64 = 2.0;

/// One group of tests in one round: all contenders one after the other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Block {
    pub(crate) group: String,
    pub(crate) ranks: usize,
    pub(crate) tests: Vec<String>,
    pub(crate) round: usize,
    /// In their order.
    pub(crate) runs: Vec<Run>,
    /// Not all its runs met the machine in its best state.
    pub(crate) flagged: bool,
    pub(crate) load: f64,
}

/// One contender in one block.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) contender: String,
    /// Half a round trip of a cache line between the two cores directly before it, and directly after it, in µs.
    pub(crate) before: Option<f64>,
    pub(crate) after: Option<f64>,
    /// How long it took.
    pub(crate) seconds: f64,
    /// `None` where a floor could not be measured.
    pub(crate) state: Option<State>,
}

/// What the floors before and after a run say of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// Both are within [`FLAGGED_FROM`] of the best.
    Near,
    /// Both are not.
    Distant,
    /// They belong to different states: the figures of this run are of neither.
    Changed,
}

impl Block {
    /// Whether its runs give this figure. A test may give several: `idle` gives `idle-recv` and others. With its data in use it is another one.
    pub(crate) fn measures(&self, key: &Key) -> bool {
        let is_of = |test: &String| {
            let rest = key.test.strip_prefix(test.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-') && rest != IN_USE)
        };
        self.ranks == key.ranks && self.tests.iter().any(is_of)
    }
}

/// How many runs of a contender in a group of tests were in the state that a floor measured now is of.
pub(crate) fn runs_in_state_of(floor: f64, blocks: &[Block], group: &str, contender: &str) -> usize {
    let best = best_floor(blocks).min(floor);
    let now = state(floor, floor, best);
    let runs = blocks.iter().filter(|block| block.group == group).flat_map(|block| &block.runs);
    let is_in_it = |run: &&Run| {
        run.before.zip(run.after).is_some_and(|(before, after)| state(before, after, best) == now)
    };
    runs.filter(|run| run.contender == contender).filter(is_in_it).count()
}

/// Says of every run in which state it was, as far as the floors of all of them show.
pub(crate) fn find_states(blocks: &mut [Block]) {
    let best = best_floor(blocks);
    for block in blocks {
        for run in &mut block.runs {
            run.state = run.before.zip(run.after).map(|(before, after)| state(before, after, best));
        }
        let is_other = |run: &Run| run.state.is_some_and(|state| state != State::Near);
        block.flagged = block.runs.iter().any(is_other);
    }
}

fn best_floor(blocks: &[Block]) -> f64 {
    let runs = blocks.iter().flat_map(|block| &block.runs);
    runs.flat_map(|run| [run.before, run.after]).flatten().fold(f64::INFINITY, f64::min)
}

fn state(before: f64, after: f64, best: f64) -> State {
    let (shorter, longer) = (before.min(after), before.max(after));
    if longer <= FLAGGED_FROM * best {
        State::Near
    } else if shorter <= FLAGGED_FROM * best || longer > FLAGGED_FROM * shorter {
        State::Changed
    } else {
        State::Distant
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::contender::OURS;

    pub(crate) fn run(contender: &str, before: f64, after: f64) -> Run {
        let (contender, before, after) = (contender.to_owned(), Some(before), Some(after));
        Run { contender, before, after, seconds: 1.0, state: None }
    }

    pub(crate) fn block(tests: &[&str], round: usize, runs: Vec<Run>) -> Block {
        Block {
            group: "pair".to_owned(),
            ranks: 2,
            tests: tests.iter().map(|&test| test.to_owned()).collect(),
            round,
            runs,
            flagged: false,
            load: 1.0,
        }
    }

    #[test]
    fn a_run_is_near_or_distant_where_both_floors_say_so() {
        assert_eq!(state(0.04, 0.08, 0.04), State::Near);
        assert_eq!(state(0.09, 0.17, 0.04), State::Distant);
    }

    #[test]
    fn a_run_whose_floors_disagree_is_of_neither_state() {
        assert_eq!(state(0.04, 0.17, 0.04), State::Changed);
        assert_eq!(state(0.17, 0.04, 0.04), State::Changed);
        // Both are far from the best, and from each other: something else ran.
        assert_eq!(state(0.17, 0.50, 0.04), State::Changed);
        // On both sides of the limit, although no more than that apart.
        assert_eq!(state(0.07, 0.09, 0.04), State::Changed);
    }

    #[test]
    fn the_best_floor_of_all_runs_is_the_measure() {
        let mut blocks = [
            block(&["bw"], 0, vec![run(OURS, 0.17, 0.17)]),
            block(&["bw"], 1, vec![run(OURS, 0.17, 0.04), run("peer", 0.04, 0.05)]),
            block(&["bw"], 2, vec![run(OURS, 0.04, 0.04), run("peer", 0.04, 0.04)]),
        ];
        find_states(&mut blocks);
        let states =
            blocks.each_ref().map(|block| block.runs.iter().map(|run| run.state).collect::<Vec<_>>());
        let [near, distant, changed] = [State::Near, State::Distant, State::Changed].map(Some);
        assert_eq!(states, [vec![distant], vec![changed, near], vec![near, near]]);
        assert_eq!(blocks.map(|block| block.flagged), [true, true, false]);
    }

    #[test]
    fn runs_are_counted_by_the_state_that_a_floor_is_of() {
        let blocks = [
            block(&["bw"], 0, vec![run(OURS, 0.04, 0.04), run("peer", 0.04, 0.17)]),
            block(&["bw"], 1, vec![run(OURS, 0.04, 0.05), run("peer", 0.17, 0.17)]),
            Block { group: "other".to_owned(), ..block(&["bw"], 1, vec![run(OURS, 0.17, 0.17)]) },
        ];
        let counts = |floor| [OURS, "peer"].map(|name| runs_in_state_of(floor, &blocks, "pair", name));
        assert_eq!((counts(0.05), counts(0.15)), ([2, 0], [0, 1]));
        // The best so far: all others were distant.
        assert_eq!(counts(0.01), [0, 0]);
    }

    #[test]
    fn without_a_floor_there_is_no_state() {
        let mut blocks = [block(&["bw"], 0, vec![Run { after: None, ..run(OURS, 0.04, 0.04) }])];
        find_states(&mut blocks);
        assert_eq!((blocks[0].runs[0].state, blocks[0].flagged), (None, false));
    }
}
