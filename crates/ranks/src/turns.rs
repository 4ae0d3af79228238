//! `--chaos`: one rank runs at a time, and who runs next is drawn from a seed at every call into the library.
//!
//! # The problem
//!
//! What a program with a race does depends on which rank is faster. To make that repeatable, nothing may depend on
//! speed: exactly one rank runs at a time, and the next one is chosen by a number that comes from the seed.
//!
//! # The protocol
//!
//! A word in the job's header says which rank has the *turn*; nobody has it before all ranks have attached.
//!
//! | who | when | what |
//! |---|---|---|
//! | the rank with the turn | at the beginning of each call | draws the next one, itself included, and waits for its turn |
//! | the rank with the turn | when it would sleep in a call | prepares its doorbell, looks once more, draws, sleeps |
//! | a rank that was rung | awake again | waits for its turn |
//! | the rank with the turn | when it leaves | hands the turn on for good |
//! | the launcher | when a rank has died | hands on what the dead one had |
//!
//! A rank can be drawn while it is attached and its doorbell is not prepared: one that waits for something is drawn
//! again only when somebody has rung. If nobody can be drawn, nobody has the turn, and all sleep: a deadlock.
//!
//! # Why it repeats
//!
//! Between two draws a single rank runs, and whatever it reads was written by ranks that had the turn before it: the
//! turn word carries that over. Doorbells are rung by the rank with the turn alone, and sleeps have no time limit, so
//! who can be drawn depends on the calls so far and on nothing else. What remains outside: clocks, other threads,
//! input, random numbers of the program, and ranks that die.
//!
//! # Nobody forgets the turn
//!
//! A holder that finds nobody to draw gives the turn up and looks once more, with a fence between; the launcher rings
//! all doorbells when it reports a death and then looks at the turn, with a fence between. One of the two sees the
//! other, and both hand it on with a compare-and-swap.
//!
//! # Memory ordering
//!
//! `turn`: the word is released by whoever hands it on and acquired by whoever has it next.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::fence;
use std::time::Duration;

use crate::job::Job;
use crate::layout::{modes, rank_state};

/// Nobody has the turn.
const NOBODY: u32 = 0;
/// A rank that waits for its turn looks as often as this, in case somebody died while handing it on.
const LONGEST_SLEEP: Duration = Duration::from_millis(500);

/// The turns of a job under `--chaos`. Ranks count by their places in the segment, which no shrinking of the world changes.
#[derive(Clone, Copy)]
pub(crate) struct Turns<'j> {
    job: &'j Job,
}

impl<'j> Turns<'j> {
    /// Those of `job`, if its ranks take turns.
    pub(crate) fn of(job: &'j Job) -> Option<Self> {
        job.has_mode(modes::CHAOS).then_some(Self { job })
    }

    /// The launcher's part, before the first rank is started.
    pub(crate) fn plant(self, seed: u64) {
        self.job.header().draws.store(seed, Relaxed);
    }

    /// The rank at `place` has attached: waits for its first turn, which comes when all ranks have.
    pub(crate) fn join(self, place: usize) {
        fence(SeqCst);
        self.hand_on_from(NOBODY);
        self.wait(place);
    }

    /// Ends the turn of the rank at `place` and waits for its next one.
    pub(crate) fn next(self, place: usize) {
        self.end(place);
        self.wait(place);
    }

    /// Ends the turn of the rank at `place`.
    pub(crate) fn end(self, place: usize) {
        let header = self.job.header();
        let draw = step(header.draws.load(Relaxed));
        header.draws.store(draw, Relaxed);
        match self.drawn(draw) {
            Some(next) => {
                // SYNC turn
                header.turn.store(word(next), Release);
                if next != place {
                    self.job.bell_at(next).ring(&self.job.control_at(next).turn_bell);
                }
            }
            None => self.give_up(word(place)),
        }
    }

    /// Waits until the rank at `place` has the turn.
    pub(crate) fn wait(self, place: usize) {
        let (bell, doorbell) = (self.job.bell_at(place), &self.job.control_at(place).turn_bell);
        // SYNC turn
        let mine = || self.job.header().turn.load(Acquire) == word(place);
        while !mine() {
            bell.prepare(doorbell);
            if mine() {
                bell.cancel(doorbell);
                break;
            }
            bell.park(doorbell, Some(LONGEST_SLEEP));
        }
    }

    /// The rank at `place` will not run any more: somebody else gets the turn if it had it. Called by itself, or by the launcher after
    /// its death.
    pub(crate) fn leave(self, place: usize) {
        fence(SeqCst);
        if !self.hand_on_from(word(place)) {
            self.give_up(word(place));
        }
        self.hand_on_from(NOBODY);
        // It may have died between handing the turn on and ringing.
        if let Some(holder) = self.holder() {
            self.job.bell_at(holder).notify(&self.job.control_at(holder).turn_bell);
        }
    }

    /// The place of the rank that has the turn.
    pub(crate) fn holder(self) -> Option<usize> {
        let holder = (self.job.header().turn.load(Acquire) as usize).checked_sub(1)?;
        (holder < self.job.geometry().ranks).then_some(holder)
    }

    /// Nobody can be drawn: takes the turn from `holder`, unless that changes now.
    fn give_up(self, holder: u32) {
        let taken = self.job.header().turn.compare_exchange(holder, NOBODY, AcqRel, Relaxed);
        if taken.is_ok() {
            fence(SeqCst);
            self.hand_on_from(NOBODY);
        }
    }

    /// Hands the turn on if `holder` has it and somebody can be drawn; whether that was so.
    fn hand_on_from(self, holder: u32) -> bool {
        let states = |state| (0..self.job.geometry().ranks).any(|place| self.job.state_at(place) == state);
        if states(rank_state::EMPTY) {
            return false;
        }
        // The draw is not noted: several may come here at a time, and must not undo each other's.
        let Some(next) = self.drawn(step(self.job.header().draws.load(Relaxed))) else { return false };
        // SYNC turn
        let handed = self.job.header().turn.compare_exchange(holder, word(next), AcqRel, Relaxed).is_ok();
        if handed {
            self.job.bell_at(next).ring(&self.job.control_at(next).turn_bell);
        }
        handed
    }

    /// The place of the rank that a draw stands for.
    fn drawn(self, draw: u64) -> Option<usize> {
        let can_run = |&place: &usize| {
            self.job.state_at(place) == rank_state::ATTACHED
                && !self.job.control_at(place).doorbell.is_parked()
        };
        let ranks = || (0..self.job.geometry().ranks).filter(can_run);
        let count = ranks().count() as u64;
        ranks().nth((mixed(draw) % count.max(1)) as usize)
    }
}

fn word(place: usize) -> u32 {
    place as u32 + 1
}

/// The next state of the generator (SplitMix64).
fn step(state: u64) -> u64 {
    state.wrapping_add(0x9e37_79b9_7f4a_7c15)
}

fn mixed(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::in_process;

    /// A job of ranks that are attached.
    fn job(ranks: usize) -> Job {
        let job = in_process(ranks).unwrap();
        job.header().modes.store(modes::CHAOS, Relaxed);
        (0..ranks).for_each(|rank| job.control(rank).life.state.store(rank_state::ATTACHED, Relaxed));
        job
    }

    fn prepare(job: &Job, rank: usize) {
        job.bell(rank).prepare(&job.control(rank).doorbell);
    }

    #[test]
    fn every_rank_has_its_turns_and_the_order_repeats() {
        let order = |seed| {
            let job = job(4);
            let turns = Turns::of(&job).unwrap();
            turns.plant(seed);
            turns.hand_on_from(NOBODY);
            let holders = (0..1000).map(|_| {
                let holder = turns.holder().unwrap();
                turns.end(holder);
                holder
            });
            holders.collect::<Vec<_>>()
        };
        let first = order(7);
        assert_eq!(first, order(7));
        assert_ne!(first, order(8));
        let counts = [0, 1, 2, 3].map(|rank| first.iter().filter(|&&holder| holder == rank).count());
        assert!(counts.iter().all(|&count| (200..300).contains(&count)), "{counts:?}");
    }

    #[test]
    fn nobody_starts_before_all_have_attached() {
        let job = job(2);
        job.control(1).life.state.store(rank_state::EMPTY, Relaxed);
        let turns = Turns::of(&job).unwrap();
        assert!(!turns.hand_on_from(NOBODY));
        job.control(1).life.state.store(rank_state::DEAD, Relaxed);
        turns.leave(1);
        assert_eq!(turns.holder(), Some(0));
    }

    #[test]
    fn a_rank_that_waits_is_drawn_when_it_was_rung() {
        let job = job(3);
        let turns = Turns::of(&job).unwrap();
        job.header().turn.store(word(2), Relaxed);
        prepare(&job, 0);
        prepare(&job, 1);
        for _ in 0..100 {
            turns.end(2);
            assert_eq!(turns.holder(), Some(2));
        }
        job.bell(0).ring(&job.control(0).doorbell);
        let drawn: Vec<_> = (0..100)
            .map(|_| {
                turns.end(turns.holder().unwrap());
                turns.holder().unwrap()
            })
            .collect();
        assert!(drawn.contains(&0) && drawn.contains(&2) && !drawn.contains(&1), "{drawn:?}");
    }

    #[test]
    fn a_death_takes_the_turn_from_the_dead_and_from_nobody() {
        let job = job(3);
        let turns = Turns::of(&job).unwrap();
        let die = |rank| {
            job.control(rank).life.state.store(rank_state::DEAD, Relaxed);
            turns.leave(rank);
        };
        job.header().turn.store(word(2), Relaxed);
        prepare(&job, 0);
        die(2);
        assert_eq!(turns.holder(), Some(1));
        prepare(&job, 1);
        turns.end(1);
        assert_eq!(turns.holder(), None);
        // The launcher's notice wakes everybody that is left.
        job.bell(1).notify(&job.control(1).doorbell);
        die(0);
        assert_eq!(turns.holder(), Some(1));
    }
}
