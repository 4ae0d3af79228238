//! Ranks as threads of one process, over a segment of their own: what the sanitizers can see, and what unit tests
//! need. Everything below [`World`] is the same as with processes.

use std::panic::resume_unwind;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use crate::attach::Attachment;
use crate::job::Job;
use crate::launch::in_process;
use crate::turns::Turns;
use crate::world::World;

/// Runs `body` as `ranks` ranks, and passes on the first panic.
pub(crate) fn run(ranks: usize, body: impl Fn(&World) + Sync) {
    run_in(Box::leak(Box::new(in_process(ranks).unwrap())), body);
}

/// The same in a job with these of [`crate::layout::modes`].
fn run_in_modes(modes: u32, ranks: usize, body: impl Fn(&World) + Sync) {
    let job: &'static Job = Box::leak(Box::new(in_process(ranks).unwrap()));
    job.header().modes.store(modes, Relaxed);
    run_in(job, body);
}

/// Like [`run`]. Lanes borrow the mapping for as long as the process lives, as in a real rank.
fn run_in(job: &'static Job, body: impl Fn(&World) + Sync) {
    let ranks = job.geometry().ranks;
    let rank = |rank| {
        let attachment = Attachment::of_thread(job, rank);
        Turns::of(job).into_iter().for_each(|turns| turns.join(rank));
        let world = World::attached(attachment);
        body(&world);
    };
    thread::scope(|scope| {
        let handles: Vec<_> = (0..ranks).map(|number| scope.spawn(move || rank(number))).collect();
        let outcomes: Vec<_> = handles.into_iter().map(|handle| handle.join()).collect();
        outcomes.into_iter().for_each(|outcome| outcome.unwrap_or_else(|panic| resume_unwind(panic)));
    });
}

/// What a process that writes over the segment can do to the others.
mod damage {
    use proptest::prelude::*;
    use shm_core::ring::Producer;

    use super::*;
    use crate::{ANY_SOURCE, Error};

    fn cell() -> impl Strategy<Value = (u16, [u64; 3], Vec<u8>)> {
        // Mostly kinds and small numbers that exist: nonsense that is nearly right goes deepest.
        let kind = prop_oneof![4 => 0..11u16, 1 => any::<u16>()];
        let word = prop_oneof![6 => 0..4u32, 1 => any::<u32>()];
        let from_one = prop::bool::weighted(0.8);
        let words = (prop::array::uniform6(word), from_one).prop_map(|(mut words, from_one)| {
            words[1] = if from_one { 1 } else { words[1] };
            let pair = |at: usize| u64::from(words[at]) | u64::from(words[at + 1]) << 32;
            [pair(0), pair(2), pair(4)]
        });
        (kind, words, prop::collection::vec(0..3u8, 0..40))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        /// Nonsense in a ring is an error of the rank that reads it: no panic, no hang, no stray access.
        #[test]
        fn nonsense_in_a_ring_is_an_error(cells in prop::collection::vec(cell(), 1..30), posted in 0..3usize) {
            let job: &'static Job = Box::leak(Box::new(in_process(2).unwrap()));
            let world = World::attached(Attachment::of_thread(job, 0));
            let requests: Vec<_> = (0..posted).map(|_| world.irecv::<u8>(ANY_SOURCE).unwrap()).collect();
            let send = world.isend(vec![1u8; 100_000], 1).unwrap();
            job.segment().reserve(job.geometry().ring(1, 0)).unwrap();
            job.segment().reserve(job.geometry().pool(1)).unwrap();
            let mut producer = Producer::new(job.ring(1, 0));
            for (kind, words, payload) in &cells {
                producer.try_push(*kind, *words, payload).unwrap();
            }
            job.control(0).senders.bits[0].fetch_or(0b10, Relaxed);
            let mut outcome = Ok(true);
            while let Ok(true) = outcome {
                outcome = world.engine.borrow_mut().progress();
            }
            let expected = matches!(outcome, Ok(_) | Err(Error::Damaged { .. }));
            prop_assert!(expected, "{outcome:?}");
            drop((requests, send));
            std::mem::forget(world);
        }
    }
}

/// `--strict`: nothing relies on buffering.
mod strict {
    use super::run_in_modes;
    use crate::layout::modes::STRICT;
    use crate::{ANY_SOURCE, Error, World};

    fn run(ranks: usize, body: impl Fn(&World) + Sync) {
        run_in_modes(STRICT, ranks, body);
    }

    #[test]
    fn a_send_ends_only_when_it_is_received() {
        run(2, |world| {
            if world.rank() == 0 {
                let mut send = world.isend(vec![1u8], (1, 1)).unwrap();
                for _ in 0..100 {
                    assert!(!send.test().unwrap());
                }
                world.send(&[2u8], (1, 2)).unwrap();
                // The other has taken in the first message too, but has not received it.
                assert!(!send.test().unwrap());
                world.send(&[3u8], (1, 3)).unwrap();
                assert!(send.test().unwrap());
                world.send_object(&"four", 1).unwrap();
            } else {
                let mut data = [0u8];
                for tag in [2, 1, 3] {
                    world.recv(&mut data, (0, tag)).unwrap();
                }
                assert_eq!(world.recv_object::<String>(0).unwrap().0, "four");
            }
        });
    }

    #[test]
    fn a_send_to_oneself_is_an_error_unless_it_is_received_already() {
        run(1, |world| {
            let is_refused = |error| matches!(error, Error::WouldDeadlock { .. });
            assert!(is_refused(world.send(&[1u8], 0).unwrap_err()));
            assert!(is_refused(world.send_object(&1u8, 0).unwrap_err()));
            assert!(is_refused(world.isend(vec![2u8], 0).unwrap().wait().unwrap_err()));
            assert!(is_refused(world.scope(|scope| scope.isend(&[3u8], 0).map(drop)).unwrap_err()));
            // None of these is left behind.
            assert!(world.try_probe(ANY_SOURCE).unwrap().is_none());
            let receive = world.irecv::<u8>(0).unwrap();
            world.send(&[4u8], 0).unwrap();
            assert_eq!(receive.wait().unwrap().0, [4]);
        });
    }

    /// Without it the root of a broadcast goes on at once, and nobody would ever look at the other root.
    #[test]
    fn ranks_that_both_think_they_are_the_root_hear_of_it() {
        run(2, |world| {
            let error = world.broadcast(&mut [0u8; 4], world.rank()).unwrap_err();
            assert!(matches!(error, Error::CollectiveMismatch { .. }), "{error}");
        });
    }

    #[test]
    fn collectives_work() {
        run(3, |world| {
            let mut all = vec![0; 300_000];
            world.all_to_all(&vec![world.rank() as u64; 300_000], &mut all).unwrap();
            assert!(all.chunks(100_000).zip(0..).all(|(part, rank)| part.iter().all(|&value| value == rank)));
            let gathered = world.gather_object(&world.rank(), 1).unwrap();
            assert_eq!(gathered, (world.rank() == 1).then(|| vec![0, 1, 2]));
            let mut text = if world.rank() == 2 { b"hello".to_vec() } else { Vec::new() };
            world.broadcast_vec(&mut text, 2).unwrap();
            assert_eq!(text, b"hello");
        });
    }
}

/// A watcher that is never patient claims no deadlock of ranks that are none.
mod watched {
    use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
    use std::sync::atomic::{AtomicBool, AtomicUsize};
    use std::time::Duration;

    use super::run_in;
    use crate::diagnose::{Snapshot, find};
    use crate::job::Job;
    use crate::launch::in_process;
    use crate::{ANY_SOURCE, Sum, World, wait_any};

    /// Messages of every kind, each of which is received somehow.
    fn traffic(world: &World) {
        for round in 0..60 {
            if round % world.size() == world.rank() {
                // One is late, so that the others fall asleep.
                std::thread::sleep(Duration::from_micros(300));
            }
            exchange(world, round);
            last_of_three(world, round);
        }
    }

    fn exchange(world: &World, round: usize) {
        let (me, size) = (world.rank(), world.size());
        let step = 1 + round % (size - 1);
        let (next, before) = ((me + step) % size, (me + size - step) % size);
        let data = vec![round as u32; [1, 40, 3000, 70_000][(round + me) % 4]];
        match round % 5 {
            0 => drop(world.sendrecv(&data, next, &mut vec![0u32; 70_000], before).unwrap()),
            1 => {
                let send = world.synchronous_isend(data, (next, 1)).unwrap();
                assert_eq!(world.recv_vec::<u32>((ANY_SOURCE, 1)).unwrap().0[0], round as u32);
                send.wait().unwrap();
                world.barrier().unwrap();
            }
            2 => {
                let mut open = vec![world.irecv::<u32>((before, 2)).unwrap()];
                let send = world.isend(data, (next, 2)).unwrap();
                wait_any(&mut open).unwrap();
                send.wait().unwrap();
            }
            3 => world.all_reduce(&[me], &mut [0], Sum).unwrap(),
            _ if me == 0 => {
                (1..size).for_each(|_| drop(world.recv_vec::<u32>((ANY_SOURCE, 4)).unwrap()));
                (1..size).for_each(|rank| world.send(&[0u8; 20_000], (rank, 4)).unwrap());
            }
            _ => {
                world.send(&data, (0, 4)).unwrap();
                world.recv(&mut [0u8; 20_000], (0, 4)).unwrap();
            }
        }
    }

    /// Ranks 0 and 1 wait, one for anybody and the other for the first, until a third one comes.
    fn last_of_three(world: &World, round: usize) {
        match world.rank() {
            0 if round % 2 == 0 => {
                let mut open = vec![world.irecv::<u8>((1, 5)).unwrap(), world.irecv((2, 5)).unwrap()];
                wait_any(&mut open).unwrap();
                world.send(&[0u8], (1, 5)).unwrap();
                wait_any(&mut open).unwrap();
            }
            0 => {
                let (_, status) = world.recv_vec::<u8>((ANY_SOURCE, 5)).unwrap();
                world.send(&[0u8], (3 - status.source, 5)).unwrap();
                world.recv_vec::<u8>((3 - status.source, 5)).unwrap();
            }
            1 => {
                world.recv_vec::<u8>((0, 5)).unwrap();
                world.send(&[0u8], (0, 5)).unwrap();
            }
            2 => {
                std::thread::sleep(Duration::from_micros(300));
                world.send(&[0u8], (0, 5)).unwrap();
            }
            _ => {}
        }
    }

    /// Looks at which several ranks slept: any of them could have been taken for a deadlock.
    const LOOKS: usize = 1000;

    #[test]
    fn ranks_that_go_on_are_not_accused() {
        let job: &'static Job = Box::leak(Box::new(in_process(5).unwrap()));
        let (looks, over) = (AtomicUsize::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                while !over.load(Acquire) {
                    let snapshot = Snapshot::take(job, 0);
                    assert_eq!(find(&snapshot, Duration::ZERO, false), [], "{snapshot:?}");
                    let asleep = snapshot.ranks.iter().filter(|view| view.asleep).count();
                    looks.fetch_add(usize::from(asleep >= 3), Relaxed);
                }
            });
            run_in(job, |world| {
                let mut go_on = [1u8];
                while go_on == [1] {
                    traffic(world);
                    go_on = [u8::from(looks.load(Relaxed) < LOOKS && !watcher.is_finished())];
                    world.broadcast(&mut go_on, 0).unwrap();
                }
            });
            over.store(true, Release);
            watcher.join().unwrap();
        });
    }
}

/// `--chaos`: what happens depends on the seed and on nothing else.
mod chaos {
    use std::sync::Mutex;
    use std::sync::atomic::Ordering::Relaxed;

    use super::run_in;
    use crate::job::Job;
    use crate::launch::in_process;
    use crate::layout::modes::CHAOS;
    use crate::turns::Turns;
    use crate::{ANY_SOURCE, Sum, World, wait_any};

    fn run(seed: u64, ranks: usize, body: impl Fn(&World) + Sync) {
        let job: &'static Job = Box::leak(Box::new(in_process(ranks).unwrap()));
        job.header().modes.store(CHAOS, Relaxed);
        Turns::of(job).unwrap().plant(seed);
        run_in(job, body);
    }

    /// Who sends to rank 0 in which order, by short and long messages, with collectives between.
    fn arrivals(seed: u64) -> Vec<(usize, u64)> {
        let arrivals = Mutex::new(Vec::new());
        run(seed, 4, |world| {
            for round in 0..8 {
                if world.rank() > 0 {
                    let length = if (world.rank() + round) % 3 == 0 { 5000 } else { 3 };
                    world.send(&vec![round as u64; length], 0).unwrap();
                    continue;
                }
                let mut open: Vec<_> = (0..2).map(|_| world.irecv::<u64>(ANY_SOURCE).unwrap()).collect();
                while !open.is_empty() {
                    let (_, (_, status)) = wait_any(&mut open).unwrap();
                    arrivals.lock().unwrap().push((status.source, status.bytes));
                }
                while world.try_probe(ANY_SOURCE).unwrap().is_none() {}
                let (_, status) = world.recv_vec::<u64>(ANY_SOURCE).unwrap();
                arrivals.lock().unwrap().push((status.source, status.bytes));
            }
            let mut sum = [0];
            world.all_reduce(&[1], &mut sum, Sum).unwrap();
            assert_eq!(sum, [4]);
        });
        arrivals.into_inner().unwrap()
    }

    #[test]
    fn the_same_seed_gives_the_same_matches_and_others_give_others() {
        let first = arrivals(1);
        assert_eq!(first.len(), 24);
        for _ in 0..20 {
            assert_eq!(arrivals(1), first);
        }
        assert!((2..6).any(|seed| arrivals(seed) != first));
    }

    /// A rank that polls does not keep the others from running.
    #[test]
    fn a_loop_around_test_ends() {
        run(3, 2, |world| {
            if world.rank() == 0 {
                let mut receive = world.irecv::<u8>(1).unwrap();
                while !receive.test().unwrap() {}
                assert_eq!(receive.wait().unwrap().0, [7]);
            } else {
                world.send(&[7u8], 0).unwrap();
            }
        });
    }

    #[test]
    fn one_rank_runs_at_a_time() {
        let running = Mutex::new(());
        run(5, 4, |world| {
            for _ in 0..50 {
                {
                    let alone = running.try_lock();
                    assert!(alone.is_ok(), "two ranks run at the same time");
                    std::thread::yield_now();
                }
                world.barrier().unwrap();
            }
        });
    }

    #[test]
    fn long_messages_arrive() {
        run(9, 2, |world| {
            let other = 1 - world.rank();
            let data: Vec<u32> = (0..1_000_000).map(|i| i * 3 + world.rank() as u32).collect();
            let mut back = vec![0u32; data.len()];
            world.sendrecv(&data, other, &mut back, other).unwrap();
            assert!(back.iter().zip(0..).all(|(&value, i)| value == i * 3 + other as u32));
        });
    }
}

mod smoke {
    use std::sync::atomic::Ordering::{Acquire, Relaxed};

    use super::{run, run_in};
    use crate::World;
    use crate::job::Job;
    use crate::launch::in_process;
    use crate::status::operation_name;
    use crate::{ANY_SOURCE, Sum, wait_all};

    fn exchange_of_every_length(world: &World) {
        let other = 1 - world.rank();
        for length in [0, 1, 4, 5, 100, 1000, 2048, 2049, 5000, 16_000, 100_000, 3_000_000] {
            let data: Vec<u32> = (0..length as u32).map(|i| i * 7 + world.rank() as u32).collect();
            let mut back = vec![0u32; length];
            let status = world.sendrecv(&data, (other, 3), &mut back, (other, 3)).unwrap();
            assert_eq!((status.count::<u32>(), status.source, status.tag), (length, other, 3));
            assert!(back.iter().zip(0..).all(|(&v, i)| v == i * 7 + other as u32), "{length}");
        }
    }

    #[test]
    fn messages_of_all_lanes_arrive() {
        run(2, exchange_of_every_length);
    }

    #[test]
    fn messages_arrive_where_nothing_is_copied_directly() {
        let job: &'static Job = Box::leak(Box::new(in_process(2).unwrap()));
        job.header().direct_from.store(u64::MAX, Relaxed);
        run_in(job, exchange_of_every_length);
    }

    #[test]
    fn messages_arrive_where_one_rank_does_not_reach_the_other() {
        let job: &'static Job = Box::leak(Box::new(in_process(2).unwrap()));
        run_in(job, |world| {
            if world.rank() == 0 {
                // What rank 1 would have to find in the memory of rank 0, which offers all the same.
                job.control(0).life.probe_value.fetch_xor(1, Relaxed);
            }
            world.barrier().unwrap();
            exchange_of_every_length(world);
        });
    }

    #[test]
    fn scoped_requests_can_be_asked() {
        run(2, |world| {
            let other = 1 - world.rank();
            let (mine, mut theirs) = ([world.rank() as u16; 50_000], [9; 50_000]);
            let asked = world.scope(|scope| {
                let mut receive = scope.irecv(&mut theirs, other)?;
                let before = receive.test()?;
                world.barrier()?;
                let mut send = scope.isend(&mine, other)?;
                while !(receive.test()? & send.test()?) {}
                Ok((before, receive.wait()?.count::<u16>()))
            });
            assert_eq!(asked.unwrap(), (false, 50_000));
            assert!(theirs.iter().all(|&value| value == other as u16));
        });
    }

    #[test]
    fn reverse_order_and_wildcards() {
        run(3, |world| {
            if world.rank() == 0 {
                for tag in (0..200).rev() {
                    let (data, status) = world.recv_vec::<u8>((ANY_SOURCE, tag)).unwrap();
                    assert_eq!((data.len(), status.tag), (64 << 10, tag));
                    let (data, _) = world.recv_vec::<u8>((3 - status.source, tag)).unwrap();
                    assert_eq!(data[0], tag as u8);
                }
            } else {
                let sends = (0..200).map(|tag| world.isend(vec![tag as u8; 64 << 10], (0, tag)).unwrap());
                let sends: Vec<_> = sends.collect();
                wait_all(sends).unwrap();
            }
        });
    }

    #[test]
    fn a_blocked_rank_says_what_it_waits_for() {
        run(2, |world| {
            if world.rank() == 0 {
                world.recv(&mut [0u8; 3], (1, 9)).unwrap();
                return;
            }
            let job = world.engine.borrow().job;
            let line = &job.control(0).status;
            // Odd while blocked; a rank that never parks would never get there, and the runner's limit ends this.
            while line.sequence.load(Acquire).is_multiple_of(2) {
                std::thread::yield_now();
            }
            assert_eq!(operation_name(line.operation.load(Relaxed)), "recv");
            let (peer, tag, bytes) = (&line.peer, &line.tag, &line.bytes);
            assert_eq!((peer.load(Relaxed), tag.load(Relaxed), bytes.load(Relaxed)), (1, 9, 3));
            world.send(&[0u8; 3], (0, 9)).unwrap();
        });
    }

    #[test]
    fn collectives_agree() {
        run(3, |world| {
            for length in [0usize, 1, 10, 5_000, 100_000] {
                let mine = vec![world.rank() as u64 + 1; length];
                let mut sum = vec![0; length];
                world.all_reduce(&mine, &mut sum, Sum).unwrap();
                assert!(sum.iter().all(|&s| s == 6));
                let mut all = vec![0; 3 * length];
                world.all_to_all(&vec![world.rank() as u64; 3 * length], &mut all).unwrap();
                assert!(all.chunks(length.max(1)).zip(0..).all(|(part, r)| part.iter().all(|&v| v == r)));
                world.barrier().unwrap();
            }
        });
    }
}
