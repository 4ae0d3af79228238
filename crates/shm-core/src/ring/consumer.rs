//! The reading half of a ring.
//!
//! # Safety
//!
//! Trusted for reading cells, and for writing over what has been read, until `head` is published (Invariants 1 and 2). Lengths
//! and rows read from a cell are checked before use. What comes in the shuttle is read by `shuttle.rs`, which is told how much of it fits.
#![allow(unsafe_code)]

use std::hint::black_box;
use std::ops::RangeInclusive;
use std::ptr;

use super::shuttle::{SHUTTLE_BYTES, Shuttle, Side, View, claimed_bytes};
use super::{
    Body, CELL_WORDS, Cell, MEMCPY_BYTES, PAYLOAD_BYTES, ROW_CELLS, Ring, SHORT_BYTES, copy_long, copy_short,
    first_place, lap, stamp_of,
};
use crate::bytes::{LINE_BYTES, prepare_line};
use crate::first_look::FirstLook;
use crate::sync::Ordering;

/// After so many messages without a look in vain a consumer lags behind, and asks for the cells of the next row, to which it is going
/// to write too: a line takes longer to come than a message to be dealt with. One that does not must leave the lines to the producer. Nanoseconds per
/// message of a window of 64 on a 2-core Xeon (Sapphire Rapids) machine, when cells had one line, without and with: 76 and
/// 45 (8 bytes), 89 and 55 (64 bytes).
const LAGGING: u64 = 2;
/// Of messages whose cell is one line it asks for those of the row after the next, too: three messages take less time than a line. That row is not known
/// yet, but mostly it is the one above. Windows of 64 on the Zen 4 machine, without and with, 136 alternating groups near and 25 distant, MB/s: 8
/// bytes 534 and 569, 144 and 181; 32 bytes 2146 and 2262, 572 and 661; in both directions 8 bytes 272 and 291, 32 bytes 1059 and 1144
/// (near). Longer ones lose: 64 bytes 3672 and 3537 (133 groups), and 2 KiB in chunks 19640 and 19260 (83 groups). Two rows beyond the next: as
/// one.
const FAR_AHEAD_BYTES: usize = SHORT_BYTES;
/// Of messages whose cell is two lines it asks for both of the next row, where its side hardly sends any. Windows of 64, without and with, 98 to 145
/// alternating groups near and 8 to 20 distant, MB/s: 48 bytes 2480 and 3045, 744 and 834, 64 bytes 3263 and 4124, 994 and 1111, 96 bytes 4862 and 6061,
/// 1478 and 1650. Where as much goes as comes, 64 bytes are 2059 instead of 2274 so (147 groups).
const SECOND_LINE_BYTES: RangeInclusive<usize> = SHORT_BYTES + 1..=LEFT_BYTES;
/// A consumer that lags behind writes a byte to each line that it has read. For a line of which two cores have a copy the one that
/// writes it next waits 7 ns, however many it asks for, and for one that the other core has to itself 1 ns (Zen 4, 64 KiB written and
/// read by turns). Windows of 64 in both directions, near cores, 29 alternating rounds, without and with, MB/s: 8 bytes 176 and 299, 128
/// bytes 2320 and 4120, 512 bytes 5680 and 11700, 1 KiB 6400 and 9120. In one direction: 512 bytes 11900 and 14400, 1 KiB 12000 and
/// 15700, but 64 bytes, whose second line stays as it is up to this payload, would be 2850 and 2660 ...
const LEFT_BYTES: usize = 96;
/// ... and so does the first line of payload that is longer than this: 1 KiB would be 14600 instead of 18000, 512 bytes in both directions
/// 8500 instead of 10600.
const FIRST_TAKEN_BYTES: usize = 400;
/// Of payload longer than this it writes over all lines but the first whether it lags behind or not: so many its producer, which prepares them
/// while it waits in a blocking receive, after a blocking send, has not all in time. Half round trips, 35 alternating rounds on near cores and 15 on
/// distant ones, without and with, µs: 576 bytes 0.092 and 0.098, 0.342 and 0.357; 896 bytes 0.106 and 0.110, 0.408 and 0.375; 1 KiB 0.117 and 0.115, 0.451
/// and 0.388. Where the producer does not prepare them, shorter ones take a little longer: 512 bytes 0.120 instead of 0.1125 of that time.
const ALWAYS_TAKEN_BYTES: usize = 896;
/// A consumer that does not wait says how far it is after so many messages.
pub(super) const MOST_UNPUBLISHED: u64 = 2 * ROW_CELLS as u64;

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

/// The next message is not in the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InShuttle {
    stamp: u64,
}

/// Where a message lies that may not have come yet: the next one, or one after others that have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead {
    position: u64,
    place: u32,
}

/// The reading half.
pub struct Consumer<'a> {
    ring: Ring<'a>,
    /// The next message: its position, its cell, and the cells of its row that come behind that one, which lie before it.
    pub(super) head: u64,
    cell: &'a Cell,
    rest: &'a [Cell],
    pub(super) head_published: u64,
    /// The first position of the lap after that.
    pub(super) next_lap: u64,
    /// How many had been read when there was none the last time.
    none_at: u64,
    pub(super) shuttle: View<'a>,
    first_look: FirstLook,
    /// As it was told last.
    is_one_way: bool,
}

impl<'a> Consumer<'a> {
    /// The reading half of a ring that nobody has used yet, and `side` of the shuttle beside this ring and the one back.
    pub fn with_shuttle(ring: Ring<'a>, shuttle: &'a Shuttle, side: Side) -> Self {
        Self { shuttle: View::new(shuttle, side), ..Self::new(ring) }
    }

    /// The reading half of a ring that nobody has used yet, without a shuttle.
    pub fn new(ring: Ring<'a>) -> Self {
        Self {
            ring,
            head: 0,
            cell: &ring.cells[first_place(0)],
            rest: &ring.cells[..first_place(0)],
            head_published: 0,
            next_lap: ROW_CELLS as u64,
            none_at: 0,
            shuttle: View::NONE,
            first_look: FirstLook::new(),
            is_one_way: false,
        }
    }

    /// Whether a message is waiting. A `false` may be stale as soon as it is returned.
    #[inline]
    pub fn is_ready(&self) -> bool {
        self.has_cell() || self.shuttle.look(self.head).is_some()
    }

    /// Whether a message is waiting in the ring.
    #[inline]
    fn has_cell(&self) -> bool {
        stamp_of(self.cell, self.head).is_some()
    }

    /// What a cell says, whose stamp is `stamp`.
    #[inline]
    fn body(&self, cell: &Cell, stamp: u64) -> Result<Body, Damaged> {
        let (told, kind) = ((stamp >> 32) as u16, (stamp >> 48) as u16);
        let mut body = Body { told, kind, in_shuttle: false, words: [0; CELL_WORDS] };
        if body.payload_bytes() > PAYLOAD_BYTES || body.next_row() >= self.ring.cells.len() {
            return Err(self.damaged(&body));
        }
        // SAFETY: by Invariant 2 the producer leaves the cell alone until `head` has passed it.
        body.words = cell.words.with(|place| unsafe { place.read() });
        Ok(body)
    }

    #[cold]
    fn damaged(&self, body: &Body) -> Damaged {
        let next = body.next_row() / ROW_CELLS;
        Damaged { claimed: body.payload_bytes(), next, most: PAYLOAD_BYTES, rows: self.ring.rows() }
    }

    /// The header of the next message, which stays where it is until [`Consumer::pop`].
    ///
    /// # Errors
    ///
    /// [`Damaged`] if the cell cannot be right; the ring is of no use any more.
    #[inline]
    pub fn peek(&mut self) -> Option<Result<Body, Damaged>> {
        self.peek_cell().unwrap_or_else(|there| Some(self.peek_shuttle(there)))
    }

    /// [`Consumer::peek`] of a message in the ring.
    ///
    /// # Errors
    ///
    /// [`InShuttle`] if the next message is there, and not in the ring.
    #[inline(always)]
    pub fn peek_cell(&mut self) -> Result<Option<Result<Body, Damaged>>, InShuttle> {
        // In this order: what is in the shuttle may have been sent before what is in the ring.
        let stamp = stamp_of(self.cell, self.head);
        if let Some(stamp) = self.shuttle.look(self.head) {
            return Err(InShuttle { stamp });
        }
        match stamp {
            Some(stamp) => Ok(Some(self.body(self.cell, stamp))),
            None => {
                self.look_in_vain();
                Ok(None)
            }
        }
    }

    /// [`Consumer::peek`] of the message in the shuttle that [`Consumer::peek_cell`] has found.
    ///
    /// # Errors
    ///
    /// As [`Consumer::peek`].
    #[inline(always)]
    pub fn peek_shuttle(&self, InShuttle { stamp }: InShuttle) -> Result<Body, Damaged> {
        self.shuttle.body(stamp).ok_or_else(|| self.damaged_shuttle(stamp))
    }

    #[cold]
    fn damaged_shuttle(&self, stamp: u64) -> Damaged {
        let claimed = claimed_bytes(stamp).into();
        Damaged { claimed, next: 0, most: SHUTTLE_BYTES, rows: self.ring.rows() }
    }

    /// Whether a message of so many bytes to the other side fits into the shuttle: it is here, and they into its lines.
    #[inline(always)]
    pub fn shuttle_takes(&self, length: usize) -> bool {
        self.shuttle.is_here() && length <= SHUTTLE_BYTES
    }

    /// Whether the other side has the shuttle, and its last message came in it: so its next one is likely to.
    #[inline(always)]
    pub fn awaits_shuttle(&self) -> bool {
        self.shuttle.is_awaited(self.head)
    }

    /// How often to pause before the first look for the next message, if that is likely to come in the shuttle. Then
    /// [`Consumer::came_after`] is to be told of looks in vain when it has come.
    #[inline(always)]
    pub fn pauses(&mut self) -> Option<u32> {
        let number = self.shuttle.last_number();
        self.awaits_shuttle().then(|| self.first_look.pauses(number))
    }

    /// What [`Consumer::pauses`] was asked for came after so many looks in vain.
    #[inline(always)]
    pub fn came_after(&mut self, in_vain: u32) {
        self.first_look.came_after(in_vain);
    }

    /// Sends a message to the other side in the shuttle, behind the `pushed` messages of
    /// [`Producer::pushed`](super::Producer::pushed) in the ring there; whether it [could](Consumer::shuttle_takes).
    #[inline(always)]
    pub fn send_in_shuttle(
        &mut self,
        pushed: u64,
        kind: u16,
        words: [u64; CELL_WORDS],
        payload: &[u8],
    ) -> bool {
        self.shuttle.send(pushed, payload, kind, words)
    }

    /// Messages read so far, in the ring and, modulo 2³¹ and up to one too few, in the shuttle.
    pub fn received(&self) -> u64 {
        self.head + u64::from(self.shuttle.last_number() / 2)
    }

    /// Whether a message is waiting, for whoever waits for one.
    #[inline]
    pub fn look(&mut self) -> bool {
        let is_ready = self.is_ready();
        if !is_ready {
            self.look_in_vain();
        }
        is_ready
    }

    #[inline]
    fn look_in_vain(&mut self) {
        self.none_at = self.head;
        if self.head >= self.next_lap {
            self.publish_quietly();
        }
    }

    /// The header of a message after the next one, so many of them later, if it is there. It is read when those before it
    /// have been popped, or only for its header.
    ///
    /// # Errors
    ///
    /// As [`Consumer::peek`].
    pub fn peek_ahead(&self, messages: usize) -> Option<Result<Body, Damaged>> {
        let mut ahead = self.next();
        let last = self.head + messages as u64;
        while lap(ahead.position) < lap(last) {
            let body = match self.peek_at(ahead)? {
                Ok(body) => body,
                damaged => return Some(damaged),
            };
            let position = (lap(ahead.position) + 1) * ROW_CELLS as u64;
            ahead = Ahead { position, place: first_place(body.next_row()) as u32 };
        }
        self.peek_at(Ahead { position: last, place: ahead.place - (last - ahead.position) as u32 })
    }

    /// Where the next message lies, or will.
    #[inline]
    pub fn next(&self) -> Ahead {
        let offset = ptr::from_ref(self.cell).addr() - self.ring.cells.as_ptr().addr();
        Ahead { position: self.head, place: (offset / size_of::<Cell>()) as u32 }
    }

    /// Where the message after the one at `ahead` lies, whose header is `body`.
    #[inline]
    pub fn after(&self, ahead: Ahead, body: &Body) -> Ahead {
        let position = ahead.position + 1;
        let ends_row = position.is_multiple_of(ROW_CELLS as u64);
        Ahead {
            position,
            place: if ends_row { first_place(body.next_row()) as u32 } else { ahead.place - 1 },
        }
    }

    /// The header of the message at `ahead`, if it is there, as [`Consumer::peek_ahead`] gives it.
    ///
    /// # Errors
    ///
    /// As [`Consumer::peek`].
    #[inline]
    pub fn peek_at(&self, ahead: Ahead) -> Option<Result<Body, Damaged>> {
        let cell = &self.ring.cells[ahead.place as usize];
        stamp_of(cell, ahead.position).map(|stamp| self.body(cell, stamp))
    }

    /// Gives the cells of all messages before `ahead` back, which have been looked at. Returns as [`Consumer::pop`]. They are read
    /// for their headers, so nothing is written over, and what follows them is not asked for.
    pub fn pop_to(&mut self, ahead: Ahead) -> bool {
        self.head = ahead.position;
        self.go_to(ahead.place as usize);
        self.publish_if_late()
    }

    /// Copies the payload of `body`, which [`Consumer::peek`] returned last, to the beginning of `buffer`, or as much of it as
    /// fits.
    #[inline(always)]
    pub fn copy_payload(&self, body: &Body, buffer: &mut [u8]) {
        // A processor that expects the message reads ahead of its arrival, and asks for all its lines at once, but only where it
        // need not wait for the length that stands in the first one. So this one comes from the buffer where it can: the
        // compiler must not know that both are the same. 32, 64, 128 and 256 bytes took 0.063, 0.069, 0.084 and 0.088 µs, and
        // 0.059, 0.060, 0.062 and 0.073 so (2 near cores of a Zen 4 machine, 51 and more alternating rounds).
        let length = match body.payload_bytes() {
            told if told >= buffer.len() => black_box(buffer.len()),
            told => told,
        };
        let (content, to) = (&self.cell.payload, buffer.as_mut_ptr());
        if body.in_shuttle {
            // SAFETY: `buffer` is so long, and what the shuttle holds is no longer than `SHUTTLE_BYTES`, as was checked.
            unsafe { self.shuttle.copy_payload(to, length.min(SHUTTLE_BYTES)) }
        } else if length <= SHORT_BYTES {
            // SAFETY: by Invariant 2 the producer leaves the cell alone; both `buffer` and what it holds are so long.
            content.with(|place| unsafe { copy_short(place.cast(), to, length) });
        } else {
            content.with(|place| {
                let from = place.cast();
                // SAFETY: as above; private memory does not overlap with shared one.
                unsafe {
                    match length <= MEMCPY_BYTES {
                        true => copy_by_memcpy(from, to, length),
                        false => copy_long(from, to, length),
                    }
                }
            });
        }
    }

    /// The payload of the next message, whose header is `body`, if it is one word.
    #[inline]
    pub fn payload_word(&self, body: &Body) -> Option<u64> {
        let is_word = body.payload_bytes() == size_of::<u64>();
        if body.in_shuttle {
            return self.shuttle.payload_word().filter(|_| is_word);
        }
        // SAFETY: by Invariant 2 the producer leaves the cell alone, whose payload is aligned.
        is_word.then(|| self.cell.payload.with(|place| unsafe { place.cast::<u64>().read() }))
    }

    /// Says whether messages come and hardly any go: what is asked for ahead depends on it.
    #[inline]
    pub fn comes_one_way(&mut self, is_one_way: bool) {
        self.is_one_way = is_one_way;
    }

    /// Gives the cell of `body`, which [`Consumer::peek`] returned last, back. Returns whether the producer may wait for what
    /// it can see now: then it has to be woken.
    #[inline(always)]
    pub fn pop(&mut self, body: &Body) -> bool {
        self.pop_and_ask(body, body.payload_bytes() <= FAR_AHEAD_BYTES)
    }

    /// [`Consumer::pop`] of a message whose payload lies elsewhere: it takes longer than its cell says.
    #[inline(always)]
    pub fn pop_of_longer(&mut self, body: &Body) -> bool {
        self.pop_and_ask(body, false)
    }

    /// [`Consumer::pop`]; if it lags behind, asks for lines `far` ahead or not so far.
    #[inline(always)]
    fn pop_and_ask(&mut self, body: &Body, far: bool) -> bool {
        if body.in_shuttle {
            self.shuttle.take(self.head);
            return false;
        }
        let next_row = body.next_row();
        self.head += 1;
        let lags = self.head - self.none_at >= LAGGING;
        if lags {
            self.take_lines(body.payload_bytes());
        } else if body.payload_bytes() > ALWAYS_TAKEN_BYTES {
            self.take_more_lines(body.payload_bytes());
        }
        if let Some((cell, rest)) = self.rest.split_last() {
            (self.cell, self.rest) = (cell, rest);
            if lags {
                self.prepare_row(next_row, 0);
                if self.is_one_way && SECOND_LINE_BYTES.contains(&body.payload_bytes()) {
                    self.prepare_row(next_row, 1);
                }
                if far {
                    // Which row comes behind that one only its cells say. Mostly it is the one above it.
                    let above = next_row + ROW_CELLS;
                    self.prepare_row(if above < self.ring.cells.len() { above } else { 0 }, 0);
                }
            }
        } else {
            self.go_to(first_place(next_row));
        }
        self.publish_if_late()
    }

    /// The next message lies there.
    #[inline(always)]
    fn go_to(&mut self, place: usize) {
        let cells = self.ring.cells;
        (self.cell, self.rest) = (&cells[place], &cells[place / ROW_CELLS * ROW_CELLS..place]);
    }

    /// Asks for this line of cells of a row to which this side will come, as their next writer: of two when the first message of this row has
    /// been read, and of the last one at the second message.
    #[inline(always)]
    fn prepare_row(&self, row: usize, line: usize) {
        let line_of = |cell| {
            let cell = self.ring.cells.as_ptr().wrapping_add(row + cell);
            cell.cast::<u8>().wrapping_add(line * LINE_BYTES)
        };
        if self.rest.len() == ROW_CELLS - 2 {
            prepare_line(line_of(ROW_CELLS - 1));
        }
        prepare_line(line_of(self.rest.len()));
    }

    /// Publishes if too many messages have been read since the last time; whether it did.
    #[inline(always)]
    fn publish_if_late(&mut self) -> bool {
        let late = self.head.wrapping_sub(self.head_published) >= MOST_UNPUBLISHED;
        if late {
            self.publish();
        }
        late
    }

    /// Writes over payload that has been read, so that its lines are in this core's cache alone when they are written next, and
    /// not in both. See [`LEFT_BYTES`].
    #[inline(always)]
    fn take_lines(&self, length: usize) {
        if length <= FIRST_TAKEN_BYTES {
            // SAFETY: by Invariant 2 the producer leaves the cell alone until `head` is published; payload is read once.
            self.cell.payload.with_mut(|place| unsafe { place.cast::<u8>().write_volatile(0) });
        }
        if length > LEFT_BYTES {
            self.take_more_lines(length);
        }
    }

    #[inline(never)]
    fn take_more_lines(&self, length: usize) {
        for at in (SHORT_BYTES..length.min(PAYLOAD_BYTES)).step_by(LINE_BYTES) {
            // SAFETY: as above.
            self.cell.payload.with_mut(|place| unsafe { place.cast::<u8>().add(at).write_volatile(0) });
        }
    }

    /// Publishes a counter for the layer above, which the producer reads with [`Producer::released`](super::Producer::released).
    pub fn release(&self, count: u64) {
        // SYNC ring-release
        self.ring.header.released.store(count, Ordering::Release);
    }

    /// Publishes when there was no message: now nobody waits for that line, neither this side nor a producer that has sent no
    /// more.
    #[inline(never)]
    pub(super) fn publish_quietly(&mut self) {
        self.publish();
        if self.has_cell() {
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

/// Copies up to [`MEMCPY_BYTES`] bytes: out of the way of those that need no call.
///
/// # Safety
///
/// As [`copy_short`].
#[inline(never)]
unsafe fn copy_by_memcpy(from: *const u8, to: *mut u8, length: usize) {
    // SAFETY: the caller's promise.
    unsafe { std::ptr::copy_nonoverlapping(from, to, length) }
}
