//! Looking into a running job from outside.
//!
//! There is no registry that could be left behind: the launcher holds the job's segment among its open files, and /proc
//! leads to those. Only processes of the same user get there.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use shm_core::{Segment, SegmentError};
use thiserror::Error;

use super::environment::job_text;
use super::observation::{self, Count};
use super::position::{self, Doing, Position};
use super::proc;
use crate::job::Job;
use crate::layout::{Geometry, JOB_FORMAT, JobHeader, MAX_RANKS, NAME_PREFIX};

/// Why a job cannot be watched.
#[derive(Debug, Error)]
pub enum WatchError {
    /// It has ended, or belongs to another user.
    #[error(
        "process {launcher} holds no segment of the job {id}: it has ended, belongs to another user, or is of another version"
    )]
    NotFound {
        /// The process that was said to be its launcher.
        launcher: u32,
        /// The job.
        id: String,
    },
    /// There is no room for what its ranks count.
    #[error("cannot make the ranks count what they do: {source}")]
    NoRoom {
        /// What is missing.
        source: SegmentError,
    },
}

/// A job that is being watched, until this is dropped.
pub struct Watch {
    job: Job,
    launcher: u32,
    launcher_start: u64,
}

impl Watch {
    /// Begins to watch the job with this id, which `launcher` has started. Its ranks count what they do from the next
    /// time on that they look around, at the latest when they have slept for half a second.
    ///
    /// # Errors
    ///
    /// See [`WatchError`].
    pub fn begin(launcher: u32, id: &str) -> Result<Self, WatchError> {
        let found = find(launcher, id).ok_or_else(|| WatchError::NotFound { launcher, id: id.to_owned() })?;
        found.job.begin_watching().map_err(|source| WatchError::NoRoom { source })?;
        Ok(found)
    }

    /// The number of ranks.
    pub fn ranks(&self) -> usize {
        self.job.geometry().ranks
    }

    /// Whether the job's launcher is gone.
    pub fn has_ended(&self) -> bool {
        proc::start_time(self.launcher) != Some(self.launcher_start)
    }

    /// What the ranks do now, and what they have done since they count.
    pub fn look(&self) -> Look {
        let job = &self.job;
        let ranks = position::of_all(job).into_iter().map(|Position { rank, doing }| {
            let (sent, received) = observation::traffic(job, rank);
            let wait = if let Doing::Waiting(wait) = &doing { Some(wait) } else { None };
            let waiting = observation::waiting(job, rank, wait);
            let halted = matches!(doing, Doing::Running | Doing::Waiting(_)) && self.is_halted(rank);
            RankLook { doing, halted, sent, received, waiting }
        });
        Look { ranks: ranks.collect(), at: Instant::now() }
    }

    /// Whether a rank is stopped.
    fn is_halted(&self, rank: usize) -> bool {
        let life = &self.job.control(rank).life;
        let pid = life.pid.load(Relaxed);
        proc::start_time(pid) == Some(life.start_time.load(Relaxed)) && proc::is_halted(pid)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.job.end_watching();
    }
}

/// A job at one moment.
#[derive(Debug, Clone)]
pub struct Look {
    /// Its ranks.
    pub ranks: Vec<RankLook>,
    /// When.
    pub at: Instant,
}

/// A rank at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RankLook {
    /// What it does.
    pub doing: Doing,
    /// Its process is stopped: Ctrl-Z, SIGSTOP, a debugger.
    pub halted: bool,
    /// What it has sent.
    pub sent: Count,
    /// What it has received.
    pub received: Count,
    /// How long it has waited.
    pub waiting: Duration,
}

/// The segment of a job among the open files of its launcher, not watched yet.
fn find(launcher: u32, id: &str) -> Option<Watch> {
    let files = fs::read_dir(format!("/proc/{launcher}/fd")).ok()?;
    let mut paths = files.flatten().map(|entry| entry.path()).filter(|path| may_be_segment(path));
    let job = paths.find_map(|path| open(&path, id))?;
    let launcher_start = proc::start_time(launcher)?;
    Some(Watch { job, launcher, launcher_start })
}

/// Whether a link in /proc/PID/fd leads to what was made as a job's segment.
fn may_be_segment(path: &Path) -> bool {
    let Ok(target) = fs::read_link(path) else { return false };
    let target = target.to_string_lossy();
    // Linux calls a file that never had a name by its inode.
    target.starts_with("/dev/shm/#")
        || target.strip_prefix("/memfd:").is_some_and(|name| name.starts_with(NAME_PREFIX))
}

/// The job of this id, if a file is its segment.
fn open(path: &Path, id: &str) -> Option<Job> {
    let file = File::options().read(true).write(true).open(path).ok()?;
    let segment = Segment::from_descriptor(OwnedFd::from(file), JOB_FORMAT).ok()?;
    if segment.size() < Segment::DATA_OFFSET + size_of::<JobHeader>() {
        return None;
    }
    let header: &JobHeader = segment.at(Segment::DATA_OFFSET);
    let ranks = header.ranks.load(Relaxed) as usize;
    if job_text(header.job.load(Relaxed)) != id || !(1..=MAX_RANKS).contains(&ranks) {
        return None;
    }
    let geometry = Geometry::new(ranks);
    (segment.size() >= geometry.size()).then(|| Job::view(segment, geometry))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::in_process;

    #[test]
    fn a_job_is_watched_until_nobody_looks() {
        let mine = in_process(3).unwrap();
        let id = job_text(mine.header().job.load(Relaxed));
        let begin = || Watch::begin(std::process::id(), &id);
        let watch = begin().unwrap();
        assert_eq!((watch.ranks(), watch.has_ended()), (3, false));
        assert_eq!(mine.header().watchers.load(Relaxed), 1);
        mine.peer_tallies(1)[2].sent.bytes.store(5, Relaxed);
        let look = watch.look();
        assert_eq!((look.ranks.len(), look.ranks[1].sent.bytes), (3, 5));
        assert_eq!(look.ranks[2].doing, Doing::Starting);
        drop(watch);
        assert_eq!(mine.header().watchers.load(Relaxed), 0);
        mine.header().ranks.store(u32::MAX, Relaxed);
        assert!(matches!(begin(), Err(WatchError::NotFound { .. })));
        mine.header().ranks.store(MAX_RANKS as u32, Relaxed);
        assert!(matches!(begin(), Err(WatchError::NotFound { .. })), "more ranks than it has room for");
    }
}
