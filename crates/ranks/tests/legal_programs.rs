//! Programs that MPI's rules allow and on which runtimes hang that buffer, match or progress too simply.
//!
//! Nobody here depends on buffering beyond what is stated for small messages; every `isend` is received in the end.

#[path = "support/payload.rs"]
mod payload;
#[path = "support/watchdog.rs"]
mod watchdog;

use payload::{check, filled};
use ranks::{Tag, World, spawn, wait_all};
use watchdog::{step, watch};

const WORD: usize = size_of::<u64>();
const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

/// Receives the message `id` of `bytes` bytes with `tag` from `source` and looks at every word of it.
#[track_caller]
fn recv_checked(world: &World, source: usize, tag: Tag, id: u64, bytes: usize) {
    let (data, status) = world.recv_vec::<u64>((source, tag)).unwrap();
    assert_eq!((status.source, status.tag, status.bytes), (source, tag, bytes as u64));
    check(&data, id);
}

#[test]
fn a_thousand_isends_of_64_kib_are_received_in_reverse_order_of_their_tags() {
    const MESSAGES: Tag = 1000;
    spawn(2, |world| {
        watch(world);
        if world.rank() == 0 {
            let send = |tag| world.isend(filled(tag as u64, 64 * KIB / WORD), (1, tag)).unwrap();
            let sends: Vec<_> = (0..MESSAGES).map(send).collect();
            step("waits for all sends");
            wait_all(sends).unwrap();
        } else {
            for tag in (0..MESSAGES).rev() {
                step(format!("receives tag {tag}"));
                recv_checked(world, 0, tag, tag as u64, 64 * KIB);
            }
        }
    })
    .unwrap();
}

#[test]
fn two_isends_of_8_mib_are_received_in_the_other_order() {
    spawn(2, |world| {
        watch(world);
        if world.rank() == 0 {
            let first = world.isend(filled(1, 8 * MIB / WORD), (1, 1)).unwrap();
            let second = world.isend(filled(2, 8 * MIB / WORD), (1, 2)).unwrap();
            step("waits for the first, which is received last");
            check(&first.wait().unwrap(), 1);
            step("waits for the second");
            check(&second.wait().unwrap(), 2);
        } else {
            step("receives the second");
            recv_checked(world, 0, 2, 2, 8 * MIB);
            step("receives the first");
            recv_checked(world, 0, 1, 1, 8 * MIB);
        }
    })
    .unwrap();
}

/// Rank 1 leaves a long message alone until both streams have ended: the one of its sender to rank 2, and the one
/// of rank 2 to itself.
#[test]
fn an_unreceived_isend_of_1_gib_stalls_neither_its_sender_nor_its_receiver() {
    const LONG: Tag = 1;
    const STREAM: Tag = 2;
    const MESSAGES: u64 = 500;
    let stream = |world: &World, to: usize| {
        for id in 0..MESSAGES {
            step(format!("streams message {id} to rank {to}"));
            world.send(&filled(id, 64 * KIB / WORD), (to, STREAM)).unwrap();
        }
    };
    let recv_stream = |world: &World, from: usize| {
        for id in 0..MESSAGES {
            step(format!("receives message {id} of rank {from}'s stream"));
            recv_checked(world, from, STREAM, id, 64 * KIB);
        }
    };
    spawn(3, |world| {
        watch(world);
        match world.rank() {
            0 => {
                let long = world.isend(filled(99, GIB / WORD), (1, LONG)).unwrap();
                stream(world, 2);
                step("waits for the long send");
                long.wait().unwrap();
            }
            1 => {
                recv_stream(world, 2);
                step("receives the long message");
                recv_checked(world, 0, LONG, 99, GIB);
            }
            _ => {
                recv_stream(world, 0);
                stream(world, 1);
            }
        }
    })
    .unwrap();
}

#[test]
fn a_million_isends_wait_while_a_later_message_is_received_and_a_third_rank_floods() {
    const MESSAGES: u64 = 1_000_000;
    const FLOOD: u64 = 100_000;
    const FLOOD_WORDS: usize = 32;
    spawn(3, |world| {
        watch(world);
        match world.rank() {
            0 => {
                let sends: Vec<_> = (0..MESSAGES).map(|id| world.isend(vec![id], (1, 0)).unwrap()).collect();
                step("sends what is received first");
                world.send(&[MESSAGES], (1, 1)).unwrap();
                step("waits for a million sends");
                wait_all(sends).unwrap();
            }
            1 => {
                let mut word = [0];
                step("receives what was sent last");
                world.recv(&mut word, (0, 1)).unwrap();
                assert_eq!(word, [MESSAGES]);
                for id in 0..MESSAGES {
                    if id % 100_000 == 0 {
                        step(format!("receives message {id} and the ones after it"));
                    }
                    world.recv(&mut word, (0, 0)).unwrap();
                    assert_eq!(word, [id]);
                }
                step("receives the flood");
                (0..FLOOD).for_each(|id| recv_checked(world, 2, 2, id, FLOOD_WORDS * WORD));
            }
            _ => {
                step("floods");
                (0..FLOOD).for_each(|id| world.send(&filled(id, FLOOD_WORDS), (1, 2)).unwrap());
            }
        }
    })
    .unwrap();
}

/// The sender is in the barrier, not in `wait`, while the receiver needs its long message.
#[test]
fn an_isend_of_1_gib_progresses_while_its_sender_is_in_a_barrier() {
    spawn(2, |world| {
        watch(world);
        if world.rank() == 0 {
            let send = world.isend(filled(5, GIB / WORD), 1).unwrap();
            step("waits in the barrier, its long send pending");
            world.barrier().unwrap();
            step("waits for the long send");
            check(&send.wait().unwrap(), 5);
        } else {
            step("receives the long message");
            recv_checked(world, 0, 0, 5, GIB);
            step("waits in the barrier");
            world.barrier().unwrap();
        }
    })
    .unwrap();
}

/// What the message from one rank to another is called.
fn pair(from: usize, to: usize) -> u64 {
    (from * 100 + to) as u64
}

/// Eight messages of 1 KiB per pair lie within the bound on buffered small messages, so a blocking send returns.
#[test]
fn everyone_sends_small_messages_to_everyone_before_anyone_receives() {
    const MESSAGES: Tag = 8;
    spawn(5, |world| {
        watch(world);
        let everyone = || (0..world.size()).flat_map(|rank| (0..MESSAGES).map(move |tag| (rank, tag)));
        for (to, tag) in everyone() {
            step(format!("sends to rank {to} with tag {tag}"));
            world.send(&filled(pair(world.rank(), to), KIB / WORD), (to, tag)).unwrap();
        }
        step("waits in the barrier between sending and receiving");
        world.barrier().unwrap();
        for (from, tag) in everyone() {
            step(format!("receives from rank {from} with tag {tag}"));
            recv_checked(world, from, tag, pair(from, world.rank()), KIB);
        }
    })
    .unwrap();
}

#[test]
fn everyone_isends_long_messages_to_everyone_before_anyone_receives() {
    spawn(5, |world| {
        watch(world);
        let send = |to| world.isend(filled(pair(world.rank(), to), 2 * MIB / WORD), to).unwrap();
        let sends: Vec<_> = (0..world.size()).map(send).collect();
        step("waits in the barrier between sending and receiving");
        world.barrier().unwrap();
        for from in (0..world.size()).rev() {
            step(format!("receives from rank {from}"));
            recv_checked(world, from, 0, pair(from, world.rank()), 2 * MIB);
        }
        step("waits for all sends");
        wait_all(sends).unwrap();
    })
    .unwrap();
}

/// Whatever is under way besides moves on although its rank only makes receives that find their message at once. What the
/// ranks tell each other in files progresses nothing.
#[test]
fn isends_progress_beside_scopes_whose_receives_never_wait() {
    const RING: usize = 64;
    const SCOPES: usize = 30;
    spawn(3, |world| {
        watch(world);
        let mut number = [std::process::id()];
        world.broadcast(&mut number, 0).unwrap();
        let file = |name: &str| std::env::temp_dir().join(format!("ranks-progress-{}-{name}", number[0]));
        let tell = |name: &str| std::fs::write(file(name), "").unwrap();
        let await_told = |name: &'static str| {
            step(format!("waits to be told: {name}"));
            while !file(name).exists() {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            std::fs::remove_file(file(name)).unwrap();
        };
        match world.rank() {
            0 => {
                world.recv(&mut [0u64], 1).unwrap();
                let sends: Vec<_> = (0..RING + 1).map(|_| world.isend(vec![7u64; 4], 2).unwrap()).collect();
                tell("the ring to rank 2 is full");
                await_told("rank 1 has sent");
                for _ in 0..SCOPES {
                    let mut words = [0u64; 2];
                    let received = world.scope(|scope| {
                        let mut words = words.chunks_mut(1);
                        words.try_for_each(|word| scope.irecv(word, 1).map(drop))
                    });
                    received.unwrap();
                }
                await_told("the last message is there");
                wait_all(sends).unwrap();
            }
            1 => {
                world.send(&[0u64], 0).unwrap();
                world.recv(&mut [0u64], 2).unwrap();
                (0..2 * SCOPES).for_each(|_| world.send(&[0u64], 0).unwrap());
                tell("rank 1 has sent");
            }
            _ => {
                await_told("the ring to rank 2 is full");
                (0..RING).for_each(|_| assert_eq!(world.recv(&mut [0u64; 4], 0).unwrap().bytes, 32));
                world.send(&[0u64], 1).unwrap();
                world.recv(&mut [0u64; 4], 0).unwrap();
                tell("the last message is there");
            }
        }
    })
    .unwrap();
}
