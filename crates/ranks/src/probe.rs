//! Looking at messages before they are received.

use bytemuck::Pod;

use crate::address::Source;
use crate::engine::buffer::{Growing, Incoming};
use crate::engine::publish::Blocked;
use crate::engine::receive::Kept;
use crate::engine::{Caller, Engine};
use crate::envelope::Envelope;
use crate::error::{Error, Result};
use crate::matching::Pattern;
use crate::p2p::{Loan, expected, vector};
use crate::status::Status;
use crate::world::World;

impl World {
    /// Blocks until a message that fits can be received, and tells about it. The message stays where it is, so the
    /// next receive with the same source and tag gets it.
    ///
    /// # Errors
    ///
    /// As [`World::recv`], but for those about the buffer.
    ///
    /// # MPI
    /// `MPI_Probe`.
    #[track_caller]
    pub fn probe(&self, from: impl Into<Source>) -> Result<Status> {
        let caller = Caller::new("probe");
        let pattern = self.checked_pattern(from.into(), caller)?;
        self.await_message(pattern, caller, |engine| engine.peek_unexpected(&pattern).map(Ok))
    }

    /// Tells about a message that can be received now, if there is one; never blocks. `None` may be out of date as
    /// soon as it is returned.
    ///
    /// # Errors
    ///
    /// [`Error::RankOutOfRange`], [`Error::NegativeTag`]; [`Error::PeerGone`] and [`Error::NobodyLeft`] if no such
    /// message can come any more; [`Error::Segment`], [`Error::Damaged`].
    ///
    /// # MPI
    /// `MPI_Iprobe`.
    #[track_caller]
    pub fn try_probe(&self, from: impl Into<Source>) -> Result<Option<Status>> {
        let caller = Caller::new("try_probe");
        let pattern = self.checked_pattern(from.into(), caller)?;
        self.look(pattern, caller, |engine| Ok(engine.peek_unexpected(&pattern)))
    }

    /// Blocks until a message that fits can be received, and takes it out of matching: only [`Message::recv`] and
    /// [`Message::recv_vec`] get it.
    ///
    /// # Errors
    ///
    /// As [`World::probe`].
    ///
    /// # MPI
    /// `MPI_Mprobe`.
    ///
    /// # Examples
    ///
    /// ```
    /// let world = ranks::init()?;
    /// world.send(&[1u16, 2, 3], (world.rank(), 5))?;
    /// let message = world.matched_probe(world.rank())?;
    /// assert_eq!((message.status().tag, message.status().count::<u16>()), (5, 3));
    /// assert!(world.try_probe(world.rank())?.is_none());
    /// assert_eq!(message.recv_vec::<u16>()?.0, [1, 2, 3]);
    /// # Ok::<(), ranks::Error>(())
    /// ```
    #[track_caller]
    pub fn matched_probe(&self, from: impl Into<Source>) -> Result<Message<'_>> {
        let caller = Caller::new("matched_probe");
        let pattern = self.checked_pattern(from.into(), caller)?;
        let (envelope, kept) =
            self.await_message(pattern, caller, |engine| engine.take_unexpected(&pattern).transpose())?;
        Ok(Message { world: self, envelope, kept: Some(kept) })
    }

    /// Like [`World::matched_probe`], but `None` if there is no message that fits now; never blocks.
    ///
    /// # Errors
    ///
    /// As [`World::try_probe`].
    ///
    /// # MPI
    /// `MPI_Improbe`.
    #[track_caller]
    pub fn try_matched_probe(&self, from: impl Into<Source>) -> Result<Option<Message<'_>>> {
        let caller = Caller::new("try_matched_probe");
        let pattern = self.checked_pattern(from.into(), caller)?;
        let taken = self.look(pattern, caller, |engine| engine.take_unexpected(&pattern))?;
        Ok(taken.map(|(envelope, kept)| Message { world: self, envelope, kept: Some(kept) }))
    }

    fn checked_pattern(&self, from: Source, caller: Caller) -> Result<Pattern> {
        self.check_source(from, caller)?;
        Ok(self.pattern(from))
    }

    /// One look for a message, after everything that has come was taken in.
    fn look<T>(
        &self,
        pattern: Pattern,
        caller: Caller,
        look: impl FnOnce(&mut Engine) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let mut engine = self.engine.borrow_mut();
        engine.progress()?;
        engine.notice_departures()?;
        let found = look(&mut engine)?;
        // A message from this rank itself may still be sent between two looks.
        let alone = engine.size == 1 || pattern.source() == Some(engine.rank);
        match engine.hopeless(&pattern, caller) {
            Some(error) if found.is_none() && !alone => Err(error),
            _ if found.is_none() => engine.check_world(caller, self.context).map(|()| None),
            _ => Ok(found),
        }
    }

    fn await_message<T>(
        &self,
        pattern: Pattern,
        caller: Caller,
        mut look: impl FnMut(&mut Engine) -> Option<Result<T>>,
    ) -> Result<T> {
        let mut engine = self.engine.borrow_mut();
        let blocked = Blocked::in_receive(caller, &pattern, 0);
        engine.wait_until(blocked, |engine| {
            look(engine).or_else(|| engine.hopeless(&pattern, caller).map(Err))
        })?
    }
}

/// A message that was taken out of matching by [`World::matched_probe`] and waits to be received.
///
/// Dropping it throws the message away; a long one is then received into nothing, so that its sender can go on.
///
/// # MPI
/// `MPI_Message`.
pub struct Message<'w> {
    world: &'w World,
    envelope: Envelope,
    kept: Option<Kept>,
}

impl Message<'_> {
    /// Where the message came from, its tag and its length.
    pub fn status(&self) -> Status {
        Status::of(&self.envelope)
    }

    /// Receives the message into `buffer`, from its beginning; blocks while a long one is still on its way.
    ///
    /// # Errors
    ///
    /// As [`World::recv`].
    ///
    /// # MPI
    /// `MPI_Mrecv`.
    #[track_caller]
    pub fn recv<T: Pod>(mut self, buffer: &mut [T]) -> Result<Status> {
        self.world.next_turn();
        let caller = Caller::new("recv");
        let Some(kept) = self.kept.take() else { unreachable!("only `recv` and `drop` take the message") };
        let mut engine = self.world.engine.borrow_mut();
        let bytes = bytemuck::cast_slice_mut(buffer);
        Loan::new(&mut engine).receive_kept((self.envelope, kept), expected::<T>(), bytes, caller)
    }

    /// Receives the message into a new vector; blocks while a long one is still on its way.
    ///
    /// # Errors
    ///
    /// As [`World::recv_vec`].
    ///
    /// # MPI
    /// `MPI_Mrecv`.
    #[track_caller]
    pub fn recv_vec<T: Pod + Send>(mut self) -> Result<(Vec<T>, Status)> {
        self.world.next_turn();
        let caller = Caller::new("recv_vec");
        let Some(kept) = self.kept.take() else { unreachable!("only `recv` and `drop` take the message") };
        let mut engine = self.world.engine.borrow_mut();
        let buffer = Incoming::Owned(Box::new(Growing::<T>(Vec::new())));
        let loan = Loan::new(&mut engine);
        let (status, buffer) = loan.receive_owned((self.envelope, kept), expected::<T>(), buffer, caller)?;
        Ok((vector(buffer), status))
    }
}

impl Drop for Message<'_> {
    fn drop(&mut self) {
        let Some(kept) = self.kept.take() else { return };
        let caller = Caller::new("recv");
        let mut engine = self.world.engine.borrow_mut();
        let started =
            engine.start_receive_of((self.envelope, kept), expected::<u8>(), Incoming::Discard, caller);
        if let Ok(id) = started {
            engine.abandon_receive(id);
        }
    }
}

impl std::fmt::Debug for Message<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Message({:?})", self.status())
    }
}

impl Engine {
    /// Why no message of this pattern can come any more, if so.
    fn hopeless(&self, pattern: &Pattern, caller: Caller) -> Option<Error> {
        let Caller { operation, at } = caller;
        match pattern.source() {
            Some(rank) if rank == self.rank => {
                let remedy = "send the message first";
                Some(Error::WouldDeadlock { operation, remedy, at })
            }
            Some(rank) => self.gone(caller, rank),
            None => match self.unacknowledged() {
                Some(rank) => Some(self.peer_gone(caller, rank)),
                None => self.is_alone().then_some(Error::NobodyLeft { operation, at }),
            },
        }
    }
}
