//! Where the ranks of a job stand, as far as the segment tells.

use std::fmt;
use std::time::Duration;

use crate::diagnose::{self, Life, Snapshot, View};

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
    Waiting {
        /// In this call, as `recv(from 1, tag 5)`.
        call: String,
        /// Where in the source, `None` where that is not known.
        at: Option<String>,
        /// Time since it began to wait.
        time: Duration,
    },
    /// It has finalized.
    Finished,
    /// It is gone, or has said that it failed.
    Gone,
    /// It failed after another rank had: its last words.
    FailedToo(String),
}

/// Where all ranks stood at the moment of a snapshot.
pub(super) fn of_all(snapshot: &Snapshot) -> Vec<Position> {
    let ranks = snapshot.ranks.iter().enumerate();
    ranks.map(|(rank, view)| Position { rank, doing: doing(view) }).collect()
}

fn doing(view: &View) -> Doing {
    match (view.life, &view.wait) {
        (Life::Absent, _) => Doing::Starting,
        (Life::Attached, Some(wait)) if view.blocked => {
            Doing::Waiting { call: diagnose::call(wait), at: wait.site.clone(), time: wait.time }
        }
        (Life::Attached, _) => Doing::Running,
        (Life::Finished, _) => Doing::Finished,
        (Life::Failed, _) => Doing::Gone,
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} ", self.rank)?;
        match &self.doing {
            Doing::Starting => f.write_str("has not joined the job yet"),
            Doing::Running => f.write_str("waits for no other rank"),
            Doing::Waiting { call, at, time } => {
                write!(f, "waits in {call}")?;
                at.iter().try_for_each(|at| write!(f, " at {at}"))?;
                write!(f, ", for {:.3} s", time.as_secs_f64())
            }
            Doing::Finished => f.write_str("has finished"),
            Doing::Gone => f.write_str("has ended"),
            Doing::FailedToo(words) => write!(f, "then {}", words.replace('\n', "\n      ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;
    use crate::launch::in_process;
    use crate::layout::{awaits, rank_state};
    use crate::status::operation_number;

    #[test]
    fn a_rank_is_where_its_control_block_says() {
        let job = in_process(4).unwrap();
        let position = || of_all(&Snapshot::take(&job, 0)).remove(0);
        assert_eq!(position().doing, Doing::Starting);
        job.control(0).life.state.store(rank_state::ATTACHED, Relaxed);
        assert_eq!(position().doing, Doing::Running);
        let line = &job.control(0).status;
        line.operation.store(operation_number("recv"), Relaxed);
        line.awaits.store(awaits::MESSAGE, Relaxed);
        line.peer.store(3, Relaxed);
        line.tag.store(7, Relaxed);
        line.sequence.store(1, Relaxed);
        assert_eq!(position().to_string(), "rank 0 waits in recv(from 3, tag 7), for 0.000 s");
        job.control(0).life.state.store(rank_state::DETACHED, Relaxed);
        assert_eq!(position().doing, Doing::Finished);
    }
}
