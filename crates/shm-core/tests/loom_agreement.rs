//! Agreements under every interleaving: one outcome for all, whoever dies and whenever its death is told.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p shm-core --release --test loom_agreement`
#![cfg(loom)]

use loom::sync::Arc;
use loom::sync::atomic::AtomicU64;
use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use loom::thread;
use shm_core::agreement::{Agreed, Agreement, Ballot, Fate, Verdict};

const KIND: u32 = 1;

struct Memory<const N: usize> {
    ballots: [Ballot; N],
    verdict: Verdict,
    /// Set by whoever watches the participants.
    failed: [AtomicU64; N],
}

impl<const N: usize> Memory<N> {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            ballots: [(); N].map(|()| Ballot::new()),
            verdict: Verdict::new(),
            failed: [(); N].map(|()| AtomicU64::new(0)),
        })
    }

    fn agreement(&self, me: usize) -> Agreement<'_> {
        Agreement::new(&self.ballots, &self.verdict, me, 0)
    }

    fn fate(&self, participant: usize) -> Fate {
        if self.failed[participant].load(Acquire) == 0 { Fate::Here } else { Fate::Failed }
    }

    fn agree(&self, agreement: &mut Agreement<'_>, contribution: u64) -> Agreed {
        agreement.enter(KIND, contribution);
        self.decide(agreement)
    }

    fn decide(&self, agreement: &Agreement<'_>) -> Agreed {
        loop {
            match agreement.decide(|left, right| left & right, |other| self.fate(other)).unwrap() {
                Some(agreed) => return agreed,
                None => thread::yield_now(),
            }
        }
    }
}

/// The third participant enters or not, and its death is told while the others agree. The one that tells it is one of
/// them, in the middle of its agreement: a third thread that spins is too much for the model.
fn with_a_death(enters: bool) {
    loom::model(move || {
        let memory = Memory::<3>::new();
        let survivor = {
            let memory = memory.clone();
            thread::spawn(move || memory.agree(&mut memory.agreement(1), 0b110))
        };
        if enters {
            memory.agreement(2).enter(KIND, 0b101);
        }
        let mut agreement = memory.agreement(0);
        agreement.enter(KIND, 0b111);
        memory.failed[2].store(1, Release);
        let mine = memory.decide(&agreement);
        assert_eq!(mine, survivor.join().unwrap());
        assert_eq!(mine.value, if enters { 0b100 } else { 0b110 });
        assert!(enters || mine.failed.contains(2), "who has not come is known to be dead");
    });
}

#[test]
fn a_participant_that_dies_before_it_enters_is_gone_for_all() {
    with_a_death(false);
}

#[test]
fn a_participant_that_dies_after_it_has_entered_is_gone_for_all_or_for_none() {
    with_a_death(true);
}

/// The author of a verdict dies before the other has read it: what it proposed holds.
#[test]
fn the_proposal_of_a_dead_author_holds() {
    loom::model(|| {
        let memory = Memory::<2>::new();
        let author = {
            let memory = memory.clone();
            thread::spawn(move || {
                let agreed = memory.agree(&mut memory.agreement(1), 0b110);
                memory.failed[1].store(1, Release);
                agreed
            })
        };
        let mine = memory.agree(&mut memory.agreement(0), 0b011);
        assert_eq!((mine, mine.value), (author.join().unwrap(), 0b010));
    });
}

/// A fast participant is in the next agreement while the other still reads the one before.
#[test]
fn one_agreement_does_not_mix_with_the_next() {
    loom::model(|| {
        let memory = Memory::<2>::new();
        let play = |memory: &Memory<2>, me: usize| {
            let mut agreement = memory.agreement(me);
            for (contribution, expected) in [(0b01 + me as u64, 0), (0b11, 0b11)] {
                assert_eq!(memory.agree(&mut agreement, contribution).value, expected);
            }
        };
        let other = {
            let memory = memory.clone();
            thread::spawn(move || play(&memory, 1))
        };
        play(&memory, 0);
        other.join().unwrap();
    });
}

/// What a participant writes before a stage is there for who has seen it pass, and nothing from behind the next one.
#[test]
fn stages_keep_what_was_before_from_what_comes_after() {
    loom::model(|| {
        let memory = Memory::<2>::new();
        let word = Arc::new(AtomicU64::new(0));
        let play = |memory: &Memory<2>, word: &AtomicU64, me: usize| {
            let mut agreement = memory.agreement(me);
            memory.agree(&mut agreement, 0);
            if me == 1 {
                word.store(1, Relaxed);
            }
            let pass = |stage| {
                agreement.pass(stage);
                while agreement.awaited(stage, |other| memory.fate(other)).is_some() {
                    thread::yield_now();
                }
            };
            pass(1);
            assert_eq!(word.load(Relaxed), 1);
            pass(2);
            if me == 1 {
                word.store(2, Relaxed);
            }
        };
        let other = {
            let (memory, word) = (memory.clone(), word.clone());
            thread::spawn(move || play(&memory, &word, 1))
        };
        play(&memory, &word, 0);
        other.join().unwrap();
    });
}
