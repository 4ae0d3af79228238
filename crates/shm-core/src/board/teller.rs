//! The teller of a round: the first who has seen that all show something, and tells the others.
//!
//! Who waits for all others would look at a line of each, and so would everybody. Told, they look at one word, and need not do again
//! what the teller does for them all.
//!
//! Nobody can tell of a later round while somebody waits in this one, since that one has not shown anything in it. So the word
//! only grows, and says of this round or of an earlier one.

use super::{Board, Nonsense};
use crate::sync::{AtomicU64, Ordering};

/// Bits of the word that say who the teller is; the others are the round.
const PARTICIPANT_BITS: u32 = 16;

/// The last round of which somebody has told that all participants of a board have shown something, and who that was, in shared
/// memory. Zeroed memory is its initial state.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct AllShown {
    told: AtomicU64,
}

#[cfg(not(loom))]
crate::fixed_layout!(AllShown { told });

impl AllShown {
    /// A word on the heap before the first round.
    pub fn new() -> Self {
        Self { told: AtomicU64::new(0) }
    }

    #[cfg(all(test, not(loom)))]
    pub(super) fn say(&self, told: u64) {
        self.told.store(told, Ordering::Relaxed);
    }
}

impl Default for AllShown {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a> Board<'a> {
    /// Tells through `word` from now on, and believes what it says. All participants have to do the same before the next round.
    ///
    /// # Panics
    ///
    /// If there are more than 2^16 participants.
    pub fn share_all_shown(&mut self, word: &'a AllShown) {
        assert!(self.others.len() <= 1 << PARTICIPANT_BITS);
        self.all_shown = Some(word);
    }

    /// Whether this participant tells and is told.
    #[inline]
    pub fn has_tellers(&self) -> bool {
        self.all_shown.is_some()
    }

    /// Who has told that all have shown something in this round. Then all of them believe the round to be the same.
    #[inline]
    pub fn teller(&mut self) -> Option<usize> {
        // SYNC board-told
        let told = self.all_shown?.told.load(Ordering::Acquire);
        if told >> PARTICIPANT_BITS != self.round || self.round == 0 {
            return None;
        }
        // Who has begun this round has done with the one before.
        self.all_done = self.all_done.max(self.round - 1);
        let teller = (told & ((1 << PARTICIPANT_BITS) - 1)) as usize;
        (teller < self.others.len()).then_some(teller)
    }

    /// Tells that all have shown something in this round, unless somebody has; who is the teller then. To be called only when
    /// [`Board::has_shown`] was true for every other one, and all topics agree.
    ///
    /// # Errors
    ///
    /// If the word says something that nobody has told.
    ///
    /// # Panics
    ///
    /// If the participants do not share a word.
    #[inline]
    pub fn tell(&mut self) -> Result<usize, Nonsense> {
        let word = &self.all_shown.expect("participants that tell share a word").told;
        let before = word.load(Ordering::Relaxed);
        if before >> PARTICIPANT_BITS < self.round {
            let told = self.round << PARTICIPANT_BITS | self.me as u64;
            // SYNC board-told. Should it fail, somebody else was first.
            let _ = word.compare_exchange(before, told, Ordering::Release, Ordering::Relaxed);
        }
        self.teller().ok_or(Nonsense)
    }
}
