//! What can go wrong, with the values that tell why, the place in the caller's source, and what to do.

use std::fmt;
use std::panic::Location;

use shm_core::SegmentError;

use crate::address::Tag;

/// The result of every operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A line of the program's source, as `file:line:column`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallSite(pub(crate) &'static Location<'static>);

impl CallSite {
    #[track_caller]
    pub(crate) fn here() -> Self {
        Self(Location::caller())
    }
}

impl fmt::Display for CallSite {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// How a rank left the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Departure {
    /// It finalized: what it sent before can still be received, nothing more will come.
    Finished,
    /// It panicked, aborted, was killed, or ended without finalizing.
    Failed,
}

impl fmt::Display for Departure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Finished => "has finished",
            Self::Failed => "has failed",
        })
    }
}

/// One rank's view of a collective operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectiveCall {
    /// Name of the operation, such as `all_reduce`.
    pub operation: String,
    /// The root, for operations that have one.
    pub root: Option<usize>,
    /// Bytes per rank.
    pub bytes: u64,
    /// Where in the source it was called.
    pub at: String,
}

impl fmt::Display for CollectiveCall {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}(", self.operation)?;
        if let Some(root) = self.root {
            write!(formatter, "root {root}, ")?;
        }
        write!(formatter, "{} bytes) at {}", self.bytes, self.at)
    }
}

/// An operation that could not be carried out.
///
/// Its `Debug` form is the message too: that is what programs and tests show when they `unwrap`.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// This process could not join its job.
    #[error(transparent)]
    Attach(Box<crate::attach::AttachError>),

    /// A rank of [`spawn`](crate::spawn()) failed.
    #[error(transparent)]
    Spawn(Box<crate::spawn::SpawnError>),

    /// The ranks of [`spawn`](crate::spawn()) could not be started.
    #[error(transparent)]
    Launch(Box<crate::launch::LaunchError>),

    /// There is no such rank.
    #[error("{operation} at {at}: rank {rank} does not exist; ranks go from 0 to {} here", size - 1)]
    RankOutOfRange {
        /// The operation.
        operation: &'static str,
        /// The rank asked for.
        rank: usize,
        /// Number of ranks.
        size: usize,
        /// Where in the source.
        at: CallSite,
    },

    /// Tags are not negative.
    #[error("{operation} at {at}: tag {tag} is negative; tags go from 0 to {}", Tag::MAX)]
    NegativeTag {
        /// The operation.
        operation: &'static str,
        /// The tag given.
        tag: Tag,
        /// Where in the source.
        at: CallSite,
    },

    /// A message was longer than the buffer for it. The message is gone, those after it are intact.
    #[error(
        "{operation} at {at}: the message from rank {source_rank} with tag {tag} has {sent} bytes, the buffer \
         has {buffer}; sent at {sent_at}. Use recv_vec for messages of unknown length"
    )]
    Truncated {
        /// The operation.
        operation: &'static str,
        /// Bytes of the message.
        sent: u64,
        /// Bytes of the buffer.
        buffer: u64,
        /// The sender.
        source_rank: usize,
        /// The message's tag.
        tag: Tag,
        /// Where in the receiver's source.
        at: CallSite,
        /// Where in the sender's source.
        sent_at: String,
    },

    /// A message had elements of another type than the buffer. The message is gone.
    #[error(
        "{operation} at {at} expects {expected}, but the message from rank {source_rank} with tag {tag} holds \
         {found}; sent at {sent_at}"
    )]
    TypeMismatch {
        /// The operation.
        operation: &'static str,
        /// The receiver's element type.
        expected: &'static str,
        /// What the message holds.
        found: &'static str,
        /// The sender.
        source_rank: usize,
        /// The message's tag.
        tag: Tag,
        /// Where in the receiver's source.
        at: CallSite,
        /// Where in the sender's source.
        sent_at: String,
    },

    /// The operation needs a rank that has left the job.
    #[error("{operation} at {at}: rank {rank} {how}, so this can never complete")]
    PeerGone {
        /// The operation.
        operation: &'static str,
        /// The rank that left.
        rank: usize,
        /// How it left.
        how: Departure,
        /// Where in the source.
        at: CallSite,
    },

    /// A rank has called [`World::shrink`](crate::World::shrink) and left this world, so operations in it may never
    /// complete.
    #[error(
        "{operation} at {at}: rank {rank} has left this world for one of those who are left{}; call shrink here too",
        failed.map(|failed| format!(", since rank {failed} has failed")).unwrap_or_default()
    )]
    Shrinking {
        /// The operation.
        operation: &'static str,
        /// The rank that called `shrink`.
        rank: usize,
        /// A rank that has failed, if one is known here.
        failed: Option<usize>,
        /// Where in the source.
        at: CallSite,
    },

    /// A receive from any rank, and no other rank is left that could send.
    #[error("{operation} at {at}: every other rank has left the job, so no message can come")]
    NobodyLeft {
        /// The operation.
        operation: &'static str,
        /// Where in the source.
        at: CallSite,
    },

    /// A rank waits for itself: nothing that it could do later would end the wait.
    #[error("{operation} at {at}: this rank waits for itself; {remedy}")]
    WouldDeadlock {
        /// The operation.
        operation: &'static str,
        /// What to do instead.
        remedy: &'static str,
        /// Where in the source.
        at: CallSite,
    },

    /// Ranks called different collectives, or the same with different roots, lengths or types.
    #[error("collectives do not agree: rank {rank} calls {mine}, but rank {other} calls {theirs}")]
    CollectiveMismatch {
        /// This rank.
        rank: usize,
        /// What this rank called.
        mine: Box<CollectiveCall>,
        /// The rank that called something else.
        other: usize,
        /// What that rank called.
        theirs: Box<CollectiveCall>,
    },

    /// A buffer or list of counts does not have the length that the operation needs.
    #[error("{operation} at {at}: {what} has length {found}, it has to be {expected}")]
    LengthMismatch {
        /// The operation.
        operation: &'static str,
        /// Which argument.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The length needed.
        expected: usize,
        /// Where in the source.
        at: CallSite,
    },

    /// Shared memory could not be reserved.
    #[error(transparent)]
    Segment(Box<SegmentError>),

    /// Memory for an incoming message could not be allocated.
    #[error("{operation} at {at}: no memory for a message of {bytes} bytes")]
    OutOfMemory {
        /// The operation.
        operation: &'static str,
        /// Bytes wanted.
        bytes: u64,
        /// Where in the source.
        at: CallSite,
    },

    /// An object could not be encoded or decoded.
    #[error("{operation} at {at}: {reason}")]
    Codec {
        /// The operation.
        operation: &'static str,
        /// What the codec says.
        reason: String,
        /// Where in the source.
        at: CallSite,
    },

    /// The segment holds what no rank of this version can have written.
    #[error("the job's segment is damaged: {what}. Some process wrote over it; the job cannot go on")]
    Damaged {
        /// What was found.
        what: String,
    },
}

impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl From<crate::attach::AttachError> for Error {
    fn from(error: crate::attach::AttachError) -> Self {
        Self::Attach(Box::new(error))
    }
}

impl From<crate::spawn::SpawnError> for Error {
    fn from(error: crate::spawn::SpawnError) -> Self {
        Self::Spawn(Box::new(error))
    }
}

impl From<crate::launch::LaunchError> for Error {
    fn from(error: crate::launch::LaunchError) -> Self {
        Self::Launch(Box::new(error))
    }
}

impl From<SegmentError> for Error {
    fn from(error: SegmentError) -> Self {
        Self::Segment(Box::new(error))
    }
}
