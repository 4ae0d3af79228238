//! Killing every process that still carries the job's id in its environment.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getpid, kill_process};

use super::environment::belongs;

/// Time for killed processes to leave /proc between two passes.
const PAUSE: Duration = Duration::from_millis(2);

/// Kills the processes of `job` with SIGKILL and repeats until a pass finds none, or `patience` is over.
///
/// A process may fork while a pass runs: its child inherits the environment and is found by the next pass.
/// Returns the number of processes that were killed.
pub(super) fn kill_all(job: &str, patience: Duration) -> usize {
    let deadline = Instant::now() + patience;
    let mut killed = Vec::new();
    loop {
        let found = members(job);
        if found.is_empty() || Instant::now() > deadline {
            return killed.len();
        }
        for pid in found {
            let _ = kill_process(pid, Signal::KILL);
            if !killed.contains(&pid) {
                killed.push(pid);
            }
        }
        sleep(PAUSE);
    }
}

/// The processes whose environment names the job. A zombie has none and is not among them.
fn members(job: &str) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let pids = pids.filter_map(Pid::from_raw).filter(|&pid| pid != getpid());
    pids.filter(|pid| is_member(*pid, job)).collect()
}

fn is_member(pid: Pid, job: &str) -> bool {
    // Unreadable means: ended meanwhile, or of another user, whom this process could not kill either.
    fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| belongs(&environment, job))
}
