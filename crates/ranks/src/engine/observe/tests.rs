use std::sync::atomic::Ordering::Relaxed;

use crate::World;
use crate::job::Job;
use crate::launch::{Observe, in_process, in_process_observed};
use crate::layout::event_kind;
use crate::testing::run_in;

/// Kind, peer, tag, bytes and number of a rank's events but for waits.
fn events(job: &Job, rank: usize) -> Vec<(u32, u32, i32, u64, u64)> {
    let count = job.tally(rank).events.load(Relaxed) as usize;
    let events = job.timeline(rank)[..count].iter();
    let told = events.map(|event| {
        let word = |word: &std::sync::atomic::AtomicU32| word.load(Relaxed);
        assert!(event.begin.load(Relaxed) <= event.end.load(Relaxed));
        let (bytes, number) = (event.bytes.load(Relaxed), event.number.load(Relaxed));
        (word(&event.kind), word(&event.peer), word(&event.tag) as i32, bytes, number)
    });
    told.filter(|event| event.0 != event_kind::WAITED).collect()
}

#[test]
fn messages_have_the_same_number_on_both_sides_in_whatever_order_they_are_received() {
    const LONG: usize = 100_000;
    let job: &'static Job =
        Box::leak(Box::new(in_process_observed(2, Observe::Timelines { events: 64 }).unwrap()));
    run_in(job, |world| {
        if world.rank() == 0 {
            world.send(&[1u8; 8], (1, 1)).unwrap();
            world.isend(vec![2u8; 16], (1, 2)).unwrap().wait().unwrap();
            world.isend(vec![3u8; 4], (1, 1)).unwrap().wait().unwrap();
            world.send(&vec![4u8; LONG], (1, 4)).unwrap();
        } else {
            let mut buffer = vec![0u8; LONG];
            world.recv(&mut buffer, (0, 4)).unwrap();
            world.recv(&mut buffer, (0, 1)).unwrap();
            world.recv_vec::<u8>((0, 2)).unwrap();
            world.probe((0, 1)).unwrap();
            world.recv_vec::<u8>((0, 1)).unwrap();
            // To itself, received in another order than sent.
            let sends = [5, 6].map(|tag| world.isend(vec![tag as u8], (1, tag)).unwrap());
            world.recv(&mut buffer, (1, 6)).unwrap();
            world.recv(&mut buffer, (1, 5)).unwrap();
            sends.into_iter().for_each(|send| drop(send.wait().unwrap()));
        }
        world.barrier().unwrap();
    });
    const NOBODY: u32 = u32::MAX;
    let barrier = (event_kind::COLLECTIVE, NOBODY, -1, 0, 0);
    let (sent, received) = (event_kind::SENT, event_kind::RECEIVED);
    let long = LONG as u64;
    let expected = [(sent, 1, 1, 8, 1), (sent, 1, 2, 16, 2), (sent, 1, 1, 4, 3), (sent, 1, 4, long, 4)];
    assert_eq!(events(job, 0), [&expected[..], &[barrier]].concat());
    let expected = [
        (received, 0, 4, long, 4),
        (received, 0, 1, 8, 1),
        (received, 0, 2, 16, 2),
        (received, 0, 1, 4, 3),
        (sent, 1, 5, 1, 1),
        (sent, 1, 6, 1, 2),
        (received, 1, 6, 1, 2),
        (received, 1, 5, 1, 1),
        barrier,
    ];
    assert_eq!(events(job, 1), expected);
    let total = |rank: usize, peer: usize| {
        let [sent, received] = [&job.peer_tallies(rank)[peer].sent, &job.peer_tallies(rank)[peer].received];
        [sent, received].map(|traffic| (traffic.messages.load(Relaxed), traffic.bytes.load(Relaxed)))
    };
    assert_eq!(total(0, 1), [(4, 28 + long), (0, 0)]);
    assert_eq!(total(1, 0), [(0, 0), (4, 28 + long)]);
    assert_eq!(total(1, 1), [(2, 2), (2, 2)]);
    assert!(job.tally(1).waiting.load(Relaxed) > 0 && job.tally(1).waits.load(Relaxed) > 0);
}

#[test]
fn ranks_follow_who_begins_and_ends_to_watch() {
    let job: &'static Job = Box::leak(Box::new(in_process(2).unwrap()));
    let swap = |world: &World| {
        let other = 1 - world.rank();
        // More than the messages that go the short way between two looks at everything.
        for _ in 0..200 {
            world.sendrecv(&[1u8], other, &mut [0u8], other).unwrap();
        }
    };
    let sent = || job.peer_tallies(0)[1].sent.messages.load(Relaxed);
    run_in(job, |world| {
        let watch = |change: &dyn Fn()| {
            world.barrier().unwrap();
            if world.rank() == 0 {
                change();
            }
            world.barrier().unwrap();
        };
        swap(world);
        watch(&|| {
            job.begin_watching().unwrap();
            assert_eq!(sent(), 0);
        });
        swap(world);
        watch(&|| {
            assert!((1..=200).contains(&sent()), "{} messages", sent());
            job.end_watching();
        });
        swap(world);
        let counted = sent();
        swap(world);
        assert_eq!(sent(), counted);
    });
}
