//! Two users on one machine: their jobs do not meet, and neither gets at the other's. Only root can play both.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::harness::{misbehave, shmrun};

/// Two users who own nothing.
const NOBODY: u32 = 65534;
const STRANGER: u32 = 65533;

/// Programs where every user may execute them; removed at the end.
struct Programs(PathBuf);

impl Programs {
    /// `None`, with a word about it, without the right to play another user.
    fn new(label: &str) -> Option<Self> {
        let directory = std::env::temp_dir().join(format!("shmrun-users-{label}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let programs = Self(directory);
        for program in [env!("CARGO_BIN_EXE_shmrun"), misbehave()] {
            fs::copy(program, programs.0.join(PathBuf::from(program).file_name().unwrap())).unwrap();
        }
        fs::set_permissions(&programs.0, Permissions::from_mode(0o755)).unwrap();
        match programs.run_as(NOBODY, "shmrun").arg("--version").stdout(Stdio::null()).status() {
            Ok(status) if status.success() => Some(programs),
            other => {
                println!("skipped: nothing can be run as user {NOBODY}: {other:?}");
                None
            }
        }
    }

    fn path(&self, program: &str) -> String {
        self.0.join(program).to_str().unwrap().to_owned()
    }

    fn run_as(&self, user: u32, program: &str) -> Command {
        let mut command = Command::new(self.path(program));
        command.uid(user).gid(user).current_dir("/");
        command
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// What `user` is told by a shell that runs `script`, if the script fails.
fn refusal(user: u32, script: &str) -> String {
    let output =
        Command::new("sh").args(["-c", script]).uid(user).gid(user).current_dir("/").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "user {user} can: {script}");
    text
}

/// Every way that leads to the memory, the descriptors or the variables of a process, and to ending it.
fn assert_closed_to(user: u32, pid: u32) {
    let ways = [
        "ls /proc/PID/fd",
        "ls /proc/PID/map_files",
        "exec 3<>/proc/PID/fd/64",
        "exec 3</proc/PID/fd/64",
        "exec 3</proc/PID/mem",
        "cat /proc/PID/environ",
        "cat /proc/PID/maps",
        "kill -0 PID",
        "kill -KILL PID",
    ];
    for way in ways {
        let words = refusal(user, &way.replace("PID", &pid.to_string()));
        assert!(words.contains("ermi") || words.contains("denied"), "{way}: {words}");
    }
}

#[test]
fn another_user_finds_no_way_into_a_job_of_root() {
    let Some(_programs) = Programs::new("root") else { return };
    let mut run = shmrun(["-n", "2", misbehave(), "init", "ready", "hang"]).start();
    run.await_output("ready\n", 2);
    let processes = run.processes();
    // The launcher, its guard and two ranks.
    assert!(processes.len() >= 4, "{processes:?}");
    processes.iter().for_each(|&pid| assert_closed_to(NOBODY, pid as u32));
    run.signal(Signal::TERM);
    run.finish().says("SIGTERM");
}

#[test]
fn another_user_finds_no_way_into_a_job_of_a_user() {
    let Some(programs) = Programs::new("user") else { return };
    let misbehave = programs.path("misbehave");
    let mut command = programs.run_as(NOBODY, "shmrun");
    let mut job = command
        .args(["-n", "2", &misbehave, "init", "barrier", "0:ready", "hang"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    // Kept: a job whose output nobody reads ends.
    let mut output = BufReader::new(job.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    assert_closed_to(STRANGER, job.id());
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", job.id())).unwrap();
    let children: Vec<u32> = children.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert!(children.len() >= 2, "a guard and a rank: {children:?}");
    children.into_iter().for_each(|pid| assert_closed_to(STRANGER, pid));
    job.kill().unwrap();
    job.wait().unwrap();
}

/// Says `opened` for every object of a job that it can open, until its input ends.
const CATCHER: &str = r#"
import os, select, sys
print("ready", flush=True)
seen = 0
while not select.select([sys.stdin], [], [], 0)[0]:
    for name in os.listdir("/dev/shm"):
        if "shmrun" not in name:
            continue
        seen += 1
        for flags in (os.O_RDWR, os.O_RDONLY, os.O_WRONLY):
            try:
                os.close(os.open("/dev/shm/" + name, flags))
                print("opened", name, flush=True)
            except OSError:
                pass
print("seen", seen, flush=True)
"#;

#[test]
fn the_name_that_a_segment_has_for_a_moment_opens_nothing() {
    let Some(_programs) = Programs::new("catch") else { return };
    let mut command = Command::new("python3");
    // Nobody has jobs of its own in other tests.
    command.args(["-c", CATCHER]).uid(STRANGER).gid(STRANGER).current_dir("/");
    let mut catcher = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(catcher.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(output.next().as_deref(), Some("ready"));
    for _ in 0..50 {
        shmrun(["-n", "1", misbehave(), "init"]).run().code(0);
    }
    drop(catcher.stdin.take());
    let rest: Vec<String> = output.collect();
    println!("{rest:?}");
    assert!(rest.len() == 1 && rest[0].starts_with("seen "), "{rest:?}");
    assert!(catcher.wait().unwrap().success());
}

#[test]
fn jobs_of_two_users_at_the_same_time_do_not_meet() {
    let Some(programs) = Programs::new("two") else { return };
    let words = ["-n", "3", &programs.path("misbehave"), "init", "barrier", "size"];
    for _ in 0..5 {
        let root = shmrun(words).start();
        let other = programs.run_as(NOBODY, "shmrun").args(words).stdout(Stdio::piped()).spawn().unwrap();
        root.finish().code(0).stdout("size 3\nsize 3\nsize 3\n").silent();
        let output = other.wait_with_output().unwrap();
        assert!(output.status.success());
        assert_eq!(output.stdout, b"size 3\nsize 3\nsize 3\n");
    }
}

/// Another user's jobs are neither shown nor ended: their environment cannot be read.
#[test]
fn the_tools_leave_another_users_jobs_alone() {
    let Some(programs) = Programs::new("tools") else { return };
    let mut run = shmrun(["-n", "1", "sh", "-c", "echo ready; sleep 600; true"]).start();
    run.await_output("ready\n", 1);
    let launcher = run.child.id().to_string();
    for tool in ["ps", "clean"] {
        let output = programs.run_as(NOBODY, "shmrun").arg(tool).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && !text.contains(&launcher), "{tool}: {output:?}");
    }
    run.signal(Signal::TERM);
    run.finish().code(143);
}
