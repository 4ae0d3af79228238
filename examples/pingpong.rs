//! The time a message takes, by its size: half of the time of a message there and back.
//!
//! Shows: measuring between two ranks while the others wait in a barrier, without disturbing.
//!
//! ```text
//! cargo shmrun -n 2 --example pingpong -- --max-bytes 4194304
//! ```

use std::time::Instant;

use anyhow::ensure;
use clap::Parser;
use ranks::World;
use ranks_examples::parse;

/// Half the round-trip time of messages between rank 0 and rank 1, by size
#[derive(Parser)]
struct Arguments {
    /// Largest message, in bytes
    #[arg(long, default_value_t = 4 << 20, value_parser = clap::value_parser!(u64).range(0..=1 << 30))]
    max_bytes: u64,
    /// Timed round trips per size; fewer for large messages
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rounds: u64,
}

/// Bytes sent per size at most, so that large sizes take no longer than small ones.
const BYTES_PER_SIZE: u64 = 1 << 30;
/// Round trips before the clock is read: they touch the memory and wake both ranks up.
const WARM_UP: u64 = 10;

/// 0, 1, and then every fourth power of two up to `max`.
fn sizes(max: u64) -> impl Iterator<Item = u64> {
    let powers = (0..).map(|step| 8 << (2 * step)).take_while(move |&bytes| bytes <= max);
    [0, 1].into_iter().filter(move |&bytes| bytes <= max).chain(powers)
}

/// The contents of round `round`: each byte differs from its neighbours and from the round before.
fn fill(buffer: &mut [u8], round: u64) {
    buffer.iter_mut().enumerate().for_each(|(index, byte)| *byte = (index as u64 * 7 + round) as u8);
}

/// Rank 0: sends, receives, compares, and returns half the round-trip times in microseconds, sorted.
fn ping(world: &World, bytes: u64, rounds: u64) -> anyhow::Result<Vec<f64>> {
    let mut sent = vec![0_u8; bytes as usize];
    let mut received = vec![0_u8; bytes as usize];
    let mut times = Vec::new();
    for round in 0..WARM_UP + rounds {
        // Filling all of a large message each time would measure the caches instead of the message.
        if round < WARM_UP {
            fill(&mut sent, round);
        }
        let start = Instant::now();
        world.send(&sent, 1)?;
        world.recv(&mut received, 1)?;
        times.push(start.elapsed().as_secs_f64() * 1e6 / 2.0);
        if round < WARM_UP {
            ensure!(received == sent, "round {round} of {bytes} bytes came back changed");
        }
    }
    ensure!(received == sent, "the last round of {bytes} bytes came back changed");
    let mut times = times.split_off(WARM_UP as usize);
    times.sort_by(f64::total_cmp);
    Ok(times)
}

/// Rank 1: returns what it gets.
fn pong(world: &World, bytes: u64, rounds: u64) -> ranks::Result<()> {
    let mut buffer = vec![0_u8; bytes as usize];
    for _ in 0..WARM_UP + rounds {
        world.recv(&mut buffer, 0)?;
        world.send(&buffer, 0)?;
    }
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let (world, arguments) = parse::<Arguments>(ranks::init()?)?;
    if world.size() < 2 {
        eprintln!("pingpong needs two ranks and has one: nothing to measure; start it with -n 2");
        return Ok(());
    }
    if world.rank() == 0 {
        println!("{:>10} {:>12} {:>12}", "# bytes", "median_us", "min_us");
    }
    for bytes in sizes(arguments.max_bytes) {
        let rounds = arguments.rounds.min(BYTES_PER_SIZE / bytes.max(1)).max(1);
        match world.rank() {
            0 => {
                let times = ping(&world, bytes, rounds)?;
                println!("{bytes:>10} {:>12.3} {:>12.3}", times[times.len() / 2], times[0]);
            }
            1 => pong(&world, bytes, rounds)?,
            _ => {}
        }
    }
    world.barrier()?;
    if world.rank() == 0 {
        eprintln!("check: messages of every size came back unchanged");
    }
    Ok(())
}
