//! kill -9 at random moments: nothing is left.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Running, misbehave, shmrun};

/// Rounds per kind of victim here; the acceptance run makes more of them.
const ROUNDS: u32 = 10;

#[derive(Clone, Copy, PartialEq)]
enum Victim {
    Rank,
    Launcher,
    Both,
}

/// A job that is computing and communicating, directly or below wrappers.
fn job(wrapped: bool) -> Running {
    let actions = "init ".to_owned() + &"barrier ".repeat(40) + "hang";
    match wrapped {
        true => shmrun(["-n", "4", "sh", "-c", &format!("{} {actions}; true", misbehave())]).start(),
        false => shmrun(["-n", "4", misbehave()].into_iter().chain(actions.split_whitespace())).start(),
    }
}

/// A process of the job that runs the test program, once there is one.
fn rank_process(run: &Running) -> Pid {
    loop {
        let mut programs = run.processes().into_iter().filter(|pid| {
            let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            arguments.starts_with(misbehave().as_bytes())
        });
        if let Some(pid) = programs.next_back() {
            return Pid::from_raw(pid).unwrap();
        }
    }
}

fn kill(victim: Victim, wrapped: bool) {
    for round in 0..ROUNDS {
        let run = job(wrapped);
        let rank = (victim != Victim::Launcher).then(|| rank_process(&run));
        // Spread over start, attaching and communication, in steps that are no multiple of anything.
        std::thread::sleep(Duration::from_micros(u64::from(round) * 1307));
        if victim != Victim::Rank {
            run.signal(Signal::KILL);
        }
        if let Some(rank) = rank {
            // The launcher may have been faster.
            let _ = kill_process(rank, Signal::KILL);
        }
        let finished = run.finish();
        match victim {
            Victim::Rank => drop(finished.code(137).says("rank ").says("killed")),
            _ => assert_eq!(finished.signal, Some(9)),
        }
    }
}

#[test]
fn of_a_rank() {
    kill(Victim::Rank, false);
}

#[test]
fn of_the_launcher() {
    kill(Victim::Launcher, false);
}

#[test]
fn of_both() {
    kill(Victim::Both, false);
}

#[test]
fn of_the_launcher_above_wrappers() {
    kill(Victim::Launcher, true);
}

#[test]
fn of_both_above_wrappers() {
    kill(Victim::Both, true);
}

/// The first 10 ms of a process below a wrapper are before it attaches: then the wrapper's `true` hides its end.
#[test]
fn of_a_rank_below_a_wrapper() {
    for _ in 0..ROUNDS {
        let actions = "init ready hang; true";
        let mut run = shmrun(["-n", "3", "sh", "-c", &format!("{} {actions}", misbehave())]).start();
        run.await_output("ready\n", 3);
        kill_process(rank_process(&run), Signal::KILL).unwrap();
        run.finish().code(137).says("was killed");
    }
}

/// Programs that never attach have no watch of their own: the guard finds them.
#[test]
fn of_the_launcher_above_programs_that_never_attach() {
    let mut run = shmrun(["-n", "3", "sh", "-c", "sleep 600 & echo ready; sleep 600; true"]).start();
    run.await_output("ready\n", 3);
    run.signal(Signal::KILL);
    assert_eq!(run.finish().signal, Some(9));
}

#[test]
fn a_failed_job_takes_the_descendants_of_its_wrappers_along() {
    let script = "[ $SHMRUN_RANK = 1 ] && sleep 0.2 && exit 3; setsid sleep 600 & sleep 600; true";
    shmrun(["-n", "3", "sh", "-c", script]).run().code(3).says("rank 1 exited with code 3");
}

#[test]
fn a_job_inside_a_killed_job_dies_too() {
    let inner = env!("CARGO_BIN_EXE_shmrun");
    let mut run = shmrun(["-n", "1", inner, "-n", "2", "sh", "-c", "echo ready; sleep 600; true"]).start();
    run.await_output("ready\n", 2);
    run.signal(Signal::KILL);
    assert_eq!(run.finish().signal, Some(9));
}
