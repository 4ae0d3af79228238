//! What is said about the first failure: who, how, in what call, where the others were, why.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Signal, kill_process};

use crate::harness::{line, misbehave, shmrun};

/// Acceptance: the message names rank, call and line.
#[test]
fn a_killed_rank_with_its_call_and_where_the_others_were() {
    let mut run = line("--hang-after 1s -n 4 misbehave init 3:hang barrier").start();
    // All of them wait by then.
    run.await_errors("deadlock");
    kill_process(run.rank(3, misbehave()), Signal::KILL).unwrap();
    let run = run.finish().code(137);
    let report = run.stderr.rsplit("shmrun: error: ").next().unwrap();
    let expected = [
        "rank 3 was killed by signal 9 (SIGKILL) after ",
        "\n  program: /",
        "\n  it was in recv_vec(from any, any tag) at launcher/examples/misbehave.rs:",
        "\n  other ranks: 3 were stopped\n    ranks 0-2 in barrier at launcher/examples/misbehave.rs:",
    ];
    expected.iter().for_each(|part| run.check(report.contains(part), part));
}

#[test]
fn a_panic_with_where_the_others_were() {
    let mut run = line("--hang-after 1s -n 3 misbehave init 1:kill=19 1:panic barrier").start();
    run.await_errors("rank 1 is stopped, 2 ranks wait");
    kill_process(run.rank(1, misbehave()), Signal::CONT).unwrap();
    let run = run.finish().code(101).says("rank 1 panicked").says("as it was told");
    run.says("ranks 0, 2 in barrier at launcher/examples/misbehave.rs:");
}

/// Ranks hear of a failure from the rank itself, and may have left because of it before the launcher looks.
#[test]
fn a_panic_with_where_the_others_were_before_they_left() {
    let mut run = line("--hang-after 1s -n 3 misbehave init 1:kill=19 1:panic barrier").start();
    run.await_errors("rank 1 is stopped, 2 ranks wait");
    run.signal(Signal::STOP);
    let ranks = [0, 1, 2].map(|rank| run.rank(rank, misbehave()));
    kill_process(ranks[1], Signal::CONT).unwrap();
    run.await_that("all ranks have left", |run| {
        let left = run.processes();
        ranks.iter().all(|rank| !left.contains(&rank.as_raw_nonzero().get()))
    });
    run.signal(Signal::CONT);
    let run = run.finish().code(101).says("rank 1 panicked");
    run.says("ranks 0, 2 in barrier at launcher/examples/misbehave.rs:");
}

#[test]
fn a_rank_that_leaves_without_finalizing() {
    let run = line("-n 2 misbehave init barrier 1:exit=0 hang").run().code(1);
    run.says("rank 1 ended without finalizing (exit code 0)").says("return from main");
}

#[test]
fn an_ordinary_exit_in_one_line() {
    let run = shmrun(["-n", "1", "sh", "-c", "exit 3"]).run().code(3);
    run.check(run.stderr.lines().count() == 1, "one line");
}

#[test]
fn one_of_several_programs_by_its_name() {
    shmrun(["-n", "1", "sleep", "60", ":", "-n", "1", "sh", "-c", "exit 3"])
        .run()
        .code(3)
        .says("program: sh");
}

#[test]
fn a_rank_whose_stack_overflows() {
    let run = line("-n 2 misbehave init 1:overflow barrier").run().code(134);
    run.says("has overflowed its stack").says("rank 1 was killed by signal 6 (SIGABRT)").says("`ulimit -s`");
}

/// A control group with a memory limit, removed in the end.
struct Group(PathBuf);

impl Group {
    /// `None` where this user may not make one.
    fn with_limit(bytes: u64) -> Option<Self> {
        let name = format!("ranks-test-{}", std::process::id());
        let mounts = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        mounts.into_iter().find_map(|(mount, limit)| {
            let group = Self(Path::new(mount).join(&name));
            fs::create_dir(&group.0).ok()?;
            fs::write(group.0.join(limit), bytes.to_string()).ok()?;
            Some(group)
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Fails while a process of it is being reaped.
        while fs::remove_dir(&self.0).is_err() && self.0.exists() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

#[test]
fn a_rank_that_the_kernel_killed_for_its_memory() {
    let Some(group) = Group::with_limit(256 << 20) else {
        return eprintln!("SKIPPED: this user may not make a control group with a memory limit");
    };
    let words = line("-n 3 misbehave init 2:eat=2000 barrier").words();
    let script = format!("echo $$ > {}/cgroup.procs && exec {}", group.0.display(), words.join(" "));
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(137), "{stderr}");
    for part in
        ["rank 2 was killed by signal 9", "cause: the memory limit: ", "(limit 256.0 MiB)", "fewer ranks"]
    {
        assert!(stderr.contains(part), "no {part:?} in {stderr}");
    }
    assert!(stderr.contains("oom_kill 0 -> 1"), "{stderr}");
}
