//! `--chaos`: what a program does depends on the seed alone.

use crate::harness::{Finished, line};

fn race(seed: u32) -> Finished {
    line(&format!("--chaos {seed} -n 4 stuck race")).env("RUST_BACKTRACE", "0").run()
}

/// The order in which rank 0 received.
fn order(run: &Finished) -> &str {
    run.stdout.lines().find(|line| line.starts_with("order")).unwrap()
}

#[test]
fn a_race_fails_50_of_50_times_with_the_same_seed_and_passes_50_of_50_times_with_another() {
    let outcome = |run: &Finished| (run.code, order(run).to_owned());
    let runs: Vec<_> = (0..40).map(|seed| (seed, outcome(&race(seed)))).collect();
    let failing = runs.iter().find(|(_, (code, _))| *code == Some(101)).expect("a seed that fails");
    let passing = runs.iter().find(|(_, (code, _))| *code == Some(0)).expect("a seed that passes");
    for (seed, expected) in [failing, passing] {
        for round in 0..50 {
            let run = race(*seed);
            run.check(outcome(&run) == *expected, &format!("{expected:?} in round {round} too"));
        }
    }
}

#[test]
fn a_deadlock_is_found_as_ever() {
    let run = line("--chaos 1 --hang=kill --hang-after 1s -n 3 stuck circle").run();
    run.code(123).says("deadlock (cycle of 3)");
}

#[test]
fn a_computation_is_no_deadlock() {
    let run = line("--chaos 1 --hang=kill --hang-after 1s -n 3 stuck computing 3").run();
    run.code(0).stdout(&"done\n".repeat(3)).claims_no_deadlock();
}

#[test]
fn strict_goes_with_it() {
    let run = || line("--chaos 5 --strict -n 4 stuck race").env("RUST_BACKTRACE", "0").run();
    let first = run();
    (0..5).for_each(|_| assert_eq!(order(&run()), order(&first)));
    let hang = line("--chaos 5 --strict --hang=kill --hang-after 1s -n 2 stuck short-head-to-head").run();
    hang.code(123).says("under --strict every send waits for its receiver");
}

/// Dead before it attached, with the turn, and while it waits for something.
#[test]
fn a_death_ends_the_job() {
    for actions in
        ["1:kill=9 init", "init 1:kill=9 barrier", "init barrier 2:kill=9 hang", "init 0:panic hang"]
    {
        let run = line(&format!("--chaos 4 -n 3 misbehave {actions}")).run();
        let expected = if actions.contains("panic") { 101 } else { 137 };
        run.code(expected);
    }
}

/// A rank that never becomes one does not keep the others from starting.
#[test]
fn a_rank_that_ends_before_it_attached_is_not_waited_for() {
    line("--chaos 4 -n 3 misbehave 1:exit=0 init 0:size").run().code(0).stdout("size 3\n");
}

/// A rank dies in its own turn, so the others hear of it at a moment that depends on the seed, too.
#[test]
fn survivors_of_a_death_go_on_in_the_order_of_the_seed() {
    let run = |seed: u32| {
        let run = line(&format!("--chaos {seed} --on-failure=continue -n 4 stuck survived-race")).run();
        run.code(0).says("rank 3 was killed by signal 9").stdout
    };
    let outcomes: Vec<String> = (0..8).map(run).collect();
    for (seed, outcome) in (0..).zip(&outcomes) {
        let lines: Vec<&str> = outcome.lines().collect();
        assert!(
            matches!(lines[..], [before, after]
                if before.contains("rank 3 has failed") && after.ends_with("] of 3 ranks")),
            "seed {seed}: {outcome}"
        );
        (0..4).for_each(|_| assert_eq!(run(seed), *outcome, "seed {seed}"));
    }
    assert!(outcomes.iter().any(|outcome| *outcome != outcomes[0]), "all seeds: {}", outcomes[0]);
}
