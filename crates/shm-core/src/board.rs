//! The collective lane: every participant publishes to all, round after round, in two alternating buffers.
//!
//! # The problem
//!
//! In a collective everybody shows something and everybody looks. Nobody may overwrite what another still
//! reads, however fast it is and however slow the other; and the rule has to cost nothing on the way.
//!
//! # The protocol
//!
//! Rounds are numbered from 1. In round `k` a participant
//!
//! 1. waits until it may write: everyone has entered round `k - 1`,
//! 2. writes into its own buffer `k % 2`,
//! 3. enters: stores `k` into its own word,
//! 4. waits for those whose contribution it needs to enter round `k`, and reads their buffers `k % 2`.
//!
//! # Why two buffers are enough
//!
//! The buffer of round `k` is next written in round `k + 2`. Its owner does so only after everyone has entered
//! `k + 1` (step 1), and a participant enters `k + 1` only when it has done with reading round `k` (its steps
//! come in order). So a writer of `k + 2` never meets a reader of `k`. A participant that needs nobody's
//! contribution (the root of a broadcast) can be one round ahead of the slowest, not two.
//!
//! When everyone reads everyone, step 1 costs nothing: having seen all enter round `k` is all that round
//! `k + 1` asks for, and what was seen is remembered.
//!
//! # Memory ordering
//!
//! `board-enter`: the word (Release by its owner, Acquire by the others) carries over the buffer just written,
//! and that the reads of the round before are finished.

use crate::bytes::SharedBytes;
use crate::sync::{AtomicU64, Ordering};

/// One participant's place as the others see it.
#[derive(Clone, Copy)]
pub struct Seat<'a> {
    /// The last round that the participant has entered.
    pub entered: &'a AtomicU64,
    /// Both buffers, one after the other.
    pub buffers: SharedBytes<'a>,
}

/// One participant's view of the board.
pub struct Board<'a> {
    seats: Vec<Seat<'a>>,
    me: usize,
    round: u64,
    seen: Vec<u64>,
}

impl<'a> Board<'a> {
    /// The view of participant `me`, before the first round.
    ///
    /// # Panics
    ///
    /// If there is no seat for `me`.
    pub fn new(seats: Vec<Seat<'a>>, me: usize) -> Self {
        assert!(me < seats.len());
        let seen = vec![0; seats.len()];
        Self { seats, me, round: 0, seen }
    }

    /// The round that was entered last.
    pub fn round(&self) -> u64 {
        self.round
    }

    /// Bytes that a participant can show in one round.
    pub fn capacity(&self) -> usize {
        self.seats[self.me].buffers.len() / 2
    }

    /// Whether `participant` has entered the round that this one has entered last.
    #[inline]
    pub fn has_entered(&mut self, participant: usize) -> bool {
        self.reached(participant, self.round)
    }

    /// The first participant that has not entered the last round yet, if any: until there is none, the next
    /// round must not be written.
    #[inline]
    pub fn awaited(&mut self) -> Option<usize> {
        (0..self.seats.len()).find(|&other| other != self.me && !self.reached(other, self.round))
    }

    /// Writes at `offset` of the next round's buffer.
    ///
    /// # Panics
    ///
    /// If the data does not fit, or if [`Board::awaited`] was not seen empty since the last round.
    pub fn write(&mut self, offset: usize, data: &[u8]) {
        self.assert_may_write();
        assert!(offset + data.len() <= self.capacity());
        let base = self.base(self.round + 1);
        self.seats[self.me].buffers.copy_in(base + offset, data);
    }

    /// Enters the next round: publishes what was written.
    ///
    /// # Panics
    ///
    /// If [`Board::awaited`] was not seen empty since the last round.
    pub fn enter(&mut self) {
        self.assert_may_write();
        self.round += 1;
        self.seen[self.me] = self.round;
        // SYNC board-enter
        self.seats[self.me].entered.store(self.round, Ordering::Release);
    }

    /// Reads what `participant` has shown in the last round.
    ///
    /// # Panics
    ///
    /// If the range is too long, or [`Board::has_entered`] was not seen true for it in this round.
    pub fn read(&self, participant: usize, offset: usize, buffer: &mut [u8]) {
        assert!(self.seen[participant] >= self.round && offset + buffer.len() <= self.capacity());
        self.seats[participant].buffers.copy_out(self.base(self.round) + offset, buffer);
    }

    fn base(&self, round: u64) -> usize {
        (round % 2) as usize * self.capacity()
    }

    fn assert_may_write(&self) {
        let round = self.round;
        debug_assert!(self.seen.iter().all(|&seen| seen >= round), "round {round} is not complete");
    }

    #[inline]
    fn reached(&mut self, participant: usize, round: u64) -> bool {
        if self.seen[participant] < round {
            // SYNC board-enter
            self.seen[participant] = self.seats[participant].entered.load(Ordering::Acquire);
        }
        self.seen[participant] >= round
    }
}
