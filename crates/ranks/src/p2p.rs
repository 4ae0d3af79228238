//! Messages between two ranks, in calls that return when they are done.
//!
//! # Safety
//!
//! Trusted to withdraw borrowed buffers from the engine before it returns: [`Loan`] does so on every path.
#![allow(unsafe_code)]

use bytemuck::{NoUninit, Pod};

use crate::address::{Destination, Source, Tag};
use crate::engine::buffer::{Growing, Incoming, Outgoing};
use crate::engine::publish::Blocked;
use crate::engine::receive::Kept;
use crate::engine::receives::Expected;
use crate::engine::send::Started;
use crate::engine::{Caller, Engine, OperationId};
use crate::envelope::{Envelope, FLAG_OBJECT, FLAG_SYNCHRONOUS};
use crate::error::{CallSite, Error, Result};
use crate::matching::Pattern;
use crate::status::Status;
use crate::world::World;

/// What a send promises when it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The buffer may be used again.
    Standard,
    /// The message has been matched.
    Synchronous,
}

/// What the bytes of a message are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// Elements of the type with this hash.
    Elements(u32),
    /// An encoded object.
    Object,
}

impl World {
    /// Sends a copy of `data` to a rank.
    ///
    /// Returns when `data` may be used again. Below 16 KiB that is at once, as long as the receiver has not left too much
    /// unreceived; a longer message may block until it is received.
    ///
    /// # Errors
    ///
    /// [`Error::RankOutOfRange`], [`Error::NegativeTag`], [`Error::PeerGone`] if the receiver has left the job and that
    /// is known already (a short message may still go into its ring),
    /// [`Error::Segment`] if shared memory is full.
    ///
    /// # MPI
    /// `MPI_Send` (standard mode).
    ///
    /// # Examples
    ///
    /// ```
    /// ranks::spawn(2, |world| {
    ///     if world.rank() == 0 {
    ///         world.send(&[1.5, 2.5], (1, 7)).unwrap();
    ///         assert!(matches!(world.send(&[1.5], 2), Err(ranks::Error::RankOutOfRange { rank: 2, .. })));
    ///     } else {
    ///         let mut buffer = [0.0; 2];
    ///         let status = world.recv(&mut buffer, (0, 7)).unwrap();
    ///         assert_eq!((buffer, status.count::<f64>()), ([1.5, 2.5], 2));
    ///     }
    /// })?;
    /// # Ok::<(), ranks::Error>(())
    /// ```
    #[track_caller]
    #[inline]
    pub fn send<T: NoUninit>(&self, data: &[T], to: impl Into<Destination>) -> Result<()> {
        let content = Content::Elements(type_hash::<T>());
        self.send_bytes(bytemuck::cast_slice(data), content, to.into(), Mode::Standard, Caller::new("send"))
    }

    /// Sends a copy of `data` to a rank, and returns when the receiver has begun to receive it: a rendezvous of
    /// both ranks.
    ///
    /// # Errors
    ///
    /// As [`World::send`]; [`Error::WouldDeadlock`] for a message to this rank itself that no receive is posted
    /// for.
    ///
    /// # MPI
    /// `MPI_Ssend`.
    #[track_caller]
    #[doc(alias = "ssend")]
    pub fn synchronous_send<T: NoUninit>(&self, data: &[T], to: impl Into<Destination>) -> Result<()> {
        let caller = Caller::new("synchronous_send");
        let content = Content::Elements(type_hash::<T>());
        self.send_bytes(bytemuck::cast_slice(data), content, to.into(), Mode::Synchronous, caller)
    }

    /// Receives a message into `buffer`, from its beginning; blocks until there is one.
    ///
    /// The message may be shorter than the buffer: [`Status::count`] tells. The rest of the buffer stays as it is; after an
    /// error the buffer may hold parts of a message that did not come as a whole.
    ///
    /// # Errors
    ///
    /// [`Error::Truncated`] if the message is longer than the buffer, [`Error::TypeMismatch`] if its elements are of
    /// another type (in both cases it is lost, and the next one is intact), [`Error::PeerGone`] if the sender has
    /// left and nothing of it is left to receive, [`Error::NobodyLeft`], [`Error::RankOutOfRange`],
    /// [`Error::NegativeTag`].
    ///
    /// # MPI
    /// `MPI_Recv`.
    #[track_caller]
    #[inline]
    pub fn recv<T: Pod>(&self, buffer: &mut [T], from: impl Into<Source>) -> Result<Status> {
        let caller = Caller::new("recv");
        self.recv_bytes(bytemuck::cast_slice_mut(buffer), expected::<T>, from.into(), caller)
    }

    /// Receives a message of any length into a new vector; blocks until there is one.
    ///
    /// # Errors
    ///
    /// As [`World::recv`], but for truncation; [`Error::OutOfMemory`].
    ///
    /// # MPI
    /// `MPI_Mprobe`, `MPI_Get_count` and `MPI_Mrecv` in one.
    #[track_caller]
    pub fn recv_vec<T: Pod + Send>(&self, from: impl Into<Source>) -> Result<(Vec<T>, Status)> {
        let caller = Caller::new("recv_vec");
        self.recv_growing(expected::<T>(), from.into(), caller)
    }

    /// Sends `data` and receives into `buffer` at the same time; blocks until both are done. Two ranks may do this
    /// with each other without either having to be first.
    ///
    /// # Errors
    ///
    /// As [`World::send`] and [`World::recv`]. The receive is given up if the send fails.
    ///
    /// # MPI
    /// `MPI_Sendrecv`.
    #[track_caller]
    pub fn sendrecv<T: NoUninit, U: Pod>(
        &self,
        data: &[T],
        to: impl Into<Destination>,
        buffer: &mut [U],
        from: impl Into<Source>,
    ) -> Result<Status> {
        let caller = Caller::new("sendrecv");
        let (to, from) = (to.into(), from.into());
        self.check_source(from, caller)?;
        self.check_destination(to, caller)?;
        let pattern = self.pattern(from);
        let content = Content::Elements(type_hash::<T>());
        let mut engine = self.engine.borrow_mut();
        let length = size_of_val(data);
        let site = engine.call_sites.intern(caller.at);
        let envelope = self.envelope(self.context, length, content, to.tag, Mode::Standard, site);
        let mut loan = Loan::new(&mut engine);
        let receive = loan.receive(pattern, expected::<U>(), bytemuck::cast_slice_mut(buffer), caller)?;
        let bytes = bytemuck::cast_slice(data);
        let send = match loan.engine.try_eager(to.rank, &envelope, bytes) {
            true => None,
            false => loan.send(to.rank, envelope, bytes, caller)?,
        };
        if let Some(send) = send {
            let Envelope { tag, context, length, .. } = envelope;
            loan.wait_send(send, Blocked::in_send(caller, to.rank, tag, context, length))?;
        }
        loan.wait_receive(receive, Blocked::in_receive(caller, &pattern, size_of_val(buffer) as u64))
    }

    /// Sends bytes and waits for the promise of `mode`.
    #[inline]
    pub(crate) fn send_bytes(
        &self,
        bytes: &[u8],
        content: Content,
        to: Destination,
        mode: Mode,
        caller: Caller,
    ) -> Result<()> {
        self.check_destination(to, caller)?;
        let mut engine = self.engine.borrow_mut();
        let site = engine.call_sites.intern(caller.at);
        let envelope = || self.envelope(self.context, bytes.len(), content, to.tag, mode, site);
        if engine.try_short::<true>(to.rank, self.flags(mode), bytes, envelope) {
            return engine.progress_now_and_then();
        }
        drop(engine);
        self.send_slowly(bytes, content, to, mode, caller.operation, caller.at)
    }

    // Out of the way, with arguments that the short way has in registers.
    #[inline(never)]
    fn send_slowly(
        &self,
        bytes: &[u8],
        content: Content,
        to: Destination,
        mode: Mode,
        operation: &'static str,
        at: CallSite,
    ) -> Result<()> {
        let (caller, mut engine) = (Caller { operation, at }, self.engine.borrow_mut());
        let site = engine.call_sites.intern(caller.at);
        let envelope = self.envelope(self.context, bytes.len(), content, to.tag, mode, site);
        if engine.try_eager(to.rank, &envelope, bytes) {
            return engine.progress_now_and_then();
        }
        let waits = Blocked::in_send(caller, to.rank, to.tag, self.context, envelope.length);
        let to_itself = to.rank == engine.rank && envelope.flags & FLAG_SYNCHRONOUS != 0;
        if to_itself && !engine.has_posted(&envelope) {
            let remedy = "post the receive first, with irecv";
            return Err(Error::WouldDeadlock { operation, remedy, at });
        }
        let mut loan = Loan::new(&mut engine);
        match loan.send(to.rank, envelope, bytes, caller)? {
            Some(id) => loan.wait_send(id, waits),
            None => loan.engine.progress_now_and_then(),
        }
    }

    /// Checks where a message is to go.
    #[inline]
    pub(crate) fn check_destination(&self, to: Destination, caller: Caller) -> Result<()> {
        self.next_turn();
        self.check_rank(to.rank, caller)?;
        self.check_tag(Some(to.tag), caller)
    }

    /// Checks where a message is to come from.
    #[inline]
    pub(crate) fn check_source(&self, from: Source, caller: Caller) -> Result<()> {
        self.next_turn();
        from.rank.map_or(Ok(()), |rank| self.check_rank(rank, caller))?;
        self.check_tag(from.tag, caller)
    }

    #[inline]
    fn check_tag(&self, tag: Option<Tag>, caller: Caller) -> Result<()> {
        let Caller { operation, at } = caller;
        match tag {
            Some(tag) if tag < 0 => Err(Error::NegativeTag { operation, tag, at }),
            _ => Ok(()),
        }
    }

    /// The flags of a message that is sent in this mode.
    #[inline]
    pub(crate) fn flags(&self, mode: Mode) -> u16 {
        let synchronous = if mode == Mode::Synchronous { FLAG_SYNCHRONOUS } else { 0 };
        synchronous | self.message_flags
    }

    /// The header of a message.
    #[inline]
    pub(crate) fn envelope(
        &self,
        context: u32,
        length: usize,
        content: Content,
        tag: Tag,
        mode: Mode,
        call_site: u16,
    ) -> Envelope {
        let (element_type, object) = match content {
            Content::Elements(hash) => (hash, 0),
            Content::Object => (0, FLAG_OBJECT),
        };
        Envelope {
            flags: object | self.flags(mode),
            context,
            source: self.rank() as u16,
            call_site,
            tag,
            element_type,
            length: length as u64,
        }
    }

    /// What a receive accepts.
    #[inline]
    pub(crate) fn pattern(&self, from: Source) -> Pattern {
        Pattern::new(self.context, from.rank, from.tag)
    }

    #[inline]
    pub(crate) fn recv_bytes(
        &self,
        buffer: &mut [u8],
        expected: impl Fn() -> Expected,
        from: Source,
        caller: Caller,
    ) -> Result<Status> {
        self.check_source(from, caller)?;
        let pattern = self.pattern(from);
        let mut engine = self.engine.borrow_mut();
        if let Some(body) = engine.receive_soon(pattern, expected().element_type, buffer)? {
            return Ok(Status::of(&Envelope::from_body(&body)));
        }
        drop(engine);
        self.recv_slowly(buffer, expected(), pattern, caller.operation, caller.at)
    }

    // Out of the way, like `send_slowly`.
    #[inline(never)]
    fn recv_slowly(
        &self,
        buffer: &mut [u8],
        expected: Expected,
        pattern: Pattern,
        operation: &'static str,
        at: CallSite,
    ) -> Result<Status> {
        let (caller, mut engine) = (Caller { operation, at }, self.engine.borrow_mut());
        if let Some(status) = engine.receive_other_soon(pattern, &expected, buffer)? {
            return Ok(status);
        }
        let mut loan = Loan::new(&mut engine);
        let id = loan.receive(pattern, expected, buffer, caller)?;
        loan.wait_receive(id, Blocked::in_receive(caller, &pattern, size_of_val(buffer) as u64))
    }

    pub(crate) fn recv_growing<T: Pod + Send>(
        &self,
        expected: Expected,
        from: Source,
        caller: Caller,
    ) -> Result<(Vec<T>, Status)> {
        self.check_source(from, caller)?;
        let pattern = self.pattern(from);
        let mut engine = self.engine.borrow_mut();
        let buffer = Incoming::Owned(Box::new(Growing::<T>(Vec::new())));
        let id = engine.start_receive(pattern, expected, buffer, caller)?;
        let mut loan = Loan { engine: &mut engine, send: None, receive: Some(id) };
        let (status, buffer) = loan.wait_receive_with(id, Blocked::in_receive(caller, &pattern, 0))?;
        Ok((vector(buffer), status))
    }
}

/// The vector inside a buffer that [`Growing`] or `Fixed` of the same type filled.
pub(crate) fn vector<T: 'static>(buffer: Incoming) -> Vec<T> {
    match buffer {
        Incoming::Owned(buffer) => match buffer.into_any().downcast::<Vec<T>>() {
            Ok(vector) => *vector,
            Err(_) => unreachable!("a receive gives back the buffer that it was given"),
        },
        Incoming::Borrowed(_) | Incoming::Discard => Vec::new(),
    }
}

fn waits_for(envelope: &Envelope, caller: Caller) -> Blocked<'static> {
    let Envelope { context, source, tag, length, .. } = *envelope;
    let pattern = Pattern::new(context, Some(source.into()), Some(tag));
    Blocked::in_receive(caller, &pattern, length)
}

/// Borrowed buffers in the engine's hands, for no longer than this value lives.
pub(crate) struct Loan<'e> {
    engine: &'e mut Engine,
    send: Option<OperationId>,
    receive: Option<OperationId>,
}

impl<'e> Loan<'e> {
    pub(crate) fn new(engine: &'e mut Engine) -> Self {
        Self { engine, send: None, receive: None }
    }

    /// Sends what could not be sent at once.
    fn send(
        &mut self,
        destination: usize,
        envelope: Envelope,
        bytes: &[u8],
        caller: Caller,
    ) -> Result<Option<OperationId>> {
        // SAFETY: `self` is dropped before the caller's borrow ends, and dropping withdraws the buffer.
        let payload = unsafe { Outgoing::borrowed(bytes) };
        match self.engine.start_send(destination, envelope, payload, caller)? {
            Started::Complete(_) => Ok(None),
            Started::Pending(id) => {
                self.send = Some(id);
                Ok(Some(id))
            }
        }
    }

    fn receive(
        &mut self,
        pattern: Pattern,
        expected: Expected,
        buffer: &mut [u8],
        caller: Caller,
    ) -> Result<OperationId> {
        // SAFETY: `self` is dropped before the caller's borrow ends, and dropping withdraws the buffer.
        let buffer = unsafe { Incoming::borrowed(buffer) };
        let id = self.engine.start_receive(pattern, expected, buffer, caller)?;
        self.receive = Some(id);
        Ok(id)
    }

    /// Receives a message that was taken out of matching.
    pub(crate) fn receive_kept(
        mut self,
        message: (Envelope, Kept),
        expected: Expected,
        buffer: &mut [u8],
        caller: Caller,
    ) -> Result<Status> {
        // SAFETY: `self` is dropped before the caller's borrow ends, and dropping withdraws the buffer.
        let buffer = unsafe { Incoming::borrowed(buffer) };
        let waits = waits_for(&message.0, caller);
        let id = self.engine.start_receive_of(message, expected, buffer, caller)?;
        self.receive = Some(id);
        self.wait_receive(id, waits)
    }

    /// Receives a message that was taken out of matching into a buffer that the engine owns.
    pub(crate) fn receive_owned(
        mut self,
        message: (Envelope, Kept),
        expected: Expected,
        buffer: Incoming,
        caller: Caller,
    ) -> Result<(Status, Incoming)> {
        let waits = waits_for(&message.0, caller);
        let id = self.engine.start_receive_of(message, expected, buffer, caller)?;
        self.receive = Some(id);
        self.wait_receive_with(id, waits)
    }

    fn wait_send(&mut self, id: OperationId, waits: Blocked<'_>) -> Result<()> {
        let outcome = self.engine.wait_until(waits, |engine| engine.take_send(id))?;
        self.send = None;
        outcome.map(drop)
    }

    fn wait_receive(&mut self, id: OperationId, waits: Blocked<'_>) -> Result<Status> {
        self.wait_receive_with(id, waits).map(|(status, _)| status)
    }

    fn wait_receive_with(&mut self, id: OperationId, waits: Blocked<'_>) -> Result<(Status, Incoming)> {
        let (outcome, buffer) = self.engine.wait_until(waits, |engine| engine.await_receive(id))?;
        self.receive = None;
        outcome.map(|status| (status, buffer))
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.send {
            self.engine.abandon_send(id);
        }
        if let Some(id) = self.receive {
            self.engine.abandon_receive(id);
        }
    }
}

/// A number for an element type, the same in every process of one program.
#[inline]
pub(crate) fn type_hash<T: 'static>() -> u32 {
    use std::hash::{Hash, Hasher};

    /// Keeps the words that a `TypeId` hashes: they are a hash already, and the compiler folds them.
    struct Words(u64);
    impl Hasher for Words {
        fn finish(&self) -> u64 {
            self.0
        }
        fn write(&mut self, bytes: &[u8]) {
            for byte in bytes {
                self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
            }
        }
        fn write_u64(&mut self, word: u64) {
            self.0 ^= word;
        }
    }

    let mut words = Words(0);
    std::any::TypeId::of::<T>().hash(&mut words);
    (words.0 ^ (words.0 >> 32)) as u32
}

/// The name of the element type with this number, if it is one of those that are sent most.
pub(crate) fn common_type(hash: u32) -> Option<&'static str> {
    macro_rules! table {
        ($($name:ty),+) => { [$((type_hash::<$name>(), stringify!($name))),+] };
    }
    let table = table!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, f32, f64, bool, char);
    table.iter().find(|(known, _)| *known == hash).map(|(_, name)| *name)
}

#[inline]
pub(crate) fn expected<T: 'static>() -> Expected {
    Expected { element_type: type_hash::<T>(), name: std::any::type_name::<T>(), object: false }
}
