//! The chunks that lie between this rank and one other: of both ranks' pools, and who holds them.
//!
//! A message lends its chunks to its receiver. Who has emptied them does not give them back at once: the next message in
//! chunks to the other rank goes there, in the memory that was read last, until another message comes from that rank, this one
//! matches a longer one of it, or goes to sleep. A line that a core has read from where another one wrote it belongs to the reader's cache then, and is written
//! without asking anybody; the line of any other chunk has to be fetched first (docs/decisions/003-bulk-lane.md).

use std::hint::black_box;

use shm_core::pool::{Holder, NoSuchChunk, Pool};

use crate::envelope::Lent;
use crate::layout::{CHUNK_BYTES, MOST_PARTS, RUN_CHUNKS};

/// A part of a LENT message, as its cell tells.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Part {
    pub(super) place: Lent,
    /// It was written into the caches just now.
    pub(super) fresh: bool,
    /// More parts follow in its chunk.
    pub(super) keep: bool,
}

pub(crate) struct Chunks {
    mine: Holder<'static>,
    theirs: Holder<'static>,
    /// What this rank holds on to, in the order in which it is used.
    held: [Lent; MOST_PARTS],
    next_held: usize,
    held_end: usize,
    /// How many it may hold on to. In later worlds, of fewer ranks, it stays as it is.
    most_held: usize,
    /// Where the other rank's next message in chunks, or the next part of one, may lie, as a cell says it: what is put together
    /// in memory is not read as a whole.
    next_place: u64,
}

impl Chunks {
    /// Between two ranks with these pools, each of which may hold on to so many chunks.
    pub(super) fn new(mine: Pool<'static>, theirs: Pool<'static>, most_held: usize) -> Self {
        Self {
            mine: Holder::new(mine),
            theirs: Holder::new(theirs),
            held: [Lent::default(); MOST_PARTS],
            next_held: 0,
            held_end: 0,
            most_held,
            next_place: 0,
        }
    }

    #[inline(always)]
    fn pool(&self, place: Lent) -> &Holder<'static> {
        if place.mine { &self.mine } else { &self.theirs }
    }

    /// Whether a chunk can hold that many bytes from there on.
    #[inline]
    pub(super) fn check(&self, place: Lent, length: usize) -> Result<(), NoSuchChunk> {
        self.pool(place).check(place.chunk, length.saturating_add(place.offset as usize))
    }

    /// Puts `data` where this rank may write; past the caches if it is `streamed`.
    #[inline]
    pub(super) fn fill(&self, place: Lent, data: &[u8], streamed: bool) -> Result<(), NoSuchChunk> {
        self.pool(place).fill(place.chunk, place.offset as usize, data, streamed)
    }

    /// Puts `data` into this rank's chunks from this one on; past the caches if it is `streamed`.
    pub(super) fn fill_run(&self, chunk: u32, data: &[u8], streamed: bool) -> Result<(), NoSuchChunk> {
        self.mine.fill_run(chunk, data, streamed)
    }

    /// Whether so many bytes can be told of at once in the other rank's chunks from this one on.
    pub(super) fn check_run(&self, chunk: u32, length: usize) -> Result<(), String> {
        if length == 0 || length > RUN_CHUNKS * CHUNK_BYTES {
            return Err(format!("{length} bytes in chunks at once"));
        }
        self.theirs.check_run(chunk, length).map_err(|error| error.to_string())
    }

    /// Copies what lies in the other rank's chunks from this one on to `buffer`; `fresh` if a near core has written it just now.
    pub(super) fn copy_out_run(&self, chunk: u32, buffer: &mut [u8], fresh: bool) -> Result<(), NoSuchChunk> {
        self.theirs.copy_out_run(chunk, buffer, fresh)
    }

    /// Gives the other rank's chunks from this one on back that so many bytes are in.
    pub(super) fn give_back_run(&self, chunk: u32, length: usize) -> Result<(), NoSuchChunk> {
        self.theirs.check_run(chunk, length)?;
        let chunks = chunk..chunk + length.div_ceil(CHUNK_BYTES) as u32;
        chunks.into_iter().try_for_each(|chunk| self.theirs.give_back(chunk))
    }

    /// Copies a part of the other rank's into a buffer of its length.
    #[inline]
    pub(super) fn copy_out(&self, part: Part, buffer: &mut [u8]) -> Result<(), NoSuchChunk> {
        let (pool, chunk, offset) = (self.pool(part.place), part.place.chunk, part.place.offset as usize);
        match part.fresh {
            true => pool.copy_out_fresh(chunk, offset, buffer),
            false => pool.copy_out(chunk, offset, buffer),
        }
    }

    /// Gives a chunk back to its owner; whether that is the other rank, which has to be woken then.
    #[inline]
    pub(super) fn give_back(&self, place: Lent) -> Result<bool, NoSuchChunk> {
        self.pool(place).give_back(place.chunk)?;
        Ok(!place.mine)
    }

    /// Holds on to the chunk of a message that has been read, instead of those of the one before; returns as
    /// [`Chunks::give_back`].
    #[inline]
    pub(super) fn hold(&mut self, place: Lent) -> Result<bool, NoSuchChunk> {
        let given = self.give_back_held()?;
        Ok(self.hold_too(place)? | given)
    }

    /// Holds on to one more chunk of a message, or gives it back; returns as [`Chunks::give_back`].
    #[inline]
    pub(super) fn hold_too(&mut self, place: Lent) -> Result<bool, NoSuchChunk> {
        if self.held_end >= self.most_held {
            return self.give_back(place);
        }
        self.held[self.held_end] = place;
        self.held_end += 1;
        Ok(false)
    }

    /// Gives back what this rank holds on to; returns as [`Chunks::give_back`].
    #[inline]
    pub(super) fn give_back_held(&mut self) -> Result<bool, NoSuchChunk> {
        let mut given = false;
        while let Some(place) = self.take_held() {
            given |= self.give_back(place)?;
        }
        Ok(given)
    }

    /// How many chunks this rank may hold on to, and as many in messages that it keeps there.
    pub(super) fn most_held(&self) -> usize {
        self.most_held
    }

    /// A chunk that this rank holds on to, for a message to the other one.
    #[inline]
    pub(super) fn take_held(&mut self) -> Option<Lent> {
        if self.next_held == self.held_end {
            (self.next_held, self.held_end) = (0, 0);
            return None;
        }
        self.next_held += 1;
        Some(self.held[self.next_held - 1])
    }

    /// How many of them there are.
    #[inline]
    pub(super) fn held(&self) -> usize {
        self.held_end - self.next_held
    }

    #[cfg(test)]
    pub(super) fn clone_held(&self) -> Vec<Lent> {
        self.held[self.next_held..self.held_end].to_vec()
    }

    /// The other rank has left: its chunks are nobody's, and those of this rank's pool have been taken back.
    pub(super) fn forget_held(&mut self) {
        (self.next_held, self.held_end) = (0, 0);
    }

    /// `place`, as it was expected if it was: so its lines are asked for before the cell has come that names it.
    #[inline(always)]
    pub(super) fn as_expected(&self, place: Lent) -> Lent {
        let word = place.to_word();
        Lent::from_word(if word == self.next_place { black_box(self.next_place) } else { word })
    }

    /// The other rank's next message in chunks, or the next part of one, is likely to lie there.
    #[inline]
    pub(super) fn expect(&mut self, place: Lent) {
        self.next_place = place.to_word();
    }

    /// Where the message after one at `place` is likely to lie: see `Lender::lend_whole`.
    #[inline]
    pub(super) fn place_after(&self, place: Lent) -> Lent {
        let next = place.chunk + 1;
        Lent { chunk: if (next as usize) < self.theirs.count() { next } else { 0 }, ..place }
    }

    /// Where the part after one of `length` bytes at `place` is likely to lie: see [`part_behind`].
    #[inline]
    pub(super) fn part_after(&self, place: Lent, length: usize) -> Lent {
        part_behind(place, length).unwrap_or_else(|| Lent { offset: 0, ..self.place_after(place) })
    }
}

/// Where the next part goes in the chunk of the one at `place`, if both are of `length` bytes and there is room.
#[inline]
pub(super) fn part_behind(place: Lent, length: usize) -> Option<Lent> {
    let offset = place.offset as usize + length;
    (offset + length <= CHUNK_BYTES).then_some(Lent { offset: offset as u32, ..place })
}
