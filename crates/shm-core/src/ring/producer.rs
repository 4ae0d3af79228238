//! The writing half of a ring.
//!
//! # Safety
//!
//! Trusted for writing to cells when Invariant 2 allows it.
#![allow(unsafe_code)]

use super::{
    CELL_WORDS, Cell, FEWEST_ROWS, LENGTH_BITS, MEMCPY_BYTES, MOST_ROWS, PAYLOAD_BYTES, ROW_CELLS, Ring,
    SHORT_BYTES, copy_long, copy_short, first_place, lap, stamp,
};
use crate::bytes::{LINE_BYTES, prepare_line};
use crate::distance::Distance;
use crate::sync::Ordering;

/// Long messages are not spread over more than about this, which both cores' nearest caches hold beside the user's data: windows
/// of 1 KiB reached 12.8 GB/s, and 10.8 over 20 KiB.
const SPREAD_BYTES: usize = 16 << 10;
/// For payload from this length on, and from what does not fit into a cell's first line where one waits for a distant core alone, a producer
/// that waits takes possession of the next cell's lines, as many as the last message had and the first one not: a consumer looks there. One line too
/// many or too few loses: 256 bytes 0.063 with four lines, 0.107 with two, 0.080 µs with sixteen. Half round trips, 45 alternating rounds on
/// near cores of a Zen 4 machine and 15 on distant ones, without and with, µs:
///
/// | bytes | near | | distant | | from any, near | | distant | |
/// |--:|--:|--:|--:|--:|--:|--:|--:|--:|
/// | 64 | 0.058 | (0.060) | 0.214 | 0.201 | | | 0.228 | (0.246) |
/// | 256 | 0.0626 | (0.064) | 0.233 | 0.210 | 0.0764 | (0.085) | 0.244 | (0.279) |
/// | 320 | 0.0731 | 0.0713 | 0.258 | 0.242 | 0.105 | 0.086 | 0.376 | 0.275 |
/// | 448 | 0.106 | 0.071 | 0.367 | 0.238 | 0.118 | 0.089 | 0.457 | 0.293 |
/// | 512 | 0.101 | 0.071 | 0.447 | 0.245 | 0.096 | 0.090 | 0.388 | 0.287 |
///
/// (In brackets: not done. In a faster hour than the next table's.) Up to the longest payload, since the next cell does not lie behind the one that is read:
/// where it did, 1 KiB took 0.165 instead of 0.149 (84 rounds). 80 alternating rounds near and 14 distant, only up to 512 bytes and with the cells of a
/// row upwards, and so:
///
/// | bytes | near | | distant | |
/// |--:|--:|--:|--:|--:|
/// | 576 | 0.096 | 0.088 | 0.376 | 0.318 |
/// | 768 | 0.106 | 0.095 | 0.421 | 0.359 |
/// | 1024 | 0.140 | 0.115 | 0.551 | 0.396 |
const PREPARED_FROM: usize = 257;
const PREPARED_UP_TO: usize = PAYLOAD_BYTES;
/// Laps after which an old stamp could be taken for a new one soon.
const STALE_LAPS: u64 = (1 << 31) / ROW_CELLS as u64;
/// No row has been chosen yet.
const NONE: u32 = u32::MAX;

/// The ring has no room for the message now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// The writing half.
pub struct Producer<'a> {
    ring: Ring<'a>,
    /// The next message: its position, its cell, where that is, and where the last one of its row is. Of two widths: see the
    /// module's documentation.
    pub(super) tail: u64,
    cell: &'a Cell,
    pub(super) place: u32,
    row_last: u32,
    /// The row after this one; [`NONE`] while this lap has not begun and none has been chosen.
    next: u32,
    /// A bit for each row that may be chosen.
    free: u32,
    /// How many rows there are, of which the others may not be touched yet.
    rows: usize,
    /// The row of each lap of which not all messages have been read, and how many laps have been.
    order: [u8; MOST_ROWS],
    pub(super) laps_read: u64,
    /// The last lap that lay in a row.
    last_lap: [u64; MOST_ROWS],
    pub(super) head_seen: u64,
    /// See [`Producer::spread`].
    spread_bytes: usize,
    distance: Distance,
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
            cell: &ring.cells[first_place(0)],
            place: first_place(0) as u32,
            row_last: 0,
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
    pub fn lacks_rows_for(&mut self, messages: usize) -> bool {
        self.rows < self.ring.rows() && !(self.can_have_room_for(messages) && self.has_room_for(messages))
    }

    /// Whether there can be room for so many short messages in the rows that may be touched: see [`Producer::has_room_for`].
    #[inline]
    pub fn can_have_room_for(&self, messages: usize) -> bool {
        messages.div_ceil(ROW_CELLS) + FEWEST_ROWS <= self.rows
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
        assert!(self.can_have_room_for(messages), "{messages} messages in {} rows", self.rows);
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
        let cell = self.cell;
        if payload.len() <= SHORT_BYTES {
            // SAFETY: by Invariant 2 the consumer is done with this cell, and the payload fits.
            cell.payload
                .with_mut(|place| unsafe { copy_short(payload.as_ptr(), place.cast(), payload.len()) });
        } else if payload.len() <= MEMCPY_BYTES {
            Self::copy_in::<false>(cell, payload);
        } else {
            Self::copy_in::<true>(cell, payload);
        }
        let (kind, words) = header();
        // SAFETY: as above.
        cell.words.with_mut(|place| unsafe { place.write(words) });
        let told = (payload.len() as u32 | self.next << LENGTH_BITS) as u16;
        // SYNC ring-publish
        cell.stamp.store(stamp(self.tail, told, kind), Ordering::Release);
        self.tail += 1;
        if self.place == self.row_last {
            self.row_last = self.next * ROW_CELLS as u32;
            self.place = first_place(self.row_last as usize) as u32;
            self.next = NONE;
        } else {
            self.place -= 1;
        }
        self.cell = &self.ring.cells[self.place as usize];
        Ok(())
    }

    /// The last value of [`Consumer::release`](super::Consumer::release) that has been published.
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
    fn copy_in<const LONG: bool>(cell: &Cell, payload: &[u8]) {
        assert!(payload.len() <= PAYLOAD_BYTES, "payload of {} bytes", payload.len());
        let (from, length) = (payload.as_ptr(), payload.len());
        cell.payload.with_mut(|place| {
            // SAFETY: by Invariant 2 the consumer is done with this cell; the length was checked above.
            unsafe {
                match LONG {
                    true => copy_long(from, place.cast(), length),
                    false => std::ptr::copy_nonoverlapping(from, place.cast(), length),
                }
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

    /// For the time while one waits, for the consumer or for `any`: takes possession of the lines behind the first one of the next
    /// cell, if a message of so many bytes is likely to come next and that pays.
    #[inline(always)]
    pub fn prepare_payload(&self, length: usize, any: bool) {
        let from = if self.distance.is_far() && !any { SHORT_BYTES + 1 } else { PREPARED_FROM };
        if (from..=PREPARED_UP_TO).contains(&length) {
            self.prepare_lines(length);
        }
    }

    #[inline(never)]
    fn prepare_lines(&self, length: usize) {
        self.cell.payload.with_mut(|place| {
            for at in (SHORT_BYTES..length).step_by(LINE_BYTES) {
                // SAFETY: within the payload, since `PREPARED_UP_TO` is; by Invariant 2 the consumer is done with it.
                prepare_line(unsafe { place.cast::<u8>().add(at) });
            }
        });
    }

    #[inline(never)]
    fn look_ahead(&mut self) {
        self.look();
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
        self.next = row as u32;
    }

    /// Writes over stamps that are so old that the sequences of that lap may come round to them.
    #[cold]
    pub(super) fn invalidate(&self, row: usize, lap: u64) {
        let cells = &self.ring.cells[row * ROW_CELLS..][..ROW_CELLS];
        // The sequence of the message before that lap, for which nobody looks there.
        let before = (lap * ROW_CELLS as u64) as u32;
        for cell in cells {
            // Whoever may take it for a stamp of this lap learns of the row later, with Acquire.
            cell.stamp.store(before.into(), Ordering::Relaxed);
        }
    }

    /// Loads the consumer's progress, and frees the rows of laps that have been read.
    fn look(&mut self) {
        // SYNC ring-consume
        let head = self.distance.load(&self.ring.header.head, self.head_seen);
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
