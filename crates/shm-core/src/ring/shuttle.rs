//! The shuttle: one cell that goes to and fro between two sides, for the short messages with which they answer each other.
//!
//! # The problem
//!
//! Who waits for a message looks at the line in which it will come, and so has a copy of it, which the other side has to
//! take away before it can write: an answer in a line of its own costs two ways between the cores. But a line that was read from
//! where another core wrote it belongs to the reader's cache then. So the answer lies where the message lay, and costs one way:
//! 8 bytes took two processes without anything else 0.031 µs so, and 0.054 through a ring in each direction (2 near cores of a
//! Zen 4 machine, 114 alternating rounds).
//!
//! # The protocol
//!
//! Messages in the shuttle are numbered; [`Side::First`] sends the odd ones, [`Side::Second`] the even ones. Who has taken the
//! last one has the shuttle, and may send the next one in it or not. All others go through the rings. Each says how many messages
//! its side has sent through its ring before it (`after`), and is taken when those have been.
//!
//! Who looks loads the stamp in the ring first, and then that in the shuttle: if a message in the shuttle was sent before the next one of
//! the ring, the stamp of the latter carries that of the former over (`ring-publish`), so it is seen.
//!
//! # Memory ordering
//!
//! `shuttle`: the stamp (Release by who sends, Acquire by who receives) carries the message over, and that the message before it
//! was read.
//!
//! # Safety
//!
//! Trusted for accesses to the shuttle through raw pointers by who has it, and by who has seen the stamp of a message and not
//! answered it.
#![allow(unsafe_code)]

use super::{Body, CELL_WORDS, SHORT_BYTES, copy_short};
use crate::bytes::LINE_BYTES;
use crate::sync::{AtomicU64, Ordering, UnsafeCell};

/// Bits of the payload's length; those up to [`TOLD_BITS`] are of `after`.
const LENGTH_BITS: u32 = 7;
const TOLD_BITS: u32 = 16;
/// More messages than a ring has cells: so the last bits say which number is meant.
const AFTER_MASK: u64 = (1 << (TOLD_BITS - LENGTH_BITS)) - 1;

/// Payload up to here travels in the shuttle: two lines. Processors fetch lines in pairs, so nothing else could lie in the second one.
pub const SHUTTLE_BYTES: usize = SHORT_BYTES + LINE_BYTES;

/// The cell in shared memory. Zeroed, it is with [`Side::First`] and was never used.
#[repr(C, align(128))]
pub struct Shuttle {
    stamp: AtomicU64,
    words: UnsafeCell<[u64; CELL_WORDS]>,
    payload: UnsafeCell<[u8; SHUTTLE_BYTES]>,
}

// SAFETY: the protocol says who accesses the rest when; the stamp orders the accesses.
unsafe impl Sync for Shuttle {}
// SAFETY: plain bytes and an atomic; it belongs to no thread.
unsafe impl Send for Shuttle {}

/// The two that a shuttle goes to and fro between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Has it first.
    First,
    /// The other one.
    Second,
}

impl Shuttle {
    /// A shuttle that was never used, for use on the heap.
    pub fn new() -> Self {
        Self {
            stamp: AtomicU64::new(0),
            words: UnsafeCell::new([0; CELL_WORDS]),
            payload: UnsafeCell::new([0; SHUTTLE_BYTES]),
        }
    }

    /// A shuttle in which so many messages have been sent and taken.
    #[cfg(all(test, not(loom)))]
    pub(super) fn after(messages: u32) -> Self {
        Self { stamp: AtomicU64::new(messages.into()), ..Self::new() }
    }

    #[cfg(all(test, not(loom)))]
    pub(super) fn damage(&self, stamp: u64) {
        self.stamp.store(stamp, Ordering::Relaxed);
    }

    /// The stamp of a message of this number, behind so many in the ring, with so many bytes of payload.
    #[inline(always)]
    pub fn stamp(number: u32, after: u64, length: usize, kind: u16) -> u64 {
        let told = length as u64 | (after & AFTER_MASK) << LENGTH_BITS;
        u64::from(number) | told << 32 | u64::from(kind) << 48
    }

    /// How many messages have been sent in it, modulo 2³²; for a look from outside.
    pub fn messages(&self) -> u32 {
        self.stamp.load(Ordering::Relaxed) as u32
    }
}

impl Default for Shuttle {
    fn default() -> Self {
        Self::new()
    }
}

/// One side's view of a shuttle.
pub(super) struct View<'a> {
    /// It is here, and the next message in it may be sent by this side; or it is there.
    here: Option<&'a Shuttle>,
    there: Option<&'a Shuttle>,
    /// The number of the last message in it.
    last: u32,
    /// So many messages had come through the ring when the last one from there was taken.
    taken_after: u64,
}

impl<'a> View<'a> {
    /// Of no shuttle.
    pub(super) const NONE: Self = Self { here: None, there: None, last: 0, taken_after: u64::MAX };

    pub(super) fn new(shuttle: &'a Shuttle, side: Side) -> Self {
        match side {
            Side::First => Self { here: Some(shuttle), ..Self::NONE },
            Side::Second => Self { there: Some(shuttle), ..Self::NONE },
        }
    }

    /// The same when so many messages have been sent in it and taken, an even number of them.
    #[cfg(all(test, not(loom)))]
    pub(super) fn begin_after(&mut self, messages: u32) {
        self.last = messages;
    }

    #[inline(always)]
    pub(super) fn is_here(&self) -> bool {
        self.here.is_some()
    }

    /// Whether it is there, and the last message from there came in it, if so many have come through the ring.
    #[inline(always)]
    pub(super) fn is_awaited(&self, after: u64) -> bool {
        self.there.is_some() && self.taken_after == after
    }

    /// The number of the last message in it.
    #[inline(always)]
    pub(super) fn last_number(&self) -> u32 {
        self.last
    }

    /// The stamp of the next message, if that has come in the shuttle behind so many of the ring.
    #[inline(always)]
    pub(super) fn look(&self, after: u64) -> Option<u64> {
        // SYNC shuttle
        let stamp = self.there?.stamp.load(Ordering::Acquire);
        let is_next = stamp as u32 == self.last.wrapping_add(1);
        (is_next && (stamp >> (32 + LENGTH_BITS) ^ after) & AFTER_MASK == 0).then_some(stamp)
    }

    /// The header of the message whose stamp was seen just now; `None` if its payload is longer than it can be.
    #[inline(always)]
    pub(super) fn body(&self, stamp: u64) -> Option<Body> {
        let told = claimed_bytes(stamp);
        let (kind, in_shuttle) = ((stamp >> 48) as u16, true);
        // SAFETY: the stamp was seen, and the message not answered.
        let words = self.there?.words.with(|place| unsafe { place.read() });
        (usize::from(told) <= SHUTTLE_BYTES).then_some(Body { told, kind, in_shuttle, words })
    }

    /// Copies the payload of the message that has come to a buffer, which has at least `length` bytes.
    ///
    /// # Safety
    ///
    /// `to` is valid for writes of `length` bytes, at most [`SHUTTLE_BYTES`].
    #[inline(always)]
    pub(super) unsafe fn copy_payload(&self, to: *mut u8, length: usize) {
        if let Some(shuttle) = self.there {
            // SAFETY: the caller's promise; the message has been seen and not answered.
            shuttle.payload.with(|place| unsafe { copy(place.cast(), to, length) });
        }
    }

    /// The first word of the payload of the message that has come.
    #[inline(always)]
    pub(super) fn payload_word(&self) -> Option<u64> {
        // SAFETY: the message has been seen and not answered; the payload is aligned.
        Some(self.there?.payload.with(|place| unsafe { place.cast::<u64>().read() }))
    }

    /// The message has been read, behind so many of the ring: the shuttle is here.
    #[inline(always)]
    pub(super) fn take(&mut self, after: u64) {
        self.last = self.last.wrapping_add(1);
        self.here = self.there.take();
        self.taken_after = after;
    }

    /// Sends a message in the shuttle, behind so many in the ring to the other side; whether it could: it is here, and the
    /// payload fits.
    #[inline(always)]
    pub(super) fn send(&mut self, after: u64, payload: &[u8], kind: u16, words: [u64; CELL_WORDS]) -> bool {
        let Some(shuttle) = self.here.take_if(|_| payload.len() <= SHUTTLE_BYTES) else { return false };
        // SAFETY: this side has the shuttle, and the payload fits.
        shuttle.payload.with_mut(|place| unsafe { copy(payload.as_ptr(), place.cast(), payload.len()) });
        // SAFETY: as above.
        shuttle.words.with_mut(|place| unsafe { place.write(words) });
        self.last = self.last.wrapping_add(1);
        // SYNC shuttle
        shuttle.stamp.store(Shuttle::stamp(self.last, after, payload.len(), kind), Ordering::Release);
        self.there = Some(shuttle);
        true
    }
}

/// Copies up to [`SHUTTLE_BYTES`] bytes without a call.
///
/// # Safety
///
/// As [`copy_short`].
#[inline(always)]
unsafe fn copy(from: *const u8, to: *mut u8, length: usize) {
    /// As many bytes as go by [`copy_short`] at most.
    type Piece = [u128; SHORT_BYTES / size_of::<u128>()];
    // SAFETY: the caller's promise. Longer ranges have room for a piece at both ends, and for a second one behind the first if they are longer
    // than two.
    unsafe {
        if length <= SHORT_BYTES {
            return copy_short(from, to, length);
        }
        let last = length - SHORT_BYTES;
        let read = |at| from.add(at).cast::<Piece>().read_unaligned();
        let (head, tail) = (read(0), read(last));
        if last > SHORT_BYTES {
            to.add(SHORT_BYTES).cast::<Piece>().write_unaligned(read(SHORT_BYTES));
        }
        to.add(last).cast::<Piece>().write_unaligned(tail);
        to.cast::<Piece>().write_unaligned(head);
    }
}

/// The payload bytes that a stamp claims.
#[inline(always)]
pub(super) fn claimed_bytes(stamp: u64) -> u16 {
    (stamp >> 32) as u16 & ((1 << LENGTH_BITS) - 1)
}

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<Shuttle>() == 128);
    assert!(std::mem::offset_of!(Shuttle, payload) + SHORT_BYTES == LINE_BYTES);
    assert!(SHUTTLE_BYTES < 1 << LENGTH_BITS && SHUTTLE_BYTES <= 3 * SHORT_BYTES);
    assert!(super::MOST_ROWS * super::ROW_CELLS < AFTER_MASK as usize);
};

#[cfg(not(loom))]
crate::fixed_layout!(Shuttle { stamp, words, payload });
