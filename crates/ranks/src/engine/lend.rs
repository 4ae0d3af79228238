//! This rank's pool of chunks: which of them may go to which destination.
//!
//! Two rules keep one long message from stopping others (docs/decisions/003-bulk-lane.md):
//!
//! 1. For every destination that holds no chunk of a matched message, one chunk is kept back.
//! 2. Messages that nobody has matched yet get chunks only while half the pool is free beyond that; eager ones, which are
//!    emptied as soon as the receiver looks, while an eighth is. Of what is emptied receivers hold on to a quarter of the pool at
//!    most (`chunks.rs`), and long ones that nobody has asked for fill as much (`Link::keep_parts`).
//!
//! So `free >= destinations without a matched chunk` holds always: [`Lender::lend_matched`] can serve every
//! destination in turn, whatever the others do.

use shm_core::pool::{Owner, Pool};

use super::send::EARLY_CHUNKS;
use crate::envelope::Lent;
use crate::layout::CHUNK_BYTES;

pub(crate) struct Lender {
    owner: Owner<'static>,
    chunks: usize,
    loans: Vec<Loan>,
    /// Chunks of matched messages that each destination holds.
    matched: Vec<u32>,
    /// Destinations that hold none.
    without: usize,
    /// How often messages of one part have gone round through the pool, and how many of them until the next time.
    lap: usize,
    until_next_lap: usize,
}

/// In a loan: the chunk is free, or holds an eager message or parts of one, which is never asked for by a number.
const NO_MESSAGE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Loan {
    destination: u32,
    message: u32,
    matched: bool,
}

impl Lender {
    pub(crate) fn new(pool: Pool<'static>, destinations: usize) -> Self {
        let idle = Loan { destination: 0, message: NO_MESSAGE, matched: false };
        Self {
            owner: Owner::new(pool),
            chunks: pool.chunks(),
            loans: vec![idle; pool.chunks()],
            matched: vec![0; destinations],
            without: destinations,
            lap: 0,
            until_next_lap: pool.chunks(),
        }
    }

    /// The same pool in a world of `members` among the destinations until now.
    pub(crate) fn renewed(mut self, members: &[usize]) -> Self {
        let numbers: Vec<_> = (0..self.matched.len()).map(|old| members.binary_search(&old).ok()).collect();
        (0..numbers.len()).filter(|&old| numbers[old].is_none()).for_each(|old| self.forget(old));
        for loan in &mut self.loans {
            // Those of who is gone were taken back: where they went does not matter.
            loan.destination = numbers[loan.destination as usize].unwrap_or(0) as u32;
        }
        self.matched = members.iter().map(|&old| self.matched[old]).collect();
        self.without = self.matched.iter().filter(|&&held| held == 0).count();
        self
    }

    /// Chunks for a message up to `most` that lie one behind the other: the first one, and how many.
    pub(crate) fn lend_run(
        &mut self,
        destination: usize,
        message: u32,
        matched: bool,
        most: usize,
    ) -> Option<(u32, usize)> {
        let first = self.lend(destination, message, matched)?;
        let mut count = 1;
        while count < most
            && self.owner.next() == Some(first + count as u32)
            && self.lend(destination, message, matched).is_some()
        {
            count += 1;
        }
        Some((first, count))
    }

    fn lend(&mut self, destination: usize, message: u32, matched: bool) -> Option<u32> {
        if matched {
            return self.lend_matched(destination, message);
        }
        let loan = Loan { destination: destination as u32, message, matched: false };
        self.lend_beyond(self.kept_by_early(), loan)
    }

    /// A chunk for a message that is matched: its receiver will empty it.
    pub(crate) fn lend_matched(&mut self, destination: usize, message: u32) -> Option<u32> {
        if !self.may_lend_matched(destination) {
            self.reclaim();
            if !self.may_lend_matched(destination) {
                return None;
            }
        }
        let chunk = self.owner.lend()?;
        self.loans[chunk as usize] = Loan { destination: destination as u32, message, matched: true };
        self.count_matched(destination);
        Some(chunk)
    }

    /// Whether there are so many chunks for an eager message.
    pub(crate) fn may_lend(&mut self, chunks: usize) -> bool {
        self.has_beyond(self.kept_by_eager(), chunks)
    }

    /// A place for an eager message of so many bytes that has one part: its receiver empties it as soon as it looks.
    ///
    /// Short ones go to another place in the chunk in each lap through the pool, so that they come round as slowly as
    /// long ones do: a line that is still in the reader's cache takes longer to write than one that has left it.
    #[inline]
    pub(crate) fn lend_whole(&mut self, destination: usize, length: usize) -> Option<Lent> {
        let offset = self.lap.wrapping_mul(length.next_power_of_two()) % CHUNK_BYTES;
        let lent = self.lend_eager(destination)?;
        self.until_next_lap -= 1;
        if self.until_next_lap == 0 {
            (self.lap, self.until_next_lap) = (self.lap.wrapping_add(1), self.chunks);
        }
        Some(Lent { offset: offset as u32, ..lent })
    }

    /// A place for parts of an eager message: the beginning of a chunk.
    #[inline]
    pub(crate) fn lend_eager(&mut self, destination: usize) -> Option<Lent> {
        let loan = Loan { destination: destination as u32, message: NO_MESSAGE, matched: false };
        let chunk = self.lend_beyond(self.kept_by_eager(), loan)?;
        Some(Lent { chunk, offset: 0, mine: true })
    }

    /// A chunk for a message that nobody has matched, if `kept` are left then beyond the reserve.
    #[inline]
    fn lend_beyond(&mut self, kept: usize, loan: Loan) -> Option<u32> {
        if !self.has_beyond(kept, 1) {
            return None;
        }
        let chunk = self.owner.lend()?;
        self.loans[chunk as usize] = loan;
        Some(chunk)
    }

    /// Whether so many chunks may go to messages that nobody has matched, if `kept` are to be left then.
    #[inline]
    fn has_beyond(&mut self, kept: usize, chunks: usize) -> bool {
        let least = self.without + kept + chunks;
        if self.owner.free() < least {
            self.reclaim();
        }
        self.owner.free() >= least
    }

    /// What eager messages leave. Their chunks are emptied as soon as the receiver looks.
    fn kept_by_eager(&self) -> usize {
        self.chunks / 8
    }

    /// What early chunks leave: they come back only when their messages are matched.
    fn kept_by_early(&self) -> usize {
        self.chunks / 2
    }

    /// The message has been matched: its early chunks, which are these, will come back.
    pub(crate) fn matched(&mut self, destination: usize, message: u32, chunks: &[u32]) {
        for &chunk in chunks {
            let loan = &mut self.loans[chunk as usize];
            // It may have come back already, and be another message's.
            if loan.message == message {
                loan.matched = true;
                self.count_matched(destination);
            }
        }
    }

    /// Collects what has come back, if a long message would soon have to do that before it is matched: for who waits anyway. Half round
    /// trips of 768 KiB between near cores of a Zen 4 machine 26.3 -> 26.0 µs, of 1 MiB 34.3 -> 34.0 (22 alternating groups).
    pub(crate) fn reclaim_ahead(&mut self) {
        if self.owner.free() <= self.without + self.kept_by_early() + EARLY_CHUNKS {
            let (loans, matched, without) = (&mut self.loans, &mut self.matched, &mut self.without);
            self.owner.reclaim_in_order(|chunk| end_loan(chunk, loans, matched, without));
        }
    }

    /// The destination has left the job: what it holds is free.
    pub(crate) fn forget(&mut self, destination: usize) {
        let loans = &mut self.loans;
        self.owner.take_back(|chunk| {
            let loan = &mut loans[chunk as usize];
            let lost = loan.destination as usize == destination;
            if lost {
                loan.message = NO_MESSAGE;
            }
            lost
        });
        self.without += usize::from(self.matched[destination] > 0);
        self.matched[destination] = 0;
    }

    #[cfg(test)]
    pub(crate) fn free(&self) -> usize {
        self.owner.free()
    }

    #[cfg(test)]
    pub(crate) fn reclaim_all(&mut self) {
        self.reclaim();
    }

    /// Chunks of matched messages that the destination holds.
    #[cfg(test)]
    pub(crate) fn held_by(&self, destination: usize) -> u32 {
        self.matched[destination]
    }

    fn may_lend_matched(&self, destination: usize) -> bool {
        let others_without = self.without - usize::from(self.matched[destination] == 0);
        self.owner.free() > others_without
    }

    fn count_matched(&mut self, destination: usize) {
        self.without -= usize::from(self.matched[destination] == 0);
        self.matched[destination] += 1;
    }

    fn reclaim(&mut self) {
        let (loans, matched, without) = (&mut self.loans, &mut self.matched, &mut self.without);
        self.owner.reclaim(|chunk| end_loan(chunk, loans, matched, without));
    }
}

/// The chunk has come back.
fn end_loan(chunk: u32, loans: &mut [Loan], matched: &mut [u32], without: &mut usize) {
    let loan = &mut loans[chunk as usize];
    if loan.matched {
        let held = &mut matched[loan.destination as usize];
        *held -= 1;
        *without += usize::from(*held == 0);
    }
    loan.message = NO_MESSAGE;
}
