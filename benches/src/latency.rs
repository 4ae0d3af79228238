//! Half round trip by message size.
//!
//! Prints one line per size: `size median_us min_us`, over batches of round trips. The same program for MPI is
//! `mpi/pingpong.c`: change both or neither. The names, the order of the functions and the loops are the same.

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use ranks::{Tag, World};

const TAG: Tag = 1;
const CHECKED_ROUND_TRIPS: usize = 3;
const WARM_UP_BATCHES: usize = 2;
/// Odd: the median is one of them.
const BATCHES: usize = 31;
/// A batch lasts between half a millisecond and a few milliseconds: long against the clock's resolution, short
/// against the time slices in which a shared machine takes its processors away.
const BATCH_BYTES: usize = 32 << 20;
const FEWEST_ROUND_TRIPS: usize = 20;
const MOST_ROUND_TRIPS: usize = 5000;

fn pattern(index: usize, round: usize) -> u8 {
    (index * 31 + index / 251 + round * 7) as u8
}

fn fill(data: &mut [u8], round: usize) {
    data.iter_mut().enumerate().for_each(|(index, byte)| *byte = pattern(index, round));
}

fn check(data: &[u8], round: usize) -> Result<()> {
    match data.iter().enumerate().position(|(index, &byte)| byte != pattern(index, round)) {
        Some(index) => bail!("byte {index} of the payload arrived changed: {}", data[index]),
        None => Ok(()),
    }
}

fn send(world: &World, data: &[u8]) -> Result<()> {
    Ok(world.send(data, (1 - world.rank(), TAG))?)
}

fn recv(world: &World, buffer: &mut [u8]) -> Result<()> {
    world.recv(buffer, (1 - world.rank(), TAG))?;
    Ok(())
}

/// What rank 0 sends comes back from rank 1 with another pattern; both look at every byte.
fn checked_pass(world: &World, data: &mut [u8], buffer: &mut [u8]) -> Result<()> {
    for round in 0..CHECKED_ROUND_TRIPS {
        fill(data, round + world.rank());
        buffer.fill(0);
        if world.rank() == 0 {
            send(world, data)?;
            recv(world, buffer)?;
        } else {
            recv(world, buffer)?;
            send(world, data)?;
        }
        check(buffer, round + 1 - world.rank()).with_context(|| format!("rank {}", world.rank()))?;
    }
    Ok(())
}

/// Microseconds of half a round trip, the mean over one batch.
fn batch(world: &World, data: &[u8], buffer: &mut [u8], round_trips: usize) -> Result<f64> {
    let start = Instant::now();
    for _ in 0..round_trips {
        if world.rank() == 0 {
            send(world, data)?;
            recv(world, buffer)?;
        } else {
            recv(world, buffer)?;
            send(world, data)?;
        }
    }
    Ok(start.elapsed().as_secs_f64() * 1e6 / (2.0 * round_trips as f64))
}

fn round_trips_for(size: usize) -> usize {
    (BATCH_BYTES / size.max(1)).clamp(FEWEST_ROUND_TRIPS, MOST_ROUND_TRIPS)
}

fn measure(world: &World, size: usize) -> Result<()> {
    let mut data = vec![0; size];
    let mut buffer = vec![0; size];
    checked_pass(world, &mut data, &mut buffer)?;
    let round_trips = round_trips_for(size);
    for _ in 0..WARM_UP_BATCHES {
        batch(world, &data, &mut buffer, round_trips)?;
    }
    let mut times = [0.0; BATCHES];
    for time in &mut times {
        *time = batch(world, &data, &mut buffer, round_trips)?;
    }
    times.sort_by(f64::total_cmp);
    if world.rank() == 0 {
        println!("{size} {:.4} {:.4}", times[BATCHES / 2], times[0]);
    }
    Ok(())
}

/// Measures every size in turn between the two ranks of the job.
pub(crate) fn run(world: &World, sizes: &[usize]) -> Result<()> {
    let ranks = world.size();
    ensure!(
        ranks == 2,
        "latency needs exactly 2 ranks, this job has {ranks}: shmrun -n 2 ranks-bench latency"
    );
    sizes.iter().try_for_each(|&size| measure(world, size))
}
