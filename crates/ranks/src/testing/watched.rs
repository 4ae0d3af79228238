//! A watcher that is never patient claims no deadlock of ranks that are none.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::{Duration, Instant};

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
        0 if round.is_multiple_of(2) => {
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
/// Beside busy processes ranks seldom sleep at a time. Then it looks for so long.
const LONGEST: Duration = Duration::from_secs(10);

#[test]
fn ranks_that_go_on_are_not_accused() {
    let job: &'static Job = Box::leak(Box::new(in_process(5).unwrap()));
    let (looks, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let begin = Instant::now();
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
                let looks = looks.load(Relaxed);
                let has_looked = looks >= LOOKS || looks > 0 && begin.elapsed() > LONGEST;
                go_on = [u8::from(!has_looked && !watcher.is_finished())];
                world.broadcast(&mut go_on, 0).unwrap();
            }
        });
        over.store(true, Release);
        watcher.join().unwrap();
    });
}
