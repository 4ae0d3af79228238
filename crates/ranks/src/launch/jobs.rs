//! The jobs of this machine, as /proc tells of them: running ones, and what dead ones left behind.
//!
//! Every process of a job has the job's id and its launcher in its environment. A job is dead when its launcher is:
//! a pid with its start time names one process for good. Processes of other pid namespaces (containers) are not
//! looked at: their launchers have pids that mean something else here.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::param::clock_ticks_per_second;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::environment::{JOB, LAUNCHER, RANK, SIZE};
use super::proc;

/// A job of which at least one process is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningJob {
    /// 16 hexadecimal digits.
    pub id: String,
    /// The process id of its launcher.
    pub launcher: u32,
    /// Whether the launcher is still there. Without it nobody watches the job.
    pub watched: bool,
    /// The number of its ranks.
    pub ranks: usize,
    /// Its processes, by rank, then by process id.
    pub members: Vec<Member>,
}

/// A process of a job: a rank, or what a rank has started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its process id.
    pub pid: u32,
    /// The rank that it is or belongs to.
    pub rank: usize,
    /// Its command line.
    pub command: String,
    /// Clock ticks from the start of the system to its start.
    start: u64,
}

/// The jobs whose processes this user may look at, oldest first.
pub fn running() -> Vec<RunningJob> {
    let mut jobs: BTreeMap<String, RunningJob> = BTreeMap::new();
    for (facts, member) in processes() {
        let job = jobs.entry(facts.id.clone()).or_insert_with(|| RunningJob {
            id: facts.id,
            launcher: facts.launcher,
            watched: proc::is_running(facts.launcher, facts.launcher_start),
            ranks: facts.ranks,
            members: Vec::new(),
        });
        job.members.push(member);
    }
    let mut jobs: Vec<RunningJob> = jobs.into_values().collect();
    jobs.iter_mut().for_each(|job| job.members.sort_by_key(|member| (member.rank, member.start, member.pid)));
    jobs.sort_by_key(RunningJob::start);
    jobs
}

impl RunningJob {
    fn start(&self) -> Option<u64> {
        self.members.iter().map(|member| member.start).min()
    }

    /// Since when its oldest process has been there.
    pub fn age(&self) -> Duration {
        let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
        let uptime = uptime.split(' ').next().and_then(|seconds| seconds.parse::<f64>().ok()).unwrap_or(0.0);
        let start = self.start().unwrap_or(0) as f64 / clock_ticks_per_second() as f64;
        Duration::try_from_secs_f64(uptime - start).unwrap_or_default()
    }
}

impl Member {
    /// Kills the process, unless it is this one or one that this one runs below. Returns whether it was there.
    pub fn kill(&self) -> bool {
        if is_self_or_ancestor(self.pid) {
            return false;
        }
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let Some(pidfd) = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else { return false };
        // The pid could have been given to another process since it was looked at.
        proc::start_time(self.pid) == Some(self.start) && pidfd_send_signal(pidfd, Signal::KILL).is_ok()
    }
}

/// What the environment of a process says of its job.
#[derive(Debug, PartialEq, Eq)]
struct Facts {
    id: String,
    launcher: u32,
    launcher_start: u64,
    rank: usize,
    ranks: usize,
}

fn processes() -> Vec<(Facts, Member)> {
    let here = fs::read_link("/proc/self/ns/pid").ok();
    let found = proc::all().into_iter().filter_map(|pid| {
        let directory = Path::new("/proc").join(pid.to_string());
        let facts = facts(&fs::read(directory.join("environ")).ok()?)?;
        if fs::read_link(directory.join("ns/pid")).ok() != here {
            return None;
        }
        let command = command(&fs::read(directory.join("cmdline")).ok()?);
        let member = Member { pid, rank: facts.rank, command, start: proc::start_time(pid)? };
        Some((facts, member))
    });
    found.collect()
}

/// Reads an environment block, variables separated by NUL; `None` if it is not that of a process of a job.
fn facts(environment: &[u8]) -> Option<Facts> {
    let value = |name: &str| {
        let variables = environment.split(|&byte| byte == 0);
        let mut values =
            variables.filter_map(|variable| variable.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
        values.next_back().and_then(|value| std::str::from_utf8(value).ok())
    };
    let id = value(JOB)?;
    let (launcher, launcher_start) = value(LAUNCHER)?.split_once(':')?;
    (id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(())?;
    Some(Facts {
        id: id.to_owned(),
        launcher: launcher.parse().ok()?,
        launcher_start: launcher_start.parse().ok()?,
        rank: value(RANK)?.parse().ok()?,
        ranks: value(SIZE)?.parse().ok()?,
    })
}

fn command(words: &[u8]) -> String {
    let words = words.strip_suffix(b"\0").unwrap_or(words).split(|&byte| byte == 0);
    words.map(|word| String::from_utf8_lossy(word)).collect::<Vec<_>>().join(" ")
}

fn is_self_or_ancestor(pid: u32) -> bool {
    let mut ancestor = Some(std::process::id());
    while let Some(current) = ancestor.filter(|&current| current > 0) {
        if current == pid {
            return true;
        }
        ancestor = proc::parent(current);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENVIRONMENT: &[u8] =
        b"A=1\0SHMRUN_RANK=3\0SHMRUN_SIZE=4\0SHMRUN_JOB=0123456789abcdef\0SHMRUN_LAUNCHER=77:1234\0";

    #[test]
    fn an_environment_tells_the_job() {
        let id = "0123456789abcdef".to_owned();
        let expected = Facts { id, launcher: 77, launcher_start: 1234, rank: 3, ranks: 4 };
        assert_eq!(facts(ENVIRONMENT), Some(expected));
    }

    #[test]
    fn an_environment_without_a_whole_hand_over_tells_nothing() {
        let text = std::str::from_utf8(ENVIRONMENT).unwrap();
        for (from, to) in [
            ("SHMRUN_JOB=0123456789abcdef", "SHMRUN_JOB=../../etc/passwd"),
            ("SHMRUN_LAUNCHER=77:1234", "SHMRUN_LAUNCHER=77"),
            ("SHMRUN_LAUNCHER=77:1234", "SHMRUN_LAUNCHER=-1:1234"),
            ("SHMRUN_RANK=3\0", ""),
            ("SHMRUN_SIZE=4", "SHMRUN_SIZE=four"),
        ] {
            assert_eq!(facts(text.replace(from, to).as_bytes()), None, "{to}");
        }
        assert_eq!(facts(b""), None);
    }

    #[test]
    fn this_process_and_those_above_it_are_not_killed() {
        let own = std::process::id();
        let start = |pid| proc::start_time(pid).unwrap();
        for pid in [own, proc::parent(own).unwrap()] {
            let member = Member { pid, rank: 0, command: String::new(), start: start(pid) };
            assert!(!member.kill());
        }
        assert!(!is_self_or_ancestor(u32::MAX));
    }

    #[test]
    fn a_pid_that_was_given_to_another_process_is_left_alone() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let start = proc::start_time(child.id()).unwrap();
        let member = |start| Member { pid: child.id(), rank: 0, command: String::new(), start };
        assert!(!member(start + 1).kill());
        assert!(member(start).kill());
        assert_eq!(child.wait().unwrap().code(), None);
    }
}
