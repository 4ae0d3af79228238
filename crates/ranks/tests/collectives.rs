//! Barriers, broadcasts and mixed sequences of collectives against a sequential answer, which each rank computes for itself.

#[path = "support/parts.rs"]
mod parts;
#[path = "support/values.rs"]
mod values;
#[path = "support/watchdog.rs"]
mod watchdog;

use std::time::Duration;

use parts::{concatenated, values};
use ranks::{Max, spawn};
use values::{LENGTHS, RANKS, assert_same, lengths_and_roots};
use watchdog::{step, watch};

#[test]
fn nobody_leaves_a_barrier_before_everybody_has_entered_it() {
    const ROUNDS: u64 = 20;
    for ranks in RANKS {
        spawn(ranks, |world| {
            watch(world);
            for round in 0..ROUNDS {
                step(format!("round {round}"));
                let late = round as usize % world.size();
                if world.rank() == late {
                    std::thread::sleep(Duration::from_millis(2));
                    (0..world.size()).for_each(|other| world.send(&[round], (other, 1)).unwrap());
                }
                world.barrier().unwrap();
                // What the late rank sent before it came is here, or somebody left early.
                assert!(
                    world.try_probe((late, 1)).unwrap().is_some(),
                    "round {round}: left before rank {late} came"
                );
                assert_eq!(world.recv_vec::<u64>((late, 1)).unwrap().0, [round]);
            }
        })
        .unwrap();
    }
}

#[test]
fn broadcast_gives_everyone_what_the_root_has() {
    for ranks in RANKS {
        spawn(ranks, |world| {
            watch(world);
            for (length, root) in lengths_and_roots(world.size()) {
                step(format!("{length} words from rank {root}"));
                let mut data = values(world.rank(), length);
                world.broadcast(&mut data, root).unwrap();
                assert_same(&data, &values(root, length), "broadcast");
            }
        })
        .unwrap();
    }
}

#[test]
fn broadcast_vec_brings_its_length_along() {
    for ranks in RANKS {
        spawn(ranks, |world| {
            watch(world);
            for (length, root) in lengths_and_roots(world.size()) {
                step(format!("{length} words from rank {root}"));
                let mine = if world.rank() == root { length } else { world.rank() * 3 };
                let mut data = values(world.rank(), mine);
                world.broadcast_vec(&mut data, root).unwrap();
                assert_same(&data, &values(root, length), "broadcast_vec");
            }
        })
        .unwrap();
    }
}

/// No barrier anywhere: a rank that is done with one operation must not overwrite what a slow one still reads.
#[test]
fn fast_ranks_do_not_overtake_slow_ones_in_a_mixed_sequence() {
    const ROUNDS: usize = 60;
    for ranks in RANKS {
        spawn(ranks, |world| {
            watch(world);
            for round in 0..ROUNDS {
                step(format!("round {round}"));
                let (root, length) = (round % ranks, LENGTHS[round % (LENGTHS.len() - 1)] + round / 2);
                let give = |rank: usize| values(rank + round, length);
                let mut data = give(world.rank());
                world.broadcast(&mut data, root).unwrap();
                if (world.rank() + round) % ranks == 0 {
                    std::thread::sleep(Duration::from_micros(500));
                }
                assert_same(&data, &give(root), "broadcast");
                let mut all = vec![0; length * ranks];
                world.all_gather(&give(world.rank()), &mut all).unwrap();
                let mut largest = vec![0; length];
                world.all_reduce(&give(world.rank()), &mut largest, Max).unwrap();
                assert_same(&all, &(0..ranks).flat_map(give).collect::<Vec<_>>(), "all_gather");
                assert_same(&largest, &give(ranks - 1), "all_reduce");
            }
        })
        .unwrap();
    }
}

/// Messages and collectives do not see each other, whatever the wildcards.
#[test]
fn collectives_run_while_messages_are_on_their_way() {
    spawn(3, |world| {
        watch(world);
        let (next, size) = ((world.rank() + 1) % world.size(), world.size());
        let long = world.isend(values(world.rank(), 500_000), next).unwrap();
        let receive = world.irecv::<u64>(ranks::ANY_SOURCE).unwrap();
        for length in LENGTHS {
            step(format!("all_gather of {length} words"));
            let mut all = vec![0; length * size];
            world.all_gather(&values(world.rank(), length), &mut all).unwrap();
            assert_same(&all, &concatenated(size, length), "all_gather");
        }
        step("completes the messages");
        let (data, status) = receive.wait().unwrap();
        assert_eq!(status.source, (world.rank() + size - 1) % size);
        assert_same(&data, &values(status.source, 500_000), "the message");
        long.wait().unwrap();
    })
    .unwrap();
}
