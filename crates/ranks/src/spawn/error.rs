//! Why a spawned job failed.

use std::time::Duration;

use crate::launch::{Failure, Position, positions_text};

/// The ranks of a [`spawn`](crate::spawn()) did not all end well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// A rank failed: it panicked, aborted, was killed, or exited by itself.
    #[error("spawn at {at}: {failure}{}", others(positions))]
    Failed {
        /// Where `spawn` was called.
        at: String,
        /// The first failure.
        failure: Box<Failure>,
        /// Where the other ranks stood then.
        positions: Vec<Position>,
    },
    /// The job took longer than it was allowed to, and was ended.
    #[error("spawn at {at}: the job did not end within {timeout:?}\n{state}")]
    TimedOut {
        /// Where `spawn` was called.
        at: String,
        /// The time that it had.
        timeout: Duration,
        /// What each rank did when it was over, one line for ranks that did the same, and why some can never go on.
        state: String,
    },
    /// A child could not become a rank; it has printed why.
    #[error("spawn at {at}: rank {rank} could not join the job: see what it printed")]
    NotJoined {
        /// Where `spawn` was called.
        at: String,
        /// The rank.
        rank: usize,
    },
    /// A child ended without coming to the call of `spawn` that it was started for.
    #[error(
        "spawn at {at}: the process of rank {rank} ended before it came to this call; it was started as \
         `{command}`\n  help: code before spawn runs once per rank and has to come to the same call; in a test \
         whose name cannot be guessed, use Spawn::new(n).test_name(\"module::test\")"
    )]
    NotReached {
        /// Where `spawn` was called.
        at: String,
        /// A rank that never came.
        rank: usize,
        /// How its process was started.
        command: String,
    },
    /// `spawn` was called by a rank of a `spawn`.
    #[error(
        "spawn at {at} was called inside a rank of another spawn\n  help: call it outside: a child that is \
         started again would not come to this place"
    )]
    Nested {
        /// Where `spawn` was called.
        at: String,
    },
    /// The path of the running program is not known.
    #[error("spawn at {at}: cannot find out the path of this program: {source}\n  help: is /proc mounted?")]
    Program {
        /// Where `spawn` was called.
        at: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What the others did, for the message about the first failure.
pub(super) fn others(positions: &[Position]) -> String {
    match positions {
        [] => String::new(),
        some => format!("\n  the other ranks:{}", positions_text(some)),
    }
}
