//! Probes look at a message without receiving it; matched probes take it out of everyone else's sight.

#[path = "support/payload.rs"]
mod payload;
#[path = "support/watchdog.rs"]
mod watchdog;

use payload::{check, filled};
use ranks::{ANY_SOURCE, ANY_TAG, Status, spawn};
use watchdog::{step, watch};

/// In words: within a cell, within the eager lane, and long.
const LENGTHS: [usize; 4] = [0, 3, 1000, 500_000];

fn status_of(tag: i32, words: usize) -> Status {
    Status { source: 0, tag, bytes: (words * size_of::<u64>()) as u64 }
}

#[test]
fn probe_says_what_arrives_and_leaves_it_there() {
    spawn(2, |world| {
        watch(world);
        for (tag, words) in (1..).zip(LENGTHS) {
            step(format!("{words} words with tag {tag}"));
            if world.rank() == 0 {
                world.send(&filled(9, words), (1, tag)).unwrap();
            } else {
                let expected = status_of(tag, words);
                assert_eq!(world.probe((ANY_SOURCE, ANY_TAG)).unwrap(), expected);
                assert_eq!(world.probe((0, tag)).unwrap(), expected);
                assert_eq!(world.try_probe((0, tag)).unwrap(), Some(expected));
                let mut buffer = vec![0; expected.count::<u64>()];
                assert_eq!(world.recv(&mut buffer, (0, tag)).unwrap(), expected);
                check(&buffer, 9);
            }
        }
    })
    .unwrap();
}

#[test]
fn try_probe_sees_a_message_only_where_source_and_tag_fit() {
    spawn(3, |world| {
        watch(world);
        match world.rank() {
            0 => world.send(&[1u8], (2, 5)).unwrap(),
            1 => (),
            _ => {
                world.probe(ANY_SOURCE).unwrap();
                assert_eq!(world.try_probe((0, 6)).unwrap(), None);
                assert_eq!(world.try_probe((1, 5)).unwrap(), None);
                assert_eq!(world.try_probe((2, 5)).unwrap(), None);
                assert!(world.try_probe((0, 5)).unwrap().is_some());
                world.recv(&mut [0u8], (0, 5)).unwrap();
                assert_eq!(world.try_probe((ANY_SOURCE, 5)).unwrap(), None);
            }
        }
        // Nobody leaves before all probes are done.
        world.barrier().unwrap();
    })
    .unwrap();
}

/// Polling alone must bring the message in.
#[test]
fn try_probe_makes_progress() {
    spawn(2, |world| {
        watch(world);
        for words in LENGTHS {
            step(format!("{words} words"));
            if world.rank() == 0 {
                world.send(&filled(2, words), 1).unwrap();
                continue;
            }
            while world.try_probe(0).unwrap().is_none() {
                std::thread::yield_now();
            }
            check(&world.recv_vec(0).unwrap().0, 2);
        }
    })
    .unwrap();
}

#[test]
fn a_matched_message_is_hidden_from_other_receives() {
    spawn(2, |world| {
        watch(world);
        for (tag, words) in (1..).zip(LENGTHS) {
            step(format!("{words} words"));
            if world.rank() == 0 {
                let first = world.isend(filled(1, words), (1, tag)).unwrap();
                world.isend(filled(2, words), (1, tag)).unwrap().wait().unwrap();
                first.wait().unwrap();
                world.barrier().unwrap();
                continue;
            }
            let message = world.matched_probe((0, tag)).unwrap();
            assert_eq!(message.status(), status_of(tag, words));
            step("receives the second message before the matched one");
            check(&world.recv_vec((0, tag)).unwrap().0, 2);
            assert_eq!(world.try_probe((0, tag)).unwrap(), None);
            step("receives the matched message");
            let mut buffer = vec![0; words];
            assert_eq!(message.recv(&mut buffer).unwrap(), status_of(tag, words));
            check(&buffer, 1);
            world.barrier().unwrap();
        }
    })
    .unwrap();
}

#[test]
fn try_matched_probe_takes_each_message_once() {
    spawn(2, |world| {
        watch(world);
        if world.rank() == 0 {
            world.send(&filled(1, 10), (1, 1)).unwrap();
            world.send(&filled(2, 10), (1, 2)).unwrap();
            return world.barrier().unwrap();
        }
        world.probe((0, 2)).unwrap();
        let first = world.try_matched_probe(ANY_SOURCE).unwrap().expect("the first message");
        let second = world.try_matched_probe(ANY_SOURCE).unwrap().expect("the second message");
        assert!(world.try_matched_probe(ANY_SOURCE).unwrap().is_none(), "two messages were sent");
        assert_eq!((first.status().tag, second.status().tag), (1, 2));
        check(&second.recv_vec().unwrap().0, 2);
        check(&first.recv_vec().unwrap().0, 1);
        world.barrier().unwrap();
    })
    .unwrap();
}

#[test]
fn a_matched_message_longer_than_the_buffer_is_an_error_that_names_both_sizes() {
    for sent in [1003usize, 300_007] {
        spawn(2, |world| {
            watch(world);
            if world.rank() == 0 {
                world.send(&vec![1u8; sent], (1, 4242)).unwrap();
                world.send(&filled(3, 10), (1, 4242)).unwrap();
                return;
            }
            let error = world.matched_probe(0).unwrap().recv(&mut [0u8; 517]).unwrap_err().to_string();
            for part in [&sent.to_string(), "517", "rank 0", "4242"] {
                assert!(error.contains(part), "{part:?} is missing in: {error}");
            }
            step("receives the next message");
            check(&world.recv_vec(0).unwrap().0, 3);
        })
        .unwrap();
    }
}
