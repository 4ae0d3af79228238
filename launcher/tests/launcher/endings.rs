//! Time limits, grace, restarts, exit codes, wrappers and debuggers.

use std::time::{Duration, Instant};

use crate::harness::{line, misbehave, shmrun};

#[test]
fn a_job_that_takes_too_long_is_ended() {
    for options in ["--timeout 300ms", "-timeout=0.3", "--timeout 0.3s", "--time 0:01", "-t 1s"] {
        let begin = Instant::now();
        let run = line(&format!("-n 2 {options} sleep 600")).run().code(124);
        run.says("did not end within").says("its time limit\n  2 ranks were stopped\n");
        assert!(begin.elapsed() < Duration::from_secs(50));
    }
    line("-n 2 sleep 600").env("MPIEXEC_TIMEOUT", "1").run().code(124).says("1s");
    line("-n 2 --timeout 60 true").env("MPIEXEC_TIMEOUT", "1").run().code(0).silent();
    line("-n 2 true").env("MPIEXEC_TIMEOUT", "soon").run().code(125).says("MPIEXEC_TIMEOUT=soon");
    line("-n 1 --timeout 0 true").run().code(125).says("'0'");
    line("-n 1 --timeout soon true").run().code(125).says("'soon'").says("1:30");
}

#[test]
fn a_time_limit_ends_ranks_that_ignore_sigterm() {
    let script = "trap '' TERM; while :; do sleep 0.1; done";
    shmrun(["-n", "2", "--timeout", "300ms", "sh", "-c", script]).run().code(124);
    // A rank that ends well when it is asked to does not make it a success.
    let script = "trap 'exit 0' TERM; while :; do sleep 0.05; done";
    shmrun(["-n", "2", "--timeout", "300ms", "sh", "-c", script]).run().code(124);
}

#[test]
fn a_time_limit_holds_while_nobody_reads_the_output() {
    let words = shmrun(["-n", "1", "--timeout", "500ms", "seq", "1", "1000000"]).words().join(" ");
    let script = format!("({words}; echo code $? >&2) | (sleep 3; cat >/dev/null)");
    let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("time limit") && stderr.ends_with("code 124\n"), "{stderr}");
}

#[test]
fn a_failure_before_the_time_limit_is_a_failure() {
    line("-n 2 --timeout 60 misbehave 1:exit=3 sleep=60000").run().code(3).says("rank 1 exited with code 3");
}

/// The others have the grace period for cleaning up, and no longer.
#[test]
fn grace_is_the_time_between_sigterm_and_sigkill() {
    let script = "[ $SHMRUN_RANK = 0 ] && { sleep 0.3; exit 3; }
        trap 'sleep 1; echo cleaned; exit 0' TERM; while :; do sleep 0.05; done";
    let run = |grace: &[&str]| {
        let words = ["-n", "2"].into_iter().chain(grace.iter().copied()).chain(["sh", "-c", script]);
        shmrun(words).run().code(3).stdout
    };
    assert_eq!(run(&["--grace", "30s"]), "cleaned\n");
    assert_eq!(run(&["--grace", "0"]), "");
    assert_eq!(run(&[]), "");
}

/// Exit codes where the others go on: docs/decisions/011-surviving-failures.md.
#[test]
fn a_job_goes_on_without_a_rank_and_ends_as_its_survivors_do() {
    let job = |actions: &str| line(&format!("-n 3 --on-failure=continue misbehave init {actions}")).run();
    let run = job("1:kill=9 shrink size finalize").code(0);
    assert_eq!(run.stdout, "size 2\nsize 2\n");
    run.says("rank 1 was killed by signal 9").says("went on and finished");
    let run = job("1:exit=3 sleep=200 ready finalize").code(3);
    assert_eq!(run.stdout, "ready\nready\n");
    run.says("rank 1 ended without finalizing (exit code 3)");
    // A second failure counts for itself.
    job("1:kill=9 shrink 2:exit=4 finalize").code(4).says("rank 2 ended without finalizing (exit code 4)");
    job("1:abort=5 hang").code(5).says("rank 1 aborted the job with exit code 5");
}

#[test]
fn what_happens_on_a_failure_is_said_in_several_ways() {
    line("-n 2 --on-failure=kill misbehave 1:exit=3 sleep=60000").run().code(3);
    line("-n 2 --on-failure=hat true").run().code(125).says("'hat'");
    let script = "[ $SHMRUN_RANK = 1 ] && exit 3; sleep 1; echo went on";
    let said = |option: &str| shmrun(["-n", "2", option, "sh", "-c", script]).run().stdout;
    for option in ["--on-failure=continue", "--enable-recovery", "-disable-auto-cleanup"] {
        assert_eq!(said(option), "went on\n", "{option}");
    }
    assert_eq!(said("--on-failure=kill"), "");
    line("-n 2 -K --kill-on-bad-exit=1 true").run().code(0).says("without effect");
}

#[test]
fn a_failed_job_is_started_again() {
    let script = "echo try ${SHMRUN_RESTART:-0} of rank $SHMRUN_RANK;
        [ $SHMRUN_RANK = 1 ] && [ ${SHMRUN_RESTART:-0} -lt 2 ] && exit 3; exit 0";
    let restarts =
        |number: &str| shmrun(["-n", "2", "--max-restarts", number, "-o", "log", "sh", "-c", script]).run();
    let run =
        restarts("5").code(0).says("rank 1 exited with code 3").says("restart 1 of 5").says("restart 2 of 5");
    run.check(!run.stderr.contains("restart 3"), "two restarts");
    let log = &run.files["log"];
    assert_eq!(log.matches("of rank 1").count(), 3, "{log}");
    assert!(log.contains("try 0 of rank 1") && log.contains("try 2 of rank 1"), "{log}");
    restarts("1").code(3).says("restart 1 of 1");
    // Ended by the user or its time limit, it has not failed.
    line("-n 1 --max-restarts 3 --timeout 1 sleep 600").run().code(124);
    let mut run = shmrun(["-n", "1", "--max-restarts", "3", "sh", "-c", "echo ready; sleep 600"]).start();
    run.await_output("ready\n", 1);
    run.signal(rustix::process::Signal::TERM);
    run.finish().code(143).stdout("ready\n");
}

/// A program below a wrapper that attaches when the others have been asked to end already is asked, too.
#[test]
fn a_program_that_attaches_late_is_ended_with_the_others() {
    let begin = Instant::now();
    let script = format!(
        "[ $SHMRUN_RANK = 1 ] && exit 3; trap : TERM; (sleep 0.3; exec {} init sleep=600000); exit 0",
        misbehave()
    );
    shmrun(["-n", "2", "--grace", "50s", "sh", "-c", &script])
        .run()
        .code(3)
        .says("rank 1 exited with code 3");
    assert!(begin.elapsed() < Duration::from_secs(40), "it was waited for");
}

#[test]
fn all_exit_codes_are_told_on_request() {
    let script = "[ $SHMRUN_RANK = 3 ] && sleep 0.3; exit $((SHMRUN_RANK / 3 * 7))";
    let run = shmrun(["-n", "4", "--print-all-exitcodes", "sh", "-c", script]).run().code(7);
    run.says("exit codes of the ranks\n  0-2: 0\n  3: 7\n");
    let run = line("-n 2 -print-all-exitcodes misbehave init 1:kill=9 hang").run().code(137);
    run.says("  1: 137 (signal 9 (SIGKILL))");
}

#[test]
fn the_launchers_process_id_is_reported() {
    let run = shmrun(["-n", "1", "--report-pid", "pid", "sh", "-c", "echo $PPID"]).run().code(0);
    assert_eq!(run.files["pid"], run.stdout);
    let run = shmrun(["-n", "1", "--report-pid", "-", "sh", "-c", "echo $PPID"]).run().code(0).silent();
    let [reported, actual] = run.stdout.lines().collect::<Vec<_>>()[..] else { panic!("{}", run.stdout) };
    assert_eq!(reported, actual);
    let run = shmrun(["-n", "1", "--report-pid", "+", "sh", "-c", "echo $PPID"]).run().code(0);
    assert_eq!(run.stderr, run.stdout);
    line("-n 1 --report-pid /no/such/place true").run().code(125).says("/no/such/place");
}

#[test]
fn ranks_run_under_a_wrapper() {
    let script = "echo $SHMRUN_RANK $WRAPPED";
    let wrapped = |options: &[&str]| {
        let words = ["-n", "3", "--wrap", "env 'WRAPPED=by env'"].into_iter().chain(options.iter().copied());
        let run = shmrun(words.chain(["sh", "-c", script])).run().code(0).silent();
        run.sorted_lines().iter().map(|line| line.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(wrapped(&[]), ["0 by env", "1 by env", "2 by env"]);
    assert_eq!(wrapped(&["--ranks", "0,2"]), ["0 by env", "1", "2 by env"]);
    line("-n 2 --ranks 1 true").run().code(125).says("-n N");
    line("-n 2 --wrap env --ranks 2 true").run().code(125).says("no rank 2");
    shmrun(["-n", "2", "--wrap", "'", "true"]).run().code(125).says("not closed");
    line("-n 2 --wrap no-such-wrapper true").run().code(127).says("no-such-wrapper");
    // A rank below a wrapper is a rank, and its death is seen.
    let run =
        shmrun(["-n", "2", "--wrap", "sh -c '\"$@\"; true' sh", misbehave(), "init", "1:kill=9", "hang"])
            .run();
    run.code(137).says("rank 1 was killed");
}

/// The debugged rank has the launcher's own streams, the others go on as usual.
#[test]
fn a_rank_can_be_debugged() {
    if std::process::Command::new("gdb").arg("--version").output().is_err() {
        return eprintln!("SKIPPED: no gdb");
    }
    let words = ["-n", "2", "--debug", "1", misbehave(), "init", "barrier", "size"];
    // Where only places are known, the `main` of C, which calls the program's, is another one.
    let commands = "set confirm off\nbreak main\nrun\ncontinue\ncontinue\nquit\n";
    let run = shmrun(words).env("DEBUGINFOD_URLS", "").input(commands).run().code(0);
    let stopped = run.stdout.lines().any(|line| line.starts_with("Breakpoint 1"));
    run.check(stopped, "the debugger at work");
    run.check(run.stdout.matches("size 2").count() == 2, "both ranks");
    line("-n 2 --debug 2 true").run().code(125).says("no rank 2");
}

#[test]
fn another_debugger_is_named_by_wrap() {
    let script = "read line; echo $SHMRUN_RANK read $line";
    let words = ["-n", "2", "--tag", "--debug", "1", "--wrap", "env", "sh", "-c", script];
    let run = shmrun(words).input("this\n").run().code(0);
    assert_eq!(run.sorted_lines(), ["1 read this", "[0] 0 read"]);
}

/// A send to a rank that receives nothing returns as long as the message may be buffered.
#[test]
fn settings_of_the_library_change_what_it_does() {
    let send = |setting: &str| {
        let words = format!("-n 2 --timeout 2s {setting} misbehave init 0:send=1 0:ready sleep=600000");
        line(&words)
    };
    send("").run().code(124).stdout("ready\n");
    send("--set unexpected-bound=0").run().code(124).stdout("");
    send("").env("SHMRUN_SET", "unexpected-bound=0").run().code(124).stdout("");
    send("--set unexpected-bound=1M")
        .env("SHMRUN_SET", "unexpected-bound=0")
        .run()
        .code(124)
        .stdout("ready\n");
    send("--set unexpected-bound=x").run().code(125).says("64K");
    send("--set hat=1").run().code(125).says("unexpected-bound");
    send("--set hat").run().code(125).says("NAME=VALUE");
    send("").env("SHMRUN_SET", "hat=1").run().code(125).says("SHMRUN_SET");
}
