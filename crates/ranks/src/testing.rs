//! Ranks as threads of one process, over a segment of their own: what the sanitizers can see, and what unit tests and
//! fuzzers need. Everything below [`World`] is the same as with processes.

#![cfg_attr(not(test), allow(dead_code, reason = "fuzzers need no threads"))]

#[cfg(test)]
mod chaos;
pub(crate) mod damage;
#[cfg(test)]
mod strict;
mod watchdog;
#[cfg(test)]
mod watched;

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
pub(crate) fn run_in(job: &'static Job, body: impl Fn(&World) + Sync) {
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

#[cfg(test)]
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
        for length in [
            0, 1, 4, 5, 100, 1000, 1024, 1025, 2048, 2049, 4096, 5000, 16_000, 16_384, 16_385, 100_000,
            131_072, 131_073, 3_000_000,
        ] {
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
