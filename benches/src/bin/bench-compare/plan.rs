//! What is measured, in which groups, and how long it may take.

use std::time::Duration;

use crate::arguments::Arguments;
use crate::results::Key;

/// Between ranks 0 and 1.
const PAIR: [&str; 5] = ["latency", "any-latency", "bw", "bibw", "mbw-mr"];
const COLLECTIVES: [&str; 8] =
    ["barrier", "bcast", "reduce", "allreduce", "allgather", "alltoall", "gather", "scatter"];
/// Tests whose data is written before each call and read after it, which is timed too, have this behind their names: the programs do so when
/// they are told.
pub(crate) const IN_USE: &str = "-in-use";
const USED: [&str; 5] =
    ["latency-in-use", "bcast-in-use", "allreduce-in-use", "allgather-in-use", "alltoall-in-use"];
/// Not a test of the programs: the time of a whole run that only initializes and finalizes.
pub(crate) const START_UP: &str = "startup";
/// Processor time of ranks that wait, and of their launcher.
pub(crate) const IDLE: &str = "idle";

/// Enough to see where an algorithm changes; a peer that does not yield needs a tenth of a second for each.
const CROWDED_SIZES: [usize; 5] = [8, 1024, 16384, 65536, 262_144];
/// From where on the way through the caches is most of the time.
const USED_SIZES: [usize; 5] = [4096, 16384, 65536, 262_144, 1_048_576];
const QUICK_SIZES: [usize; 6] = [8, 1024, 4096, 16384, 65536, 1_048_576];
/// A cache line, an eager message, and a long one.
const CHECKED_SIZES: [usize; 3] = [8, 1024, 65536];

pub(crate) struct Plan {
    pub(crate) mode: String,
    /// For all rounds together.
    pub(crate) seconds: f64,
    pub(crate) rounds: usize,
    pub(crate) groups: Vec<Group>,
    pub(crate) checks: Vec<Group>,
}

/// Tests that one run of a program makes.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) ranks: usize,
    pub(crate) tests: Vec<String>,
    /// Empty: the program's own.
    pub(crate) sizes: Vec<usize>,
    pub(crate) milliseconds: u64,
    pub(crate) who: Who,
    /// After which a run has failed.
    pub(crate) limit: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Everybody,
    /// Every peer at its defaults: settings do not change what is measured.
    Defaults,
    Ours,
}

impl Plan {
    pub(crate) fn of(arguments: &Arguments) -> Self {
        let groups = if arguments.quick { quick() } else { full() };
        let groups: Vec<_> = groups.into_iter().filter_map(|group| narrowed(group, arguments)).collect();
        // What is in use is sent by the same calls.
        let everybody = groups.iter().filter(|group| group.who == Who::Everybody && !group.is_in_use());
        // A quick look has no time for more.
        let checks = everybody.take(if arguments.quick { 1 } else { usize::MAX }).map(checked).collect();
        Self {
            mode: if arguments.quick { "quick" } else { "full" }.to_owned(),
            seconds: arguments.seconds(),
            rounds: arguments.rounds,
            groups,
            checks,
        }
    }
}

impl Group {
    /// The arguments of the benchmark program for `tests` of this group.
    pub(crate) fn arguments(&self, tests: &[String]) -> Vec<String> {
        if tests == [START_UP] {
            return vec!["init".to_owned()];
        }
        let names: Vec<_> = tests.iter().map(|test| test.strip_suffix(IN_USE).unwrap_or(test)).collect();
        let mut arguments = vec![names.join(","), "--format".to_owned(), "json".to_owned()];
        if self.is_in_use() {
            arguments.push("--in-use".to_owned());
        }
        if tests == [IDLE] {
            arguments.extend(["--seconds".to_owned(), (self.milliseconds / 1000).to_string()]);
            return arguments;
        }
        if !self.sizes.is_empty() {
            let sizes: Vec<_> = self.sizes.iter().map(usize::to_string).collect();
            arguments.extend(["--sizes".to_owned(), sizes.join(",")]);
        }
        arguments.extend(["--milliseconds".to_owned(), self.milliseconds.to_string()]);
        arguments
    }

    fn is_in_use(&self) -> bool {
        self.tests.iter().all(|test| test.ends_with(IN_USE))
    }

    pub(crate) fn has_start_up(&self) -> bool {
        self.tests == [START_UP]
    }

    /// It takes long, and does not vary with the machine's state.
    pub(crate) fn is_once(&self) -> bool {
        self.tests == [IDLE]
    }

    pub(crate) fn start_up_key(&self) -> Key {
        Key { test: START_UP.to_owned(), ranks: self.ranks, size: 0 }
    }
}

fn full() -> Vec<Group> {
    let limit = Duration::from_secs(90);
    let group = |name: &str, ranks, tests: &[&str], sizes: &[usize], who| {
        new_group(&format!("{name}, {ranks} ranks"), ranks, tests, sizes, 10, who, limit)
    };
    let mut groups = vec![
        group("point to point", 2, &PAIR, &[], Who::Everybody),
        group("collectives", 2, &COLLECTIVES, &[], Who::Everybody),
        group("in use", 2, &USED, &USED_SIZES, Who::Everybody),
        group("collectives", 4, &COLLECTIVES, &CROWDED_SIZES, Who::Everybody),
        group("collectives", 8, &COLLECTIVES, &CROWDED_SIZES, Who::Everybody),
        group("start-up", 2, &[START_UP], &[], Who::Defaults),
        group("start-up", 8, &[START_UP], &[], Who::Defaults),
        group("two of many", 128, &["latency", "any-latency"], &[8], Who::Ours),
    ];
    let growth =
        [16, 32, 64, 128].map(|ranks| group("growth", ranks, &["barrier", "allreduce"], &[8], Who::Ours));
    groups.extend(growth);
    groups.push(new_group("idle", 2, &[IDLE], &[], 5000, Who::Ours, limit));
    groups
}

fn quick() -> Vec<Group> {
    let limit = Duration::from_secs(15);
    let group = |name: &str, ranks, tests: &[&str], sizes: &[usize], who| {
        new_group(&format!("{name}, {ranks} ranks"), ranks, tests, sizes, 8, who, limit)
    };
    let all = [&PAIR[..], &COLLECTIVES[..]].concat();
    vec![
        group("all", 2, &all, &QUICK_SIZES, Who::Everybody),
        group("collectives", 4, &["barrier", "bcast", "allreduce", "alltoall"], &[8, 65536], Who::Everybody),
        group("start-up", 2, &[START_UP], &[], Who::Defaults),
        group("two of many", 128, &["latency", "any-latency"], &[8], Who::Ours),
        new_group("idle", 2, &[IDLE], &[], 1000, Who::Ours, limit),
    ]
}

fn new_group(
    name: &str,
    ranks: usize,
    tests: &[&str],
    sizes: &[usize],
    milliseconds: u64,
    who: Who,
    limit: Duration,
) -> Group {
    let tests = tests.iter().map(|&test| test.to_owned()).collect();
    Group { name: name.to_owned(), ranks, tests, sizes: sizes.to_vec(), milliseconds, who, limit }
}

/// What the command line leaves of a group.
fn narrowed(mut group: Group, arguments: &Arguments) -> Option<Group> {
    group.tests.retain(|test| arguments.wants_test(test));
    if !arguments.sizes.is_empty() && group.who == Who::Everybody {
        group.sizes = suitable(&arguments.sizes, &group.tests);
    }
    (!group.tests.is_empty()).then_some(group)
}

/// All tests of a run have the same sizes, so only those are left that all of them know.
fn suitable(sizes: &[usize], tests: &[String]) -> Vec<usize> {
    let suits = |test: &String, size: usize| match test.strip_suffix(IN_USE).unwrap_or(test) {
        "latency" | "any-latency" | "barrier" => true,
        "reduce" | "allreduce" => size > 0 && size.is_multiple_of(size_of::<f32>()),
        _ => size > 0,
    };
    sizes.iter().copied().filter(|&size| tests.iter().all(|test| suits(test, size))).collect()
}

fn checked(group: &Group) -> Group {
    Group { sizes: suitable(&CHECKED_SIZES, &group.tests), ..group.clone() }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn plan(words: &str) -> Plan {
        let words = std::iter::once("bench-compare").chain(words.split_whitespace());
        Plan::of(&Arguments::try_parse_from(words).unwrap())
    }

    fn tests_of(plan: &Plan) -> Vec<&str> {
        plan.groups.iter().flat_map(|group| &group.tests).map(String::as_str).collect()
    }

    #[test]
    fn everything_is_measured_unless_narrowed() {
        let plan = plan("");
        for test in PAIR.iter().chain(&COLLECTIVES).chain(&USED).chain([&START_UP]) {
            assert!(tests_of(&plan).contains(test), "{test}");
        }
        assert_eq!(plan.seconds, 2400.0);
    }

    #[test]
    fn a_quick_plan_has_every_test_too_and_three_minutes() {
        let plan = plan("--quick");
        for test in PAIR.iter().chain(&COLLECTIVES).chain([&START_UP]) {
            assert!(tests_of(&plan).contains(test), "{test}");
        }
        assert_eq!(plan.seconds, 180.0);
    }

    #[test]
    fn only_what_is_asked_for_is_measured() {
        assert_eq!(tests_of(&plan("--quick --tests bw")), ["bw"]);
    }

    #[test]
    fn sizes_that_a_test_of_the_run_does_not_know_are_left_out() {
        let plan = plan("--tests latency,bw,allreduce --sizes 0,1,8");
        let sizes: Vec<_> = plan.groups.iter().take(2).map(|group| group.sizes.clone()).collect();
        assert_eq!(sizes, [vec![1, 8], vec![8]]);
    }

    #[test]
    fn programs_are_told_that_data_is_in_use() {
        let plan = plan("--tests latency,latency-in-use --sizes 8");
        let line = |group: &Group| group.arguments(&group.tests).join(" ");
        let used: Vec<_> = plan.groups.iter().filter(|group| group.is_in_use()).map(line).collect();
        assert_eq!(used, ["latency --format json --in-use --sizes 8 --milliseconds 10"]);
        assert!(plan.groups.iter().any(|group| group.tests == ["latency"] && !line(group).contains(IN_USE)));
        assert!(plan.checks.iter().all(|group| !group.is_in_use()));
    }

    #[test]
    fn a_run_gets_its_tests_sizes_and_time() {
        let plan = plan("--quick --tests latency --sizes 8,64");
        let group = &plan.groups[0];
        let expected = "latency --format json --sizes 8,64 --milliseconds 8";
        assert_eq!(group.arguments(&group.tests).join(" "), expected);
    }
}
