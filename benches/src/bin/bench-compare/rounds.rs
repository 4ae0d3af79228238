//! Runs the plan: first verifies every contender's data, then measures in rounds.
//!
//! In a round every group of tests is run by all contenders one after the other, and who begins is another one each
//! time: figures are compared within one group of one round, as near in time as it goes.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

use crate::contender::{Contender, OURS};
use crate::machine;
use crate::output::{self, Better, Document};
use crate::plan::{Group, Plan, Who};
use crate::process::{self, Failed};
use crate::results::{Block, Failure, Key, Results, Verified};

/// The contender of what the machine itself can do.
pub(crate) const FLOOR: &str = "floor";
/// Of the program's `floor`: half a round trip of one cache line between two cores.
pub(crate) const HAND_OFF: &str = "hand-off";

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
            results.flag();
            results.conditions.load_at_end = machine::load();
            keep(results)?;
        }
        self.bar.finish_and_clear();
        Ok(())
    }

    fn measure_group(&mut self, group: &Group, round: usize, results: &mut Results) {
        let mut order: Vec<_> =
            self.contenders.iter().filter(|contender| takes_part(contender, group)).collect();
        let first = round % order.len();
        order.rotate_left(first);
        let floor = self.measure_floor(group, round, results);
        for contender in &order {
            self.show(&format!("round {}: {}, {}", round + 1, group.name, contender.title));
            if group.has_start_up() {
                self.start_up(contender, group, round, results);
            } else {
                let (documents, failures) = self.attempt(contender, group, &[]);
                self.note(results, contender, group, Some(round), failures);
                for document in documents {
                    if !contender.is_ours() {
                        results.programs.insert(contender.peer.clone(), document.program.clone());
                    }
                    add(results, &contender.name, round, &document);
                }
            }
        }
        results.blocks.push(Block {
            group: group.name.clone(),
            ranks: group.ranks,
            tests: group.tests.clone(),
            round,
            order: order.iter().map(|contender| contender.name.clone()).collect(),
            floor,
            flagged: false,
            load: machine::load(),
        });
    }

    /// What the machine can do at this moment. The figures of a round are those beside its first group, the one
    /// with the tests that are compared with them.
    fn measure_floor(&self, group: &Group, round: usize, results: &mut Results) -> Option<f64> {
        let ours = self.contenders.iter().find(|contender| contender.is_ours())?;
        let arguments = ["floor", "--format", "json", "--milliseconds", "5"].map(str::to_owned);
        let run = process::run(&ours.invocation(2, &arguments), Duration::from_secs(10)).ok()?;
        let document = output::parse(&run.output).ok()?;
        if group.name == self.plan.groups[0].name {
            add(results, FLOOR, round, &document);
        }
        let hand_off = document.tests.iter().find(|test| test.test == HAND_OFF)?;
        hand_off.rows.first()?.median
    }

    /// The time of a whole run, from before the launcher to after its end.
    fn start_up(&mut self, contender: &Contender, group: &Group, round: usize, results: &mut Results) {
        if self.tests_left(contender, group).is_empty() {
            return;
        }
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
