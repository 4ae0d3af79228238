//! The hand-over to the ranks: damaged variables, second claims, other launchers.

use crate::harness::{line, misbehave, shmrun};

/// Runs the test program as the only rank, after `change` in its shell.
fn changed(change: &str) -> crate::harness::Finished {
    shmrun(["-n", "1", "sh", "-c", &format!("{change}; exec {} init size", misbehave())]).run()
}

#[test]
fn damaged_variables_are_named() {
    let changes = [
        ("export SHMRUN_RANK=1", "SHMRUN_RANK"),
        ("export SHMRUN_RANK=x", "SHMRUN_RANK"),
        ("unset SHMRUN_RANK", "SHMRUN_RANK"),
        ("export SHMRUN_SIZE=0", "SHMRUN_SIZE"),
        ("export SHMRUN_SIZE=2", "SHMRUN_SIZE=2"),
        ("export SHMRUN_JOB=zz", "SHMRUN_JOB"),
        ("export SHMRUN_JOB=0123456789abcdef", "SHMRUN_JOB=0123456789abcdef"),
        ("export SHMRUN_SEGMENT_FD=0", "SHMRUN_SEGMENT_FD=0"),
        ("export SHMRUN_SEGMENT_FD=1", "SHMRUN_SEGMENT_FD=1"),
        ("export SHMRUN_SEGMENT_FD=999", "SHMRUN_SEGMENT_FD=999"),
        ("export SHMRUN_CONTROL_FD=0", "SHMRUN_CONTROL_FD=0"),
        ("export SHMRUN_PROTOCOL=99", "version 99"),
        ("exec 3>&-; export SHMRUN_SEGMENT_FD=3", "SHMRUN_SEGMENT_FD=3"),
        ("exec 3<>file; export SHMRUN_SEGMENT_FD=3", "SHMRUN_SEGMENT_FD=3"),
        ("exec 3<>file; export SHMRUN_CONTROL_FD=3", "SHMRUN_CONTROL_FD=3"),
    ];
    for (change, message) in changes {
        let run = changed(change).stdout("").says(message);
        run.check(run.code.is_some_and(|code| code != 0), "a failure");
        run.check(!run.stderr.contains("panicked"), "no panic");
    }
}

#[test]
fn a_program_of_another_build_is_told_what_to_do() {
    // The fingerprint in the segment's header.
    let change = "printf x | dd of=/dev/fd/$SHMRUN_SEGMENT_FD bs=1 seek=32 conv=notrunc status=none";
    let run = changed(change).code(1).stdout("").says("they were built from different sources");
    run.says("build the program and shmrun from the same version of ranks");
}

#[test]
fn an_intact_hand_over_survives_a_shell() {
    changed("true").code(0).stdout("size 1\n");
}

#[test]
fn a_rank_is_claimed_once() {
    let program = misbehave();
    let one_after_the_other = format!("{program} init size && {program} init");
    let run = shmrun(["-n", "1", "sh", "-c", &one_after_the_other]).run().code(1).stdout("size 1\n");
    run.says("rank 0 is already taken").says("has finished");
    let at_once = format!("{program} init size sleep=60000 & sleep 0.5; {program} init; kill -9 $!");
    let run = shmrun(["-n", "1", "sh", "-c", &at_once]).run().code(137).stdout("size 1\n");
    run.says("rank 0 is already taken").says("is attached");
}

#[test]
fn other_launchers_variables_are_refused_without_shmrun() {
    let run = |singleton: &str| {
        let mut command = std::process::Command::new(misbehave());
        command.args(["init", "size"]).env("OMPI_COMM_WORLD_SIZE", "4").env("SHMRUN_SINGLETON", singleton);
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, _, stderr) = run("0");
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("OMPI_COMM_WORLD_SIZE=4") && stderr.contains("SHMRUN_SINGLETON=1"), "{stderr}");
    let (code, stdout, _) = run("1");
    assert_eq!((code, stdout.as_str()), (Some(0), "size 1\n"));
    // Under shmrun another launcher around it does not matter.
    line("-n 2 misbehave init size")
        .env("OMPI_COMM_WORLD_SIZE", "4")
        .run()
        .code(0)
        .stdout("size 2\nsize 2\n");
}

#[test]
fn variables_tell_rank_and_size() {
    let script = "echo $SHMRUN_RANK $SHMRUN_LOCAL_RANK $SHMRUN_SIZE";
    let run = shmrun(["-n", "3", "sh", "-c", script]).run().code(0);
    assert_eq!(run.sorted_lines(), ["0 0 3", "1 1 3", "2 2 3"]);
}
