//! Ranks that are killed at random moments, also while the others recover from the last death: the survivors always
//! come to the same world, compute the right thing in it, and end.

#[path = "support/random.rs"]
mod random;
#[path = "support/watchdog.rs"]
mod watchdog;

use std::ops::Range;
use std::thread;
use std::time::Duration;

use random::Random;
use ranks::{ANY_SOURCE, Max, Min, OnFailure, Result, Spawn, Sum, World};
use rustix::process::{Signal, getpid, kill_process};
use watchdog::{step, watch};

const RANKS: usize = 5;
const STEPS: u64 = 40;
/// Victims die within this time.
const MICROSECONDS: usize = 30_000;

/// Where a rank stands in the computation.
struct State {
    seed: u64,
    world: World,
    /// Worlds of survivors so far: the same on all members of one.
    worlds: u64,
    step: u64,
}

impl State {
    /// Goes to the next world, and back to the earliest step at which any member of it is.
    fn recover(mut self) -> Result<Self> {
        loop {
            step("shrink");
            self.world = self.world.shrink()?;
            self.worlds += 1;
            let mut earliest = [0];
            step("look for the earliest step");
            if self.world.all_reduce(&[self.step], &mut earliest, Min).is_ok() {
                self.step = earliest[0];
                return Ok(self);
            }
        }
    }

    /// What every message of this step says.
    fn word(&self, rank: usize) -> u64 {
        self.worlds << 32 | self.step << 8 | rank as u64
    }

    fn compute(&self) -> Result<()> {
        let mut random = Random::new(self.seed ^ self.step << 20);
        let length = random.choose(&[1, 10, 1_000, 20_000]);
        match random.below(5) {
            0 => self.sum(length),
            1 => self.round(length),
            2 => self.all_to_all(length),
            3 => self.collect(length),
            _ => self.agree(),
        }
    }

    fn sum(&self, length: usize) -> Result<()> {
        let (me, size) = (self.world.rank(), self.world.size());
        let (mine, mut sum) = (vec![self.word(me); length], vec![0; length]);
        self.world.all_reduce(&mine, &mut sum, Sum)?;
        let expected: u64 = (0..size).map(|rank| self.word(rank)).sum();
        assert!(sum.iter().all(|&sum| sum == expected), "{} instead of {expected}", sum[0]);
        Ok(())
    }

    fn round(&self, length: usize) -> Result<()> {
        let (me, size) = (self.world.rank(), self.world.size());
        let (left, right) = ((me + size - 1) % size, (me + 1) % size);
        let mut theirs = vec![0; length];
        self.world.sendrecv(&vec![self.word(me); length], right, &mut theirs, left)?;
        check(&theirs, self.word(left));
        Ok(())
    }

    fn all_to_all(&self, length: usize) -> Result<()> {
        let (me, size) = (self.world.rank(), self.world.size());
        let mut theirs = vec![0; size * length];
        self.world.all_to_all(&vec![self.word(me); size * length], &mut theirs)?;
        theirs.chunks(length).zip(0..).for_each(|(part, rank)| check(part, self.word(rank)));
        Ok(())
    }

    fn collect(&self, length: usize) -> Result<()> {
        let (me, size) = (self.world.rank(), self.world.size());
        if me > 0 {
            return self.world.send(&vec![self.word(me); length], (0, 1 + self.step as i32));
        }
        for _ in 1..size {
            let (theirs, status) = self.world.recv_vec::<u64>((ANY_SOURCE, 1 + self.step as i32))?;
            assert_eq!(theirs.len(), length);
            check(&theirs, self.word(status.source));
        }
        Ok(())
    }

    fn agree(&self) -> Result<()> {
        let agreement = self.world.agree(true)?;
        assert!(agreement.flag);
        let list = [agreement.failed.iter().map(|rank| 1u64 << rank).sum()];
        let (mut least, mut most) = ([0], [0]);
        self.world.all_reduce(&list, &mut least, Min)?;
        self.world.all_reduce(&list, &mut most, Max)?;
        assert_eq!((least, most), (list, list), "the survivors have different lists");
        Ok(())
    }
}

/// Without the elements in the message, which can be many.
#[track_caller]
fn check(elements: &[u64], expected: u64) {
    let wrong = elements.iter().position(|&element| element != expected);
    let Some(at) = wrong else { return };
    panic!("element {at} of {} is {:#x} instead of {expected:#x}", elements.len(), elements[at]);
}

fn survive(world: World, seed: u64) -> Result<()> {
    watch(&world);
    let mut random = Random::new(seed);
    let victims = 1 + random.below(RANKS - 1);
    let mut ranks: Vec<_> = (0..RANKS).collect();
    random.shuffle(&mut ranks);
    let moments: Vec<_> = (0..victims).map(|_| random.below(MICROSECONDS) as u64).collect();
    let mine = ranks.iter().zip(moments).find(|(victim, _)| **victim == world.rank());
    if let Some((_, moment)) = mine {
        thread::spawn(move || {
            thread::sleep(Duration::from_micros(moment));
            kill_process(getpid(), Signal::KILL).unwrap();
        });
    }
    let mut state = State { seed, world, worlds: 0, step: 0 };
    // Victims never come to the end.
    while state.step < STEPS || state.world.size() > RANKS - victims {
        step(format!("seed {seed}, step {}, world {}", state.step, state.worlds));
        match state.compute() {
            Ok(()) => state.step += 1,
            Err(_) => state = state.recover()?,
        }
    }
    state.world.finalize()
}

/// The seeds from 0 on, more of them if the environment says so.
fn seeds() -> Range<u64> {
    let count = std::env::var("RANKS_RECOVER_SEEDS").ok().and_then(|count| count.parse().ok());
    0..count.unwrap_or(25)
}

/// Every call of `spawn` in a test has a process of its own to come to, so each seed is one.
#[test]
fn survivors_of_random_deaths_recover() {
    for seed in seeds() {
        let job = Spawn::new(RANKS).test_name("survivors_of_random_deaths_recover");
        let outcome = job.on_failure(OnFailure::Continue).run_with_world(|world| survive(world, seed));
        outcome.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}
