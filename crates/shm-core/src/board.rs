//! The collective lane: participants show things to all others, round after round, each in memory of its own.
//!
//! # The problem
//!
//! In a collective some show something and some look. Nobody may overwrite what another still reads, however
//! fast it is and however slow the other; and the rule has to cost nothing on the way.
//!
//! # Memory
//!
//! ```text
//! Place, per participant   progress  done, and the topics of rounds in which it showed nothing
//!                          lines     CELLS cells of one cache line, each beside an empty one: round, topic, extent,
//!                                    first payload bytes
//! buffer, per participant  CELLS slots for payload that is a little longer, beside the cells;
//!                          then payload that is longer still, wherever there was room
//! AllShown, if shared      the last round of which somebody has told that all show something in it, and who
//! ```
//!
//! Where slots lie is known before their cells have been read, so that a processor fetches both lines at once: 64 bytes
//! between 2 cores of a Sapphire Rapids machine take 0.205 µs so, and 0.265 µs through a place that the cell names.
//!
//! # The protocol
//!
//! Rounds are numbered from 1, for all participants alike. In round `k` a participant
//!
//! 1. shows: waits until it may write, writes payload, topic and at last `k` into its cell `k % CELLS`;
//!    or passes: writes its topic beside `done`, for those who expected it to show,
//! 2. waits for the cells of those whose contribution it needs to say `k`, or until it is told that all do, and reads what they show,
//! 3. leaves: stores `k` into `done`.
//!
//! # Who may write
//!
//! The cell of round `k` was last used in round `k - CELLS`, so step 1 waits until everyone has done with that one
//! (Invariant 1). Payload in the buffer goes where no extent of a round lies that somebody has not done with
//! (Invariant 2). A participant has done with round `j` if its `done` says at least `j`, and also if its cell says
//! more than `j`: its steps come in order. What was seen is remembered, so the rule mostly costs one comparison,
//! and a participant that needs nobody's contribution may be `CELLS` rounds ahead of the slowest.
//!
//! # Memory ordering
//!
//! `board-show`: a cell's round (Release by its owner, Acquire by the others) carries over its topic and payload,
//! and that the reads of the rounds before are finished.
//!
//! `board-done`: `done` (Release by its owner, Acquire by who wants to write) carries over that the reads of this
//! round are finished, and the topic of a round passed.
//!
//! `board-pass`: the topic of a round passed (Release by its owner, Acquire by who missed its cell) carries over that
//! the rounds before are done with, so that the reader knows whether the words are still those of its round.
//!
//! `board-told`: the round in a word that participants may share (Release by the first who has seen all cells, Acquire by the others)
//! carries over all that `board-show` does, of every participant.

mod early;
mod place;
mod teller;
#[cfg(all(test, not(loom)))]
mod tests;

use std::ops::Range;

use crate::bytes::{LINE_BYTES, SharedBytes, prepare_line};
use crate::distance::Distance;
use crate::sync::{AtomicU64, Ordering};

use early::Early;
pub use place::{Place, Seen};
pub use teller::AllShown;

/// Rounds that a participant may be ahead of the slowest. Enough to stream payload through; few, so that the lines of
/// all participants stay in the cache.
pub const CELLS: usize = if cfg!(loom) { 2 } else { 8 };
/// Payload up to this length travels in the cell.
pub const INLINE_BYTES: usize = 8 * INLINE_WORDS;
/// The words of that payload.
pub const INLINE_WORDS: usize = 4;
/// Payload up to this length, if not in the cell, travels in the slot beside it. Longer payload goes round through the whole
/// buffer: reuse of the same few lines costs more than to look up where it is.
pub const SLOT_LIMIT: usize = if cfg!(loom) { LINE_BYTES } else { 2 << 10 };
/// From one slot to the next: a processor that reads one fetches lines beyond its end too, which must not be those that are
/// written next. 2 KiB to all from all by 2 ranks took 0.33 µs with slots side by side, and 0.27 so.
const SLOT_BYTES: usize = if cfg!(loom) { LINE_BYTES } else { 4 << 10 };
/// All slots of a participant: the beginning of its buffer.
pub const SLOTS_BYTES: usize = CELLS * SLOT_BYTES;
/// Passed rounds whose topics are kept: as many as fit beside `done` in its cache line.
const TOPICS: u64 = 3;

/// What a participant believes a round to be: two words that mean nothing here.
pub type Topic = [u64; 2];

/// One participant's memory as everyone can reach it.
#[derive(Clone, Copy)]
pub struct Seat<'a> {
    /// Its words.
    pub place: &'a Place,
    /// For payload that is too long for a cell.
    pub buffer: SharedBytes<'a>,
}

/// What one participant knows of another.
struct Other<'a> {
    seat: Seat<'a>,
    /// It has done with this round ...
    done: u64,
    /// ... and this it said itself when it was last looked at.
    said: u64,
}

impl Other<'_> {
    /// Looks how far it is; `distance` may learn from that.
    #[cold]
    #[inline(never)]
    fn look(&mut self, distance: &mut Distance) {
        // SYNC board-done. If it says more than last time, its line has come from its core, whatever is known from elsewhere.
        self.said = distance.load(&self.seat.place.progress.done, self.said);
        // Never backwards: what came from shared memory may be nonsense.
        self.done = self.done.max(self.said);
    }
}

/// One participant's view of the board.
pub struct Board<'a> {
    others: Vec<Other<'a>>,
    me: usize,
    mine: Seat<'a>,
    round: u64,
    /// The participant whose distance was sampled last.
    sampled: usize,
    /// See [`Board::pauses`].
    early_look: bool,
    /// The round that was left last.
    left: u64,
    /// Everyone has done with this round.
    all_done: u64,
    /// Bytes of the own buffer that may be used.
    room: usize,
    /// Where the next payload behind the slots goes, if it fits.
    next: usize,
    /// Where the payload of the last rounds lies in the own buffer.
    extents: [Range<usize>; CELLS],
    ahead: Ahead,
    early: Early,
    /// Where one tells the others that all have shown something, if they share that.
    all_shown: Option<&'a AllShown>,
    /// To the others, taken together.
    pub(crate) distance: Distance,
    /// Reads of [`STREAMED_FROM_BYTES`] and more.
    long_reads: u32,
}

/// What is done ahead of time for the next payload of the own buffer.
#[derive(Default)]
struct Ahead {
    /// What is prepared for a payload as long as the last one, its round, and how many rounds after the one before it came.
    length: usize,
    shown: u64,
    gap: u64,
    /// Up to where the memory for the round after `round` is prepared.
    round: u64,
    prepared: usize,
}

/// From this length on streaming stores pay between distant cores. Later than elsewhere: lines that were prepared while
/// one waited are written at once. Broadcasts on 2 distant cores of a Zen 4 machine, plain and streaming, µs: 1 KiB 0.29 and
/// 0.60, 4 KiB 1.15 and 0.84.
const STREAMED_FROM_BYTES: usize = if cfg!(loom) { LINE_BYTES } else { 2 << 10 };
/// A participant that reads looks at the distance once in so many reads: the look takes a line from the other's core. Once
/// in 64 KiB instead, which is at the end of each piece where reductions read in blocks, took distant cores for near now and
/// then: all_reduce of 512 KiB 207 instead of 84 µs, at worst 268.
const LONG_READS_PER_LOOK: u32 = 8;
/// Pauses before the first look between distant cores. Who looks in vain there is that much behind in the next round that the
/// other one looks in vain, and so on. 2 distant cores of a Zen 4 machine, µs, with 1, 2 and 3 pauses (8 to 12 alternating runs): barrier
/// 0.249, 0.210 and 0.232; broadcasts of 8 and 128 bytes 0.168, 0.172 and 0.183, 0.199, 0.182 and 0.194; all_reduce 0.247, 0.257 and 0.282,
/// 0.438, 0.444 and 0.461; all_gather of 8 bytes 0.257, 0.259 and 0.286.
const FAR_PAUSES: u32 = 2;
/// Of slots whole pairs of lines are prepared, though only one may be written. 64 bytes, not prepared, one line of a pair, and both: all_reduce
/// and barrier together between near cores 0.177, 0.189 and 0.153 µs, all_gather and barrier between distant ones 0.530, 0.506 and 0.481.
const PAIR_BYTES: usize = 2 * LINE_BYTES;
/// Lines prepared between two looks: they take about as long as the pause.
const PREPARED_AT_ONCE: usize = 16 * LINE_BYTES;
/// Rounds after which it is no longer likely that the next payload is as long as the last one.
const PREPARED_ROUNDS: u64 = 2;

/// Who keeps a participant from writing: it has not done with round `wanted` yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Late {
    /// Whom to wait for.
    pub other: usize,
    /// Until [`Board::has_done`] is true for it and this round.
    pub wanted: u64,
}

/// What is wrong with a cell that another participant has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nonsense;

impl<'a> Board<'a> {
    /// The view of participant `me`, before the first round.
    ///
    /// # Panics
    ///
    /// If there is no seat for `me`.
    pub fn new(seats: impl IntoIterator<Item = Seat<'a>>, me: usize) -> Self {
        Self::after(seats, me, 0)
    }

    /// The view of participant `me` when all of these have done with everything up to `round`, and none of them has
    /// begun a later one: some of those who were at the board before may be gone.
    ///
    /// # Panics
    ///
    /// If there is no seat for `me`.
    pub fn after(seats: impl IntoIterator<Item = Seat<'a>>, me: usize, round: u64) -> Self {
        let others: Vec<_> = seats.into_iter().map(|seat| Other { seat, done: round, said: round }).collect();
        let extents = [const { 0..0 }; CELLS];
        Self {
            mine: others[me].seat,
            others,
            me,
            round,
            sampled: me,
            early_look: false,
            left: round,
            all_done: round,
            room: 0,
            next: SLOTS_BYTES,
            extents,
            ahead: Ahead::default(),
            early: Early::default(),
            all_shown: None,
            distance: Distance::new(),
            long_reads: 0,
        }
    }

    /// The round that was begun last.
    #[inline]
    pub fn round(&self) -> u64 {
        self.round
    }

    /// Bytes of the own buffer that are in use for payload; none at first.
    pub fn room(&self) -> usize {
        self.room
    }

    /// Whether `length` bytes of payload need room that there is not, or would go to its beginning again: the moment to
    /// give more, if there is any.
    #[inline]
    pub fn is_short_of_room(&self, length: usize) -> bool {
        length > INLINE_BYTES && (self.room == 0 || length > SLOT_LIMIT && self.next + length > self.room)
    }

    /// Uses the first `room` bytes of the own buffer from now on, at most all of it.
    pub fn set_room(&mut self, room: usize) {
        self.room = room.min(self.mine.buffer.len());
    }

    /// Whether the next round with `length` bytes of payload may be shown, as far as can be said at once.
    #[inline]
    pub fn may_show_soon(&self, length: usize) -> bool {
        let has_room = length <= INLINE_BYTES || length <= SLOT_LIMIT && self.room > 0;
        has_room && self.all_done >= self.reused_round()
    }

    /// Whom the next round with `length` bytes has to wait for, if anybody. Ask until there is none.
    #[inline]
    pub fn awaited(&mut self, length: usize) -> Option<Late> {
        let wanted = match length {
            0..=SLOT_LIMIT => self.reused_round(),
            _ => self.wanted_for(length),
        };
        if self.all_done >= wanted { None } else { self.behind(wanted) }
    }

    /// The round whose cell and slot the next round uses again.
    #[inline]
    fn reused_round(&self) -> u64 {
        (self.round + 1).saturating_sub(CELLS as u64)
    }

    /// The round that everyone must have done with before `length` bytes can be written behind the slots.
    fn wanted_for(&mut self, length: usize) -> u64 {
        if self.next + length > self.room {
            self.next = SLOTS_BYTES;
        }
        let oldest = self.reused_round();
        if self.all_done >= self.round {
            return oldest;
        }
        let (start, end) = (self.next, self.next + length);
        let overlaps = |round: &u64| {
            let extent = &self.extents[slot(*round)];
            extent.start < end && start < extent.end
        };
        (oldest + 1..=self.round).rev().find(overlaps).unwrap_or(oldest)
    }

    /// The first participant that has not done with round `wanted`.
    #[cold]
    fn behind(&mut self, wanted: u64) -> Option<Late> {
        let me = self.me;
        let late = (0..self.others.len()).find(|&other| other != me && !self.has_done(other, wanted));
        if late.is_none() {
            let slowest = self.others.iter().enumerate().filter(|(other, _)| *other != me);
            self.all_done = slowest.map(|(_, other)| other.done).min().unwrap_or(self.round);
        }
        late.map(|other| Late { other, wanted })
    }

    /// Whether `other` has done with round `wanted`.
    #[inline]
    pub fn has_done(&mut self, other: usize, wanted: u64) -> bool {
        let other = &mut self.others[other];
        if other.done < wanted {
            other.look(&mut self.distance);
        }
        other.done >= wanted
    }

    /// Begins the next round and shows both parts of `payload` in it, one after the other.
    ///
    /// # Panics
    ///
    /// If the payload does not fit, or if [`Board::awaited`] was not seen empty for it.
    #[inline]
    pub fn show(&mut self, topic: Topic, payload: [&[u8]; 2]) {
        debug_assert!(self.all_done >= self.reused_round(), "a cell is reused too early");
        self.round += 1;
        let cell = self.mine.place.cell(self.round);
        let length = payload[0].len() + payload[1].len();
        self.extents[slot(self.round)] = 0..0;
        let start = if length <= INLINE_BYTES {
            write_words(&cell.payload, payload);
            0
        } else {
            self.write_beside(payload, length)
        };
        let extent = length as u64 | (start as u64) << 32;
        cell.topic[0].store(topic[0], Ordering::Relaxed);
        cell.topic[1].store(topic[1], Ordering::Relaxed);
        cell.extent.store(extent, Ordering::Relaxed);
        // SYNC board-show
        cell.round.store(self.round, Ordering::Release);
        self.early_look = length <= INLINE_BYTES || self.distance.is_far();
        if length <= INLINE_BYTES {
            prepare_line(self.mine.place.cell(self.round + 1));
        }
        if self.expects_slot() {
            self.prepare();
        }
    }

    /// Whether the next round is likely to have payload in its slot: it comes as many rounds after the last one as that came
    /// after the one before, up to three. Its lines are brought back before they are written then, since stores to several of them wait
    /// one after the other. 2 ranks on a Zen 4 machine, µs for both together, without and with: all_reduce and barrier, 128 bytes
    /// near 0.187 and 0.162, distant 0.543 and 0.479, 512 bytes near 0.210 and 0.188, distant 0.608 and 0.520; all_gather and barrier,
    /// 512 bytes near 0.194 and 0.189, distant 0.605 and 0.503.
    #[inline]
    fn expects_slot(&self) -> bool {
        let Ahead { length, shown, gap, .. } = self.ahead;
        (1..=SLOT_LIMIT).contains(&length) && self.round + 1 == shown + gap
    }

    /// Puts payload of this round beside the cells, and says where it begins if that is not in the slot.
    fn write_beside(&mut self, payload: [&[u8]; 2], length: usize) -> usize {
        // Lines that are written past the caches are best in none.
        let prepared = match length {
            _ if self.streams(length) => 0,
            ..=SLOT_LIMIT => length.next_multiple_of(PAIR_BYTES).min(SLOT_LIMIT),
            _ => length,
        };
        self.ahead.gap = self.round - self.ahead.shown;
        (self.ahead.length, self.ahead.shown) = (prepared, self.round);
        if length <= SLOT_LIMIT {
            self.write(payload, slot(self.round) * SLOT_BYTES)
        } else {
            self.write_behind(payload, length)
        }
    }

    /// Puts payload of this round behind the slots, and says where it begins.
    fn write_behind(&mut self, payload: [&[u8]; 2], length: usize) -> usize {
        let start = self.next;
        assert!(start + length <= self.room, "{length} bytes do not fit");
        self.extents[slot(self.round)] = start..start + length;
        self.next = (start + length).next_multiple_of(LINE_BYTES);
        let written = self.written_early(length);
        let [first, second] = payload;
        let (done, more) = (written.min(first.len()), written.saturating_sub(first.len()));
        self.write([&first[done..], &second[more..]], start + written);
        start
    }

    fn write(&self, [first, second]: [&[u8]; 2], start: usize) -> usize {
        let buffer = self.mine.buffer;
        let streams = self.streams(first.len() + second.len());
        let write = |at, part: &[u8]| match streams {
            true => buffer.copy_in_streaming(at, part),
            false => buffer.copy_in(at, part),
        };
        if !first.is_empty() {
            write(start, first);
        }
        if !second.is_empty() {
            write(start + first.len(), second);
        }
        start
    }

    /// For the time while one waits: takes possession of some of the memory that the next round's payload will go to,
    /// if that is as long as the last one.
    ///
    /// Others have read there, so their cores have copies that a write must wait for. Measured on 2 cores of a Sapphire
    /// Rapids machine, broadcasts after barriers that prepare, µs: 512 bytes 0.163 instead of 0.197, 4 KiB 0.35 instead
    /// of 0.67, 64 KiB 3.1 instead of 4.8.
    #[inline]
    pub fn prepare(&mut self) {
        let Ahead { length, shown, round, prepared, .. } = self.ahead;
        if self.round <= shown + PREPARED_ROUNDS && (round, prepared) != (self.round, length) {
            self.prepare_some();
        }
    }

    fn prepare_some(&mut self) {
        let (round, buffer) = (self.round, self.mine.buffer);
        let length = self.ahead.length;
        let start = match length {
            0..=SLOT_LIMIT => slot(round + 1) * SLOT_BYTES,
            _ if self.next + length > self.room => SLOTS_BYTES,
            _ => self.next,
        };
        if self.ahead.round != round {
            (self.ahead.round, self.ahead.prepared) = (round, 0);
        }
        let from = self.ahead.prepared;
        self.ahead.prepared = length.min(from + PREPARED_AT_ONCE);
        buffer.prepare(start + from, self.ahead.prepared - from);
    }

    /// Begins the next round without showing anything.
    #[inline]
    pub fn pass(&mut self, topic: Topic) {
        self.round += 1;
        let words = &self.mine.place.progress.topics[(self.round % TOPICS) as usize];
        // SYNC board-pass: who reads these words also sees that the rounds before are done with.
        words[0].store(topic[0], Ordering::Release);
        words[1].store(topic[1], Ordering::Release);
        self.extents[slot(self.round)] = 0..0;
        self.early_look = true;
    }

    /// Leaves the round: nothing that others show in it is read any more.
    #[inline]
    pub fn leave(&mut self) {
        // SYNC board-done
        self.mine.place.progress.done.store(self.round, Ordering::Release);
        self.left = self.round;
    }

    /// How often to pause before the first look in this round: it would come so early that others which began the round at the
    /// same moment can hardly have shown anything. 0 if it was asked before.
    ///
    /// Who shows something short has its next cell's line to itself already, so that others see at once what is written
    /// there. A look before that takes the line away, and the write waits until it is back: 2 near cores of a Zen 4
    /// machine take 0.080 µs for a barrier without the pause, and 0.060 with it; 0.068 without either. The broadcast after it takes
    /// 0.066 instead of 0.092, a gather of 1 KiB 0.098 instead of 0.123.
    ///
    /// After longer payload, which took different times to write, near cores have nothing to gain: all-gather of 1 KiB would take
    /// 0.189 instead of 0.169 µs. Distant ones do: 0.50 without pauses, 0.44 with them.
    #[inline]
    pub fn pauses(&mut self) -> u32 {
        match (std::mem::take(&mut self.early_look), self.distance.is_far()) {
            (false, _) => 0,
            (true, false) => 1,
            (true, true) => FAR_PAUSES,
        }
    }

    /// Learns how distant one of the others is, each in its turn. To be called now and then: rounds in which all show something
    /// short need no look that would tell.
    #[cold]
    pub fn sample_distance(&mut self) {
        self.sampled = (self.sampled + 1) % self.others.len();
        if self.sampled != self.me {
            self.others[self.sampled].look(&mut self.distance);
        }
    }

    /// Whether `other` shows in this round by now.
    #[inline]
    pub fn has_shown(&mut self, other: usize) -> bool {
        let round = self.round;
        let other = &mut self.others[other];
        // SYNC board-show
        let shown = other.seat.place.cell(round).round.load(Ordering::Acquire) == round;
        if shown {
            other.done = other.done.max(round - 1);
        }
        shown
    }

    /// Whether `other` has left this round, or a later one, without having shown anything.
    pub fn has_passed(&mut self, other: usize) -> bool {
        let round = self.round;
        self.has_done(other, round) && !self.has_shown(other)
    }

    /// What `other`, which has shown, believes this round to be.
    #[inline]
    pub fn topic(&self, other: usize) -> Topic {
        let topic = &self.others[other].seat.place.cell(self.round).topic;
        [topic[0].load(Ordering::Relaxed), topic[1].load(Ordering::Relaxed)]
    }

    /// What `other`, which has passed, believed this round to be, if that can still be said.
    pub fn passed_topic(&self, other: usize) -> Option<Topic> {
        let progress = &self.others[other].seat.place.progress;
        let words = &progress.topics[(self.round % TOPICS) as usize];
        // SYNC board-pass
        let topic = [words[0].load(Ordering::Acquire), words[1].load(Ordering::Acquire)];
        // The same words are written again in round `round + TOPICS`, when the round before that is done with.
        let kept = progress.done.load(Ordering::Relaxed) < self.round + TOPICS - 1;
        kept.then_some(topic)
    }

    /// Reads what `other`, which has shown, shows at `offset`.
    ///
    /// # Errors
    ///
    /// If it does not show that much.
    #[inline]
    pub fn read(&mut self, other: usize, offset: usize, buffer: &mut [u8]) -> Result<(), Nonsense> {
        if buffer.len() >= STREAMED_FROM_BYTES {
            self.count_long_read(other);
        }
        let Seat { place, buffer: theirs } = self.others[other].seat;
        let cell = place.cell(self.round);
        let extent = cell.extent.load(Ordering::Relaxed);
        let (length, start) = (extent as u32 as usize, (extent >> 32) as usize);
        let end = offset.checked_add(buffer.len()).ok_or(Nonsense)?;
        if end > length {
            return Err(Nonsense);
        }
        if length <= INLINE_BYTES {
            read_words(&cell.payload, offset, buffer);
        } else if length <= SLOT_LIMIT {
            theirs.copy_out(slot(self.round) * SLOT_BYTES + offset, buffer);
        } else {
            return read_behind(theirs, start + offset, buffer, !self.distance.is_far());
        }
        Ok(())
    }

    /// Looks at the distance now and then.
    #[inline]
    fn count_long_read(&mut self, other: usize) {
        self.long_reads = self.long_reads.wrapping_add(1);
        if self.long_reads.is_multiple_of(LONG_READS_PER_LOOK) {
            self.others[other].look(&mut self.distance);
        }
    }

    /// Reads `length` bytes that `other`, which has shown, shows in its cell; the rest of `words` is undefined.
    ///
    /// # Errors
    ///
    /// If it shows another number of bytes.
    #[inline]
    pub fn read_short(
        &self,
        other: usize,
        words: &mut [u64; INLINE_WORDS],
        length: usize,
    ) -> Result<(), Nonsense> {
        let cell = self.others[other].seat.place.cell(self.round);
        if cell.extent.load(Ordering::Relaxed) != length as u64 || length > INLINE_BYTES {
            return Err(Nonsense);
        }
        for (word, theirs) in words.iter_mut().zip(&cell.payload) {
            *word = theirs.load(Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether the others' cores are distant, taken together.
    #[inline]
    pub fn is_far(&self) -> bool {
        self.distance.is_far()
    }

    /// Whether `length` bytes are written past the caches.
    #[inline]
    fn streams(&self, length: usize) -> bool {
        self.distance.is_far() && length >= STREAMED_FROM_BYTES
    }
}

/// Which of its extents, slots and cells belongs to `round`.
#[inline]
fn slot(round: u64) -> usize {
    (round % CELLS as u64) as usize
}

/// Not inlined: otherwise the place of a slot and the place that a cell names become one computed address, and reading
/// a slot has to wait for the cell.
#[inline(never)]
fn read_behind(
    theirs: SharedBytes<'_>,
    start: usize,
    buffer: &mut [u8],
    fresh: bool,
) -> Result<(), Nonsense> {
    if start + buffer.len() > theirs.len() {
        return Err(Nonsense);
    }
    if fresh {
        theirs.copy_out_fresh(start, buffer)
    } else {
        theirs.copy_out(start, buffer)
    }
    Ok(())
}

/// Writes both parts one after the other; what lies behind them in `words` is undefined.
#[inline]
fn write_words(words: &[AtomicU64; INLINE_WORDS], [first, second]: [&[u8]; 2]) {
    let write = |payload: &[[u8; 8]]| {
        for (word, eight) in words.iter().zip(payload) {
            word.store(u64::from_ne_bytes(*eight), Ordering::Relaxed);
        }
    };
    match first.as_chunks() {
        // Whole words, as of most elements, need not be put together first.
        (payload, []) if second.is_empty() => write(payload),
        _ => {
            let mut bytes = [0; INLINE_BYTES];
            bytes[..first.len()].copy_from_slice(first);
            bytes[first.len()..first.len() + second.len()].copy_from_slice(second);
            write(bytes.as_chunks().0);
        }
    }
}

#[inline]
fn read_words(words: &[AtomicU64; INLINE_WORDS], offset: usize, buffer: &mut [u8]) {
    let mut bytes = [0; INLINE_BYTES];
    for (word, eight) in words.iter().zip(bytes.as_chunks_mut().0) {
        *eight = word.load(Ordering::Relaxed).to_ne_bytes();
    }
    buffer.copy_from_slice(&bytes[offset..offset + buffer.len()]);
}
