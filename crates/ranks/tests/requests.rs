//! Operations that are started now and completed later: wait, test, `wait_all`, `wait_any`, cancel, scopes.

#[path = "support/payload.rs"]
mod payload;
#[path = "support/watchdog.rs"]
mod watchdog;

use std::panic::{AssertUnwindSafe, catch_unwind};

use payload::{check, filled};
use ranks::{ANY_SOURCE, Cancel, Error, Overlap, Source, Tag, World, spawn, wait_all, wait_any};
use watchdog::{step, watch};

/// In words: within a cell, within the eager lane, and long.
const LENGTHS: [usize; 4] = [0, 3, 1000, 500_000];
/// Messages without content that only say that something has happened.
const SIGNAL: Tag = 1000;

fn signal(world: &World, to: usize) {
    world.send(&[] as &[u8], (to, SIGNAL)).unwrap();
}

#[track_caller]
fn await_signal(world: &World, from: usize) {
    step(format!("waits for the signal of rank {from}"));
    world.recv(&mut [] as &mut [u8], (from, SIGNAL)).unwrap();
}

#[test]
fn isend_gives_its_buffer_back() {
    spawn(2, |world| {
        watch(world);
        for words in LENGTHS {
            step(format!("{words} words"));
            if world.rank() == 0 {
                let data = filled(6, words);
                let address = data.as_ptr();
                let back = world.isend(data, 1).unwrap().wait().unwrap();
                assert_eq!((back.as_ptr(), back.len()), (address, words));
                check(&back, 6);
            } else {
                check(&world.recv_vec(0).unwrap().0, 6);
            }
        }
    })
    .unwrap();
}

/// The receive is posted before the message is sent, and afterwards.
#[test]
fn irecv_gives_a_vector_of_the_length_that_was_sent() {
    spawn(2, |world| {
        watch(world);
        for words in LENGTHS {
            step(format!("{words} words"));
            if world.rank() == 0 {
                await_signal(world, 1);
                world.send(&filled(1, words), (1, 1)).unwrap();
                world.send(&filled(2, words), (1, 2)).unwrap();
            } else {
                let early = world.irecv::<u64>((0, 1)).unwrap();
                signal(world, 0);
                let late = world.irecv::<u64>((0, 2)).unwrap();
                for (id, request) in [(2, late), (1, early)] {
                    let (data, status) = request.wait().unwrap();
                    assert_eq!((data.len(), status.tag), (words, id as Tag));
                    check(&data, id);
                }
            }
        }
    })
    .unwrap();
}

#[test]
fn irecv_into_fills_the_buffer_it_was_given_and_refuses_more() {
    const ROOM: usize = 517;
    spawn(2, |world| {
        watch(world);
        if world.rank() == 0 {
            await_signal(world, 1);
            world.send(&[1u8; 100], (1, 41)).unwrap();
            world.send(&[2u8; 1003], (1, 42)).unwrap();
            world.send(&[3u8; ROOM], (1, 43)).unwrap();
            return;
        }
        let post = |tag| world.irecv_into(vec![9u8; ROOM], (0, tag)).unwrap();
        let (shorter, longer, exact) = (post(41), post(42), post(43));
        signal(world, 0);
        step("completes the receives");
        let (data, status) = shorter.wait().unwrap();
        assert_eq!((data.len(), status.bytes), (ROOM, 100));
        assert_eq!((&data[..100], &data[100..]), (&[1; 100][..], &[9; ROOM - 100][..]));
        let error = longer.wait().unwrap_err().to_string();
        for part in ["1003", "517", "rank 0", "42"] {
            assert!(error.contains(part), "{part:?} is missing in: {error}");
        }
        assert_eq!(exact.wait().unwrap().0, [3; ROOM]);
    })
    .unwrap();
}

#[test]
fn test_is_false_until_the_message_is_there_and_then_stays_true() {
    spawn(2, |world| {
        watch(world);
        for words in LENGTHS {
            if world.rank() == 0 {
                await_signal(world, 1);
                world.send(&filled(7, words), 1).unwrap();
                continue;
            }
            let mut request = world.irecv::<u64>((0, 0)).unwrap();
            assert!(!request.test().unwrap(), "nothing has been sent");
            signal(world, 0);
            step(format!("polls for {words} words"));
            while !request.test().unwrap() {
                std::thread::yield_now();
            }
            assert!(request.test().unwrap());
            check(&request.wait().unwrap().0, 7);
        }
    })
    .unwrap();
}

#[test]
fn a_synchronous_isend_is_incomplete_until_its_message_is_matched() {
    spawn(2, |world| {
        watch(world);
        for words in LENGTHS {
            if world.rank() == 0 {
                let mut request = world.synchronous_isend(filled(3, words), (1, 1)).unwrap();
                signal(world, 1);
                await_signal(world, 1);
                assert!(!request.test().unwrap(), "{words} words: nobody has received them yet");
                signal(world, 1);
                step(format!("waits for {words} words to be matched"));
                check(&request.wait().unwrap(), 3);
            } else {
                await_signal(world, 0);
                signal(world, 0);
                await_signal(world, 0);
                check(&world.recv_vec((0, 1)).unwrap().0, 3);
            }
        }
    })
    .unwrap();
}

#[test]
fn synchronous_and_long_messages_to_oneself_complete() {
    spawn(1, |world| {
        watch(world);
        for words in LENGTHS {
            step(format!("{words} words to oneself"));
            let long = world.isend(filled(1, words), (0, 1)).unwrap();
            let synchronous = world.synchronous_isend(filled(2, words), (0, 2)).unwrap();
            check(&world.recv_vec((0, 2)).unwrap().0, 2);
            check(&world.recv_vec((0, 1)).unwrap().0, 1);
            check(&long.wait().unwrap(), 1);
            check(&synchronous.wait().unwrap(), 2);
        }
    })
    .unwrap();
}

#[test]
fn wait_all_returns_in_the_order_of_the_requests() {
    const MESSAGES: Tag = 50;
    spawn(2, |world| {
        watch(world);
        if world.rank() == 0 {
            await_signal(world, 1);
            (0..MESSAGES).rev().for_each(|tag| world.send(&filled(tag as u64, 100), (1, tag)).unwrap());
            return;
        }
        let requests: Vec<_> = (0..MESSAGES).map(|tag| world.irecv::<u64>((0, tag)).unwrap()).collect();
        signal(world, 0);
        step("waits for all");
        for (tag, (data, status)) in (0..MESSAGES).zip(wait_all(requests).unwrap()) {
            assert_eq!(status.tag, tag);
            check(&data, tag as u64);
        }
    })
    .unwrap();
}

/// Rank 1 sends only when rank 2's message, posted for behind its own, has been completed.
#[test]
fn wait_any_completes_the_one_that_is_ready_and_says_where_it_stood() {
    spawn(3, |world| {
        watch(world);
        match world.rank() {
            0 => {
                let mut requests = vec![world.irecv::<u64>((1, 0)).unwrap(), world.irecv((2, 0)).unwrap()];
                step("waits for rank 2's message");
                let (index, (data, _)) = wait_any(&mut requests).unwrap();
                assert_eq!((index, data, requests.len()), (1, vec![2], 1));
                signal(world, 1);
                step("waits for rank 1's message");
                let (index, (data, _)) = wait_any(&mut requests).unwrap();
                assert_eq!((index, data, requests.len()), (0, vec![1], 0));
            }
            1 => {
                await_signal(world, 0);
                world.send(&[1u64], (0, 0)).unwrap();
            }
            _ => world.send(&[2u64], (0, 0)).unwrap(),
        }
    })
    .unwrap();
}

#[test]
fn wait_any_completes_every_request_once() {
    const MESSAGES: Tag = 40;
    spawn(3, |world| {
        watch(world);
        if world.rank() > 0 {
            let id = |tag| (world.rank() * 100) as u64 + tag as u64;
            (0..MESSAGES)
                .rev()
                .for_each(|tag| world.send(&filled(id(tag), tag as usize * 500), (0, tag)).unwrap());
            return world.barrier().unwrap();
        }
        let mut posted: Vec<_> = (0..MESSAGES).flat_map(|tag| [(1, tag), (2, tag)]).collect();
        let mut requests: Vec<_> = posted.iter().map(|&from| world.irecv::<u64>(from).unwrap()).collect();
        while !requests.is_empty() {
            step(format!("{} requests are left", requests.len()));
            let (index, (data, status)) = wait_any(&mut requests).unwrap();
            assert_eq!(posted.remove(index), (status.source, status.tag));
            check(&data, (status.source * 100) as u64 + status.tag as u64);
        }
        assert_eq!(world.try_probe(ANY_SOURCE).unwrap(), None, "every message has been received");
        world.barrier().unwrap();
    })
    .unwrap();
}

#[test]
fn a_cancelled_receive_leaves_the_message_to_the_next_one() {
    spawn(2, |world| {
        watch(world);
        for words in LENGTHS {
            if world.rank() == 0 {
                await_signal(world, 1);
                world.send(&filled(4, words), (1, 1)).unwrap();
                continue;
            }
            let before = world.irecv::<u64>((0, 1)).unwrap();
            assert!(matches!(before.cancel().unwrap(), Cancel::Cancelled));
            let cancelled = world.irecv::<u64>((0, 1)).unwrap();
            let kept = world.irecv::<u64>((0, 1)).unwrap();
            assert!(matches!(cancelled.cancel().unwrap(), Cancel::Cancelled));
            signal(world, 0);
            step(format!("waits for {words} words in the receive that was not cancelled"));
            check(&kept.wait().unwrap().0, 4);
        }
    })
    .unwrap();
}

#[test]
fn a_receive_that_is_complete_cannot_be_cancelled_any_more() {
    spawn(2, |world| {
        watch(world);
        if world.rank() == 0 {
            world.send(&filled(4, 1000), 1).unwrap();
            return;
        }
        let mut request = world.irecv::<u64>(0).unwrap();
        step("polls until the message is there");
        while !request.test().unwrap() {
            std::thread::yield_now();
        }
        match request.cancel().unwrap() {
            Cancel::Completed((data, status)) => {
                assert_eq!(status.count::<u64>(), 1000);
                check(&data, 4);
            }
            Cancel::Cancelled => panic!("a message that had been received was dropped"),
        }
    })
    .unwrap();
}

/// Both neighbours' halves are received into one borrowed array while another one is sent from.
#[test]
fn the_end_of_a_scope_completes_what_was_started_in_it() {
    spawn(2, |world| {
        watch(world);
        let (me, other) = (world.rank(), 1 - world.rank());
        for words in LENGTHS {
            step(format!("two halves of {words} words"));
            let data = filled(me as u64, words);
            let mut buffer = vec![0; 2 * words];
            let (first, second) = buffer.split_at_mut(words);
            world
                .scope(|scope| {
                    scope.irecv(second, (other, 2))?;
                    scope.irecv(first, (other, 1))?;
                    scope.isend(&data, (other, 1))?;
                    scope.isend(&data, (other, 2))?;
                    Ok(())
                })
                .unwrap();
            buffer.chunks(words.max(1)).for_each(|half| check(half, other as u64));
        }
    })
    .unwrap();
}

#[test]
fn scoped_requests_can_be_waited_for_one_by_one() {
    spawn(2, |world| {
        watch(world);
        let other = 1 - world.rank();
        let data = filled(world.rank() as u64, 100_000);
        let mut buffer = vec![0; 100_000];
        let answer = world
            .scope(|scope| {
                let receive = scope.irecv(&mut buffer, other)?;
                let send = scope.isend(&data, other)?;
                step("waits for the receive");
                receive.wait()?;
                step("waits for the send");
                send.wait()?;
                Ok(42)
            })
            .unwrap();
        assert_eq!(answer, 42);
        check(&buffer, other as u64);
    })
    .unwrap();
}

/// Though a message is there that would be taken at once if the number were shortened, or any tag would do.
#[test]
fn a_scoped_receive_from_nobody_or_with_no_tag_is_an_error() {
    spawn(2, |world| {
        watch(world);
        let other = 1 - world.rank();
        world.send(&[7u8], (other, 3)).unwrap();
        world.barrier().unwrap();
        let mut buffer = [0u8];
        for rank in [2, 1 << 32 | other, usize::MAX] {
            let outcome = world.scope(|scope| scope.irecv(&mut buffer, (rank, 3)).map(drop));
            let is_right =
                matches!(outcome, Err(Error::RankOutOfRange { rank: found, size: 2, .. }) if found == rank);
            assert!(is_right, "{outcome:?}");
        }
        let nobody = world.scope(|scope| scope.irecv(&mut buffer, (2, -1)).map(drop));
        assert!(matches!(nobody, Err(Error::RankOutOfRange { .. })), "{nobody:?}");
        for from in [Source::from((other, -1)), (other, -2).into(), (ANY_SOURCE, -1).into()] {
            let outcome = world.scope(|scope| scope.irecv(&mut buffer, from).map(drop));
            assert!(matches!(outcome, Err(Error::NegativeTag { tag: -1 | -2, .. })), "{outcome:?}");
        }
        assert_eq!(buffer, [0]);
        world.scope(|scope| scope.irecv(&mut buffer, (other, 3)).map(drop)).unwrap();
        assert_eq!(buffer, [7]);
    })
    .unwrap();
}

/// Each message lies in its own part, behind the one of the message before.
#[test]
fn parts_of_a_buffer_can_be_lent_to_several_receives() {
    spawn(2, |world| {
        watch(world);
        let other = 1 - world.rank();
        let mut buffer = [0u16; 100];
        let lent = Overlap::new(&mut buffer);
        world
            .scope(|scope| {
                // The last one has no element.
                for start in [0, 30, 60, 90, 100] {
                    scope.irecv_overlapping(lent.part(start..(start + 30).min(100)), (other, 3))?;
                }
                for length in [30u16, 20, 30, 10, 0] {
                    world.send(&vec![length; length.into()], (other, 3))?;
                }
                Ok(())
            })
            .unwrap();
        let part = |value, length| vec![value; length];
        assert_eq!(
            buffer[..],
            [part(30, 30), part(20, 20), part(0, 10), part(30, 30), part(10, 10)].concat()
        );
    })
    .unwrap();
}

#[test]
fn only_what_lies_within_a_buffer_can_be_lent() {
    let mut buffer = [0u16; 4];
    let lent = Overlap::new(&mut buffer);
    for (start, end) in [(0, 5), (4, 5), (3, 1), (5, 5), (usize::MAX, 0)] {
        let outcome = catch_unwind(AssertUnwindSafe(|| lent.part(start..end)));
        let message = outcome.expect_err("a part that is not within").downcast::<String>().unwrap();
        assert_eq!(*message, format!("{start}..{end} of 4 elements"));
    }
}

/// The borrowed buffer must not be written after the panic has left the scope, and nobody may hang.
#[test]
fn a_panic_inside_a_scope_ends_the_job_with_its_message() {
    let error = spawn(2, |world| {
        watch(world);
        let mut buffer = vec![0u64; 1000];
        if world.rank() == 1 {
            step("waits for a message that its peer never sends");
            world.recv(&mut buffer, (0, 1)).expect_err("the peer has panicked");
            return;
        }
        let result = world.scope(|scope| {
            scope.irecv(&mut buffer, (1, 1))?;
            if world.size() == 2 {
                panic!("the reactor is out of tea");
            }
            Ok(())
        });
        result.unwrap();
    })
    .unwrap_err();
    assert!(error.to_string().contains("the reactor is out of tea"), "{error}");
}
