//! Runs the plan: first verifies every contender's data, then measures in rounds.
//!
//! In a round every group of tests is run by all contenders one after the other, and who begins is another one each
//! time: figures are compared within one group of one round, as near in time as it goes. What the machine can do is
//! measured between all runs, and who has the fewest runs in the machine's present state is the next.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

use crate::blocks::{self, Block, Run};
use crate::contender::{Contender, OURS};
use crate::machine;
use crate::output::{self, Better, Document};
use crate::plan::{Group, Plan, Who};
use crate::process::{self, Failed};
use crate::results::{Failure, Key, Results, Verified};

/// The contender of what the machine itself can do.
pub(crate) const FLOOR: &str = "floor";
/// Of the program's `floor`: half a round trip of one cache line between two cores.
pub(crate) const HAND_OFF: &str = "hand-off";
const LINE_BYTES: usize = 64;

pub(crate) struct Rounds<'a> {
    contenders: &'a [Contender],
    plan: &'a Plan,
    begin: Instant,
    bar: ProgressBar,
    /// Tests that a contender failed in a group: they are not tried again.
    failed: HashMap<(String, String), Vec<String>>,
}

impl<'a> Rounds<'a> {
    pub(crate) fn new(contenders: &'a [Contender], plan: &'a Plan) -> Self {
        Self { contenders, plan, begin: Instant::now(), bar: progress_bar(plan), failed: HashMap::new() }
    }

    /// One run of every program in which each byte is verified. What fails here is not measured.
    pub(crate) fn check(&mut self, results: &mut Results) {
        for group in &self.plan.checks {
            self.say(&format!("verifying {}", group.name));
            for contender in self.contenders {
                self.show(&format!("verifying {}: {}", contender.title, group.name));
                let (documents, failures) = self.attempt(contender, group, &["--check"]);
                self.note(results, contender, group, None, failures);
                let tests = documents.into_iter().flat_map(|document| document.tests);
                results.verified.push(Verified {
                    contender: contender.name.clone(),
                    ranks: group.ranks,
                    tests: tests.map(|test| test.test).collect(),
                });
            }
        }
    }

    /// As many rounds as fit into the time, one at least; `keep` gets what there is after each.
    pub(crate) fn measure(
        &mut self,
        results: &mut Results,
        keep: impl Fn(&Results) -> Result<()>,
    ) -> Result<()> {
        let mut longest = Duration::ZERO;
        for round in 0..self.plan.rounds {
            if round > 0 && (self.begin.elapsed() + longest).as_secs_f64() > self.plan.seconds {
                break;
            }
            let begin = Instant::now();
            self.say(&format!("round {}, after {:.0} s", round + 1, self.begin.elapsed().as_secs_f64()));
            for group in self.plan.groups.iter().filter(|group| round == 0 || !group.is_once()) {
                self.measure_group(group, round, results);
            }
            longest = longest.max(begin.elapsed());
            blocks::find_states(&mut results.blocks);
            results.conditions.load_at_end = machine::load();
            keep(results)?;
        }
        self.bar.finish_and_clear();
        Ok(())
    }

    fn measure_group(&mut self, group: &Group, round: usize, results: &mut Results) {
        let mut runs = Vec::new();
        let mut left = self.order(group, round, results);
        let mut before = self.hand_off();
        while let Some(contender) = next(&mut left, |contender| {
            before.map(|floor| blocks::runs_in_state_of(floor, &results.blocks, &group.name, &contender.name))
        }) {
            self.show(&format!("round {}: {}, {}", round + 1, group.name, contender.title));
            let begin = Instant::now();
            self.measure_contender(contender, group, round, results);
            let seconds = seconds_since(begin);
            let after = self.hand_off();
            runs.push(Run { contender: contender.name.clone(), before, after, seconds, state: None });
            // The group with the tests that are compared with what the machine can do.
            if contender.is_ours() && group.name == self.plan.groups[0].name {
                let floor = self.add_floor(runs[runs.len() - 1].clone(), round, results);
                runs.push(floor);
                before = self.hand_off();
            } else {
                before = after;
            }
        }
        results.blocks.push(Block {
            group: group.name.clone(),
            ranks: group.ranks,
            tests: group.tests.clone(),
            round,
            runs,
            flagged: false,
            load: machine::load(),
        });
    }

    /// Of those that have something left to run, another one begins in each round, and the peers that have been the
    /// fastest so far run directly before and after ours: those that a ratio is most often of are the nearest in time.
    fn order(&self, group: &Group, round: usize, results: &Results) -> Vec<&'a Contender> {
        let runs = |contender: &&Contender| {
            takes_part(contender, group) && !self.tests_left(contender, group).is_empty()
        };
        let mut order: Vec<_> = self.contenders.iter().filter(runs).collect();
        if order.is_empty() {
            return order;
        }
        let first = round % order.len();
        order.rotate_left(first);
        let mut fastest = results.fastest_peers(&group.tests, group.ranks);
        fastest.truncate(2);
        if round % 2 == 1 {
            fastest.reverse();
        }
        beside(
            order,
            |contender| contender.is_ours(),
            |contender| fastest.iter().position(|name| *name == contender.name),
        )
    }

    fn measure_contender(
        &mut self,
        contender: &Contender,
        group: &Group,
        round: usize,
        results: &mut Results,
    ) {
        if group.has_start_up() {
            return self.start_up(contender, group, round, results);
        }
        let (documents, failures) = self.attempt(contender, group, &[]);
        self.note(results, contender, group, Some(round), failures);
        for document in documents {
            if !contender.is_ours() {
                results.programs.insert(contender.peer.clone(), document.program.clone());
            }
            add(results, &contender.name, round, &document);
        }
    }

    /// Half a round trip of a cache line at this moment. It takes 10 ms, most of them to start and end two ranks, which
    /// are bound as those of a run are.
    fn hand_off(&self) -> Option<f64> {
        let document = self.floor("1", &["--sizes", "64"])?;
        let hand_off = document.tests.iter().find(|test| test.test == HAND_OFF)?;
        hand_off.rows.first()?.median
    }

    fn floor(&self, milliseconds: &str, more: &[&str]) -> Option<Document> {
        let ours = self.contenders.iter().find(|contender| contender.is_ours())?;
        let words = ["floor", "--format", "json", "--milliseconds", milliseconds];
        let arguments: Vec<_> = words.iter().chain(more).map(|&word| word.to_owned()).collect();
        let run = process::run(&ours.invocation(2, &arguments), Duration::from_secs(10)).ok()?;
        output::parse(&run.output).ok()
    }

    /// Adds what the machine can do to the figures: the hand-off around this run of ours, and a copy by size.
    fn add_floor(&self, ours: Run, round: usize, results: &mut Results) -> Run {
        if let Some((before, after)) = ours.before.zip(ours.after) {
            let key = Key { test: HAND_OFF.to_owned(), ranks: 2, size: LINE_BYTES };
            results.add(FLOOR, &key, "us", Better::Lower, round, f64::midpoint(before, after));
        }
        let begin = Instant::now();
        if let Some(mut document) = self.floor("5", &[]) {
            document.tests.retain(|test| test.test != HAND_OFF);
            add(results, FLOOR, round, &document);
        }
        Run { contender: FLOOR.to_owned(), seconds: seconds_since(begin), ..ours }
    }

    /// The time of a whole run, from before the launcher to after its end.
    fn start_up(&mut self, contender: &Contender, group: &Group, round: usize, results: &mut Results) {
        let invocation = contender.invocation(group.ranks, &group.arguments(&group.tests));
        match process::run(&invocation, group.limit) {
            Ok(run) => {
                let milliseconds = run.elapsed.as_secs_f64() * 1e3;
                results.add(&contender.name, &group.start_up_key(), "ms", Better::Lower, round, milliseconds);
            }
            Err(failed) => {
                self.note(results, contender, group, Some(round), vec![(group.tests.clone(), failed.reason)]);
            }
        }
    }

    /// Runs what is left of the group's tests in one go; if that fails, one by one, to see which of them it was.
    fn attempt(&self, contender: &Contender, group: &Group, more: &[&str]) -> (Vec<Document>, Failures) {
        let tests = self.tests_left(contender, group);
        if tests.is_empty() {
            return (Vec::new(), Vec::new());
        }
        match run_tests(contender, group, &tests, more) {
            Ok(document) => (vec![document], Vec::new()),
            Err(failed) if failed.is_timeout || tests.len() == 1 => {
                (Vec::new(), vec![(tests, failed.reason)])
            }
            Err(_) => one_by_one(contender, group, tests, more),
        }
    }

    fn tests_left(&self, contender: &Contender, group: &Group) -> Vec<String> {
        let failed = self.failed.get(&(contender.name.clone(), group.name.clone()));
        let has_failed = |test: &String| failed.is_some_and(|failed| failed.contains(test));
        group.tests.iter().filter(|test| !has_failed(test)).cloned().collect()
    }

    fn note(
        &mut self,
        results: &mut Results,
        contender: &Contender,
        group: &Group,
        round: Option<usize>,
        failures: Failures,
    ) {
        for (tests, reason) in failures {
            self.say(&format!("{} failed in {}: {reason}", contender.title, tests.join(", ")));
            let place = (contender.name.clone(), group.name.clone());
            self.failed.entry(place).or_default().extend(tests.iter().cloned());
            let (contender, group) = (contender.name.clone(), group.name.clone());
            results.failures.push(Failure { contender, group, round, tests, reason });
        }
    }

    /// On a terminal beside the bar; elsewhere there is no bar, and few lines.
    fn say(&self, text: &str) {
        if self.bar.is_hidden() {
            eprintln!("bench-compare: {text}");
        } else {
            self.bar.println(text);
        }
    }

    fn show(&self, text: &str) {
        self.bar.set_position(self.begin.elapsed().as_secs());
        self.bar.set_message(text.to_owned());
    }
}

/// Tests that failed together, and why.
type Failures = Vec<(Vec<String>, String)>;

fn one_by_one(
    contender: &Contender,
    group: &Group,
    tests: Vec<String>,
    more: &[&str],
) -> (Vec<Document>, Failures) {
    let mut documents = Vec::new();
    let mut failures = Vec::new();
    for test in tests {
        let test = vec![test];
        match run_tests(contender, group, &test, more) {
            Ok(document) => documents.push(document),
            Err(failed) => failures.push((test, failed.reason)),
        }
    }
    (documents, failures)
}

fn run_tests(
    contender: &Contender,
    group: &Group,
    tests: &[String],
    more: &[&str],
) -> Result<Document, Failed> {
    let mut arguments = group.arguments(tests);
    arguments.extend(more.iter().map(|&word| word.to_owned()));
    let run = process::run(&contender.invocation(group.ranks, &arguments), group.limit)?;
    output::parse(&run.output).map_err(|error| format!("{error:#}").into())
}

/// To the millisecond.
fn seconds_since(begin: Instant) -> f64 {
    (begin.elapsed().as_secs_f64() * 1e3).round() / 1e3
}

/// Takes the elements that have a place beside the one in the middle, and puts them there: first the one directly
/// before it, then the one directly after it.
fn beside<T>(all: Vec<T>, is_middle: impl Fn(&T) -> bool, place: impl Fn(&T) -> Option<usize>) -> Vec<T> {
    let (mut chosen, mut order): (Vec<T>, Vec<T>) = all.into_iter().partition(|one| place(one).is_some());
    chosen.sort_by_key(&place);
    let Some(middle) = order.iter().position(is_middle) else {
        chosen.append(&mut order);
        return chosen;
    };
    let mut chosen = chosen.into_iter();
    let before = chosen.next();
    order.splice(middle + 1..middle + 1, chosen);
    order.splice(middle..middle, before);
    order
}

/// Takes the one that was least often in the present state of the machine, the first of several. So in the end all have
/// about as many runs in each state, and no median says more of the machine's states than of who ran in them.
fn next<T>(left: &mut Vec<T>, runs_in_this_state: impl Fn(&T) -> Option<usize>) -> Option<T> {
    let least = (0..left.len()).min_by_key(|&index| runs_in_this_state(&left[index]))?;
    Some(left.remove(least))
}

fn takes_part(contender: &Contender, group: &Group) -> bool {
    match group.who {
        Who::Everybody => true,
        Who::Defaults => contender.is_default,
        Who::Ours => contender.name == OURS,
    }
}

fn add(results: &mut Results, contender: &str, round: usize, document: &Document) {
    for test in &document.tests {
        for row in &test.rows {
            let key = Key { test: test.test.clone(), ranks: test.ranks, size: row.size };
            if let Some(median) = row.median {
                results.add(contender, &key, &test.unit, test.better, round, median);
            }
        }
    }
}

/// Drawn between runs only: while ranks run, nothing else may.
fn progress_bar(plan: &Plan) -> ProgressBar {
    let bar = ProgressBar::new(plan.seconds as u64);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} s  {msg}");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(all: &str, fastest: &str) -> String {
        beside(all.chars().collect(), |one| *one == 'o', |one| fastest.find(*one)).into_iter().collect()
    }

    #[test]
    fn the_fastest_peers_run_beside_ours() {
        assert_eq!(order("oabcd", "cb"), "cobad");
        assert_eq!(order("cdoab", "bc"), "dboca");
        assert_eq!(order("dabco", "c"), "dabco");
    }

    #[test]
    fn who_was_least_often_in_this_state_is_next() {
        let order = |counts: &[(char, usize)]| {
            let mut left = counts.to_vec();
            let taken = std::iter::from_fn(|| next(&mut left, |(_, runs)| Some(*runs)));
            taken.map(|(name, _)| name).collect::<String>()
        };
        assert_eq!(order(&[('a', 1), ('b', 0), ('c', 0), ('d', 2)]), "bcad");
        assert_eq!(next(&mut vec!['a', 'b'], |_| None), Some('a'));
    }

    #[test]
    fn without_ours_all_the_others_run() {
        assert_eq!(order("abcd", "cb"), "cbad");
    }

    #[test]
    fn without_a_fastest_peer_the_order_stays() {
        assert_eq!(order("bcoa", ""), "bcoa");
    }
}
