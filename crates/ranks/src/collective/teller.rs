//! What one rank does for all where ranks share processors: the teller, the first who sees that all have come.
//!
//! Most others are not running then, and have to have their turn before the next collective all the same. That all of them look at
//! all others, and combine what they show, takes time that grows with the square of their number.

use shm_core::board::Nonsense;

use super::Collective;
use super::round::{BROKEN_OFF, with_root};
use crate::error::Result;

/// Ranks on each processor from which on one tells the others that all have come. Barriers on 2 near processors of a Zen 4 machine, µs,
/// without and with a teller: 4 ranks 1.80 and 1.93, 16 19.0 and 17.9, 32 39.7 and 36.0, 64 99 and 81, 128 281 and 226.
const TOLD_FROM: usize = 8;
/// Bytes of all ranks together from which on one combines for all where at least two share each processor. all_reduce there, µs, without
/// and with a teller: 1 KiB by 4 ranks 2.52 and 2.55, by 8 7.1 and 6.5, 4 KiB 3.61 and 3.53, 15.4 and 13.9, 8 KiB 5.4 and 4.6, 15.9 and 14.0.
const COMBINED_FROM_BYTES: usize = 8 << 10;

impl Collective<'_> {
    /// Whether a teller says that all have come, in rounds in which nothing more is done for all.
    #[inline]
    pub(super) fn is_told(&self) -> bool {
        // First what takes two ranks no time.
        self.world.size() >= TOLD_FROM && self.world.engine.borrow().ranks_per_processor >= TOLD_FROM
    }

    /// Whether a teller combines what each rank has `bytes` bytes of.
    #[inline]
    pub(super) fn combines_for_all(&self, bytes: usize) -> bool {
        let together = self.world.size().saturating_mul(bytes);
        let is_much = || together >= COMBINED_FROM_BYTES && self.world.engine.borrow().board.has_tellers();
        is_much() || self.is_told()
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
        let what =
            |Nonsense| format!("the word that tells who has come to {} is nonsense", self.caller.operation);
        told.map_err(|nonsense| engine.damaged(what(nonsense)))
    }

    /// The second round of this reduction, of which `root` says who shows something. It is not the same as a first round, which a rank may
    /// have begun whose operation has panicked in this one.
    pub(super) fn second_round(&self, root: u64) -> Self {
        let topic = with_root(self.topic, root);
        Collective { world: self.world, topic, caller: self.caller, observed_since: 0 }
    }
}

/// A rank that combines in the first of two rounds. Dropped before it has come to the second one, as after a panic in the user's
/// operation, it tells the others, which wait for it there.
pub(super) struct Combining<'c>(pub(super) &'c Collective<'c>);

impl Combining<'_> {
    /// The second round comes.
    pub(super) fn succeeded(self) {
        std::mem::forget(self);
    }
}

impl Drop for Combining<'_> {
    fn drop(&mut self) {
        if let Ok(mut engine) = self.0.world.engine.try_borrow_mut() {
            engine.board.leave();
            engine.board.pass(with_root(self.0.topic, BROKEN_OFF));
            engine.board.leave();
            engine.wake_waiting();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use crate::job::Job;
    use crate::launch::in_process;
    use crate::layout::modes::STRICT;
    use crate::testing::run_in;
    use crate::{Error, Sum, World};

    /// Runs `body` as ranks that share two processors, wherever that is.
    fn run(modes: u32, ranks: usize, body: impl Fn(&World) + Sync) {
        let job: &'static Job = Box::leak(Box::new(in_process(ranks).unwrap()));
        job.header().cores.store(2, Relaxed);
        job.header().modes.store(modes, Relaxed);
        run_in(job, body);
    }

    /// The order of the ranks shows.
    fn digit(left: u64, right: u64) -> u64 {
        left.wrapping_mul(31).wrapping_add(right)
    }

    #[test]
    fn what_a_teller_combines_and_what_all_do_is_what_one_rank_would() {
        let words = [0, 1, 4, 5, 63, 64, 65, 255, 256, 257, 2047, 2048, 4095, 4096, 8191, 8192, 8193, 20_000];
        for (modes, ranks) in [(0, 4), (0, 5), (0, 16), (0, 17), (STRICT, 4), (STRICT, 16)] {
            run(modes, ranks, |world| {
                for length in words {
                    let of = |rank: usize, at: usize| (rank * 7919 + at * 31 + length) as u64;
                    let mine: Vec<_> = (0..length).map(|at| of(world.rank(), at)).collect();
                    let mut result = vec![0; length];
                    world.all_reduce(&mine, &mut result, digit).unwrap();
                    let expected = |at| (1..ranks).fold(of(0, at), |left, rank| digit(left, of(rank, at)));
                    let wrong = (0..length).find(|&at| result[at] != expected(at));
                    assert_eq!(wrong, None, "{length} words by {ranks} ranks");
                    world.barrier().unwrap();
                }
            });
        }
    }

    #[test]
    fn nobody_goes_on_from_a_barrier_before_all_have_come() {
        for modes in [0, STRICT] {
            let come = AtomicUsize::new(0);
            run(modes, 16, |world| {
                for round in 1..=50 {
                    come.fetch_add(1, Relaxed);
                    world.barrier().unwrap();
                    assert!(come.load(Relaxed) >= round * 16);
                    world.barrier().unwrap();
                }
            });
        }
    }

    #[test]
    fn ranks_that_wait_for_a_teller_whose_operation_panics_hear_of_it() {
        let panicked = AtomicUsize::new(0);
        let all_have_heard = Barrier::new(16);
        run(0, 16, |world| {
            let mine = [world.rank() as u64];
            let breaks_off = |_: u64, _: u64| -> u64 { panic!("this one was to combine") };
            match catch_unwind(AssertUnwindSafe(|| world.all_reduce(&mine, &mut [0], breaks_off))) {
                Err(_) => drop(panicked.fetch_add(1, Relaxed)),
                Ok(result) => {
                    let error = result.unwrap_err();
                    assert!(matches!(error, Error::CollectiveMismatch { .. }), "{error}");
                    assert!(error.to_string().contains("broken off: its operation panicked"), "{error}");
                }
            }
            all_have_heard.wait();
        });
        assert_eq!(panicked.into_inner(), 1);
    }

    /// What it shows next is of the same length, and would be taken for its slice of the result.
    #[test]
    fn a_rank_whose_operation_panics_on_its_slice_shows_no_result() {
        let all_have_heard = Barrier::new(2);
        run(0, 2, |world| {
            let (mine, mut result) = ([world.rank() as u64; 8192], [0; 8192]);
            if world.rank() == 0 {
                let breaks_off = |_: u64, _: u64| -> u64 { panic!("on one rank only") };
                let all_reduce = || world.all_reduce(&mine, &mut result, breaks_off);
                assert!(catch_unwind(AssertUnwindSafe(all_reduce)).is_err());
                all_have_heard.wait();
                return;
            }
            let error = world.all_reduce(&mine, &mut result, Sum).unwrap_err();
            assert!(error.to_string().contains("broken off"), "{error}");
            all_have_heard.wait();
        });
    }

    /// Nobody may be told that all agree.
    #[test]
    fn each_of_many_ranks_finds_that_one_is_in_another_collective() {
        let all_have_heard = Barrier::new(16);
        run(0, 16, |world| {
            let result = match world.rank() {
                5 => world.all_reduce(&[1u64], &mut [0], Sum),
                _ => world.barrier(),
            };
            let error = result.unwrap_err();
            assert!(matches!(error, Error::CollectiveMismatch { .. }), "{error}");
            let message = error.to_string();
            assert!(message.contains("barrier") && message.contains("all_reduce"), "{message}");
            // Who leaves before others have looked is gone for them.
            all_have_heard.wait();
        });
    }
}
