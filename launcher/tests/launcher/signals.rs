//! Signals sent to the launcher reach the ranks.

use rustix::process::Signal;

use crate::harness::{Running, shmrun};

fn trapping(signal: &str, action: &str) -> Running {
    let script = format!("trap '{action}' {signal}; echo ready; while :; do sleep 0.02; done");
    let mut run = shmrun(["-n", "3", "sh", "-c", &script]).own_group().start();
    run.await_output("ready\n", 3);
    run
}

#[test]
fn ranks_can_end_well_after_a_signal() {
    for (name, signal) in
        [("INT", Signal::INT), ("TERM", Signal::TERM), ("HUP", Signal::HUP), ("USR1", Signal::USR1)]
    {
        let run = trapping(name, "echo cleaned; exit 0");
        run.signal(signal);
        run.finish().code(0).stdout(&("ready\n".repeat(3) + &"cleaned\n".repeat(3))).silent();
    }
}

#[test]
fn an_interrupted_job_says_so() {
    let mut run = shmrun(["-n", "2", "sh", "-c", "echo ready; exec sleep 60"]).start();
    run.await_output("ready\n", 2);
    run.signal(Signal::INT);
    run.finish().code(130).says("SIGINT");
}

#[test]
fn a_second_interrupt_kills() {
    let mut run = trapping("INT", "echo ignored");
    run.signal(Signal::INT);
    run.await_output("ignored\n", 3);
    run.signal(Signal::INT);
    run.finish().code(137);
}

#[test]
fn stop_and_continue_reach_the_ranks() {
    let mut run = trapping("CONT", "echo continued");
    run.signal(Signal::TSTP);
    // The launcher stops itself after it has passed the signal on. The ranks come to theirs when they have a processor:
    // that they stop first, where they can in time, is what the tests of the terminal see.
    run.await_that("the launcher and its ranks are stopped", |run| {
        let shells = run.processes().into_iter().map(stat).filter(|stat| stat.contains(" (sh) "));
        let stopped = |stat: &String| stat.contains(") T ");
        stopped(&stat(run.child.id() as i32)) && shells.filter(stopped).count() == 3
    });
    run.signal(Signal::CONT);
    run.await_output("continued\n", 3);
    run.signal(Signal::KILL);
    assert_eq!(run.finish().signal, Some(9));
}

/// A job below nohup outlives its terminal.
#[test]
fn what_was_ignored_at_the_start_stays_so() {
    let rank = "trap 'echo continued; sleep 0.5; exit 0' USR1; echo ready; while :; do sleep 0.02; done";
    // With no grace, a job that the signal ends has no time for the half second.
    let mut run = shmrun(["-n", "2", "--grace", "0", "sh", "-c", rank]).ignoring("HUP").start();
    run.await_output("ready\n", 2);
    run.signal(Signal::HUP);
    // Of signals that are there together, the one with the lower number comes first.
    run.signal(Signal::USR1);
    run.finish().code(0).stdout(&("ready\n".repeat(2) + &"continued\n".repeat(2))).silent();
}

fn stat(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap()
}
