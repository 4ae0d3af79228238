//! Wrong arguments: one message with the value and the remedy, exit code 125.

use std::process::Command;

use crate::harness::{line, shmrun};

#[test]
fn wrong_arguments() {
    let runs = [
        ("-n 0 true", "'0'"),
        ("-n x true", "'x'"),
        ("-n -3 true", "-3"),
        ("-n 99999999999999999999 true", "'99999999999999999999'"),
        ("-n 100000 true", "100000"),
        ("-n 2", "PROGRAM"),
        ("--tag-outptu true", "--tag-output"),
        ("--bind-to hat true", "'hat'"),
        ("--chaos x true", "whole number"),
        ("--set direct=hat true", "--set: direct=hat: it is on or off"),
        ("--max-restarts -1 true", "whole number"),
    ];
    for (arguments, message) in runs {
        let run = line(arguments).run().code(125).stdout("").says(message);
        run.check(run.stderr.starts_with("shmrun: error: "), "who says so");
    }
}

#[test]
fn help_has_examples() {
    let run = line("--help").run().code(0).silent();
    run.check(run.stdout.contains("shmrun -n 4 ./app"), "an example");
}

/// Needs a mount namespace of its own, which only root may make.
#[test]
fn a_tiny_dev_shm_is_enough_for_nothing_but_a_message_or_another_place() {
    let namespace =
        ["unshare", "-m", "sh", "-c", "mount -t tmpfs -o size=64k tmpfs /dev/shm && exec \"$@\"", "sh"];
    let mut probe = Command::new(namespace[0]);
    if !probe.args(&namespace[1..]).arg("true").output().is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: this user may not make a mount namespace");
        return;
    }
    let words = line("-n 4 misbehave init size barrier").words();
    let output = Command::new(namespace[0]).args(&namespace[1..]).args(words).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stdout}{stderr}");
    assert_eq!(stdout, "size 4\n".repeat(4), "{stderr}");
}

#[test]
fn too_many_open_files_is_said() {
    let words = shmrun(["-n", "64", "true"]).words();
    let limited = format!("ulimit -n 60; exec {}", words.join(" "));
    let output = Command::new("sh").args(["-c", &limited]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{stderr}");
    assert!(stderr.contains("open files"), "{stderr}");
}
