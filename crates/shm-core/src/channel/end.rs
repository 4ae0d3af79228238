//! One attached end: its lock, its peer, and waiting with all the ways out.
//!
//! # Safety
//!
//! Trusted for making at most one producer and one consumer per lane: an end exists once, by its lock, and hands
//! them out by `&mut`.
#![allow(unsafe_code)]

use std::time::{Duration, Instant};

use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::UnsafeCell;
use crate::wait::{Backoff, Doorbell, wait_until};

use super::Role;
use super::error::{ChannelError, Departure};
use super::lane::{Consumer, Envelope, LaneHeader, Producer};
use super::layout::{self, mode};
use super::object::Object;
use super::peer::{Peer, Presence, next_attendance};

/// A waiter looks at its peer's lock this often: four looks within the second after which a death is an error.
const SLICE: Duration = Duration::from_millis(250);
/// Spins and yields before the first sleep, as measured for two sides on two cores (see [`Backoff`]).
const SPINS: u32 = 2000;
const YIELDS: u32 = 4;

/// How long an operation may take, and how it is called in errors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    operation: &'static str,
    limit: Option<Duration>,
    deadline: Option<Instant>,
}

impl Patience {
    pub(super) fn endless(operation: &'static str) -> Self {
        Self { operation, limit: None, deadline: None }
    }

    pub(super) fn operation(&self) -> &'static str {
        self.operation
    }

    /// A limit too large for the clock is none.
    pub(super) fn limited(operation: &'static str, limit: Duration) -> Self {
        Self { operation, limit: Some(limit), deadline: Instant::now().checked_add(limit) }
    }
}

/// Why a wait ended without what it waited for.
enum Stop {
    Late,
    Gone(Departure),
}

/// An attached end of a channel. Dropping it detaches.
pub(super) struct End {
    seat: Seat,
    peer: Peer,
}

/// What does not change while an end is attached.
struct Seat {
    object: Object,
    role: Role,
}

impl End {
    /// Takes the end that `role` names.
    pub(super) fn attach(object: Object, role: Role) -> Result<Self, ChannelError> {
        object.lock_gate_to_attach()?;
        let claimed = claim(&object, role);
        object.unlock_gate()?;
        Ok(Self { peer: claimed?, seat: Seat { object, role } })
    }

    pub(super) fn capacity(&self) -> usize {
        self.seat.object.geometry.capacity
    }

    pub(super) fn name(&self) -> String {
        self.seat.object.name.to_string()
    }

    pub(super) fn peer_role(&self) -> Role {
        self.seat.role.peer()
    }

    /// The producing side of the lane that leads away from this end.
    pub(super) fn producer(&mut self) -> Producer<'_> {
        self.seat.producer()
    }

    /// The consuming side of the lane that leads to this end.
    pub(super) fn consumer(&mut self) -> Consumer<'_> {
        self.seat.consumer()
    }

    /// Wakes the peer, after a publishing store.
    pub(super) fn ring_peer(&self) {
        self.seat.ring_peer();
    }

    /// An error if the peer has left: for operations that begin without waiting. Not for deaths, which cost a
    /// system call to see.
    pub(super) fn check_departed(&mut self, operation: &'static str) -> Result<(), ChannelError> {
        self.departure().map_or(Ok(()), |how| Err(self.gone(how, operation)))
    }

    /// How the peer has left, if it has; [`End::gone`] takes note of it. Not for deaths.
    pub(super) fn departure(&mut self) -> Option<Departure> {
        match self.peer.presence(self.seat.attendance_of_peer()) {
            Presence::Gone(how) => Some(how),
            Presence::Absent | Presence::Here => None,
        }
    }

    /// Waits until the last chunk has been taken.
    ///
    /// A client that sends has given up what it asked before, but the server may be stuck in the reply: so what
    /// comes in meanwhile makes way.
    pub(super) fn wait_until_empty(&mut self, patience: &Patience) -> Result<(), ChannelError> {
        self.wait(patience, |seat| {
            if seat.role == Role::Client {
                seat.discard_chunk();
            }
            seat.producer().is_empty().then_some(())
        })
    }

    /// Empties the incoming lane without looking.
    pub(super) fn discard_chunk(&mut self) {
        self.seat.discard_chunk();
    }

    /// Waits until a chunk is there.
    pub(super) fn wait_for_chunk(&mut self, patience: &Patience) -> Result<Envelope, ChannelError> {
        self.wait(patience, |seat| seat.consumer().peek())
    }

    fn wait<T>(
        &mut self,
        patience: &Patience,
        condition: impl Fn(&Seat) -> Option<T>,
    ) -> Result<T, ChannelError> {
        let Self { seat, peer } = self;
        let own = seat.role.end();
        let mut sleeps = 0;
        let interrupt = || {
            // The lock is looked at only after a sleep: most waits are over before.
            sleeps += 1;
            seat.check_peer(peer, sleeps > 1)?;
            patience.next_sleep()
        };
        let bell = &seat.object.bells[own];
        wait_until(bell, seat.doorbell(own), seat.backoff(), || condition(seat), interrupt)
            .map_err(|stop| self.explain(stop, patience))
    }

    fn explain(&mut self, stop: Stop, patience: &Patience) -> ChannelError {
        match stop {
            Stop::Gone(how) => self.gone(how, patience.operation),
            Stop::Late => ChannelError::Timeout {
                name: self.name(),
                role: self.peer_role(),
                operation: patience.operation,
                limit: patience.limit.unwrap_or_default(),
            },
        }
    }

    /// The departure as an error, which is the only one about it.
    pub(super) fn gone(&mut self, how: Departure, operation: &'static str) -> ChannelError {
        self.peer.acknowledge(self.seat.attendance_of_peer());
        ChannelError::PeerGone { name: self.name(), role: self.peer_role(), how, operation }
    }
}

impl std::fmt::Debug for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Seat { object, role, .. } = &self.seat;
        f.debug_struct("End").field("channel", &object.name.as_str()).field("role", role).finish()
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let Seat { object, role, .. } = &self.seat;
        let mine = &layout::header(&object.segment).attendance[role.end()];
        // SYNC attendance
        mine.store(mine.load(Relaxed).wrapping_add(1), Release);
        let peer = role.peer().end();
        object.bells[peer].notify(self.seat.doorbell(peer));
        // The object gives up the locks and, if nobody is left, the name.
    }
}

impl Seat {
    fn doorbell(&self, end: usize) -> &Doorbell {
        layout::doorbell(&self.object.segment, end)
    }

    fn ring_peer(&self) {
        let peer = self.role.peer().end();
        self.object.bells[peer].ring(self.doorbell(peer));
    }

    /// Spinning is only of use while the peer runs on another core. Each end may be pinned to one.
    fn backoff(&self) -> Backoff {
        let [first, second] = &layout::header(&self.object.segment).processors;
        let several = (first.load(Relaxed) | second.load(Relaxed)).count_ones() > 1;
        Backoff::new(if several { SPINS } else { 0 }, YIELDS)
    }

    fn discard_chunk(&self) {
        let mut consumer = self.consumer();
        if consumer.peek().is_some() {
            consumer.discard();
            self.ring_peer();
        }
    }

    /// Callers are methods of [`End`] that hold it mutably.
    fn producer(&self) -> Producer<'_> {
        let (header, buffer) = self.lane(self.role.end());
        // SAFETY: lane 0 leads from end 0, lane 1 from end 1; this process holds the end's lock, so its `End` is
        // the only one, and it is borrowed mutably while one of its methods uses the producer.
        unsafe { Producer::new(header, buffer) }
    }

    /// Callers are methods of [`End`] that hold it mutably.
    fn consumer(&self) -> Consumer<'_> {
        let (header, buffer) = self.lane(self.role.peer().end());
        // SAFETY: as for the producer, with the lane of the other end.
        unsafe { Consumer::new(header, buffer) }
    }

    fn lane(&self, lane: usize) -> (&LaneHeader, &[UnsafeCell<u8>]) {
        let Object { segment, geometry, .. } = &self.object;
        (layout::lane(segment, lane), segment.slice_at(geometry.buffer(lane), geometry.capacity))
    }

    fn attendance_of_peer(&self) -> u32 {
        // SYNC attendance: what the peer published before it left is visible.
        layout::header(&self.object.segment).attendance[self.role.peer().end()].load(Acquire)
    }

    fn check_peer(&self, peer: &mut Peer, look_at_lock: bool) -> Result<(), Stop> {
        match peer.presence(self.attendance_of_peer()) {
            Presence::Gone(how) => Err(Stop::Gone(how)),
            Presence::Here if look_at_lock && self.peer_lock_is_free() => {
                // Whoever leaves in an orderly way changes its number before it gives up the lock.
                Err(Stop::Gone(match peer.presence(self.attendance_of_peer()) {
                    Presence::Gone(how) => how,
                    Presence::Absent | Presence::Here => Departure::Died,
                }))
            }
            Presence::Absent | Presence::Here => Ok(()),
        }
    }

    /// A look that fails says nothing about the peer.
    fn peer_lock_is_free(&self) -> bool {
        matches!(self.object.end_held(self.role.peer().end()), Ok(false))
    }
}

impl Patience {
    fn next_sleep(&self) -> Result<Option<Duration>, Stop> {
        let Some(deadline) = self.deadline else {
            return Ok(Some(SLICE));
        };
        match deadline.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(Stop::Late),
            left => Ok(Some(left.min(SLICE))),
        }
    }
}

/// Under the gate: the lock, the mode, the memory, and only then the attendance that others see.
fn claim(object: &Object, role: Role) -> Result<Peer, ChannelError> {
    object.take_end(role)?;
    let header = layout::header(&object.segment);
    let found = header.mode.load(Relaxed);
    if found != mode::UNDECIDED && found != role.mode() {
        let usage = if found == mode::ONE_WAY { "one way" } else { "for request and reply" };
        return Err(ChannelError::WrongMode { name: object.name.to_string(), role, usage });
    }
    let lanes = if role.mode() == mode::ONE_WAY { 1 } else { 2 };
    object.segment.reserve(layout::CONTROL_BYTES..object.geometry.buffer(lanes))?;
    header.mode.store(role.mode(), Relaxed);
    let other = role.peer().end();
    let alive = object.end_held(other)?;
    // SYNC attendance
    let peer = Peer::found(header.attendance[other].load(Acquire), alive);
    header.processors[role.end()].store(crate::sys::processors::mask(), Relaxed);
    let mine = &header.attendance[role.end()];
    // SYNC attendance
    mine.store(next_attendance(mine.load(Relaxed)), Release);
    Ok(peer)
}
