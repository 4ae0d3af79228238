//! What a single message does: sizes, status, order, wildcards, truncation, synchronous sends, refused arguments.

#[path = "support/payload.rs"]
mod payload;
#[path = "support/watchdog.rs"]
mod watchdog;

use std::time::Duration;

use payload::{check, filled};
use ranks::{ANY_SOURCE, ANY_TAG, Error, Status, Tag, spawn};
use watchdog::{step, watch};

/// Asserts that the message of `error` names every one of `parts`.
#[track_caller]
fn assert_names(error: &Error, parts: &[&str]) {
    let message = error.to_string();
    parts.iter().for_each(|part| assert!(message.contains(part), "{part:?} is missing in: {message}"));
}

/// Sizes around everything that could be a border: a cell, a page, the eager limit, chunks, the pool.
fn sizes() -> impl Iterator<Item = usize> {
    let borders = (7..=23).flat_map(|power| [(1 << power) - 1, 1 << power, (1 << power) + 1]);
    (0..=130).chain(borders)
}

#[test]
fn messages_of_every_size_arrive_whole_in_slices_and_vectors() {
    let byte = |size: usize, index: usize| (size * 131 + index * 7 + index / 256) as u8;
    spawn(2, |world| {
        watch(world);
        for size in sizes() {
            step(format!("a message of {size} bytes"));
            let expected: Vec<u8> = (0..size).map(|index| byte(size, index)).collect();
            if world.rank() == 0 {
                world.send(&expected, (1, 1)).unwrap();
                world.send(&expected, (1, 2)).unwrap();
            } else {
                let mut buffer = vec![0xEE; size + 1];
                let status = world.recv(&mut buffer, (0, 1)).unwrap();
                assert_eq!(status, Status { source: 0, tag: 1, bytes: size as u64 });
                assert!(buffer[..size] == expected[..], "{size} bytes into a slice");
                assert_eq!(buffer[size], 0xEE, "the buffer is untouched behind {size} bytes");
                let (data, status) = world.recv_vec::<u8>((0, 2)).unwrap();
                assert_eq!(status.count::<u8>(), size);
                assert!(data == expected, "{size} bytes into a vector");
            }
        }
    })
    .unwrap();
}

/// A receiver expects the next message of one part in the chunk after the last one's: here it lies there, or somewhere else
/// since others have got messages meanwhile, or it is one in several parts, and once in a while a lap begins.
#[test]
fn messages_in_chunks_are_found_where_they_lie() {
    const MESSAGES: usize = 600;
    let size = |number: usize| [1500, 8192, 2000, 20_000, 4097][number / 3 % 5];
    let byte = |number: usize, index: usize| (number * 131 + index * 7 + index / 256) as u8;
    spawn(3, |world| {
        watch(world);
        let receiver = |number: usize| if number.is_multiple_of(7) { 2 } else { 1 };
        for number in 0..MESSAGES {
            step(format!("message {number}"));
            let expected: Vec<u8> = (0..size(number)).map(|index| byte(number, index)).collect();
            if world.rank() == 0 {
                world.send(&expected, receiver(number)).unwrap();
            } else if world.rank() == receiver(number) {
                // As long as the message, or longer.
                let mut buffer = vec![0xEE; size(number) + number % 2];
                world.recv(&mut buffer, 0).unwrap();
                assert!(buffer[..size(number)] == expected[..], "message {number}");
                assert!(buffer[size(number)..].iter().all(|&byte| byte == 0xEE));
            }
        }
    })
    .unwrap();
}

#[test]
fn status_counts_elements_of_the_type_asked_for() {
    spawn(2, |world| {
        watch(world);
        if world.rank() == 0 {
            world.send(&[1.5f64, -2.5, 3.5], (1, 9)).unwrap();
        } else {
            let mut buffer = [0.0f64; 8];
            let status = world.recv(&mut buffer, (0, 9)).unwrap();
            assert_eq!((status.count::<f64>(), status.count::<u8>(), status.bytes), (3, 24, 24));
            assert_eq!(buffer, [1.5, -2.5, 3.5, 0.0, 0.0, 0.0, 0.0, 0.0]);
        }
    })
    .unwrap();
}

/// Long messages take another path than short ones, and must not be overtaken by them.
#[test]
fn messages_of_mixed_sizes_do_not_overtake_each_other() {
    const MESSAGES: u64 = 300;
    let words = |id: u64| [1, 40_000, 0, 3, 2_000, 150_000][id as usize % 6];
    spawn(2, |world| {
        watch(world);
        for id in 0..MESSAGES {
            step(format!("message {id}"));
            if world.rank() == 0 {
                world.send(&filled(id, words(id)), (1, (id % 2) as Tag)).unwrap();
            } else {
                let (data, status) = world.recv_vec::<u64>(0).unwrap();
                assert_eq!((status.tag, data.len()), ((id % 2) as Tag, words(id)), "message {id}");
                check(&data, id);
            }
        }
    })
    .unwrap();
}

#[test]
fn tags_select_among_waiting_messages() {
    spawn(2, |world| {
        watch(world);
        if world.rank() == 0 {
            (0..5).for_each(|tag| world.send(&[tag as u64], (1, tag)).unwrap());
        } else {
            let recv = |tag| world.recv_vec::<u64>((0, tag)).unwrap().0;
            assert_eq!([recv(3), recv(0), recv(4)], [[3], [0], [4]]);
            let (first_left, status) = world.recv_vec::<u64>((0, ANY_TAG)).unwrap();
            assert_eq!((first_left, status.tag), (vec![1], 1));
            assert_eq!(recv(2), [2]);
        }
    })
    .unwrap();
}

#[test]
fn the_largest_tag_is_a_tag_like_others() {
    spawn(2, |world| {
        watch(world);
        if world.rank() == 0 {
            world.send(&[1u8], (1, Tag::MAX)).unwrap();
        } else {
            assert_eq!(world.recv_vec::<u8>((0, Tag::MAX)).unwrap().1.tag, Tag::MAX);
        }
    })
    .unwrap();
}

#[test]
fn any_source_receives_one_message_from_each_and_says_from_whom() {
    spawn(5, |world| {
        watch(world);
        if world.rank() > 0 {
            world.send(&[world.rank() as u64 * 11], (0, 7)).unwrap();
            return world.barrier().unwrap();
        }
        let mut sources = Vec::new();
        for _ in 1..world.size() {
            let (data, status) = world.recv_vec::<u64>((ANY_SOURCE, 7)).unwrap();
            assert_eq!(data, [status.source as u64 * 11]);
            sources.push(status.source);
        }
        sources.sort_unstable();
        assert_eq!(sources, [1, 2, 3, 4]);
        assert_eq!(world.try_probe(ANY_SOURCE).unwrap(), None);
        world.barrier().unwrap();
    })
    .unwrap();
}

/// Short and long, because the payload of a long message is still with its sender when the error is known.
#[test]
fn a_message_longer_than_the_buffer_is_an_error_and_the_next_one_is_intact() {
    for (sent, room) in [(1003, 517), (300_007, 517), (300_007, 200_003), (3_000_017, 1_000_003)] {
        spawn(2, |world| {
            watch(world);
            if world.rank() == 0 {
                step(format!("sends {sent} bytes into {room}"));
                world.send(&vec![1u8; sent], (1, 4242)).unwrap();
                world.send(&filled(8, 1000), (1, 4242)).unwrap();
            } else {
                step(format!("receives {sent} bytes into {room}"));
                let error = world.recv(&mut vec![0u8; room], (0, 4242)).unwrap_err();
                assert_names(&error, &[&sent.to_string(), &room.to_string(), "rank 0", "4242"]);
                step("receives the next message");
                check(&world.recv_vec((0, 4242)).unwrap().0, 8);
            }
        })
        .unwrap();
    }
}

#[test]
fn sendrecv_passes_short_and_long_messages_round_a_ring() {
    spawn(3, |world| {
        watch(world);
        let (rank, size) = (world.rank(), world.size());
        let (next, previous) = ((rank + 1) % size, (rank + size - 1) % size);
        for words in [0, 1, 1000, 100_000, 2_000_000] {
            step(format!("passes {words} words"));
            let mut buffer = vec![0; words];
            let status =
                world.sendrecv(&filled(rank as u64, words), (next, 3), &mut buffer, (previous, 3)).unwrap();
            assert_eq!((status.source, status.count::<u64>()), (previous, words));
            check(&buffer, previous as u64);
        }
    })
    .unwrap();
}

#[test]
fn sendrecv_with_oneself_works_for_short_and_long_messages() {
    spawn(2, |world| {
        watch(world);
        for words in [0, 1, 100, 1_000_000] {
            step(format!("{words} words"));
            let mut buffer = vec![0; words];
            world.sendrecv(&filled(4, words), world.rank(), &mut buffer, world.rank()).unwrap();
            check(&buffer, 4);
        }
    })
    .unwrap();
}

#[test]
fn a_short_message_to_oneself_waits_until_it_is_received() {
    spawn(2, |world| {
        watch(world);
        let me = world.rank();
        world.send(&[me as u64, 17], (me, 5)).unwrap();
        world.send(&[me as u64, 18], (me, 6)).unwrap();
        assert_eq!(world.recv_vec::<u64>((me, 6)).unwrap().0, [me as u64, 18]);
        assert_eq!(world.recv_vec::<u64>((ANY_SOURCE, 5)).unwrap().0, [me as u64, 17]);
    })
    .unwrap();
}

#[test]
fn waiting_for_oneself_is_an_error_instead_of_a_hang() {
    spawn(2, |world| {
        watch(world);
        let me = world.rank();
        step("receives from itself what it has not sent");
        assert_names(&world.recv(&mut [0u8], me).unwrap_err(), &["itself", "isend"]);
        step("sends to itself what it has posted no receive for");
        assert_names(&world.synchronous_send(&[0u8], me).unwrap_err(), &["itself", "irecv"]);
        step("does both the right way round");
        let receive = world.irecv::<u8>(me).unwrap();
        world.synchronous_send(&[8u8], me).unwrap();
        assert_eq!(receive.wait().unwrap().0, [8]);
    })
    .unwrap();
}

#[test]
fn a_message_of_another_element_type_is_an_error_and_the_next_one_is_intact() {
    spawn(2, |world| {
        watch(world);
        if world.rank() == 0 {
            world.send(&[1.0f64; 3], (1, 4242)).unwrap();
            world.send(&filled(8, 1000), (1, 4242)).unwrap();
        } else {
            let error = world.recv(&mut [0u64; 3], (0, 4242)).unwrap_err();
            assert_names(&error, &["u64", "rank 0", "4242"]);
            check(&world.recv_vec((0, 4242)).unwrap().0, 8);
        }
    })
    .unwrap();
}

/// Rank 1 leaves the synchronous message alone for a while: what its sender sends next must not arrive meanwhile.
#[test]
fn a_synchronous_send_returns_only_after_its_message_is_matched() {
    const LEFT_ALONE: Duration = Duration::from_millis(50);
    spawn(2, |world| {
        watch(world);
        if world.rank() == 0 {
            world.synchronous_send(&[1u8], (1, 1)).unwrap();
            world.send(&[2u8], (1, 2)).unwrap();
        } else {
            world.probe((0, 1)).unwrap();
            std::thread::sleep(LEFT_ALONE);
            assert_eq!(world.try_probe((0, 2)).unwrap(), None, "the synchronous send returned unmatched");
            assert_eq!(world.recv_vec::<u8>((0, 1)).unwrap().0, [1]);
            assert_eq!(world.recv_vec::<u8>((0, 2)).unwrap().0, [2]);
        }
    })
    .unwrap();
}

#[test]
fn messages_of_a_finished_rank_arrive_and_waiting_for_one_more_is_an_error() {
    spawn(2, |world| {
        watch(world);
        if world.rank() == 0 {
            world.send(&[5u64], (1, 1)).unwrap();
            return;
        }
        step("receives the message that was sent");
        assert_eq!(world.recv_vec::<u64>((0, 1)).unwrap().0, [5]);
        step("receives a message that was never sent");
        let error = world.recv_vec::<u64>((0, 1)).unwrap_err();
        assert_names(&error, &["rank 0"]);
    })
    .unwrap();
}

#[test]
fn ranks_and_tags_out_of_range_are_errors_that_name_them() {
    spawn(2, |world| {
        watch(world);
        let mut buffer = [0u8];
        assert_names(&world.send(&[0u8], 72).unwrap_err(), &["72", "0 to 1"]);
        assert_names(&world.isend(vec![0u8], 72).err().unwrap(), &["72", "0 to 1"]);
        assert_names(&world.recv(&mut buffer, 72).unwrap_err(), &["72", "0 to 1"]);
        assert_names(&world.irecv::<u8>(72).err().unwrap(), &["72", "0 to 1"]);
        assert_names(&world.probe(72).unwrap_err(), &["72", "0 to 1"]);
        assert_names(&world.send(&[0u8], (0, -31)).unwrap_err(), &["-31"]);
        assert_names(&world.recv(&mut buffer, (0, -31)).unwrap_err(), &["-31"]);
        assert_names(&world.try_probe((ANY_SOURCE, -31)).unwrap_err(), &["-31"]);
    })
    .unwrap();
}
