//! Who shares this rank's processor, and who of them goes on first.
//!
//! Where there are more ranks than processors, a rank that waits for a neighbour keeps it from running: it yields at once. One that
//! waits for a rank on another processor gains nothing by a yield, which takes a microsecond or two until it runs again: it looks
//! for a while first. So every rank says where it runs, whenever it waits for long. The system may move it meanwhile: then others
//! yield too early or too late until it waits again.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use shm_core::wait::current_processor;

use super::Engine;
use super::publish::Blocked;
use crate::job::Job;

/// The processor of a rank that has not said it.
const UNKNOWN: u32 = 0;

/// Where all ranks of the job run, as far as they have said it.
pub(super) struct Neighbours {
    processors: &'static [AtomicU32],
    /// What this rank has said.
    mine: u32,
    /// A neighbour that was to show something when this rank last asked.
    awaited: usize,
    /// The round of collectives in which this rank last let others run while it waited.
    yielded_in: u64,
    /// The round of the last barrier, and whether this rank went on from it at once.
    barrier: u64,
    left_first: bool,
    /// Neighbours are to go on first from a barrier: see [`Engine::leave_barrier`].
    gives_way: bool,
}

impl Neighbours {
    pub(super) fn new(job: &'static Job, rank: usize) -> Self {
        let processors = &job.header().processors.of[..job.geometry().ranks];
        let mine = processors[job.place(rank)].load(Relaxed);
        Self {
            processors,
            mine,
            awaited: rank,
            yielded_in: 0,
            barrier: 0,
            left_first: false,
            gives_way: false,
        }
    }
}

impl Engine {
    /// Says where this rank runs.
    #[inline]
    fn say_processor(&mut self) {
        let here = current_processor().map_or(UNKNOWN, |number| number.wrapping_add(1));
        if here != self.neighbours.mine {
            self.neighbours.mine = here;
            self.neighbours.processors[self.job.place(self.rank)].store(here, Relaxed);
        }
    }

    /// Whether `rank` was on this rank's processor when both last said where they are.
    #[inline]
    fn is_neighbour(&self, rank: usize) -> bool {
        let Neighbours { processors, mine, .. } = self.neighbours;
        let theirs = processors[self.job.place(rank)].load(Relaxed);
        theirs == mine && theirs != UNKNOWN
    }

    /// Whether a neighbour could do what is waited for, if this rank let it run.
    pub(super) fn awaits_neighbour(&mut self, blocked: &Blocked<'_>) -> bool {
        self.say_processor();
        match blocked.peer {
            Some(peer) if blocked.is_for_all() => self.awaits_some_neighbour(peer),
            Some(peer) => self.is_neighbour(peer),
            None => self.has_neighbour_awake(),
        }
    }

    /// Whether `peer` or some other neighbour is still to show something in this round.
    fn awaits_some_neighbour(&mut self, peer: usize) -> bool {
        // Whoever was still awaited the last time mostly still is: to ask all takes a line of each.
        let likely = [peer, self.neighbours.awaited];
        let awaited = likely
            .into_iter()
            .chain(0..self.size)
            .find(|&rank| self.is_neighbour(rank) && rank != self.rank && !self.board.has_shown(rank));
        self.neighbours.awaited = awaited.unwrap_or(self.neighbours.awaited);
        awaited.is_some()
    }

    /// Remembers that others could run while this rank waited.
    #[inline]
    pub(super) fn learn_of_yields(&mut self) {
        self.neighbours.yielded_in = self.board.round();
    }

    /// To be called at the end of a barrier where ranks share processors.
    ///
    /// Who comes last to a barrier finds all others there and goes on, while its neighbours wait for the processor. If it then needs
    /// what one of them is to show, as in a broadcast, nobody gains by that: all wait until that one has had its turn. So the next
    /// time it lets its neighbours go on first (docs/decisions/004-waiting.md).
    #[cold]
    pub(crate) fn leave_barrier(&mut self) {
        if self.goes_last() {
            std::thread::yield_now();
        }
    }

    /// Remembers the barrier that this rank is about to leave; whether its neighbours are to go on first.
    fn goes_last(&mut self) -> bool {
        let round = self.board.round();
        let neighbours = &mut self.neighbours;
        if round == neighbours.barrier + 1 {
            // No root was waited for since the last barrier: each switch less is a gain.
            neighbours.gives_way = false;
        }
        neighbours.barrier = round;
        neighbours.left_first = neighbours.yielded_in != round;
        neighbours.left_first && neighbours.gives_way
    }

    /// Remembers that this rank had to wait in a round of a collective, for what `all` show or one root.
    pub(crate) fn learn_of_order(&mut self, all: bool) {
        let round = self.board.round();
        let neighbours = &mut self.neighbours;
        if round == neighbours.barrier + 1 && neighbours.left_first && neighbours.yielded_in == round {
            neighbours.gives_way = !all;
        }
    }

    /// Whether a neighbour runs or could.
    fn has_neighbour_awake(&self) -> bool {
        let is_awake = |rank: usize| !self.departed[rank] && !self.job.control(rank).doorbell.is_parked();
        (0..self.size).any(|rank| self.is_neighbour(rank) && rank != self.rank && is_awake(rank))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    use super::{Engine, UNKNOWN};
    use crate::attach::Attachment;
    use crate::engine::Caller;
    use crate::engine::publish::Blocked;
    use crate::job::Job;
    use crate::launch::in_process;
    use crate::matching::Pattern;
    use crate::world::World;

    /// Runs `body` with rank 1 of three, in a thread that stays on its processor. Rank 0 is on that one too, rank 2 is not.
    fn beside_rank_0(body: impl FnOnce(&'static Job, &mut Engine) + Send) {
        let bound = || {
            let allowed = sched_getaffinity(None).unwrap();
            let mut one = CpuSet::new();
            one.set((0..CpuSet::MAX_CPU).find(|&number| allowed.is_set(number)).unwrap());
            sched_setaffinity(None, &one).unwrap();
            let job: &'static Job = Box::leak(Box::new(in_process(3).unwrap()));
            let [zero, world, two] = [0, 1, 2].map(|rank| World::attached(Attachment::of_thread(job, rank)));
            zero.engine.borrow_mut().say_processor();
            world.engine.borrow_mut().say_processor();
            job.header().processors.of[2].store(u32::MAX, Relaxed);
            body(job, &mut world.engine.borrow_mut());
            [zero, world, two].into_iter().for_each(|world| drop(world.fail("the test is over".to_owned())));
        };
        std::thread::scope(|scope| scope.spawn(bound).join().unwrap());
    }

    fn caller() -> Caller {
        Caller::new("barrier")
    }

    #[test]
    fn who_waits_for_one_rank_asks_whether_that_is_a_neighbour() {
        beside_rank_0(|job, engine| {
            let awaits = |engine: &mut Engine, peer| {
                engine.awaits_neighbour(&Blocked::in_send(caller(), peer, 0, 0, 8))
            };
            assert!(awaits(engine, 0) && !awaits(engine, 2));
            // Rank 0 has been moved since, rank 2 has come, and a rank that has not said where it is may be anywhere.
            job.header().processors.of[0].store(UNKNOWN, Relaxed);
            job.header().processors.of[2].store(engine.neighbours.mine, Relaxed);
            assert!(!awaits(engine, 0) && awaits(engine, 2));
            // A rank without a processor has no neighbours.
            engine.neighbours.mine = UNKNOWN;
            assert!(!engine.is_neighbour(0));
        });
    }

    #[test]
    fn who_waits_for_all_lets_a_neighbour_run_until_that_has_come() {
        beside_rank_0(|job, engine| {
            let mut rank_0 = Engine::new(job, 0);
            // Rank 2 comes first in what this rank hears; rank 0, beside it, has not come either.
            let of_one = Blocked::in_collective(caller(), 2, 0, 8);
            let of_all = of_one.and_all_others();
            engine.board.show([0; 2], [&[], &[]]);
            assert!(engine.awaits_neighbour(&of_all) && !engine.awaits_neighbour(&of_one));
            rank_0.board.show([0; 2], [&[], &[]]);
            assert!(!engine.awaits_neighbour(&of_all), "nothing is gained by a yield any more");
        });
    }

    #[test]
    fn who_waits_for_any_lets_neighbours_run_that_are_awake() {
        beside_rank_0(|job, engine| {
            let pattern = Pattern::new(0, None, Some(0));
            let from_any = Blocked::in_receive(caller(), &pattern, 8);
            assert!(engine.awaits_neighbour(&from_any));
            let (bell, doorbell) = (job.bell(0), &job.control(0).doorbell);
            bell.prepare(doorbell);
            assert!(!engine.awaits_neighbour(&from_any), "it sleeps");
            bell.ring(doorbell);
            assert!(engine.awaits_neighbour(&from_any), "it was woken, whether it has run since or not");
            engine.departed[0] = true;
            assert!(!engine.awaits_neighbour(&from_any), "it is gone");
        });
    }

    /// A barrier, in which this rank lets others run or not; whether it lets them go on first.
    fn barrier(engine: &mut Engine, yields: bool) -> bool {
        engine.board.pass([0; 2]);
        if yields {
            engine.learn_of_yields();
        }
        engine.goes_last()
    }

    /// Another collective, in which this rank waits for all or for one, and lets others run or not.
    fn wait(engine: &mut Engine, all: bool, yields: bool) {
        engine.board.pass([0; 2]);
        if yields {
            engine.learn_of_yields();
        }
        engine.learn_of_order(all);
    }

    #[test]
    fn who_left_a_barrier_first_to_wait_for_a_root_lets_others_go_first() {
        beside_rank_0(|_, engine| {
            assert!(!barrier(engine, false));
            wait(engine, false, true);
            // What the root shows is there then.
            for _ in 0..3 {
                assert!(barrier(engine, false));
                engine.board.pass([0; 2]);
            }
            assert!(!barrier(engine, true), "it had to wait for them anyway");
            engine.board.pass([0; 2]);
            assert!(barrier(engine, false));
            assert!(!barrier(engine, false), "nothing but barriers");
            wait(engine, false, true);
            assert!(barrier(engine, false));
            wait(engine, true, true);
            assert!(!barrier(engine, false), "somebody has to be the first where all need all");
        });
    }

    #[test]
    fn who_did_not_leave_first_or_did_not_wait_changes_nothing() {
        beside_rank_0(|_, engine| {
            barrier(engine, true);
            wait(engine, false, true);
            assert!(!barrier(engine, false), "others had left before it");
            wait(engine, false, false);
            assert!(!barrier(engine, false), "it came while this rank looked");
            engine.board.pass([0; 2]);
            wait(engine, false, true);
            assert!(!barrier(engine, false), "that was not the barrier's doing");
        });
    }

    #[test]
    fn a_broadcast_that_is_waited_for_after_a_barrier_is_remembered() {
        crate::testing::run(2, |world| {
            let job = world.engine.borrow().job;
            match world.rank() {
                1 => world.engine.borrow_mut().neighbours.left_first = true,
                // Who sleeps has let others run before.
                _ => {
                    while !job.control(1).doorbell.is_parked() {
                        std::thread::yield_now();
                    }
                }
            }
            let mut data = [if world.rank() == 0 { 7 } else { 0 }];
            world.broadcast(&mut data, 0).unwrap();
            assert_eq!(data, [7]);
            assert_eq!(world.engine.borrow().neighbours.gives_way, world.rank() == 1);
        });
    }
}
