//! Where the ranks of a job stand, as far as the segment tells.

use std::fmt;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::atomic::fence;
use std::time::Duration;

use crate::call_site;
use crate::job::Job;
use crate::layout::{NO_RANK, StatusLine, rank_state};
use crate::status::operation_name;

/// What one rank was doing at some moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The rank.
    pub rank: usize,
    /// What it did.
    pub doing: Doing,
}

/// What a rank does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doing {
    /// It has not joined the job.
    Starting,
    /// It is in no call that waits.
    Running,
    /// It waits for other ranks.
    Waiting(Wait),
    /// It has finalized.
    Finished,
    /// It is gone, or has said that it failed.
    Gone,
    /// It failed after another rank had: its last words.
    FailedToo(String),
}

/// A call that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// The call.
    pub operation: &'static str,
    /// The rank that it waits for, where it is one.
    pub peer: Option<u32>,
    /// The tag of the message that it waits for, where it is one.
    pub tag: Option<i32>,
    /// Bytes of the message, 0 where they are not known.
    pub bytes: u64,
    /// Where in the source it was called, `None` where that is not known.
    pub at: Option<String>,
    /// Time since it began to wait.
    pub time: Duration,
}

/// Where all ranks of the job stand now.
pub(crate) fn of_all(job: &Job) -> Vec<Position> {
    let ranks = 0..job.geometry().ranks;
    ranks.map(|rank| Position { rank, doing: doing(job, rank) }).collect()
}

fn doing(job: &Job, rank: usize) -> Doing {
    match job.state(rank) {
        rank_state::EMPTY => Doing::Starting,
        rank_state::ATTACHED => wait(job, rank).map_or(Doing::Running, Doing::Waiting),
        rank_state::DETACHED => Doing::Finished,
        _ => Doing::Gone,
    }
}

/// The call that the rank waits in; `None` if it does not wait, or has just begun or ended to.
pub(super) fn wait(job: &Job, rank: usize) -> Option<Wait> {
    let line: &StatusLine = &job.control(rank).status;
    // SYNC status
    let sequence = line.sequence.load(Acquire);
    let peer = line.peer.load(Relaxed);
    let tag = line.tag.load(Relaxed) as i32;
    let site = line.call_site.load(Relaxed);
    let now = shm_core::wait::monotonic_nanoseconds();
    let wait = Wait {
        operation: operation_name(line.operation.load(Relaxed)),
        peer: (peer != NO_RANK).then_some(peer),
        tag: (tag >= 0).then_some(tag),
        bytes: line.bytes.load(Relaxed),
        at: u16::try_from(site).ok().and_then(|site| call_site::describe(job, site)),
        time: Duration::from_nanos(now.saturating_sub(line.since.load(Relaxed))),
    };
    // The fields belong to the sequence number if it is still the same.
    fence(Acquire);
    (sequence % 2 == 1 && line.sequence.load(Relaxed) == sequence).then_some(wait)
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} ", self.rank)?;
        match &self.doing {
            Doing::Starting => f.write_str("has not joined the job yet"),
            Doing::Running => f.write_str("waits for no other rank"),
            Doing::Waiting(wait) => wait.fmt(f),
            Doing::Finished => f.write_str("has finished"),
            Doing::Gone => f.write_str("has ended"),
            Doing::FailedToo(words) => write!(f, "then {}", words.replace('\n', "\n      ")),
        }
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "waits in {}", self.operation)?;
        if let Some(peer) = self.peer {
            write!(f, ", rank {peer}")?;
        }
        if let Some(tag) = self.tag {
            write!(f, ", tag {tag}")?;
        }
        if self.bytes > 0 {
            write!(f, ", {} bytes", self.bytes)?;
        }
        if let Some(at) = &self.at {
            write!(f, ", at {at}")?;
        }
        write!(f, ", for {:.3} s", self.time.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::in_process;
    use crate::status::operation_number;

    #[test]
    fn a_rank_is_where_its_control_block_says() {
        let job = in_process(1).unwrap();
        let doing = || of_all(&job).remove(0).doing;
        assert_eq!(doing(), Doing::Starting);
        for attached in [rank_state::ATTACHED, rank_state::DEAD + 1, u32::MAX] {
            job.control(0).life.state.store(attached, Relaxed);
            assert_eq!(doing(), Doing::Running);
        }
        let line = &job.control(0).status;
        line.operation.store(operation_number("recv"), Relaxed);
        line.peer.store(3, Relaxed);
        line.tag.store(7, Relaxed);
        line.sequence.store(1, Relaxed);
        let text = of_all(&job).remove(0).to_string();
        assert!(text.starts_with("rank 0 waits in recv, rank 3, tag 7, for "), "{text}");
        job.control(0).life.state.store(rank_state::DETACHED, Relaxed);
        assert_eq!(doing(), Doing::Finished);
    }
}
