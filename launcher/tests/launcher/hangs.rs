//! Jobs that hang, and jobs that only seem to.

use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Finished, line, misbehave, stuck};

/// The exit code of a job that was ended for a deadlock.
const DEADLOCK: i32 = 123;

/// Runs a program that can never end.
fn ended(arguments: &str) -> Finished {
    line(&format!("--hang=kill --hang-after 1s {arguments}")).run().code(DEADLOCK).says("deadlock (")
}

/// Runs a program that ends well, whatever it looks like meanwhile.
fn innocent(arguments: &str) -> Finished {
    line(&format!("--hang=kill --hang-after 1s {arguments}")).run().code(0).claims_no_deadlock()
}

mod deadlocks {
    use super::*;

    #[test]
    fn of_sends_head_to_head() {
        let run = ended("-n 2 stuck head-to-head").says("(cycle of 2)").says("Use sendrecv()");
        for row in
            ["rank 0  send(to 1, tag 7, 1.0 MiB)  waiting", "rank 1  send(to 0, tag 7, 1.0 MiB)  waiting"]
        {
            run.check(run.stderr.contains(row), row);
        }
        run.check(run.stderr.matches("examples/stuck.rs:").count() == 2, "both places");
    }

    #[test]
    fn of_receives_in_a_circle() {
        ended("-n 3 stuck circle")
            .says("(cycle of 3)")
            .says("rank 0  recv(from 2, any tag")
            .says("send first");
    }

    #[test]
    fn of_receives_from_anybody() {
        ended("-n 3 stuck anybody").says("(knot of 3)").says("ranks 0-2  recv_vec(from any, any tag)");
    }

    #[test]
    fn of_waiting_for_any_of_several() {
        ended("-n 3 stuck any-of").says("wait_any(of ranks 1, 2)").says("ranks 1, 2  recv_vec(from 0");
    }

    #[test]
    fn of_a_message_with_another_tag() {
        let lying = "rank 0 has not received: from 1, tag 5, 24 B, sent at launcher/examples/stuck.rs:";
        ended("-n 2 stuck tag").says("recv(from 1, tag 6, 24 B)").says(lying).says("compare their tags");
    }

    #[test]
    fn of_a_rank_that_does_not_come_to_the_barrier() {
        let missing = "rank 2 has not entered barrier: it is in recv_vec(from 0, tag 3) at";
        ended("-n 4 stuck missing").says("ranks 0, 1, 3  barrier").says(missing).says("the same collectives");
    }

    #[test]
    fn of_a_rank_that_leaves_with_a_message() {
        ended("-n 2 stuck unfinished").says("rank 0  finalize: send(to 1, tag 1, 1.0 MiB)");
    }

    /// The others compute and talk on.
    #[test]
    fn do_not_need_all_ranks() {
        let run = ended("-n 5 stuck pair-and-others").says("deadlock (cycle of 2)\n");
        for others in ["rank 2", "rank 3", "rank 4", "ranks "] {
            run.check(!run.stderr.contains(others), &format!("nothing about {others}"));
        }
    }

    #[test]
    fn are_told_once_where_they_do_not_end_the_job() {
        let mut run = line("--hang-after 1s -n 2 stuck head-to-head").start();
        run.await_errors("deadlock (");
        // Time for several looks more.
        sleep(Duration::from_secs(3));
        run.signal(Signal::TERM);
        let run = run.finish().code(143);
        // A rank that was slow to come to its call, on a busy machine, has been reported before that.
        run.check(run.stderr.matches("deadlock (").count() == 1, "one report of it");
    }

    #[test]
    fn are_not_looked_for_when_nobody_wants_to_know() {
        let run = line("--hang=off --hang-after 1s -n 2 stuck head-to-head").start();
        run.rank(1, stuck());
        sleep(Duration::from_secs(3));
        run.signal(Signal::TERM);
        let run = run.finish().code(143);
        run.check(!run.stderr.contains("no progress"), "no report");
    }
}

/// Each rank hears of it itself.
mod mismatches {
    use super::*;

    fn refused(arguments: &str) -> Finished {
        line(arguments).env("RUST_BACKTRACE", "0").run().code(1).says("examples/stuck.rs:")
    }

    #[test]
    fn of_a_root() {
        refused("-n 3 stuck root").says("broadcast(root 2, 32 bytes)").says("broadcast(root 0, 32 bytes)");
    }

    #[test]
    fn of_a_count() {
        refused("-n 3 stuck count").says("all_reduce(16040 bytes)").says("all_reduce(8024 bytes)");
    }

    #[test]
    fn of_a_length() {
        refused("-n 2 stuck truncated").says("has 100 bytes, the buffer has 60");
    }

    #[test]
    fn of_a_type() {
        refused("-n 2 stuck type").says("expects f64").says("holds f32");
    }
}

/// A report says who computes, reads or is stopped; nobody is accused and nothing is ended.
mod no_deadlock {
    use super::*;

    #[test]
    fn is_a_long_computation() {
        let run = innocent("-n 4 stuck computing 9").says("rank 0 is computing, 3 ranks wait");
        run.says("ranks 1-3  barrier").stdout(&"done\n".repeat(4));
    }

    #[test]
    fn is_a_rank_that_sleeps() {
        innocent("-n 3 stuck sleeping 9").says("rank 0 is sleeping for a time, 2 ranks wait");
    }

    #[test]
    fn is_a_slow_input() {
        let mut run = line("--hang=kill --hang-after 1s -n 3 stuck reading").open_input().start();
        run.await_errors("rank 0 is reading its standard input, 2 ranks wait");
        run.write("at last\n");
        run.finish().code(0).stdout(&"done\n".repeat(3)).claims_no_deadlock();
    }

    #[test]
    fn is_a_stopped_rank() {
        let mut run = line("--hang=kill --hang-after 1s -n 3 misbehave init 1:kill=19 barrier").start();
        run.await_errors("rank 1 is stopped, 2 ranks wait");
        kill_process(run.rank(1, misbehave()), Signal::CONT).unwrap();
        run.finish().code(0).claims_no_deadlock();
    }

    /// Even a real deadlock is none while somebody may still interfere.
    #[test]
    fn is_a_cycle_with_a_stopped_rank_until_it_continues() {
        let mut run = line("--hang=kill --hang-after 2s -n 2 stuck circle").start();
        let rank = run.rank(1, stuck());
        kill_process(rank, Signal::STOP).unwrap();
        run.await_errors("rank 1 is stopped");
        kill_process(rank, Signal::CONT).unwrap();
        run.finish().code(DEADLOCK).says("deadlock (cycle of 2)");
    }

    #[test]
    fn is_a_rank_in_a_debugger() {
        let mut run = line("--hang=kill --hang-after 2s -n 2 stuck circle").start();
        let rank = run.rank(1, stuck());
        let Some(mut debugger) = trace(rank) else {
            run.signal(Signal::KILL);
            run.finish();
            return eprintln!("SKIPPED: no python3, or no permission to trace");
        };
        run.await_errors("rank 1 is stopped in a debugger");
        debugger.kill().unwrap();
        debugger.wait().unwrap();
        // It leaves the process stopped.
        kill_process(rank, Signal::CONT).unwrap();
        run.finish().code(DEADLOCK);
    }

    /// The others of a job may be busy for as long as they like.
    #[test]
    fn is_a_wait_for_ranks_that_talk() {
        let run = line("--hang=kill --hang-after 3s -n 3 stuck busy-pair 7").run().code(0);
        run.stdout(&"done\n".repeat(3)).silent();
    }

    /// Ranks are stopped and continued all the time, in the middle of whatever they do.
    #[test]
    fn is_a_storm_of_stops() {
        let mut run = line("--hang=kill --hang-after 1s -n 4 stuck busy 8").start();
        let ranks = [0, 1, 2, 3].map(|rank| run.rank(rank, stuck()));
        let mut seed = 1u64;
        while run.child.try_wait().unwrap().is_none() {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let rank = ranks[(seed >> 60) as usize % 4];
            for signal in [Signal::STOP, Signal::CONT] {
                // It may have ended.
                let _ = kill_process(rank, signal);
                sleep(Duration::from_millis(seed >> 56));
            }
        }
        run.finish().code(0).stdout(&"done\n".repeat(4)).claims_no_deadlock();
    }

    /// Holds a process as a debugger does, until the debugger is killed.
    fn trace(process: Pid) -> Option<std::process::Child> {
        const ATTACH: &str = "import ctypes, sys, time
libc = ctypes.CDLL(None)
pid = int(sys.argv[1])
print(libc.ptrace(16, pid, None, None), flush=True)
time.sleep(600)";
        let mut command = Command::new("python3");
        command.args(["-c", ATTACH, &process.as_raw_nonzero().to_string()]);
        let mut debugger = command.stdout(std::process::Stdio::piped()).spawn().ok()?;
        let mut said = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(debugger.stdout.take()?), &mut said).ok()?;
        if said.trim() == "0" {
            return Some(debugger);
        }
        let _ = debugger.kill();
        let _ = debugger.wait();
        None
    }
}

#[test]
fn short_sends_rely_on_buffering_unless_it_is_strict() {
    line("--hang=kill --hang-after 1s -n 2 stuck short-head-to-head").run().code(0).silent();
    ended("--strict -n 2 stuck short-head-to-head").says("under --strict every send waits for its receiver");
    line("--strict -n 1 stuck self")
        .env("RUST_BACKTRACE", "0")
        .run()
        .code(1)
        .says("this rank waits for itself");
}

#[test]
fn sigquit_shows_what_every_rank_does() {
    let mut run =
        line("-n 4 misbehave init 0:ready 0:sleep=600000 1:finalize 1:sleep=600000 barrier").start();
    run.await_output("ready\n", 1);
    let ranks = [0, 1, 2, 3].map(|rank| run.rank(rank, misbehave()));
    run.await_that("all ranks sleep, and do so for a while", |_| {
        (0..20).all(|_| {
            sleep(Duration::from_millis(5));
            ranks.iter().all(|rank| is_asleep(*rank))
        })
    });
    run.signal(Signal::QUIT);
    let run = run.finish().code(131).says("shmrun: state of the ranks after ");
    for row in ["rank 0     sleeping for a time", "rank 1     finished", "ranks 2, 3  barrier"] {
        let found = run.stderr.lines().any(|line| {
            line.split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
                .starts_with(&row.split_whitespace().collect::<Vec<_>>().join(" "))
        });
        run.check(found, row);
    }
}

fn is_asleep(process: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).unwrap();
    stat.contains(") S ")
}

/// The launcher gets up about once a second to look. That is counted: processor time depends on what else runs.
#[test]
fn watching_is_a_look_now_and_then() {
    const SECONDS: u64 = 5;
    let mut run = line("-n 4 misbehave init ready hang").start();
    run.await_output("ready\n", 4);
    let before = times_slept(run.child.id());
    sleep(Duration::from_secs(SECONDS));
    let times = times_slept(run.child.id()) - before;
    run.signal(Signal::KILL);
    run.finish();
    assert!((1..=4 * SECONDS).contains(&times), "slept {times} times in {SECONDS} s");
}

/// How often the threads of a process have gone to sleep.
fn times_slept(process: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap().flatten();
    let switches = threads.map(|thread| {
        let status = fs::read_to_string(thread.path().join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.unwrap().trim().parse::<u64>().unwrap()
    });
    switches.sum()
}
