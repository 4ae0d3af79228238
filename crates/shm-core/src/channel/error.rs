//! What can go wrong with a channel.

use std::time::Duration;

use crate::error::{BellError, SegmentError};

use super::Role;

/// Why an operation on a channel failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// The segment could not be created, opened, reserved or unlinked. [`SegmentError::Exists`] means here that
    /// somebody is attached: the leftover of a crashed run is removed.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// A semaphore could not be created or opened (named-semaphores build only).
    #[error(transparent)]
    Bell(#[from] BellError),
    /// The capacity is 0 or too large to map.
    #[error(
        "channel {name}: a capacity of {capacity} bytes is not possible\nhelp: the default is 4 MiB; use 1 byte to a few GiB"
    )]
    InvalidCapacity {
        /// Name of the channel.
        name: String,
        /// The capacity in bytes as given.
        capacity: usize,
    },
    /// The name exists, but nothing is behind it yet, and its creator does not hold its lock: it was killed between
    /// the two, or is just about to go on. Nobody can tell which at that moment.
    #[error(
        "channel {name}: cannot open it: its creator has made the name, nothing behind it (0 bytes), and holds no lock on it\n\
         help: try again in a moment; if it stays so it is the leftover of a killed creator: `Channel::create` and \
         `Channel::open_or_create` take it over, `Channel::remove_leftover` removes it"
    )]
    Unfinished {
        /// Name of the channel.
        name: String,
    },
    /// Both ends are taken: this is a third process.
    #[error(
        "channel {name}: both its ends are taken\nhelp: a channel connects exactly two; use another name for each further pair"
    )]
    Occupied {
        /// Name of the channel.
        name: String,
    },
    /// This end is taken by a living process.
    #[error(
        "channel {name}: it has a {role} already\nhelp: wait until that one has left, or use another name"
    )]
    RoleTaken {
        /// Name of the channel.
        name: String,
        /// The end that was asked for.
        role: Role,
    },
    /// The channel is used the other way: one way instead of request and reply, or the reverse.
    #[error(
        "channel {name}: it does not take a {role}: it is used {usage}\nhelp: publisher pairs with consumer, client with server"
    )]
    WrongMode {
        /// Name of the channel.
        name: String,
        /// The end that was asked for.
        role: Role,
        /// How it is used.
        usage: &'static str,
    },
    /// The other end is gone. The next operation waits for a successor.
    #[error(
        "channel {name}: the {role} {how} during {operation}\nhelp: start it again; the next operation on this end waits for it"
    )]
    PeerGone {
        /// Name of the channel.
        name: String,
        /// The end that is gone.
        role: Role,
        /// How it went.
        how: Departure,
        /// What this end was doing.
        operation: &'static str,
    },
    /// The other end gave a long message up halfway (a timeout there, or a successor that knows nothing of it).
    #[error(
        "channel {name}: the {role} gave a message up after {received} of {total} bytes\nhelp: the message is lost, the next one is intact; look for a timeout over there"
    )]
    Abandoned {
        /// Name of the channel.
        name: String,
        /// The end that gave up.
        role: Role,
        /// Bytes that had arrived.
        received: u64,
        /// Bytes of the whole message.
        total: u64,
    },
    /// The time was over first.
    #[error(
        "channel {name}: {operation} was not done within {limit:?}: the {role} lives or has not come yet, but did not take its turn\nhelp: allow more time, or look what the other side is doing"
    )]
    Timeout {
        /// Name of the channel.
        name: String,
        /// The end that was waited for.
        role: Role,
        /// What this end was doing.
        operation: &'static str,
        /// The time that was allowed.
        limit: Duration,
    },
    /// A message that needs several chunks cannot be sent without waiting.
    #[error(
        "channel {name}: {length} bytes do not fit the capacity of {capacity} bytes, so they cannot be sent without waiting\nhelp: use the blocking or timeout form, or create the channel with a larger capacity"
    )]
    LongerThanCapacity {
        /// Name of the channel.
        name: String,
        /// Length of the message in bytes.
        length: usize,
        /// Capacity of the channel in bytes.
        capacity: usize,
    },
    /// A value in the shared memory is not possible: something else has written there.
    #[error(
        "channel {name}: its {field} of {value} is not possible\nhelp: another program has written to the segment; end both sides and start them again"
    )]
    Damaged {
        /// Name of the channel.
        name: String,
        /// Which value.
        field: &'static str,
        /// What it is.
        value: u64,
    },
    /// Another process held the gate too long: it was stopped while it attached or detached.
    #[error(
        "channel {name}: another process has been attaching or detaching for {waited:?}\nhelp: it may be stopped (a debugger, Ctrl-Z): continue or end it"
    )]
    Busy {
        /// Name of the channel.
        name: String,
        /// How long this process waited.
        waited: Duration,
    },
}

/// How the other end went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// It detached in an orderly way.
    Left,
    /// Its process ended without detaching.
    Died,
    /// It is gone, and another process has taken its place since.
    Replaced,
}

impl std::fmt::Display for Departure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Left => "left",
            Self::Died => "died",
            Self::Replaced => "went away and was replaced",
        })
    }
}
