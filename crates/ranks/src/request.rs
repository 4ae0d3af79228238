//! Operations under way: started by `isend` and `irecv`, completed by `wait`.
//!
//! A request owns its buffer, through the engine: forgetting a request leaks nothing to other memory, and dropping
//! one is safe at any time. A dropped send is still sent; a dropped receive is cancelled, or, if its message is on
//! the way, that is thrown away.

use std::any::Any;

use bytemuck::{NoUninit, Pod};

use crate::address::{Destination, Source};
use crate::engine::buffer::{Fixed, Growing, Incoming, Outgoing};
use crate::engine::publish::{Blocked, Ranks};
use crate::engine::send::Started;
use crate::engine::{Caller, Engine, OperationId};
use crate::error::{Error, Result};
use crate::p2p::{Content, Mode, expected, type_hash, vector};
use crate::status::Status;
use crate::world::World;

/// A send or receive that was started and not yet completed. `O` is what completing it gives: the sent `Vec<T>`
/// back, or `(Vec<T>, Status)` for a receive.
///
/// Dropping it unfinished is safe and never blocks: a send is still sent, a receive is cancelled or, if its
/// message is on the way, thrown away.
///
/// # MPI
/// `MPI_Request`.
#[must_use = "a request that is dropped gives no result; a dropped receive is cancelled"]
pub struct Request<'w, O> {
    world: &'w World,
    state: State<O>,
    finish: fn(Completed) -> O,
    caller: Caller,
}

enum State<O> {
    Send(OperationId),
    Receive(OperationId),
    /// Complete since it was started: a short send.
    Complete(O),
    /// `wait` has taken the outcome.
    Taken,
}

enum Completed {
    Sent(Outgoing),
    Received(Incoming, Status),
}

/// What came of [`Request::cancel`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancel<O> {
    /// The receive was withdrawn; no message is lost.
    Cancelled,
    /// It was too late: a message has been matched, and here it is.
    Completed(O),
}

impl World {
    /// Starts to send `data`; never blocks. [`Request::wait`] gives the vector back.
    ///
    /// Any number of requests may be under way; what exceeds the room in shared memory stays in its vectors.
    /// Messages between two ranks are matched in the order in which they were started.
    ///
    /// # Errors
    ///
    /// As [`World::send`].
    ///
    /// # MPI
    /// `MPI_Isend`, with ownership of the buffer.
    ///
    /// # Examples
    ///
    /// ```
    /// ranks::spawn(2, |world| {
    ///     let other = 1 - world.rank();
    ///     let send = world.isend(vec![world.rank() as u64; 100_000], other).unwrap();
    ///     let (received, status) = world.irecv::<u64>(other).unwrap().wait().unwrap();
    ///     assert_eq!((received[99_999], status.source), (other as u64, other));
    ///     assert_eq!(send.wait().unwrap().len(), 100_000);
    /// })?;
    /// # Ok::<(), ranks::Error>(())
    /// ```
    #[track_caller]
    pub fn isend<T: NoUninit + Send>(
        &self,
        data: Vec<T>,
        to: impl Into<Destination>,
    ) -> Result<Request<'_, Vec<T>>> {
        self.start_isend(data, to.into(), Mode::Standard, Caller::new("isend"))
    }

    /// Starts to send `data`; the request completes when the receiver has begun to receive it. Never blocks.
    ///
    /// # Errors
    ///
    /// As [`World::send`].
    ///
    /// # MPI
    /// `MPI_Issend`.
    #[track_caller]
    #[doc(alias = "issend")]
    pub fn synchronous_isend<T: NoUninit + Send>(
        &self,
        data: Vec<T>,
        to: impl Into<Destination>,
    ) -> Result<Request<'_, Vec<T>>> {
        self.start_isend(data, to.into(), Mode::Synchronous, Caller::new("synchronous_isend"))
    }

    /// Starts to receive a message of any length; never blocks. [`Request::wait`] gives the elements and the
    /// [`Status`].
    ///
    /// # Errors
    ///
    /// [`Error::RankOutOfRange`], [`Error::NegativeTag`]; those of [`World::recv_vec`] come from completing it.
    ///
    /// # MPI
    /// `MPI_Irecv`, without a length known before.
    #[track_caller]
    pub fn irecv<T: Pod + Send>(&self, from: impl Into<Source>) -> Result<Request<'_, (Vec<T>, Status)>> {
        let buffer = Incoming::Owned(Box::new(Growing::<T>(Vec::new())));
        self.start_irecv(buffer, from.into(), Caller::new("irecv"))
    }

    /// Starts to receive into `buffer`, from its beginning; never blocks. [`Request::wait`] gives the buffer back,
    /// with its length unchanged, and the [`Status`], which tells how much of it was filled.
    ///
    /// # Errors
    ///
    /// [`Error::RankOutOfRange`], [`Error::NegativeTag`]; those of [`World::recv`] come from completing it.
    ///
    /// # MPI
    /// `MPI_Irecv`, with ownership of the buffer.
    #[track_caller]
    pub fn irecv_into<T: Pod + Send>(
        &self,
        buffer: Vec<T>,
        from: impl Into<Source>,
    ) -> Result<Request<'_, (Vec<T>, Status)>> {
        let buffer = Incoming::Owned(Box::new(Fixed(buffer)));
        self.start_irecv(buffer, from.into(), Caller::new("irecv_into"))
    }

    fn start_isend<T: NoUninit + Send>(
        &self,
        data: Vec<T>,
        to: Destination,
        mode: Mode,
        caller: Caller,
    ) -> Result<Request<'_, Vec<T>>> {
        let content = Content::Elements(type_hash::<T>());
        self.check_destination(to, caller)?;
        let mut engine = self.engine.borrow_mut();
        let length = size_of_val(&*data);
        let site = engine.call_sites.intern(caller.at);
        let envelope = self.envelope(self.context, length, content, to.tag, mode, site);
        let state = if engine.try_eager(to.rank, &envelope, bytemuck::cast_slice(&data)) {
            State::Complete(data)
        } else {
            let payload = Outgoing::Owned(Box::new(data));
            match engine.start_send(to.rank, envelope, payload, caller)? {
                Started::Complete(payload) => State::Complete(sent_vector(Completed::Sent(payload))),
                Started::Pending(id) => State::Send(id),
            }
        };
        Ok(Request { world: self, state, finish: sent_vector::<T>, caller })
    }

    fn start_irecv<T: Pod + Send>(
        &self,
        buffer: Incoming,
        from: Source,
        caller: Caller,
    ) -> Result<Request<'_, (Vec<T>, Status)>> {
        self.check_source(from, caller)?;
        let pattern = self.pattern(from);
        let id = self.engine.borrow_mut().start_receive(pattern, expected::<T>(), buffer, caller)?;
        Ok(Request { world: self, state: State::Receive(id), finish: received_vector::<T>, caller })
    }
}

fn sent_vector<T: 'static>(completed: Completed) -> Vec<T> {
    let Completed::Sent(Outgoing::Owned(payload)) = completed else {
        unreachable!("a send gives back the payload that it was given")
    };
    let vector: Box<dyn Any> = payload.into_any();
    *vector.downcast().unwrap_or_else(|_| unreachable!("a send gives back the payload that it was given"))
}

fn received_vector<T: 'static>(completed: Completed) -> (Vec<T>, Status) {
    let Completed::Received(buffer, status) = completed else {
        unreachable!("a receive gives back the buffer that it was given")
    };
    (vector(buffer), status)
}

impl<O> Request<'_, O> {
    /// Blocks until the operation is complete: a send until its vector is free again, a receive until the message
    /// is there.
    ///
    /// # Errors
    ///
    /// Those of the operation, see [`World::send`] and [`World::recv_vec`]. The buffer is lost then.
    ///
    /// # MPI
    /// `MPI_Wait`.
    pub fn wait(mut self) -> Result<O> {
        self.world.next_turn();
        let blocked = self.blocked("wait");
        let world = self.world;
        let mut engine = world.engine.borrow_mut();
        let outcome = engine.wait_until(blocked, |engine| {
            match self.state {
                State::Receive(id) => engine.fail_if_hopeless(id),
                State::Send(id) => engine.fail_send_if_hopeless(id),
                State::Complete(_) | State::Taken => {}
            }
            self.take(engine)
        })?;
        drop(engine);
        outcome
    }

    /// Progresses all operations and tells whether this one is complete; never blocks. Then [`Request::wait`]
    /// returns at once.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`], [`Error::Segment`], [`Error::Shrinking`]. The operation's own errors come from `wait`.
    ///
    /// # MPI
    /// `MPI_Test`, which also completes the request: here `wait` does.
    pub fn test(&mut self) -> Result<bool> {
        self.world.next_turn();
        let mut engine = self.world.engine.borrow_mut();
        if !self.is_complete(&engine) {
            engine.progress()?;
            engine.notice_departures()?;
            self.fail_if_nobody_left(&mut engine);
        }
        if !self.is_complete(&engine) {
            engine.check_world(self.caller, self.world.context)?;
            return Ok(false);
        }
        Ok(true)
    }

    /// Withdraws a receive that no message has matched yet. If it is too late, and for a send, this waits like
    /// [`Request::wait`].
    ///
    /// # Errors
    ///
    /// As [`Request::wait`].
    ///
    /// # MPI
    /// `MPI_Cancel` of a receive; sends cannot be cancelled, as MPI advises.
    ///
    /// # Examples
    ///
    /// ```
    /// let world = ranks::init()?;
    /// let request = world.irecv::<u8>(world.rank())?;
    /// assert_eq!(request.cancel()?, ranks::Cancel::Cancelled);
    /// # Ok::<(), ranks::Error>(())
    /// ```
    pub fn cancel(mut self) -> Result<Cancel<O>> {
        self.world.next_turn();
        if let State::Receive(id) = self.state
            && self.world.engine.borrow_mut().cancel_receive(id)
        {
            self.state = State::Taken;
            return Ok(Cancel::Cancelled);
        }
        self.wait().map(Cancel::Completed)
    }

    fn fail_if_nobody_left(&self, engine: &mut Engine) {
        if let State::Receive(id) = self.state {
            engine.fail_if_nobody_left(id);
        }
    }

    fn is_complete(&self, engine: &Engine) -> bool {
        match self.state {
            State::Send(id) => engine.sends.get(id).is_none_or(|send| send.is_complete()),
            State::Receive(id) => engine.is_receive_complete(id),
            State::Complete(_) | State::Taken => true,
        }
    }

    /// Takes the outcome if there is one.
    fn take(&mut self, engine: &mut Engine) -> Option<Result<O>> {
        let completed = match self.state {
            State::Send(id) => engine.take_send(id)?.map(Completed::Sent),
            State::Receive(id) => {
                let (outcome, buffer) = engine.take_receive(id)?;
                outcome.map(|status| Completed::Received(buffer, status))
            }
            State::Complete(_) | State::Taken => {
                let State::Complete(output) = std::mem::replace(&mut self.state, State::Taken) else {
                    return None;
                };
                return Some(Ok(output));
            }
        };
        self.state = State::Taken;
        Some(completed.map(self.finish))
    }

    fn blocked(&self, operation: &'static str) -> Blocked<'static> {
        let engine = self.world.engine.borrow();
        let caller = Caller { operation, at: self.caller.at };
        match self.state {
            State::Send(id) => engine.blocked_in_send(caller, id),
            State::Receive(id) => engine.blocked_in_receive(caller, id),
            State::Complete(_) | State::Taken => Blocked::in_return(caller),
        }
    }

    /// Adds the ranks one of which has to do something for this request.
    fn add_peers(&self, engine: &Engine, ranks: &mut Ranks) {
        match self.state {
            State::Send(id) => {
                engine.sends.get(id).into_iter().for_each(|send| ranks.insert(send.destination))
            }
            State::Receive(id) => {
                let receive = engine.receives.get(id).into_iter();
                receive.for_each(|receive| ranks.insert_source(receive.pattern.source(), engine.size));
            }
            State::Complete(_) | State::Taken => {}
        }
    }
}

impl<O> Drop for Request<'_, O> {
    fn drop(&mut self) {
        // While the engine runs no user code does, so it can always be borrowed here.
        let mut engine = self.world.engine.borrow_mut();
        match self.state {
            State::Send(id) => engine.abandon_send(id),
            State::Receive(id) => engine.abandon_receive(id),
            State::Complete(_) | State::Taken => {}
        }
    }
}

impl<O> std::fmt::Debug for Request<'_, O> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Request({} at {})", self.caller.operation, self.caller.at)
    }
}

/// Blocks until all requests are complete, and gives their results in the same order.
///
/// # Errors
///
/// The first error in the order of the requests; the requests after it are dropped.
///
/// # MPI
/// `MPI_Waitall`.
pub fn wait_all<'w, O>(requests: impl IntoIterator<Item = Request<'w, O>>) -> Result<Vec<O>> {
    requests.into_iter().map(Request::wait).collect()
}

/// Blocks until one of the requests is complete, removes it from the list, and gives the index that it had there
/// together with its result. The requests after it move up by one.
///
/// # Errors
///
/// The error of the request that completed with one; it is removed too. [`Error::LengthMismatch`] for an empty
/// list: there would be nothing to wait for.
///
/// # MPI
/// `MPI_Waitany`.
#[track_caller]
pub fn wait_any<O>(requests: &mut Vec<Request<'_, O>>) -> Result<(usize, O)> {
    let caller = Caller::new("wait_any");
    let Some(world) = requests.first().map(|request| request.world) else {
        let Caller { operation, at } = caller;
        return Err(Error::LengthMismatch {
            operation,
            what: "the list of requests",
            found: 0,
            expected: 1,
            at,
        });
    };
    world.next_turn();
    let open = &*requests;
    let peers = |engine: &Engine| {
        let mut ranks = Ranks::default();
        open.iter().for_each(|request| request.add_peers(engine, &mut ranks));
        ranks
    };
    let blocked = Blocked::in_any(caller, world.context, &peers);
    let index = world.engine.borrow_mut().wait_until(blocked, |engine| {
        open.iter().for_each(|request| request.fail_if_nobody_left(engine));
        open.iter().position(|request| request.is_complete(engine))
    })?;
    let output = requests.remove(index).wait()?;
    Ok((index, output))
}
