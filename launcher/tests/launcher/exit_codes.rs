//! A table of runs: arguments, exit code, and what the message contains.

use crate::harness::{line, shmrun};

/// Each line: a name, the arguments, the code, what the standard error contains.
const RUNS: &[(&str, &str, i32, &[&str])] = &[
    ("all well", "-n 4 true", 0, &[]),
    ("the default number of ranks", "true", 0, &[]),
    ("more ranks than processors", "-n 8 misbehave init barrier finalize", 0, &[]),
    ("a failing program", "-n 2 false", 1, &["exited with code 1"]),
    (
        "first to fail",
        "-n 4 misbehave 2:exit=3 sleep=60000",
        3,
        &["rank 2 exited with code 3", "3 were stopped"],
    ),
    ("no program", "-n 2 ./no-such-program", 127, &["./no-such-program", "help:"]),
    ("no program in PATH", "-n 2 no-such-program", 127, &["no-such-program", "PATH"]),
    ("a directory", "-n 2 /", 126, &["directory"]),
    (
        "panic",
        "-n 4 misbehave init 1:panic hang",
        101,
        &["rank 1 panicked", "misbehave.rs:", "as it was told"],
    ),
    ("panic without world", "-n 2 misbehave 1:panic sleep=60000", 101, &["rank 1 exited with code 101"]),
    ("panic against computing", "-n 2 misbehave init 0:panic spin", 101, &["rank 0 panicked"]),
    ("abort", "-n 3 misbehave init 2:abort=7 hang", 7, &["rank 2 aborted", "abort(7)"]),
    ("abort with 0", "-n 2 misbehave init 1:abort=0 hang", 1, &["rank 1 aborted"]),
    ("exit without finalizing", "-n 3 misbehave init 1:exit=0 hang", 1, &["rank 1 ended without finalizing"]),
    (
        "exit code without finalizing",
        "-n 3 misbehave init 1:exit=5 hang",
        5,
        &["rank 1 ended without finalizing"],
    ),
    (
        "exit code after finalizing",
        "-n 2 misbehave init finalize 1:exit=4",
        4,
        &["rank 1 exited with code 4"],
    ),
    ("exit 0 without attaching", "-n 3 misbehave 1:exit=0 0:init 2:init", 0, &[]),
    (
        "kill -9 in a receive",
        "-n 4 misbehave init 3:kill=9 hang",
        137,
        &["rank 3 was killed by signal 9 (SIGKILL)"],
    ),
    ("kill -9 in a barrier", "-n 4 misbehave init 3:kill=9 barrier", 137, &["rank 3 was killed by signal 9"]),
    (
        "kill -9 before attaching",
        "-n 2 misbehave 1:kill=9 init hang",
        137,
        &["rank 1 was killed by signal 9"],
    ),
    ("a fatal signal", "-n 2 misbehave init 0:kill=8 hang", 136, &["rank 0 was killed by signal 8 (SIGFPE)"]),
    ("ranks that ignore SIGTERM", "-n 2 misbehave 1:exit=3 0:spin", 3, &["rank 1 exited with code 3"]),
];

#[test]
fn codes_and_messages() {
    for (name, arguments, code, messages) in RUNS {
        println!("{name}");
        let mut finished = line(arguments).run().code(*code);
        for message in *messages {
            finished = finished.says(message);
        }
        if *code == 0 {
            finished.silent();
        }
    }
}

/// The wrapper swallows the exit status; the launcher sees it all the same.
#[test]
fn failures_below_a_wrapper() {
    let misbehave = crate::harness::misbehave();
    let runs = [
        ("init 1:kill=9 hang", 137, "rank 1 was killed"),
        ("init 1:exit=0 hang", 1, "rank 1 ended without finalizing"),
        ("init 1:exit=6 hang", 6, "rank 1 ended without finalizing"),
        ("init 1:panic hang", 101, "rank 1 panicked"),
        ("init 1:abort=9 hang", 9, "rank 1 aborted"),
        ("init finalize 1:exit=4", 0, ""),
    ];
    for (actions, code, message) in runs {
        let wrapped = format!("{misbehave} {actions}; true");
        shmrun(["-n", "3", "sh", "-c", &wrapped]).run().code(code).says(message);
    }
}

#[test]
fn a_script_without_interpreter_cannot_be_executed() {
    let run = shmrun(["-n", "2", "./script"]).file("script", "#!/no/such/interpreter\n", 0o755).run();
    run.code(126).says("interpreter");
    let run = shmrun(["-n", "2", "./text"]).file("text", "echo hello\n", 0o644).run();
    run.code(126).says("chmod +x");
    let run = shmrun(["-n", "2", "app"]).file("app", "#!/bin/sh\n", 0o755).run();
    run.code(127).says("./app");
}

#[test]
fn a_job_inside_a_job_runs_by_itself() {
    let inner = env!("CARGO_BIN_EXE_shmrun");
    let program = crate::harness::misbehave();
    let run = shmrun(["-n", "2", inner, "-n", "3", program, "init", "size", "barrier"]).run().code(0);
    run.stdout(&"size 3\n".repeat(6));
}
