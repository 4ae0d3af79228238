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
//! RingHeader: head and released by the consumer Cell, written by the producer
//!   0  head        u64  cells read                0  stamp     u64  sequence u32: position + 1 of the message
//!   8  released    u64  for the layer above                         told     u16: payload bytes, 11 bits, and
//! 128  shuttle     see shuttle.rs; written by both                            the row after this one, 5 bits
//!                  sides of one pair of rings                       kind     u16  ┐
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
//! The first message of a lap lies in the last cell of its row, and the last one in the first. A core that reads on upwards asks for lines
//! beyond the end of what it reads: so they are those of the message before, and not those of the next one, which the other core has
//! prepared. See `PREPARED_UP_TO` in `producer.rs`.
//!
//! # What both halves keep in mind
//!
//! What a store has put together a load must not read in larger pieces: it would wait until the stores have reached the cache,
//! where they stand in line behind those to cells. So fields that change at different times have different widths, or the
//! compiler reads two of them at once: windows of 8 bytes took the producer 15.3 ns a message with a row and a position of
//! 64 bits each, and 10.9 with rows of 32.
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
//! 1. Only the producer writes cells, and only the consumer `head` and `released`. But the consumer writes over payload that it has read
//!    ([`Consumer::pop`]), before it publishes that.
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
//! Two pairs, and that of the shuttle. `ring-publish`: the cell's stamp (Release by the producer, Acquire by the consumer) carries
//! the cell over, and the stamp of what was put into the shuttle before. `ring-consume`: `head` (Release by the consumer, Acquire by the producer) gives the room back; what the
//! consumer copied out, and wrote over, happened before.
//!
//! # Safety
//!
//! Trusted for reading and writing cells through raw pointers when Invariants 1 and 2 allow it. Lengths and rows read
//! from a cell are checked before use, so a damaged cell gives an error and not a stray copy.
#![allow(unsafe_code)]

mod consumer;
mod producer;
mod shuttle;
#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(not(loom))]
use crate::bytes::LINE_BYTES;
use crate::sync::{AtomicU64, Ordering, UnsafeCell};

pub use consumer::{Ahead, Consumer, Damaged, InShuttle};
pub use producer::{Full, Producer};
pub use shuttle::{SHUTTLE_BYTES, Shuttle, Side};

/// The longest payload.
pub const PAYLOAD_BYTES: usize = 1056;
/// Words of a cell that the layer above gives meaning to.
pub const CELL_WORDS: usize = 3;
/// Cells of one row. A consumer that lags behind asks for as many ahead or twice as many, and ranks that answer each other go round through
/// three rows. With 2, 3, 4 and 8 on a Zen 4 machine (70 to 100 alternating rounds): 1 KiB 0.151, 0.154, 0.170 and 0.220 µs,
/// windows of 8 bytes 378, 427, 424 and 346 MB/s.
pub const ROW_CELLS: usize = if cfg!(loom) { 2 } else { 3 };
/// Rows that a ring can have: a cell has 5 bits for the number of one.
pub const MOST_ROWS: usize = 32;
/// Rows that a ring needs: see Invariant 4.
pub const FEWEST_ROWS: usize = 4;

/// Payload up to here is copied without a call.
const SHORT_BYTES: usize = 32;
/// Payload up to here is copied by `memcpy`, and longer one in vectors: half round trips of 640 bytes 0.101 and 0.093 µs (near cores, 75
/// alternating rounds). Windows of 448 bytes would be 8.1 instead of 10.7 GB/s with 256 here.
const MEMCPY_BYTES: usize = 512;
/// Bits of a payload's length in a cell; the others are a row.
const LENGTH_BITS: u32 = 11;

/// The consumer's progress, as it has published it, and a shuttle.
#[repr(C, align(128))]
pub struct RingHeader {
    head: AtomicU64,
    released: AtomicU64,
    /// Of this ring and the one back: in one of both rings this is used, and in the other not.
    shuttle: Shuttle,
}

/// The header of a message, as it was read from its cell. [`Consumer::copy_payload`] gives the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Body {
    told: u16,
    /// What kind of message this is.
    pub kind: u16,
    /// It has come in the shuttle, and not through the ring.
    in_shuttle: bool,
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
    assert!(std::mem::offset_of!(RingHeader, shuttle) == 2 * LINE_BYTES);
    assert!(std::mem::offset_of!(Cell, words) == 8);
    assert!(std::mem::offset_of!(Cell, payload) == 32);
};

/// The stamp of the message at `position`, if the cell has it.
#[inline]
fn stamp_of(cell: &Cell, position: u64) -> Option<u64> {
    // SYNC ring-publish
    let stamp = cell.stamp.load(Ordering::Acquire);
    (stamp as u32 == (position + 1) as u32).then_some(stamp)
}

/// The stamp of the message at `position`.
#[inline]
fn stamp(position: u64, told: u16, kind: u16) -> u64 {
    u64::from((position + 1) as u32) | u64::from(told) << 32 | u64::from(kind) << 48
}

impl RingHeader {
    /// The header of an empty ring, for use on the heap. In a segment, zeroed memory is one.
    pub fn new() -> Self {
        Self { head: AtomicU64::new(0), released: AtomicU64::new(0), shuttle: Shuttle::new() }
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

    /// The shuttle of this ring and the one back, if it is that of this one.
    pub fn shuttle(&self) -> &'a Shuttle {
        &self.header.shuttle
    }

    fn rows(&self) -> usize {
        self.cells.len() / ROW_CELLS
    }
}

/// Where the first message of the row that begins at `row` lies: behind the others.
#[inline]
fn first_place(row: usize) -> usize {
    row + ROW_CELLS - 1
}

/// The number of the lap that the message at `position` belongs to.
#[inline]
fn lap(position: u64) -> u64 {
    position / ROW_CELLS as u64
}

impl Body {
    /// Payload bytes of the message that travel in its cell.
    #[inline]
    pub fn payload_bytes(&self) -> usize {
        usize::from(self.told) & ((1 << LENGTH_BITS) - 1)
    }

    /// Whether the message has come in the shuttle: then it is one of its own, and those in the ring have nothing to do with it.
    #[inline]
    pub fn is_in_shuttle(&self) -> bool {
        self.in_shuttle
    }

    /// Where the row after that of the message begins.
    #[inline]
    fn next_row(&self) -> usize {
        usize::from(self.told >> LENGTH_BITS) * ROW_CELLS
    }
}

/// Copies up to [`SHORT_BYTES`] bytes: in two pieces that overlap, or in one, without a call.
///
/// # Safety
///
/// `from` is valid for reads and `to` for writes of `length` bytes, and they do not overlap.
#[inline(always)]
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

/// Copies more than [`MEMCPY_BYTES`] bytes.
///
/// # Safety
///
/// As [`copy_short`].
#[inline(never)]
unsafe fn copy_long(from: *const u8, to: *mut u8, length: usize) {
    #[cfg(not(loom))]
    // SAFETY: the caller's promise.
    unsafe {
        crate::copy::copy_in_vectors(from, to, length);
    }
    #[cfg(loom)]
    // SAFETY: as above.
    unsafe {
        std::ptr::copy_nonoverlapping(from, to, length);
    }
}

#[cfg(not(loom))]
crate::fixed_layout!(RingHeader { head, released, shuttle });
#[cfg(not(loom))]
crate::fixed_layout!(Cell { stamp, words, payload });

#[cfg(not(loom))]
// SAFETY: repr(C), plain bytes and atomics, any bytes are valid values.
unsafe impl crate::SharedLayout for RingHeader {}

#[cfg(not(loom))]
// SAFETY: repr(C), plain bytes and atomics, any bytes are valid values.
unsafe impl crate::SharedLayout for Cell {}
