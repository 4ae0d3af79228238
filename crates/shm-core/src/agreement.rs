//! Agreement among participants any of which may die at any moment.
//!
//! # The problem
//!
//! Survivors have to come to one value and one list of who is gone, although each learns of a death at a moment of its
//! own, and whoever is about to decide may die while it does. That a participant is gone is told from outside, and
//! never taken back.
//!
//! # The protocol
//!
//! Agreements are numbered from 1, for all participants alike. In agreement `n` a participant
//!
//! 1. enters: writes its contribution, then `n`, into its ballot;
//! 2. waits until every other one has entered `n` or is gone;
//! 3. writes a proposal into its ballot: the contributions of all that have entered, combined, and who is gone;
//! 4. puts itself into the verdict as its author, by compare-and-swap from what agreement `n - 1` left there;
//! 5. takes the proposal of the author that the verdict names.
//!
//! Steps 3 to 5 wait for nobody, and a dead author's proposal can still be read: a death at any step stops no one.
//!
//! What participants do after an agreement may need them to be at the same stage of it. A participant passes a stage by
//! writing it beside `n`, and waits until every other one has passed it or is gone.
//!
//! # Invariants
//!
//! 1. Everyone counts the same contributions: whether somebody is gone is looked at before its ballot, so one that is
//!    gone and has not entered never will.
//! 2. A ballot is not written while somebody needs it. Its owner writes the contribution of `n + 1` after the verdict of
//!    `n` was given: who reads that by mistake cannot become the author of `n` any more. It writes the proposal of
//!    `n + 1` after everybody else has entered `n + 1`, and so has read the one of `n`, or is gone.
//!
//! # Memory ordering
//!
//! `ballot-enter`: the number (Release by its owner, Acquire by the others) carries over the contribution, and that the
//! owner's reads for the agreement before are finished. A stage does the same for what came before it.
//!
//! `verdict`: the author (Release by who puts it there, Acquire by the others) carries over its proposal.

use crate::sync::{AtomicU64, Ordering};

/// The most participants of an agreement.
pub const MAX_PARTICIPANTS: usize = if cfg!(loom) { 64 } else { 512 };
const WORDS: usize = MAX_PARTICIPANTS / 64;

const KIND_BITS: u32 = 4;
const STAGE_BITS: u32 = 4;
const AUTHOR_BITS: u32 = 16;

/// What one participant has to say, in shared memory. Zeroed memory is its initial state.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Ballot {
    /// Number of the agreement, stage, kind.
    position: AtomicU64,
    contribution: AtomicU64,
    proposal: Proposal,
}

#[derive(Debug)]
#[repr(C)]
struct Proposal {
    value: AtomicU64,
    kinds: AtomicU64,
    failed: [AtomicU64; WORDS],
    finished: [AtomicU64; WORDS],
}

impl Ballot {
    /// A ballot on the heap before the first agreement.
    pub fn new() -> Self {
        let zero = || AtomicU64::new(0);
        let bits = || [(); WORDS].map(|()| zero());
        let proposal = Proposal { value: zero(), kinds: zero(), failed: bits(), finished: bits() };
        Self { position: zero(), contribution: zero(), proposal }
    }
}

impl Default for Ballot {
    fn default() -> Self {
        Self::new()
    }
}

/// Whose proposal holds: number of the agreement, and its author. Zeroed memory is its initial state.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Verdict(AtomicU64);

#[cfg(not(loom))]
crate::fixed_layout!(Verdict { 0 });
#[cfg(not(loom))]
crate::fixed_layout!(Ballot { position, contribution, proposal });
#[cfg(not(loom))]
crate::fixed_layout!(Proposal { value, kinds, failed, finished });

impl Verdict {
    /// A verdict on the heap before the first agreement.
    pub fn new() -> Self {
        Self(AtomicU64::new(0))
    }
}

impl Default for Verdict {
    fn default() -> Self {
        Self::new()
    }
}

/// What is known of a participant. Only the first ever changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Nothing says that it is gone.
    Here,
    /// It has left in good order.
    Finished,
    /// It has died.
    Failed,
}

/// A set of participants.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Participants([u64; WORDS]);

impl Participants {
    /// Whether `participant` is one of them.
    pub fn contains(&self, participant: usize) -> bool {
        self.0.get(participant / 64).is_some_and(|word| word >> (participant % 64) & 1 == 1)
    }

    fn insert(&mut self, participant: usize) {
        self.0[participant / 64] |= 1 << (participant % 64);
    }

    fn store(self, words: &[AtomicU64; WORDS]) {
        for (place, word) in words.iter().zip(self.0) {
            // Relaxed: the verdict, which follows, carries it over.
            place.store(word, Ordering::Relaxed);
        }
    }

    fn load(words: &[AtomicU64; WORDS]) -> Self {
        Self(std::array::from_fn(|at| words[at].load(Ordering::Relaxed)))
    }
}

/// What was agreed on: the same on every participant that comes to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// All contributions, combined.
    pub value: u64,
    /// The kinds with which participants have entered, one bit each.
    pub kinds: u32,
    /// Who has died.
    pub failed: Participants,
    /// Who had left in good order.
    pub finished: Participants,
}

/// The shared words say what no participant can have written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nonsense;

/// One participant's view of the agreements.
pub struct Agreement<'a> {
    ballots: Vec<&'a Ballot>,
    verdict: &'a Verdict,
    me: usize,
    number: u64,
}

impl<'a> Agreement<'a> {
    /// The view of participant `me`, when all of them have been through `number` agreements.
    ///
    /// # Panics
    ///
    /// If there is no ballot for `me`, or if there are more than [`MAX_PARTICIPANTS`].
    pub fn new(
        ballots: impl IntoIterator<Item = &'a Ballot>,
        verdict: &'a Verdict,
        me: usize,
        number: u64,
    ) -> Self {
        let ballots: Vec<_> = ballots.into_iter().collect();
        assert!(me < ballots.len() && ballots.len() <= MAX_PARTICIPANTS);
        Self { ballots, verdict, me, number }
    }

    /// The number of the agreement that was entered last.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Enters the next agreement. `kind` is one of four bits.
    pub fn enter(&mut self, kind: u32, contribution: u64) {
        self.number += 1;
        // Relaxed: the position carries it over.
        self.ballots[self.me].contribution.store(contribution, Ordering::Relaxed);
        self.stand_at(0, kind);
    }

    /// Passes a stage, from 1 on, of the agreement that was entered last.
    pub fn pass(&self, stage: u32) {
        self.stand_at(stage, 0);
    }

    fn stand_at(&self, stage: u32, kind: u32) {
        debug_assert!(stage < 1 << STAGE_BITS && kind < 1 << KIND_BITS);
        let position = (self.number << STAGE_BITS | u64::from(stage)) << KIND_BITS | u64::from(kind);
        // SYNC ballot-enter
        self.ballots[self.me].position.store(position, Ordering::Release);
    }

    /// The first participant that is here and has not passed `stage`, if any; stage 0 is to have entered.
    pub fn awaited(&self, stage: u32, fate: impl Fn(usize) -> Fate) -> Option<usize> {
        let mut others = (0..self.ballots.len()).filter(|&other| other != self.me);
        // The fate first: Invariant 1.
        others.find(|&other| fate(other) == Fate::Here && !self.has_passed(other, stage))
    }

    fn has_passed(&self, other: usize, stage: u32) -> bool {
        self.position(other) >> KIND_BITS >= self.number << STAGE_BITS | u64::from(stage)
    }

    fn position(&self, other: usize) -> u64 {
        // SYNC ballot-enter
        self.ballots[other].position.load(Ordering::Acquire)
    }

    /// What was agreed on, as soon as that can be said; `None` while somebody who is here has not entered.
    ///
    /// # Errors
    ///
    /// [`Nonsense`] if the shared words are damaged.
    pub fn decide(
        &self,
        combine: impl Fn(u64, u64) -> u64,
        fate: impl Fn(usize) -> Fate,
    ) -> Result<Option<Agreed>, Nonsense> {
        // SYNC verdict
        let before = self.verdict.0.load(Ordering::Acquire);
        if before >> AUTHOR_BITS >= self.number {
            return self.proposal_of(before).map(Some);
        }
        let Some(proposal) = self.gather(combine, fate) else { return Ok(None) };
        self.propose(&proposal);
        let mine = self.number << AUTHOR_BITS | (self.me as u64 + 1);
        // SYNC verdict
        match self.verdict.0.compare_exchange(before, mine, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(Some(proposal)),
            Err(theirs) => self.proposal_of(theirs).map(Some),
        }
    }

    /// Everything that is to be agreed on, as it looks now, if everybody has entered or is gone.
    fn gather(&self, combine: impl Fn(u64, u64) -> u64, fate: impl Fn(usize) -> Fate) -> Option<Agreed> {
        let mine = self.ballots[self.me].contribution.load(Ordering::Relaxed);
        let kind = |position: u64| position as u32 & ((1 << KIND_BITS) - 1);
        let kinds = kind(self.position(self.me));
        let nobody = Participants::default();
        let mut agreed = Agreed { value: mine, kinds, failed: nobody, finished: nobody };
        for other in (0..self.ballots.len()).filter(|&other| other != self.me) {
            // The fate first: Invariant 1.
            let fate = fate(other);
            match fate {
                Fate::Here => {}
                Fate::Finished => agreed.finished.insert(other),
                Fate::Failed => agreed.failed.insert(other),
            }
            if self.has_passed(other, 0) {
                agreed.kinds |= kind(self.position(other));
                let theirs = self.ballots[other].contribution.load(Ordering::Relaxed);
                agreed.value = combine(agreed.value, theirs);
            } else if fate == Fate::Here {
                return None;
            }
        }
        Some(agreed)
    }

    fn propose(&self, agreed: &Agreed) {
        let proposal = &self.ballots[self.me].proposal;
        proposal.value.store(agreed.value, Ordering::Relaxed);
        proposal.kinds.store(agreed.kinds.into(), Ordering::Relaxed);
        agreed.failed.store(&proposal.failed);
        agreed.finished.store(&proposal.finished);
    }

    /// The proposal of the author that `verdict` names.
    fn proposal_of(&self, verdict: u64) -> Result<Agreed, Nonsense> {
        let (number, author) = (verdict >> AUTHOR_BITS, verdict as usize & ((1 << AUTHOR_BITS) - 1));
        let author = author.checked_sub(1).and_then(|author| self.ballots.get(author));
        let Some(Ballot { proposal, .. }) = author.filter(|_| number == self.number) else {
            return Err(Nonsense);
        };
        let agreed = Agreed {
            value: proposal.value.load(Ordering::Relaxed),
            kinds: proposal.kinds.load(Ordering::Relaxed) as u32,
            failed: Participants::load(&proposal.failed),
            finished: Participants::load(&proposal.finished),
        };
        // Whoever is here can be gone in nobody's eyes.
        let sound = !agreed.failed.contains(self.me) && !agreed.finished.contains(self.me);
        if sound { Ok(agreed) } else { Err(Nonsense) }
    }
}
