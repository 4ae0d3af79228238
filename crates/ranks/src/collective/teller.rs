//! What one rank does for all where ranks share processors: the teller, the first who sees that all have come.
//!
//! Most others are not running then, and have to have their turn before the next collective all the same. That all of them look at
//! all others, and combine what they show, takes time that grows with the square of their number.

use shm_core::board::Nonsense;

use super::Collective;
use super::round::{NO_ROOT, ROOT_SHIFT};
use crate::error::Result;

/// Ranks from which on one tells the others that all have come. Barriers on 2 near processors of a Zen 4 machine, µs, without and with a
/// teller: 4 ranks 1.80 and 1.93, 16 19.0 and 17.9, 32 39.7 and 36.0, 64 99 and 81, 128 281 and 226.
const TOLD_FROM_RANKS: usize = 16;
/// Bytes of all ranks together from which on it is so with fewer ranks. all_reduce, µs: 1 KiB by 4 ranks 2.52 and 2.55, by 8 7.1 and 6.5,
/// 4 KiB 3.61 and 3.53, 15.4 and 13.9, 8 KiB 5.4 and 4.6, 15.9 and 14.0.
const TOLD_FROM_BYTES: usize = 8 << 10;

impl Collective<'_> {
    /// Whether there is a teller in rounds in which each rank shows `bytes` bytes.
    #[inline]
    pub(super) fn has_teller(&self, bytes: usize) -> bool {
        let ranks = self.world.size();
        (ranks >= TOLD_FROM_RANKS || ranks.saturating_mul(bytes) >= TOLD_FROM_BYTES)
            && self.world.engine.borrow().board.has_tellers()
    }

    /// [`Collective::hear_all`] where there is a teller; which rank that is.
    #[inline(never)]
    pub(super) fn hear_teller(&self) -> Result<usize> {
        let engine = &mut *self.world.engine.borrow_mut();
        let (me, size) = (self.world.rank(), self.world.size());
        // Downwards from the one that was waited for last: ranks take turns, and who came last to one round begins the next.
        let from = engine.waited_for_last + size;
        for rank in (0..size).map(|step| (from - step) % size).filter(|&rank| rank != me) {
            if !engine.board.has_shown(rank) {
                if let Some(teller) = engine.board.teller() {
                    return Ok(teller);
                }
                engine.waited_for_last = rank;
                if !engine.look_for_shown(rank) {
                    self.await_shown(engine, rank)?;
                }
                if let Some(teller) = engine.board.teller() {
                    return Ok(teller);
                }
            }
            self.compare(engine, rank)?;
        }
        let told = engine.board.tell();
        told.map_err(|Nonsense| engine.damaged(format!("who told of {} cannot be", self.caller.operation)))
    }

    /// The next round of this collective, in which the teller shows what it has made of what all showed: not the same as a first
    /// round, which a teller may have begun whose operation has panicked.
    pub(super) fn of_teller(&self, teller: usize) -> Self {
        let [what, bytes] = self.topic;
        let what = what & !(NO_ROOT << ROOT_SHIFT) | (teller as u64) << ROOT_SHIFT;
        Collective { world: self.world, topic: [what, bytes], caller: self.caller, observed_since: 0 }
    }
}
