//! The eager lane: a single-producer, single-consumer ring of cells, in rows of which those that have been read come
//! round again.
//!
//! # The problem
//!
//! A small message should cost its receiver one cache line: header, payload and the word that says "it is
//! here" have to travel together. What does not fit into that line should lie right behind it: both cores fetch what
//! follows ahead of being asked. And two ranks that answer each other should go round through few cells, which their
//! nearest caches keep, while a receiver that is late should leave room for many.
//!
//! # Layout
//!
//! ```text
//! RingHeader, written by the consumer           Cell, written by the producer
//!   0  head        u64  cells read                0  stamp     u64  sequence u32: position + 1 of the message
//!   8  released    u64  for the layer above                         told     u16: payload bytes, 11 bits, and
//!                                                                             the row after this one, 5 bits
//!                                                                   kind     u16  ┐
//!                                                 8  words     3×8                ├ the layer above
//!                                                32  payload   1056               ┘ (ranks: envelope.rs)
//! ```
//!
//! Fields are written in aligned pieces that do not overlap, and the stamp is the last: else a line takes the other
//! core up to twice as long to get.
//!
//! # Rows and laps
//!
//! [`ROW_CELLS`] messages, a lap, lie in one row of cells. Which row has the next lap the producer decides when it
//! begins one, and says so in each of its messages: the first row of those that it knows to be read. So while
//! both sides answer each other three rows come round, and the messages of one that lags behind lie in as many as there
//! are. The producer looks how far the consumer is when it finds no row, and while it waits for something else
//! ([`Producer::prepare`]); the consumer tells when it has read two laps, and when it finds nothing and has ended one: so
//! hardly ever does either of them wait for that line.
//!
//! # States of a cell that has the message at position `p` next
//!
//! | `sequence` | meaning | who may touch the rest |
//! |---|---|---|
//! | another one | read, or never written | producer, if the row is the one of `p` |
//! | `p + 1` | published | consumer |
//!
//! # Invariants
//!
//! 1. Only the producer writes cells; only the consumer writes the header.
//! 2. The producer gives a row to a lap only after it has seen a `head` behind the last message that lay in it.
//! 3. Before it gives a row to a lap none of its stamps can be taken for one of that lap: they are younger than half
//!    of all sequences, or written over.
//! 4. A producer without room has seen a `head` more than two laps behind its messages: three rows at least are filled,
//!    besides those that it wants. A consumer that has read two laps since it last published `head` publishes it, and then
//!    its producer is woken; so that happens before the consumer finds nothing more. What it publishes when it finds
//!    nothing wakes nobody: a producer that sleeps has seen that, but for messages that came between the look for them and the
//!    publication. Then the next message that is read wakes it.
//!
//! # Memory ordering
//!
//! Two pairs. `ring-publish`: the cell's stamp (Release by the producer, Acquire by the consumer) carries the
//! cell over. `ring-consume`: `head` (Release by the consumer, Acquire by the producer) gives the room back; what the
//! consumer copied out happened before.
//!
//! # Safety
//!
//! Trusted for reading and writing cells through raw pointers when Invariants 1 and 2 allow it. Lengths and rows read
//! from a cell are checked before use, so a damaged cell gives an error and not a stray copy.
#![allow(unsafe_code)]

#[cfg(all(test, not(loom)))]
mod tests;

use crate::bytes::{LINE_BYTES, prefetch};
use crate::distance::Distance;
use crate::sync::{AtomicU64, Ordering, UnsafeCell};

/// The longest payload.
pub const PAYLOAD_BYTES: usize = 1056;
/// Words of a cell that the layer above gives meaning to.
pub const CELL_WORDS: usize = 3;
/// Cells of one row. A consumer that lags behind asks for as many ahead, and ranks that answer each other go round through
/// three rows. With 2, 3, 4 and 8 on a Zen 4 machine (70 to 100 alternating rounds): 1 KiB 0.151, 0.154, 0.170 and 0.220 µs,
/// windows of 8 bytes 378, 427, 424 and 346 MB/s.
pub const ROW_CELLS: usize = if cfg!(loom) { 2 } else { 3 };
/// Rows that a ring can have: a cell has 5 bits for the number of one.
pub const MOST_ROWS: usize = 32;
/// Rows that a ring needs: see Invariant 4.
pub const FEWEST_ROWS: usize = 4;

/// Payload up to here is copied without a call.
const SHORT_BYTES: usize = 32;
/// Long messages are not spread over more than about this, which both cores' nearest caches hold beside the user's data: windows
/// of 1 KiB reached 12.8 GB/s, and 10.8 over 20 KiB.
const SPREAD_BYTES: usize = 16 << 10;
/// After so many messages without a look in vain a consumer lags behind, and asks for the cells of the next row: a line takes
/// longer to come than a message to be dealt with. One that does not must leave the lines to the producer. Nanoseconds per
/// message of a window of 64 on a 2-core Xeon (Sapphire Rapids) machine, when cells had one line, without and with: 76 and
/// 45 (8 bytes), 89 and 55 (64 bytes).
const LAGGING: u32 = 2;
/// A consumer that does not wait says how far it is after so many messages.
const MOST_UNPUBLISHED: u64 = 2 * ROW_CELLS as u64;
/// Of the looks at the consumer's progress while a producer waits for something else one in so many may be timed: 8 bytes
/// took 0.0646 µs when all could be, and 0.0621 when none was.
const TIMED_ONE_IN: u64 = 16;
/// Laps after which an old stamp could be taken for a new one soon.
const STALE_LAPS: u64 = (1 << 31) / ROW_CELLS as u64;
/// No row has been chosen yet.
const NONE: u16 = u16::MAX;
/// Bits of a payload's length in a cell; the others are a row.
const LENGTH_BITS: u32 = 11;

/// The consumer's progress, as it has published it.
#[repr(C, align(64))]
pub struct RingHeader {
    head: AtomicU64,
    released: AtomicU64,
}

/// The header of a message, as it was read from its cell. [`Consumer::copy_payload`] gives the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Body {
    told: u16,
    /// What kind of message this is.
    pub kind: u16,
    /// Header of the layer above.
    pub words: [u64; CELL_WORDS],
}

/// A message: its header and its payload. An odd number of cache lines: so headers, which are looked at most,
/// spread over all sets of a cache, and at most four lie in a page. Messages of 8 bytes with headers 64, 128
/// and 192 bytes apart took 0.072, 0.078 and 0.066 µs (a Zen 4 machine, 64 cells, 75 alternating rounds): cores fetch
/// the lines that they expect to be next, which the producer then has to take back.
#[repr(C, align(64))]
pub struct Cell {
    stamp: AtomicU64,
    words: UnsafeCell<[u64; CELL_WORDS]>,
    payload: UnsafeCell<[u8; PAYLOAD_BYTES]>,
}

// SAFETY: Invariants 1 and 2 say who accesses the rest when; the stamp orders the accesses.
unsafe impl Sync for Cell {}
// SAFETY: plain bytes and an atomic; a cell belongs to no thread.
unsafe impl Send for Cell {}

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<Cell>() / LINE_BYTES % 2 == 1);
    assert!(PAYLOAD_BYTES < 1 << LENGTH_BITS && MOST_ROWS <= 1 << (u16::BITS - LENGTH_BITS));
    assert!(size_of::<RingHeader>() == LINE_BYTES);
    assert!(std::mem::offset_of!(Cell, words) == 8);
    assert!(std::mem::offset_of!(Cell, payload) == 32);
};

/// The stamp of the message at `position`.
#[inline]
fn stamp(position: u64, told: u16, kind: u16) -> u64 {
    u64::from((position + 1) as u32) | u64::from(told) << 32 | u64::from(kind) << 48
}

impl RingHeader {
    /// The header of an empty ring, for use on the heap. In a segment, zeroed memory is one.
    pub fn new() -> Self {
        Self { head: AtomicU64::new(0), released: AtomicU64::new(0) }
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
            payload: UnsafeCell::new([0; PAYLOAD_BYTES]),
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
}

impl<'a> Ring<'a> {
    /// A ring over memory that somebody else placed.
    ///
    /// # Panics
    ///
    /// If these are not the cells of [`FEWEST_ROWS`] to [`MOST_ROWS`] rows.
    pub fn new(header: &'a RingHeader, cells: &'a [Cell]) -> Self {
        let rows = FEWEST_ROWS..=MOST_ROWS;
        assert!(
            cells.len().is_multiple_of(ROW_CELLS) && rows.contains(&(cells.len() / ROW_CELLS)),
            "{} cells are not {rows:?} rows",
            cells.len()
        );
        Self { header, cells }
    }

    /// Cells that the consumer has read, as far as it has published that; for a look from outside.
    pub fn read_cells(&self) -> u64 {
        self.header.head.load(Ordering::Relaxed)
    }

    fn rows(&self) -> usize {
        self.cells.len() / ROW_CELLS
    }
}

/// The number of the lap that the message at `position` belongs to.
#[inline]
fn lap(position: u64) -> u64 {
    position / ROW_CELLS as u64
}

/// The ring has no room for the message now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// The writing half.
pub struct Producer<'a> {
    ring: Ring<'a>,
    /// The next message: its position, its cell, and where that one's row ends.
    tail: u64,
    place: usize,
    row_end: usize,
    /// The row after this one; [`NONE`] while this lap has not begun and none has been chosen.
    next: u16,
    /// A bit for each row that may be chosen.
    free: u32,
    /// How many rows there are, of which the others may not be touched yet.
    rows: usize,
    /// The row of each lap of which not all messages have been read, and how many laps have been.
    order: [u8; MOST_ROWS],
    laps_read: u64,
    /// The last lap that lay in a row.
    last_lap: [u64; MOST_ROWS],
    head_seen: u64,
    /// See [`Producer::spread`].
    spread_bytes: usize,
    pub(crate) distance: Distance,
}

impl<'a> Producer<'a> {
    /// The writing half of a ring that nobody has used yet.
    pub fn new(ring: Ring<'a>) -> Self {
        Self::beginning_with(ring, ring.rows())
    }

    /// [`Producer::new`] of which only so many rows may be touched until [`Producer::use_all`].
    ///
    /// # Panics
    ///
    /// If there are not so many, or these are fewer than [`FEWEST_ROWS`].
    pub fn beginning_with(ring: Ring<'a>, rows: usize) -> Self {
        assert!((FEWEST_ROWS..=ring.rows()).contains(&rows), "{rows} rows of {}", ring.rows());
        Self {
            ring,
            tail: 0,
            place: 0,
            row_end: ROW_CELLS,
            next: NONE,
            free: bits(1..rows),
            rows,
            order: [0; MOST_ROWS],
            laps_read: 0,
            last_lap: [0; MOST_ROWS],
            head_seen: 0,
            spread_bytes: SPREAD_BYTES,
            distance: Distance::new(),
        }
    }

    /// Whether there is no room for so many short messages, and [`Producer::use_all`] would give more.
    ///
    /// # Panics
    ///
    /// As [`Producer::has_room_for`].
    pub fn lacks_rows_for(&mut self, messages: usize) -> bool {
        self.rows < self.ring.rows() && !self.has_room_for(messages)
    }

    /// From now on all rows may be touched.
    pub fn use_all(&mut self) {
        self.free |= bits(self.rows..self.ring.rows());
        self.rows = self.ring.rows();
    }

    /// Where both sides share a processor: long messages, too, may take all the room there is. The other side gets its turn
    /// when there is none, and nothing stays in caches until then.
    pub fn spread(&mut self) {
        self.spread_bytes = usize::MAX;
    }

    /// Whether there is room for a message now.
    #[inline]
    pub fn has_room(&mut self) -> bool {
        self.has_room_of(0)
    }

    #[inline]
    fn has_room_of(&mut self, length: usize) -> bool {
        self.next != NONE || self.begin_lap(length)
    }

    /// Whether there is room for so many short messages now.
    ///
    /// # Panics
    ///
    /// If somebody who waits for so much room might not be woken: it takes four rows more than they fill (Invariant 4).
    pub fn has_room_for(&mut self, messages: usize) -> bool {
        assert!(
            messages.div_ceil(ROW_CELLS) + FEWEST_ROWS <= self.rows,
            "{messages} messages in {} rows",
            self.rows
        );
        let begun = lap(self.tail + (ROW_CELLS - 1) as u64);
        let begun = begun + u64::from(self.next != NONE && self.tail == begun * ROW_CELLS as u64);
        let laps = (lap(self.tail + messages as u64 + (ROW_CELLS - 1) as u64)).saturating_sub(begun);
        let fits = |producer: &Self| u64::from(producer.free.count_ones()) >= laps;
        if !fits(self) {
            self.look();
        }
        fits(self)
    }

    /// Publishes a message, or returns [`Full`] without effect. Never blocks.
    ///
    /// # Panics
    ///
    /// If the payload is longer than [`PAYLOAD_BYTES`].
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
        if !self.has_room_of(payload.len()) {
            return Err(Full);
        }
        let cell = &self.ring.cells[self.place];
        if payload.len() <= SHORT_BYTES {
            // SAFETY: by Invariant 2 the consumer is done with this cell, and the payload fits.
            cell.payload
                .with_mut(|place| unsafe { copy_short(payload.as_ptr(), place.cast(), payload.len()) });
        } else {
            self.copy_in(cell, payload);
        }
        let (kind, words) = header();
        // SAFETY: as above.
        cell.words.with_mut(|place| unsafe { place.write(words) });
        let told = payload.len() as u16 | self.next << LENGTH_BITS;
        // SYNC ring-publish
        cell.stamp.store(stamp(self.tail, told, kind), Ordering::Release);
        self.tail += 1;
        self.place += 1;
        if self.place == self.row_end {
            self.place = usize::from(self.next) * ROW_CELLS;
            self.row_end = self.place + ROW_CELLS;
            self.next = NONE;
        }
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

    #[inline(never)]
    fn copy_in(&self, cell: &Cell, payload: &[u8]) {
        assert!(payload.len() <= PAYLOAD_BYTES, "payload of {} bytes", payload.len());
        let (from, length) = (payload.as_ptr(), payload.len());
        cell.payload.with_mut(|place| {
            let place = place.cast::<u8>();
            // SAFETY: by Invariant 2 the consumer is done with this cell; the length was checked above.
            unsafe {
                #[cfg(not(loom))]
                if self.distance.streams(length) {
                    return crate::copy::copy_streaming(from, place, length);
                }
                std::ptr::copy_nonoverlapping(from, place, length);
            }
        });
    }

    /// For the time while one waits: looks which rows have been read, if the next message begins a lap, and chooses the row
    /// after that, however long its messages will be. The line comes from the consumer's core, and a send would wait for it.
    #[inline]
    pub fn prepare(&mut self) {
        if self.next == NONE {
            self.look_ahead();
        }
    }

    #[inline(never)]
    fn look_ahead(&mut self) {
        if lap(self.tail).is_multiple_of(TIMED_ONE_IN) {
            self.look();
        } else {
            // SYNC ring-consume
            self.learn(self.ring.header.head.load(Ordering::Acquire));
        }
        if self.free != 0 {
            self.choose();
        }
    }

    /// Chooses the row after the lap that begins with the next message, whose payload has this length; whether there is
    /// one.
    #[inline(never)]
    fn begin_lap(&mut self, length: usize) -> bool {
        let most = self.spread_bytes / (length + LINE_BYTES) / ROW_CELLS;
        let most = most.max(FEWEST_ROWS - 1) as u64;
        let may_begin =
            |producer: &Self| producer.free != 0 && lap(producer.tail) - producer.laps_read < most;
        if !may_begin(self) {
            self.look();
        }
        let begins = may_begin(self);
        if begins {
            self.choose();
        }
        begins
    }

    /// Gives the first free row to the lap after this one.
    fn choose(&mut self) {
        let row = self.free.trailing_zeros() as usize;
        self.free &= self.free - 1;
        let next = lap(self.tail) + 1;
        self.order[next as usize % MOST_ROWS] = row as u8;
        if next - self.last_lap[row] > STALE_LAPS {
            self.invalidate(row, next);
        }
        self.last_lap[row] = next;
        self.next = row as u16;
    }

    /// Writes over stamps that are so old that the sequences of that lap may come round to them.
    #[cold]
    fn invalidate(&self, row: usize, lap: u64) {
        let cells = &self.ring.cells[row * ROW_CELLS..][..ROW_CELLS];
        for (cell, position) in cells.iter().zip(lap * ROW_CELLS as u64..) {
            // Whoever may take it for a stamp of this lap learns of the row later, with Acquire.
            cell.stamp.store(u64::from(position as u32), Ordering::Relaxed);
        }
    }

    /// Loads the consumer's progress, and frees the rows of laps that have been read.
    fn look(&mut self) {
        // SYNC ring-consume
        let head = self.distance.load(&self.ring.header.head, self.head_seen);
        self.learn(head);
    }

    fn learn(&mut self, head: u64) {
        // From shared memory: only values between the last one and what was written make sense.
        if (self.head_seen..=self.tail).contains(&head) {
            self.head_seen = head;
        }
        while self.laps_read < lap(self.head_seen) {
            self.free |= 1 << self.order[self.laps_read as usize % MOST_ROWS];
            self.laps_read += 1;
        }
    }
}

/// The bits of these rows.
fn bits(rows: std::ops::Range<usize>) -> u32 {
    rows.fold(0, |bits, row| bits | 1 << row)
}

/// What the next cell holds cannot have been written by a producer that keeps to the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a ring cell claims a payload of {claimed} bytes before row {next} where at most {most} bytes and {rows} rows are possible"
)]
pub struct Damaged {
    /// Payload bytes that the cell claims.
    pub claimed: usize,
    /// The row that it claims to be the next.
    pub next: usize,
    /// The most that this ring carries.
    pub most: usize,
    /// Its rows.
    pub rows: usize,
}

/// The reading half.
pub struct Consumer<'a> {
    ring: Ring<'a>,
    /// The next message: its position, its cell, and where that one's row ends.
    head: u64,
    place: usize,
    row_end: usize,
    head_published: u64,
    /// The first position of the lap after that.
    next_lap: u64,
    /// Messages read since there was none.
    streak: u32,
}

impl<'a> Consumer<'a> {
    /// The reading half of a ring that nobody has used yet.
    pub fn new(ring: Ring<'a>) -> Self {
        let row_end = ROW_CELLS;
        Self { ring, head: 0, place: 0, row_end, head_published: 0, next_lap: row_end as u64, streak: 0 }
    }

    /// Whether a message is waiting. A `false` may be stale as soon as it is returned.
    #[inline]
    pub fn is_ready(&self) -> bool {
        self.stamp_at(self.place, self.head).is_some()
    }

    #[inline]
    fn stamp_at(&self, place: usize, position: u64) -> Option<u64> {
        // SYNC ring-publish
        let stamp = self.ring.cells[place].stamp.load(Ordering::Acquire);
        (stamp as u32 == (position + 1) as u32).then_some(stamp)
    }

    /// What the cell at a place says, whose stamp is `stamp`.
    #[inline]
    fn body(&self, place: usize, stamp: u64) -> Result<Body, Damaged> {
        let (told, kind) = ((stamp >> 32) as u16, (stamp >> 48) as u16);
        let mut body = Body { told, kind, words: [0; CELL_WORDS] };
        if body.payload_bytes() > PAYLOAD_BYTES || body.next_place() >= self.ring.cells.len() {
            return Err(self.damaged(&body));
        }
        // SAFETY: by Invariant 2 the producer leaves the cell alone until `head` has passed it.
        body.words = self.ring.cells[place].words.with(|place| unsafe { place.read() });
        Ok(body)
    }

    #[cold]
    fn damaged(&self, body: &Body) -> Damaged {
        let next = body.next_place() / ROW_CELLS;
        Damaged { claimed: body.payload_bytes(), next, most: PAYLOAD_BYTES, rows: self.ring.rows() }
    }

    /// The header of the next message, which stays in the ring until [`Consumer::pop`].
    ///
    /// # Errors
    ///
    /// [`Damaged`] if the cell cannot be right; the ring is of no use any more.
    #[inline]
    pub fn peek(&mut self) -> Option<Result<Body, Damaged>> {
        let Some(stamp) = self.stamp_at(self.place, self.head) else {
            self.streak = 0;
            if self.head >= self.next_lap {
                self.publish_quietly();
            }
            return None;
        };
        Some(self.body(self.place, stamp))
    }

    /// The header of a message after the next one, so many of them later, if it is there. It is read when those before it
    /// have been popped, or only for its header.
    ///
    /// # Errors
    ///
    /// As [`Consumer::peek`].
    pub fn peek_ahead(&self, messages: usize) -> Option<Result<Body, Damaged>> {
        let (mut position, mut place) = (self.head, self.place);
        let last = self.head + messages as u64;
        while lap(position) < lap(last) {
            let body = match self.body(place, self.stamp_at(place, position)?) {
                Ok(body) => body,
                damaged => return Some(damaged),
            };
            place = body.next_place();
            position = (lap(position) + 1) * ROW_CELLS as u64;
        }
        place += (last - position) as usize;
        self.stamp_at(place, last).map(|stamp| self.body(place, stamp))
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
        let content = &self.ring.cells[self.place].payload;
        if buffer.len() <= SHORT_BYTES {
            // SAFETY: by Invariant 2 the producer leaves the cell alone; `buffer` is not longer than what it holds.
            content.with(|place| unsafe { copy_short(place.cast(), buffer.as_mut_ptr(), buffer.len()) });
        } else {
            // SAFETY: as above; private memory does not overlap with shared one.
            content.with(|place| unsafe { copy_longer(place.cast(), buffer.as_mut_ptr(), buffer.len()) });
        }
    }

    /// Gives the cell of `body`, which [`Consumer::peek`] returned last, back. Returns whether the producer may wait for what
    /// it can see now: then it has to be woken.
    #[inline]
    pub fn pop(&mut self, body: &Body) -> bool {
        let next = body.next_place();
        self.head += 1;
        self.place += 1;
        self.streak = self.streak.saturating_add(1);
        if self.place == self.row_end {
            (self.place, self.row_end) = (next, next + ROW_CELLS);
        } else if self.streak >= LAGGING {
            let index = ROW_CELLS - (self.row_end - self.place);
            // The first cell of that row was not known when those of this one were asked for.
            if index == 1 {
                prefetch(&self.ring.cells[next]);
            }
            prefetch(&self.ring.cells[next + index]);
        }
        let late = self.head.wrapping_sub(self.head_published) >= MOST_UNPUBLISHED;
        if late {
            self.publish();
        }
        late
    }

    /// Publishes a counter for the layer above, which the producer reads with [`Producer::released`].
    pub fn release(&self, count: u64) {
        // SYNC ring-release
        self.ring.header.released.store(count, Ordering::Release);
    }

    /// Publishes when there was no message: now nobody waits for that line, neither this side nor a producer that has sent no
    /// more.
    #[inline(never)]
    fn publish_quietly(&mut self) {
        self.publish();
        if self.is_ready() {
            // Whoever has sent that meanwhile may have looked before, found no room, and sleep now: the next pop is late. (A
            // store that this load overtakes is seen by the second look, after a nap, of who goes to sleep: see `wait.rs`.)
            self.head_published = self.head.wrapping_sub(MOST_UNPUBLISHED);
        }
    }

    #[inline(never)]
    fn publish(&mut self) {
        // SYNC ring-consume
        self.ring.header.head.store(self.head, Ordering::Release);
        self.head_published = self.head;
        self.next_lap = (lap(self.head) + 1) * ROW_CELLS as u64;
    }
}

impl Body {
    /// Payload bytes of the message that travel through this ring.
    #[inline]
    pub fn payload_bytes(&self) -> usize {
        usize::from(self.told) & ((1 << LENGTH_BITS) - 1)
    }

    /// Where the row after that of the message begins.
    #[inline]
    fn next_place(&self) -> usize {
        usize::from(self.told >> LENGTH_BITS) * ROW_CELLS
    }
}

/// Copies more than [`SHORT_BYTES`] bytes: out of the way of those that do not.
///
/// # Safety
///
/// As [`copy_short`].
#[inline(never)]
unsafe fn copy_longer(from: *const u8, to: *mut u8, length: usize) {
    // SAFETY: the caller's promise.
    unsafe { std::ptr::copy_nonoverlapping(from, to, length) }
}

/// Copies up to [`SHORT_BYTES`] bytes: in two pieces that overlap, or in one, without a call.
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
crate::fixed_layout!(RingHeader { head, released });
#[cfg(not(loom))]
crate::fixed_layout!(Cell { stamp, words, payload });

#[cfg(not(loom))]
// SAFETY: repr(C), plain bytes and atomics, any bytes are valid values.
unsafe impl crate::SharedLayout for RingHeader {}

#[cfg(not(loom))]
// SAFETY: repr(C), plain bytes and atomics, any bytes are valid values.
unsafe impl crate::SharedLayout for Cell {}
