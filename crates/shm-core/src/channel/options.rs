//! The way in: open or create a channel by its name, then take one of its ends.

use std::fmt;

use crate::segment::SegmentName;

use super::error::ChannelError;
use super::layout::{Geometry, mode};
use super::object::{self, Object, Policy};
use super::{Client, Consumer, Publisher, Server};

/// One of the ends of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Publishes to a consumer.
    Publisher,
    /// Consumes what a publisher publishes.
    Consumer,
    /// Sends requests to a server.
    Client,
    /// Replies to a client.
    Server,
}

impl Role {
    /// 0 or 1: the number of the end.
    pub(super) fn end(self) -> usize {
        match self {
            Self::Publisher | Self::Client => 0,
            Self::Consumer | Self::Server => 1,
        }
    }

    /// Who sits at the other end.
    pub(super) fn peer(self) -> Self {
        match self {
            Self::Publisher => Self::Consumer,
            Self::Consumer => Self::Publisher,
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }

    pub(super) fn mode(self) -> u32 {
        match self {
            Self::Publisher | Self::Consumer => mode::ONE_WAY,
            Self::Client | Self::Server => mode::REQUEST_REPLY,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Publisher => "publisher",
            Self::Consumer => "consumer",
            Self::Client => "client",
            Self::Server => "server",
        })
    }
}

/// What a new channel is to be like. An existing one stays as its creator made it.
#[derive(Debug, Clone)]
pub struct Options {
    capacity: usize,
}

impl Options {
    /// Most bytes that travel in one piece: 4 MiB. At least a core's L2 cache, so that most of a long transfer has
    /// left the writer's cache when it is read, and few enough that the memory does not matter.
    pub const DEFAULT_CAPACITY: usize = 4 << 20;

    /// Sets the capacity in bytes. A channel reserves it once for one way, twice for request and reply.
    pub fn capacity(mut self, bytes: usize) -> Self {
        self.capacity = bytes;
        self
    }

    pub(super) fn geometry(&self, name: &SegmentName) -> Result<Geometry, ChannelError> {
        let capacity = self.capacity;
        Geometry::new(capacity)
            .ok_or_else(|| ChannelError::InvalidCapacity { name: name.to_string(), capacity })
    }
}

impl Default for Options {
    fn default() -> Self {
        Self { capacity: Self::DEFAULT_CAPACITY }
    }
}

/// A channel that is open, with none of its ends taken by this handle yet.
///
/// A name is a slash and 1 to 28 bytes. It exists while anyone has the channel open; the last one to leave
/// removes it, and what a crashed run left behind is removed by the next user of the name. Each end is for one
/// process (or thread) at a time; after it is gone a successor may take it.
///
/// ```
/// use std::time::Duration;
/// use shm_core::channel::{Channel, ChannelError, Options};
///
/// let name = format!("/doc-channel-{}", std::process::id());
/// let mut publisher = Channel::create(&name, &Options::default())?.publisher()?;
/// let mut consumer = Channel::open(&name)?.consumer()?;
///
/// publisher.publish(b"one at a time")?;
/// assert!(!publisher.try_publish(b"too early")?);
/// assert_eq!(consumer.receive()?, b"one at a time");
///
/// let nothing = consumer.receive_timeout(Duration::from_millis(1));
/// assert!(matches!(nothing, Err(ChannelError::Timeout { .. })));
/// assert!(matches!(Channel::open(&name), Err(ChannelError::Occupied { .. })));
/// # Ok::<(), ChannelError>(())
/// ```
#[derive(Debug)]
pub struct Channel {
    object: Object,
}

impl Channel {
    /// Creates a channel that does not exist. The leftover of a crashed run is removed first. Blocks for
    /// milliseconds: it reserves its memory.
    ///
    /// # Errors
    ///
    /// Somebody is attached to a channel of that name ([`crate::SegmentError::Exists`]), the name or the capacity
    /// is not valid, there is no space, or the name belongs to something else.
    pub fn create(name: &str, options: &Options) -> Result<Self, ChannelError> {
        Self::attach(name, options, Policy::Create)
    }

    /// Opens a channel that somebody has open. Does not wait for one.
    ///
    /// # Errors
    ///
    /// There is none ([`crate::SegmentError::Missing`]; the leftover of a crashed run is removed), its creator has
    /// only just begun or died then ([`ChannelError::Unfinished`]), both ends are taken, or the name belongs to
    /// something else.
    pub fn open(name: &str) -> Result<Self, ChannelError> {
        Self::attach(name, &Options::default(), Policy::Open)
    }

    /// Opens the channel or creates it: for two processes that start in any order.
    ///
    /// # Errors
    ///
    /// Both ends are taken, the name or the capacity is not valid, there is no space, or the name belongs to
    /// something else.
    pub fn open_or_create(name: &str, options: &Options) -> Result<Self, ChannelError> {
        Self::attach(name, options, Policy::OpenOrCreate)
    }

    fn attach(name: &str, options: &Options, policy: Policy) -> Result<Self, ChannelError> {
        let name = object::checked_name(name)?;
        options.geometry(&name)?;
        Ok(Self { object: Object::attach(&name, options, policy)? })
    }

    /// Removes what a crashed run left of the channel `name`; false if there is nothing, or somebody has it open.
    /// Not needed before [`Channel::create`] and the like, which do it themselves.
    ///
    /// # Errors
    ///
    /// The name is not valid or belongs to something else, or the system refused.
    pub fn remove_leftover(name: &str) -> Result<bool, ChannelError> {
        object::remove_leftover(&object::checked_name(name)?)
    }

    /// Takes the publishing end.
    ///
    /// # Errors
    ///
    /// It is taken, the channel is used for request and reply, or there is no space.
    pub fn publisher(self) -> Result<Publisher, ChannelError> {
        Publisher::attach(self.object)
    }

    /// Takes the consuming end.
    ///
    /// # Errors
    ///
    /// As [`Channel::publisher`].
    pub fn consumer(self) -> Result<Consumer, ChannelError> {
        Consumer::attach(self.object)
    }

    /// Takes the asking end.
    ///
    /// # Errors
    ///
    /// It is taken, the channel is used one way, or there is no space.
    pub fn client(self) -> Result<Client, ChannelError> {
        Client::attach(self.object)
    }

    /// Takes the answering end.
    ///
    /// # Errors
    ///
    /// As [`Channel::client`].
    pub fn server(self) -> Result<Server, ChannelError> {
        Server::attach(self.object)
    }

    /// Most bytes that travel in one piece, as the creator decided.
    pub fn capacity(&self) -> usize {
        self.object.geometry.capacity
    }
}
