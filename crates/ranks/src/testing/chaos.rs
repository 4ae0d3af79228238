//! `--chaos`: what happens depends on the seed and on nothing else.

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
