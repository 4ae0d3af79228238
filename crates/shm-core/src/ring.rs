//! The eager lane: a single-producer, single-consumer ring of one-line cells beside a ring of payload bytes.
//!
//! # The problem
//!
//! A small message should cost its receiver one cache line: header, payload and the word that says "it is
//! here" have to travel together. A longer one needs room without making every cell longer.
//!
//! # Layout
//!
//! ```text
//! RingHeader, written by the consumer           Cell, written by the producer
//!   0  head        u64  cells read                0  stamp     u64  sequence u32: position + 1 of the message
//!   8  byte_head   u64  payload bytes read                          payload  u16: bytes that belong to it
//!  16  released    u64  for the layer above                         kind     u16  ┐
//!                                                 8  words     3×8                ├ the layer above
//!                                                32  inline    32                 ┘ (ranks: envelope.rs)
//! ```
//!
//! Fields are written in aligned pieces that do not overlap, and the stamp is the last: else a line takes the other
//! core up to twice as long to get.
//!
//! A payload of more than [`INLINE_BYTES`] lies in the byte ring, contiguous and line-aligned, at a place that
//! both sides compute alike from the lengths so far: it is never read from shared memory.
//!
//! # States of a cell at position `p` of a ring with `n` cells
//!
//! | `sequence` | meaning | who may touch the rest |
//! |---|---|---|
//! | `p + 1 - n` (0 in the first lap) | read, or never written | producer, once `head > p - n` |
//! | `p + 1` | published | consumer |
//!
//! # Invariants
//!
//! 1. Only the producer writes cells and payload; only the consumer writes the header.
//! 2. The producer writes position `p` only after it has seen `head > p - n`, and payload bytes only where
//!    `byte_head` has passed.
//! 3. `head` trails what the consumer has really read by less than a quarter of the ring, so an empty ring
//!    always shows at least three quarters of its room: a waiting producer is never starved by the batching.
//!
//! # Memory ordering
//!
//! Two pairs. `ring-publish`: the cell's stamp (Release by the producer, Acquire by the consumer) carries the
//! cell and its payload over. `ring-consume`: `byte_head`, then `head` (Release by the consumer, Acquire by the
//! producer) give the room back; what the consumer copied out happened before.
//!
//! # Safety
//!
//! Trusted for reading and writing cells through raw pointers when Invariants 1 and 2 allow it. Lengths read
//! from a cell are checked before use, so a damaged cell gives an error and not a stray copy.
#![allow(unsafe_code)]

use crate::bytes::{LINE_BYTES, SharedBytes, prefetch};
use crate::distance::Distance;
use crate::sync::{AtomicU64, Ordering, UnsafeCell};

/// The longest payload that travels inside its cell.
pub const INLINE_BYTES: usize = 32;
/// Words of a cell that the layer above gives meaning to.
pub const CELL_WORDS: usize = 3;
/// A consumer that waits asks for that many lines of payload together with the cell, so that they travel at the same
/// time. With more it takes them from the producer before they are complete. Half round trips on a 2-core Xeon
/// (Sapphire Rapids) machine, ns: 64 bytes 225 instead of 248, 96 bytes 255 instead of 280, 256 bytes 310 instead of
/// 280.
const LINES_AWAITED: usize = 2;
/// A consumer that lags behind asks for lines so many messages ahead: a line takes longer to come than a message to
/// be dealt with. Nanoseconds per message of a window of 64 on the same machine, without and with: 76 and 45 (8
/// bytes), 89 and 55 (64 bytes).
const MESSAGES_AHEAD: u64 = 4;
/// After so many messages in a row a consumer lags behind. One that does not must leave the lines to the producer.
const LAGGING: u32 = 2;

/// Lines that a producer prepares between two looks: they take about as long as the pause.
const PREPARED_AT_ONCE: usize = 16 * LINE_BYTES;

/// The consumer's progress, as it has published it.
#[repr(C, align(64))]
pub struct RingHeader {
    head: AtomicU64,
    byte_head: AtomicU64,
    released: AtomicU64,
}

/// The header of a message, as it was read from its cell. [`Consumer::copy_payload`] gives the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Body {
    payload: u16,
    /// What kind of message this is.
    pub kind: u16,
    /// Header of the layer above.
    pub words: [u64; CELL_WORDS],
}

/// One cache line: a message's header and the first bytes of its payload.
#[repr(C, align(64))]
pub struct Cell {
    stamp: AtomicU64,
    words: UnsafeCell<[u64; CELL_WORDS]>,
    inline: UnsafeCell<[u8; INLINE_BYTES]>,
}

// SAFETY: Invariants 1 and 2 say who accesses the rest when; the stamp orders the accesses.
unsafe impl Sync for Cell {}
// SAFETY: plain bytes and an atomic; a cell belongs to no thread.
unsafe impl Send for Cell {}

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<Cell>() == LINE_BYTES);
    assert!(size_of::<RingHeader>() == LINE_BYTES);
    assert!(std::mem::offset_of!(Cell, words) == 8);
    assert!(std::mem::offset_of!(Cell, inline) == 32);
};

/// The stamp of the message at `position`.
#[inline]
fn stamp(position: u64, payload: u16, kind: u16) -> u64 {
    u64::from((position + 1) as u32) | u64::from(payload) << 32 | u64::from(kind) << 48
}

impl RingHeader {
    /// The header of an empty ring, for use on the heap. In a segment, zeroed memory is one.
    pub fn new() -> Self {
        Self { head: AtomicU64::new(0), byte_head: AtomicU64::new(0), released: AtomicU64::new(0) }
    }
}

impl Default for RingHeader {
    fn default() -> Self {
        Self::new()
    }
}

impl Cell {
    /// A cell never written, for use on the heap. In a segment, zeroed memory is one.
    pub fn new() -> Self {
        Self {
            stamp: AtomicU64::new(0),
            words: UnsafeCell::new([0; CELL_WORDS]),
            inline: UnsafeCell::new([0; INLINE_BYTES]),
        }
    }
}

impl Default for Cell {
    fn default() -> Self {
        Self::new()
    }
}

/// The memory of one ring: what both halves share.
#[derive(Clone, Copy)]
pub struct Ring<'a> {
    header: &'a RingHeader,
    cells: &'a [Cell],
    bytes: SharedBytes<'a>,
}

impl<'a> Ring<'a> {
    /// A ring over memory that somebody else placed.
    ///
    /// # Panics
    ///
    /// If the number of cells or of bytes is not a power of two.
    pub fn new(header: &'a RingHeader, cells: &'a [Cell], bytes: SharedBytes<'a>) -> Self {
        assert!(cells.len().is_power_of_two() && bytes.len().is_power_of_two());
        Self { header, cells, bytes }
    }

    /// Cells that the consumer has read, as far as it has published that; for a look from outside.
    pub fn read_cells(&self) -> u64 {
        self.header.head.load(Ordering::Relaxed)
    }

    /// The longest payload: an empty ring always has room for it (Invariant 3), even when the payload has to
    /// skip the end of the byte ring.
    pub fn max_payload(&self) -> usize {
        (self.bytes.len() / 4).min(u16::MAX as usize)
    }

    fn slot(&self, position: u64) -> &'a Cell {
        &self.cells[position as usize & (self.cells.len() - 1)]
    }

    /// Where a payload of `length` bytes starts when `cursor` is the next free byte, and the cursor after it.
    #[inline]
    fn place(&self, cursor: u64, length: usize) -> (u64, u64) {
        let size = self.bytes.len() as u64;
        let length = length as u64;
        let room = size - (cursor & (size - 1));
        let start = if length > room { cursor + room } else { cursor };
        (start, start + length.next_multiple_of(LINE_BYTES as u64))
    }

    fn offset(&self, cursor: u64) -> usize {
        cursor as usize & (self.bytes.len() - 1)
    }
}

/// The ring has no room for the message now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// The writing half.
pub struct Producer<'a> {
    ring: Ring<'a>,
    tail: u64,
    byte_tail: u64,
    head_seen: u64,
    byte_head_seen: u64,
    /// Length of the last message's payload beside its cell, and how much of the room for another one is prepared.
    likely_bytes: usize,
    prepared: usize,
    pub(crate) distance: Distance,
}

impl<'a> Producer<'a> {
    /// The writing half of a ring that nobody has used yet.
    pub fn new(ring: Ring<'a>) -> Self {
        Self {
            ring,
            tail: 0,
            byte_tail: 0,
            head_seen: 0,
            byte_head_seen: 0,
            likely_bytes: 0,
            prepared: 0,
            distance: Distance::new(),
        }
    }

    /// Whether there is room for a message with an inline payload now.
    #[inline]
    pub fn has_room(&mut self) -> bool {
        self.tail - self.head_seen < self.ring.cells.len() as u64 || self.refresh_cells()
    }

    /// Whether there is room for so many messages with an inline payload now.
    pub fn has_room_for(&mut self, messages: usize) -> bool {
        let cells = self.ring.cells.len() as u64;
        let fits = |producer: &Self| producer.tail + messages as u64 - producer.head_seen <= cells;
        if !fits(self) {
            self.refresh_cells();
        }
        fits(self)
    }

    /// Publishes a message, or returns [`Full`] without effect. Never blocks.
    ///
    /// # Panics
    ///
    /// If the payload is longer than [`Ring::max_payload`].
    // What the caller has in registers must not go through memory on its way to the cell.
    #[inline(always)]
    pub fn try_push(&mut self, kind: u16, words: [u64; CELL_WORDS], payload: &[u8]) -> Result<(), Full> {
        self.try_push_with(payload, || (kind, words))
    }

    /// [`Producer::try_push`] of a header that is asked for when there is room for it: what it is made of need not be kept
    /// meanwhile.
    ///
    /// # Panics
    ///
    /// As [`Producer::try_push`].
    #[inline(always)]
    pub fn try_push_with(
        &mut self,
        payload: &[u8],
        header: impl FnOnce() -> (u16, [u64; CELL_WORDS]),
    ) -> Result<(), Full> {
        if !self.has_room() {
            return Err(Full);
        }
        let cell = self.ring.slot(self.tail);
        if payload.len() <= INLINE_BYTES {
            // SAFETY: by Invariant 2 the consumer is done with this cell, and the payload fits.
            cell.inline
                .with_mut(|place| unsafe { copy_short(payload.as_ptr(), place.cast(), payload.len()) });
        } else {
            self.push_bytes(payload)?;
        }
        let (kind, words) = header();
        // SAFETY: as above.
        cell.words.with_mut(|place| unsafe { place.write(words) });
        // SYNC ring-publish
        cell.stamp.store(stamp(self.tail, payload.len() as u16, kind), Ordering::Release);
        self.tail += 1;
        Ok(())
    }

    /// The last value of [`Consumer::release`] that has been published.
    pub fn released(&self) -> u64 {
        // SYNC ring-release
        self.ring.header.released.load(Ordering::Acquire)
    }

    /// How far the consumer is, as its progress has shown.
    #[inline]
    pub fn distance(&self) -> &Distance {
        &self.distance
    }

    /// Messages pushed so far.
    pub fn pushed(&self) -> u64 {
        self.tail
    }

    fn push_bytes(&mut self, payload: &[u8]) -> Result<(), Full> {
        assert!(payload.len() <= self.ring.max_payload(), "payload of {} bytes", payload.len());
        let (start, end) = self.ring.place(self.byte_tail, payload.len());
        if end - self.byte_head_seen > self.ring.bytes.len() as u64 {
            self.refresh_cells();
            if end - self.byte_head_seen > self.ring.bytes.len() as u64 {
                return Err(Full);
            }
        }
        self.byte_tail = end;
        if self.distance.streams(payload.len()) {
            self.ring.bytes.copy_in_streaming(self.ring.offset(start), payload);
            // Lines that are written past the caches are best in none.
            (self.likely_bytes, self.prepared) = (0, 0);
        } else {
            self.ring.bytes.copy_in(self.ring.offset(start), payload);
            (self.likely_bytes, self.prepared) = (payload.len(), 0);
        }
        Ok(())
    }

    /// For the time while one waits: takes possession of some of the lines that the next message's payload will go to,
    /// if that is as long as the last one. The consumer has read there, so its core has copies that a write must wait
    /// for.
    #[inline]
    pub fn prepare(&mut self) {
        if self.prepared < self.likely_bytes {
            self.prepare_some();
        }
    }

    fn prepare_some(&mut self) {
        let (start, _) = self.ring.place(self.byte_tail, self.likely_bytes);
        let length = PREPARED_AT_ONCE.min(self.likely_bytes - self.prepared);
        self.ring.bytes.prepare(self.ring.offset(start) + self.prepared, length);
        self.prepared += length;
    }

    /// Loads the consumer's progress; whether there is a free cell now.
    #[cold]
    fn refresh_cells(&mut self) -> bool {
        // SYNC ring-consume
        let head = self.distance.load(&self.ring.header.head, self.head_seen);
        let byte_head = self.ring.header.byte_head.load(Ordering::Acquire);
        // Both come from shared memory: only values between the last ones and what was written make sense.
        if (self.head_seen..=self.tail).contains(&head) {
            self.head_seen = head;
        }
        if (self.byte_head_seen..=self.byte_tail).contains(&byte_head) {
            self.byte_head_seen = byte_head;
        }
        self.tail - self.head_seen < self.ring.cells.len() as u64
    }
}

/// What the next cell holds cannot have been written by a producer that keeps to the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a ring cell claims a payload of {claimed} bytes where at most {most} are possible")]
pub struct Damaged {
    /// Payload bytes that the cell claims.
    pub claimed: usize,
    /// The most that this ring carries.
    pub most: usize,
}

/// The reading half.
pub struct Consumer<'a> {
    ring: Ring<'a>,
    head: u64,
    byte_head: u64,
    head_published: u64,
    byte_head_published: u64,
    /// Lines of payload that the next message is likely to have: those of the last one, if they are few.
    likely_lines: usize,
    /// Messages read since there was none.
    streak: u32,
}

impl<'a> Consumer<'a> {
    /// The reading half of a ring that nobody has used yet.
    pub fn new(ring: Ring<'a>) -> Self {
        Self {
            ring,
            head: 0,
            byte_head: 0,
            head_published: 0,
            byte_head_published: 0,
            likely_lines: 0,
            streak: 0,
        }
    }

    /// Whether a message is waiting. A `false` may be stale as soon as it is returned.
    #[inline]
    pub fn is_ready(&self) -> bool {
        self.next_stamp().is_some()
    }

    #[inline]
    fn next_stamp(&self) -> Option<u64> {
        self.stamp_at(self.head)
    }

    #[inline]
    fn stamp_at(&self, position: u64) -> Option<u64> {
        // SYNC ring-publish
        let stamp = self.ring.slot(position).stamp.load(Ordering::Acquire);
        (stamp as u32 == (position + 1) as u32).then_some(stamp)
    }

    /// What the cell at a position says, whose stamp is `stamp`.
    #[inline]
    fn body(&self, position: u64, stamp: u64) -> Result<Body, Damaged> {
        let (payload, kind) = ((stamp >> 32) as u16, (stamp >> 48) as u16);
        let most = self.ring.max_payload();
        if usize::from(payload) > most {
            return Err(Damaged { claimed: payload.into(), most });
        }
        // SAFETY: by Invariant 2 the producer leaves the cell alone until `head` has passed it.
        let words = self.ring.slot(position).words.with(|place| unsafe { place.read() });
        Ok(Body { payload, kind, words })
    }

    /// The header of the next message, which stays in the ring until [`Consumer::pop`].
    ///
    /// # Errors
    ///
    /// [`Damaged`] if the cell cannot be right; the ring is of no use any more.
    #[inline]
    pub fn peek(&mut self) -> Option<Result<Body, Damaged>> {
        let Some(stamp) = self.next_stamp() else {
            self.streak = 0;
            self.prefetch_payload(0);
            return None;
        };
        Some(self.body(self.head, stamp))
    }

    /// The header of a message after the next one, so many of them later, if it is there. It is read when those before it
    /// have been popped, or only for its header.
    ///
    /// # Errors
    ///
    /// As [`Consumer::peek`].
    pub fn peek_ahead(&self, messages: usize) -> Option<Result<Body, Damaged>> {
        let position = self.head + messages as u64;
        self.stamp_at(position).map(|stamp| self.body(position, stamp))
    }

    /// Copies the payload of `body`, which [`Consumer::peek`] returned last, to `buffer`.
    ///
    /// # Panics
    ///
    /// If `buffer` is longer than the payload.
    #[inline]
    pub fn copy_payload(&self, body: &Body, buffer: &mut [u8]) {
        let length = body.payload_bytes();
        assert!(buffer.len() <= length, "{} bytes of a payload of {length}", buffer.len());
        if length <= INLINE_BYTES {
            let inline = &self.ring.slot(self.head).inline;
            // SAFETY: by Invariant 2 the producer leaves the cell alone; `buffer` is not longer than what it holds.
            inline.with(|place| unsafe { copy_short(place.cast(), buffer.as_mut_ptr(), buffer.len()) });
        } else {
            let (start, _) = self.ring.place(self.byte_head, length);
            self.ring.bytes.copy_out(self.ring.offset(start), buffer);
        }
    }

    /// Gives the cell and payload of `body` back. Returns whether the producer can see it now: then it has to
    /// be woken if it waits for room.
    #[inline]
    pub fn pop(&mut self, body: &Body) -> bool {
        self.head += 1;
        if body.payload_bytes() > INLINE_BYTES {
            self.byte_head = self.ring.place(self.byte_head, body.payload_bytes()).1;
            let lines = body.payload_bytes().div_ceil(LINE_BYTES);
            self.likely_lines = if lines <= LINES_AWAITED { lines } else { 0 };
        }
        self.streak = self.streak.saturating_add(1);
        if self.streak >= LAGGING {
            prefetch(self.ring.slot(self.head + MESSAGES_AHEAD));
            self.prefetch_payload(MESSAGES_AHEAD as usize);
        }
        let cells = self.ring.cells.len() as u64;
        let bytes = self.ring.bytes.len() as u64;
        let late = self.head - self.head_published >= cells.div_ceil(4)
            || self.byte_head - self.byte_head_published >= bytes / 4;
        if late {
            self.publish();
        }
        late
    }

    /// Asks for the payload of a message to come, if all of them are like the last one.
    #[inline]
    fn prefetch_payload(&self, messages_ahead: usize) {
        for line in 0..self.likely_lines {
            let ahead = (messages_ahead * self.likely_lines + line) * LINE_BYTES;
            self.ring.bytes.prefetch(self.ring.offset(self.byte_head + ahead as u64));
        }
    }

    /// Publishes a counter for the layer above, which the producer reads with [`Producer::released`].
    pub fn release(&self, count: u64) {
        // SYNC ring-release
        self.ring.header.released.store(count, Ordering::Release);
    }

    #[cold]
    fn publish(&mut self) {
        // SYNC ring-consume
        self.ring.header.byte_head.store(self.byte_head, Ordering::Release);
        self.ring.header.head.store(self.head, Ordering::Release);
        self.head_published = self.head;
        self.byte_head_published = self.byte_head;
    }
}

impl Body {
    /// Payload bytes of the message that travel through this ring.
    #[inline]
    pub fn payload_bytes(&self) -> usize {
        self.payload.into()
    }
}

/// Copies up to [`INLINE_BYTES`] bytes: in two pieces that overlap, or in one, without a call.
///
/// # Safety
///
/// `from` is valid for reads and `to` for writes of `length` bytes, and they do not overlap.
#[inline]
unsafe fn copy_short(from: *const u8, to: *mut u8, length: usize) {
    /// Copies the first and the last bytes of the range, as many as `T` has; if that is all, once.
    #[inline]
    unsafe fn copy_ends<T: Copy>(from: *const u8, to: *mut u8, length: usize) {
        let last = length - size_of::<T>();
        // SAFETY: the range has at least the bytes of one `T`.
        unsafe {
            let (head, tail) =
                (from.cast::<T>().read_unaligned(), from.add(last).cast::<T>().read_unaligned());
            to.cast::<T>().write_unaligned(head);
            if last > 0 {
                to.add(last).cast::<T>().write_unaligned(tail);
            }
        }
    }
    // SAFETY: each case has at least the bytes that it copies.
    unsafe {
        match length {
            16.. => copy_ends::<u128>(from, to, length),
            8.. => copy_ends::<u64>(from, to, length),
            4.. => copy_ends::<u32>(from, to, length),
            2.. => copy_ends::<u16>(from, to, length),
            1 => to.write(from.read()),
            0 => {}
        }
    }
}

#[cfg(not(loom))]
crate::fixed_layout!(RingHeader { head, byte_head, released });
#[cfg(not(loom))]
crate::fixed_layout!(Cell { stamp, words, inline });

#[cfg(not(loom))]
// SAFETY: repr(C), plain bytes and atomics, any bytes are valid values.
unsafe impl crate::SharedLayout for RingHeader {}

#[cfg(not(loom))]
// SAFETY: repr(C), plain bytes and atomics, any bytes are valid values.
unsafe impl crate::SharedLayout for Cell {}
