//! Non-blocking operations on borrowed buffers, inside a scope that completes all of them.
//!
//! # Safety
//!
//! Trusted to withdraw every borrowed buffer from the engine before `'env` ends: [`Pending`] does so when the
//! scope ends, whatever happened to the requests, also on an error and while a panic unwinds.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::ops::Range;
use std::ptr::NonNull;

use bytemuck::{NoUninit, Pod};

use crate::address::{Destination, Source};
use crate::engine::buffer::{BorrowedBuffer, Incoming, Outgoing};
use crate::engine::send::Started;
use crate::engine::slab::Slab;
use crate::engine::{Caller, Engine, OperationId};
use crate::envelope::Envelope;
use crate::error::{CallSite, Result};
use crate::matching::Pattern;
use crate::p2p::{Content, Mode, expected, type_hash};
use crate::status::Status;
use crate::world::{COLLECTIVE, World};

const ISEND: &str = "isend";

/// Where operations on borrowed buffers are started. See [`World::scope`].
#[derive(Debug)]
pub struct Scope<'scope, 'env: 'scope> {
    pending: Pending<'env>,
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

/// An operation of a [`Scope`]. `O` is `()` for a send and [`Status`] for a receive.
///
/// Dropping it does nothing: the end of the scope completes the operation.
#[derive(Debug)]
pub struct ScopedRequest<'scope, O> {
    pending: &'scope Pending<'scope>,
    state: State<O>,
}

#[derive(Debug, Clone, Copy)]
enum State<O> {
    /// It was complete when it was started.
    Complete(O),
    /// The number under which `pending` has its operation.
    Pending(u32, Operation),
}

/// Memory that is lent to several receives of a [`Scope`] at once, for messages of which any one will do: see
/// [`Scope::irecv_overlapping`]. Where messages overlap, each byte is that of one of them.
///
/// It cannot be looked at while it is lent: other processes may be writing to it.
#[derive(Debug, Clone, Copy)]
pub struct Overlap<'env, T> {
    start: NonNull<T>,
    length: usize,
    memory: PhantomData<&'env Cell<T>>,
}

impl<'env, T: Pod> Overlap<'env, T> {
    /// Lends `buffer`.
    pub fn new(buffer: &'env mut [T]) -> Self {
        Self { length: buffer.len(), start: NonNull::from(buffer).cast(), memory: PhantomData }
    }

    /// A part of it.
    ///
    /// # Panics
    ///
    /// If the range is not within it.
    #[track_caller]
    pub fn part(self, range: Range<usize>) -> Self {
        let Range { start, end } = range;
        if start > end || end > self.length {
            not_within(start, end, self.length);
        }
        // SAFETY: within the buffer, as just checked.
        Self { start: unsafe { self.start.add(start) }, length: end - start, ..self }
    }
}

// What is formatted lies in memory: out of the way of those that are within, which need not write it there.
#[cold]
#[inline(never)]
#[track_caller]
fn not_within(start: usize, end: usize, length: usize) -> ! {
    panic!("{start}..{end} of {length} elements");
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Send(OperationId),
    Receive(OperationId),
}

/// The operations of a scope that hold borrowed buffers.
struct Pending<'w> {
    world: &'w World,
    caller: Caller,
    operations: RefCell<Slab<Operation>>,
}

impl World {
    /// Runs `body` with a [`Scope`] in which buffers can be lent to `isend` and `irecv`; blocks at its end until
    /// all operations that were started in it are complete.
    ///
    /// If `body` returns an error or panics, nothing is waited for: receives are withdrawn, and what was not sent
    /// yet is sent from a copy.
    ///
    /// # Errors
    ///
    /// The error of `body`, or the first one of an operation that nobody waited for.
    ///
    /// # MPI
    /// `MPI_Isend`, `MPI_Irecv` and `MPI_Waitall`.
    ///
    /// # Examples
    ///
    /// ```
    /// ranks::spawn(2, |world| {
    ///     let other = 1 - world.rank();
    ///     let (mine, mut theirs) = ([world.rank() as u32; 1000], [0; 1000]);
    ///     world
    ///         .scope(|scope| {
    ///             scope.irecv(&mut theirs, other)?;
    ///             scope.isend(&mine, other)?.wait()
    ///         })
    ///         .unwrap();
    ///     assert_eq!(theirs, [other as u32; 1000]);
    /// })?;
    /// # Ok::<(), ranks::Error>(())
    /// ```
    ///
    /// A buffer cannot be used while it is lent:
    ///
    /// ```compile_fail
    /// let world = ranks::init().unwrap();
    /// let mut buffer = [0; 4];
    /// world.scope(|scope| {
    ///     scope.irecv(&mut buffer, 0)?;
    ///     buffer[0] = 1;
    ///     Ok(())
    /// });
    /// ```
    #[track_caller]
    pub fn scope<'env, R>(
        &'env self,
        body: impl for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> Result<R>,
    ) -> Result<R> {
        let pending = Pending::new(self, Caller::new("scope"));
        let scope = Scope { pending, scope: PhantomData, env: PhantomData };
        let result = body(&scope)?;
        scope.pending.complete()?;
        Ok(result)
    }
}

impl<'scope, 'env> Scope<'scope, 'env> {
    /// Starts to send `data`; never blocks.
    ///
    /// # Errors
    ///
    /// As [`World::send`].
    ///
    /// # MPI
    /// `MPI_Isend`.
    #[track_caller]
    #[inline(always)]
    pub fn isend<T: NoUninit>(
        &'scope self,
        data: &'env [T],
        to: impl Into<Destination>,
    ) -> Result<ScopedRequest<'scope, ()>> {
        let caller = Caller::new(ISEND);
        let world = self.pending.world;
        let content = Content::Elements(type_hash::<T>());
        let to = to.into();
        world.check_destination(to, caller)?;
        let bytes: &[u8] = bytemuck::cast_slice(data);
        let mut engine = world.engine.borrow_mut();
        let (context, mode) = (world.context, Mode::Standard);
        let site = engine.call_sites.intern(caller.at);
        let envelope = || world.envelope(context, bytes.len(), content, to.tag, mode, site);
        if engine.try_short::<false>(to.rank, world.flags(mode), bytes, envelope) {
            return Ok(self.complete(()));
        }
        drop(engine);
        self.isend_slowly(to, bytes, content, caller.at)
    }

    // Out of the way, with few arguments: what the short way has in registers would be written to memory for it, and
    // each word that is written waits behind those to the other core's lines (docs/decisions/002-eager-lane.md).
    #[inline(never)]
    fn isend_slowly(
        &'scope self,
        to: Destination,
        bytes: &'env [u8],
        content: Content,
        at: CallSite,
    ) -> Result<ScopedRequest<'scope, ()>> {
        let (world, caller) = (self.pending.world, Caller { operation: ISEND, at });
        let mut engine = world.engine.borrow_mut();
        let (context, mode) = (world.context, Mode::Standard);
        let site = engine.call_sites.intern(caller.at);
        let envelope = world.envelope(context, bytes.len(), content, to.tag, mode, site);
        if engine.try_eager(to.rank, &envelope, bytes) {
            return Ok(self.complete(()));
        }
        // SAFETY: `pending` withdraws the buffer before `'env` ends.
        let payload = unsafe { Outgoing::borrowed(bytes) };
        Ok(match engine.start_send(to.rank, envelope, payload, caller)? {
            Started::Complete(_) => self.complete(()),
            Started::Pending(id) => self.pending.request(Operation::Send(id)),
        })
    }

    /// Starts to receive into `buffer`; never blocks. The buffer can be read when the scope has ended.
    ///
    /// # Errors
    ///
    /// As [`World::irecv`], and [`Error::Damaged`](crate::Error::Damaged).
    ///
    /// # MPI
    /// `MPI_Irecv`.
    #[track_caller]
    #[inline(always)]
    pub fn irecv<T: Pod>(
        &'scope self,
        buffer: &'env mut [T],
        from: impl Into<Source>,
    ) -> Result<ScopedRequest<'scope, Status>> {
        let caller = Caller::new("irecv");
        // SAFETY: it is dropped in this call, or `pending` withdraws it before `'env` ends.
        let buffer = unsafe { BorrowedBuffer::new(bytemuck::cast_slice_mut(buffer)) };
        self.receive::<T>(buffer, from.into(), caller)
    }

    /// Like [`Scope::irecv`], into memory that is lent to several receives at once.
    ///
    /// # Errors
    ///
    /// As [`World::irecv`], and [`Error::Damaged`](crate::Error::Damaged).
    ///
    /// # Examples
    ///
    /// ```
    /// use ranks::Overlap;
    ///
    /// ranks::spawn(2, |world| {
    ///     let mut latest = [0];
    ///     let overlap = Overlap::new(&mut latest);
    ///     let result = world.scope(|scope| match world.rank() {
    ///         0 => [1, 2].iter().try_for_each(|value| world.send(&[*value], 1)),
    ///         _ => (0..2).try_for_each(|_| scope.irecv_overlapping(overlap, 0).map(drop)),
    ///     });
    ///     result.unwrap();
    ///     assert_eq!(latest != [0], world.rank() == 1);
    /// })?;
    /// # Ok::<(), ranks::Error>(())
    /// ```
    #[track_caller]
    #[inline(always)]
    pub fn irecv_overlapping<T: Pod>(
        &'scope self,
        buffer: Overlap<'env, T>,
        from: impl Into<Source>,
    ) -> Result<ScopedRequest<'scope, Status>> {
        let caller = Caller::new("irecv_overlapping");
        // SAFETY: it is dropped in this call, or `pending` withdraws it before `'env` ends, and nobody else sees it before; a `Pod` is valid
        // for any bytes.
        let buffer =
            unsafe { BorrowedBuffer::overlapping(buffer.start.cast(), buffer.length * size_of::<T>()) };
        self.receive::<T>(buffer, from.into(), caller)
    }

    #[inline(always)]
    fn receive<T: Pod>(
        &'scope self,
        mut buffer: BorrowedBuffer,
        from: Source,
        caller: Caller,
    ) -> Result<ScopedRequest<'scope, Status>> {
        let world = self.pending.world;
        world.next_turn();
        if from.tag.is_some_and(|tag| tag < 0) {
            world.check_source(from, caller)?;
        }
        let pattern = world.pattern(from);
        let element_type = expected::<T>().element_type;
        let ordinary = match from.rank {
            Some(source) => {
                world.engine.borrow_mut().receive_ordinary(source, pattern, element_type, &mut buffer)
            }
            None => None,
        };
        match ordinary {
            Some(body) => Ok(self.complete(Status::of(&Envelope::from_body(&body)))),
            None => self.receive_other::<T>(from.rank, pattern, buffer, caller.operation, caller.at),
        }
    }

    // Out of the way, with few arguments, like `isend_slowly`.
    #[inline(never)]
    fn receive_other<T: Pod>(
        &'scope self,
        source: Option<usize>,
        pattern: Pattern,
        mut buffer: BorrowedBuffer,
        operation: &'static str,
        at: CallSite,
    ) -> Result<ScopedRequest<'scope, Status>> {
        let (expected, caller) = (expected::<T>(), Caller { operation, at });
        source.map_or(Ok(()), |rank| self.pending.world.check_rank(rank, caller))?;
        let mut engine = self.pending.world.engine.borrow_mut();
        if let Some(status) = engine.receive_at_once(pattern, &expected, &mut buffer)? {
            return Ok(self.complete(status));
        }
        let id = engine.start_receive(pattern, expected, Incoming::Borrowed(buffer), caller)?;
        Ok(self.pending.request(Operation::Receive(id)))
    }

    #[inline]
    fn complete<O>(&'scope self, output: O) -> ScopedRequest<'scope, O> {
        ScopedRequest { pending: &self.pending, state: State::Complete(output) }
    }
}

impl<O> ScopedRequest<'_, O> {
    /// Progresses all operations and tells whether this one is complete; never blocks. Then `wait` returns at once.
    ///
    /// # Errors
    ///
    /// As [`Request::test`](crate::Request::test).
    ///
    /// # MPI
    /// `MPI_Test`, which also completes the request: here `wait` does.
    pub fn test(&mut self) -> Result<bool> {
        self.pending.world.next_turn();
        let mut engine = self.pending.world.engine.borrow_mut();
        engine.progress()?;
        engine.notice_departures()?;
        let complete = match self.state {
            State::Pending(_, Operation::Send(id)) => {
                engine.sends.get(id).is_none_or(|send| send.is_complete())
            }
            State::Pending(_, Operation::Receive(id)) => engine.is_receive_complete(id),
            State::Complete(_) => true,
        };
        if !complete {
            engine.check_world(self.pending.caller, self.pending.world.context)?;
        }
        Ok(complete)
    }
}

impl ScopedRequest<'_, ()> {
    /// Blocks until the buffer has been read.
    ///
    /// # Errors
    ///
    /// As [`World::send`].
    ///
    /// # MPI
    /// `MPI_Wait`.
    pub fn wait(self) -> Result<()> {
        match self.state {
            State::Complete(()) => Ok(()),
            State::Pending(number, operation) => self.pending.wait(number, operation).map(drop),
        }
    }
}

impl ScopedRequest<'_, Status> {
    /// Blocks until the message is there.
    ///
    /// # Errors
    ///
    /// As [`World::recv`].
    ///
    /// # MPI
    /// `MPI_Wait`.
    pub fn wait(self) -> Result<Status> {
        match self.state {
            State::Complete(status) => Ok(status),
            State::Pending(number, operation) => match self.pending.wait(number, operation)? {
                Some(status) => Ok(status),
                None => unreachable!("only this call takes the status of a receive"),
            },
        }
    }
}

impl<'w> Pending<'w> {
    fn new(world: &'w World, caller: Caller) -> Self {
        Self { world, caller, operations: RefCell::new(world.spare_operations.take()) }
    }
}

impl Pending<'_> {
    #[inline]
    fn request<O>(&self, operation: Operation) -> ScopedRequest<'_, O> {
        let number = self.operations.borrow_mut().insert(operation);
        ScopedRequest { pending: self, state: State::Pending(number, operation) }
    }

    /// Blocks until the operation is complete and takes its outcome.
    #[inline]
    fn wait(&self, number: u32, operation: Operation) -> Result<Option<Status>> {
        self.world.next_turn();
        let mut engine = self.world.engine.borrow_mut();
        self.wait_with(&mut engine, number, operation)
    }

    #[inline]
    fn wait_with(&self, engine: &mut Engine, number: u32, operation: Operation) -> Result<Option<Status>> {
        if let Operation::Receive(id) = operation
            && let Some(outcome) = engine.take_status(id)
        {
            self.operations.borrow_mut().forget(number);
            return outcome.map(Some);
        }
        self.block(engine, number, operation)
    }

    fn block(&self, engine: &mut Engine, number: u32, operation: Operation) -> Result<Option<Status>> {
        let blocked = match operation {
            Operation::Send(id) => engine.blocked_in_send(self.caller, id),
            Operation::Receive(id) => engine.blocked_in_receive(self.caller, id),
        };
        let outcome = engine.wait_until(blocked, |engine| match operation {
            Operation::Send(id) => engine.await_send(id).map(|outcome| outcome.map(|_| None)),
            Operation::Receive(id) => engine.await_status(id).map(|outcome| outcome.map(Some)),
        })?;
        self.operations.borrow_mut().forget(number);
        outcome
    }

    fn complete(&self) -> Result<()> {
        let mut engine = self.world.engine.borrow_mut();
        let numbers = self.operations.borrow().numbers();
        // The last one first: when it is complete, the others mostly are.
        for number in numbers.rev() {
            let operation = self.operations.borrow().get(number).copied();
            if let Some(operation) = operation {
                self.wait_with(&mut engine, number, operation)?;
            }
        }
        engine.progress_now_and_then()
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        let mut engine = self.world.engine.borrow_mut();
        for operation in self.operations.get_mut().iter() {
            match *operation {
                Operation::Send(id) => engine.abandon_send(id),
                Operation::Receive(id) => engine.abandon_receive(id),
            }
        }
        let mut operations = self.operations.take();
        operations.clear();
        self.world.spare_operations.set(operations);
    }
}

impl std::fmt::Debug for Pending<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} operations pending", self.operations.borrow().iter().count())
    }
}

impl World {
    /// Sends and receives bytes between pairs of ranks, all at the same time, in the context of collectives.
    /// Blocks until everything is done.
    pub(crate) fn exchange(
        &self,
        sends: Vec<(usize, &[u8])>,
        receives: Vec<(usize, &mut [u8])>,
        caller: Caller,
    ) -> Result<()> {
        /// One exchange's messages are in order with those of the next, so one tag is enough.
        const TAG: i32 = 0;
        let context = self.context + COLLECTIVE;
        let pending = Pending::new(self, caller);
        for (source, buffer) in receives {
            // SAFETY: `pending` is dropped before this call returns, and withdraws the buffer.
            let buffer = unsafe { Incoming::borrowed(buffer) };
            let pattern = Pattern::new(context, Some(source), Some(TAG));
            let id = self.engine.borrow_mut().start_receive(pattern, expected::<u8>(), buffer, caller)?;
            pending.operations.borrow_mut().insert(Operation::Receive(id));
        }
        for (destination, bytes) in sends {
            let content = Content::Elements(type_hash::<u8>());
            let mut engine = self.engine.borrow_mut();
            let site = engine.call_sites.intern(caller.at);
            let envelope = self.envelope(context, bytes.len(), content, TAG, Mode::Standard, site);
            if engine.try_eager(destination, &envelope, bytes) {
                continue;
            }
            // SAFETY: `pending` is dropped before this call returns, and withdraws the buffer.
            let payload = unsafe { Outgoing::borrowed(bytes) };
            let started = engine.start_send(destination, envelope, payload, caller)?;
            if let Started::Pending(id) = started {
                pending.operations.borrow_mut().insert(Operation::Send(id));
            }
        }
        pending.complete()
    }
}
