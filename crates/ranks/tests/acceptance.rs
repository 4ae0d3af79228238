//! What users of such systems lose most time on, as tests: those of the list that a program alone can show. The numbers
//! are those of the list; the others are tests of the launcher.

#[path = "support/random.rs"]
mod random;
#[path = "support/watchdog.rs"]
mod watchdog;

use std::time::{Duration, Instant};

use random::Random;
use ranks::{Spawn, Sum, World, spawn};
use watchdog::{step, watch};

/// What `cargo test` prints of it is looked at by ci/testing.
#[test]
fn acceptance_16_a_rank_that_panics_while_others_are_in_a_barrier_fails_the_test_with_its_message() {
    let outcome = Spawn::new(4).timeout(Duration::from_secs(60)).run(|world| {
        if world.rank() == 2 {
            // A busy machine may take longer to start the others than they are given to end.
            (0..3).for_each(|_| drop(world.recv_vec::<u8>(ranks::ANY_SOURCE).unwrap()));
            panic!("the sums differ");
        }
        world.send(&[0u8], (2, 0)).unwrap();
        world.barrier().unwrap();
    });
    let report = outcome.unwrap_err().to_string();
    assert!(report.contains("rank 2 panicked") && report.contains("the sums differ"), "{report}");
    // Neither the timeout nor anything else than the notice of the failure has ended the others' barriers.
    assert!(!report.contains("did not end within"), "{report}");
    assert_eq!(report.matches("rank 2 has failed, so this can never complete").count(), 3, "{report}");
}

#[test]
fn acceptance_17_a_million_unexpected_messages_take_bounded_memory_and_block_nobody_else() {
    const MESSAGES: u64 = 1_000_000;
    const WORDS: usize = 32;
    // Several times what is buffered, a fraction of what all of them take.
    const MOST_BYTES: u64 = 64 << 20;
    spawn(3, |world| {
        watch(world);
        let before = peak_memory();
        match world.rank() {
            0 => receive_the_flood_last(world, MESSAGES, WORDS),
            1 => {
                step("floods");
                (0..MESSAGES).for_each(|id| world.send(&[id; WORDS], (0, 1)).unwrap());
            }
            _ => {
                // By then rank 0 has all of the flood that it takes: rank 1 waits.
                std::thread::sleep(Duration::from_millis(500));
                world.send(&[7u8], (0, 2)).unwrap();
            }
        }
        let grown = peak_memory() - before;
        assert!(grown < MOST_BYTES, "rank {} has grown by {grown} bytes", world.rank());
    })
    .unwrap();
}

fn receive_the_flood_last(world: &World, messages: u64, words: usize) {
    step("receives what comes after the flood");
    world.recv(&mut [0u8], (2, 2)).unwrap();
    let mut data = vec![0; words];
    for id in 0..messages {
        if id % 100_000 == 0 {
            step(format!("receives message {id} and the ones after it"));
        }
        world.recv(&mut data, (1, 1)).unwrap();
        assert!(data.iter().all(|&word| word == id));
    }
}

/// The most memory that this process has had, in bytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

#[test]
fn acceptance_18_a_sum_of_floats_has_the_same_bits_in_1000_runs() {
    const JOBS: u64 = 20;
    const RUNS: u64 = 50;
    let backwards = (0..5).rev().map(|rank| summands(rank, 5_000));
    assert_ne!(
        bits(&added_up(backwards)),
        bits(&expected(5, 5_000)),
        "these sums do not depend on the order"
    );
    for job in 0..JOBS {
        spawn(5, |world| {
            watch(world);
            let mut random = Random::new(job * 1000 + world.rank() as u64);
            (0..RUNS).for_each(|run| sum_in_some_order(world, run, &mut random));
        })
        .unwrap();
    }
}

/// Each rank comes at a time of its own: the sum must not depend on who is first.
fn sum_in_some_order(world: &World, run: u64, random: &mut Random) {
    step(format!("sums for the {run}th time"));
    let length = [1, 2, 9, 100, 5_000][run as usize % 5];
    let delay = Duration::from_micros(random.below(100) as u64);
    let begin = Instant::now();
    while begin.elapsed() < delay {
        std::hint::spin_loop();
    }
    let (mut sum, mut rooted) = (vec![0.0; length], vec![0.0; length]);
    let mine = summands(world.rank(), length);
    world.all_reduce(&mine, &mut sum, Sum).unwrap();
    assert_eq!(bits(&sum), bits(&expected(world.size(), length)));
    world.reduce(&mine, &mut rooted, Sum, 3).unwrap();
    assert!(world.rank() != 3 || bits(&rooted) == bits(&sum));
}

/// Numbers of very different sizes: their sum depends on the order.
fn summands(rank: usize, length: usize) -> Vec<f64> {
    let mut random = Random::new(77 + rank as u64);
    (0..length)
        .map(|_| (random.below(2_000_001) as f64 - 1e6) * 10f64.powi(random.below(30) as i32 - 15))
        .collect()
}

/// The sum in the order of the ranks.
fn expected(ranks: usize, length: usize) -> Vec<f64> {
    added_up((0..ranks).map(|rank| summands(rank, length)))
}

fn added_up(parts: impl Iterator<Item = Vec<f64>>) -> Vec<f64> {
    let add =
        |sum: Vec<f64>, part: Vec<f64>| sum.iter().zip(&part).map(|(left, right)| left + right).collect();
    parts.reduce(add).unwrap()
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}
