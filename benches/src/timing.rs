//! Batches of calls, for as long as the command line says: rank 0 decides, the other ranks do as they are told.

use anyhow::Result;
use ranks::{Tag, World};

use crate::bench::Bench;

/// Tag of the messages in which rank 0 says how many iterations the next batch has.
const CONTROL: Tag = 2;
/// Instead of a number of iterations: there are no more batches.
const STOP: u64 = 0;
/// The part of the time that one batch is to take.
const BATCHES_PER_BUDGET: f64 = 8.0;
const FEWEST_BATCHES: usize = 3;

/// The values of one row, in the unit of the test.
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) batches: usize,
}

/// Seconds on a clock that all ranks share.
pub(crate) fn now() -> f64 {
    shm_core::wait::monotonic_nanoseconds() as f64 / 1e9
}

/// Runs `iterations` calls and gives the seconds that one took this rank.
pub(crate) type Batch = fn(&mut Bench<'_>, u64) -> Result<f64>;

/// One call, with what a program does before and after it if that is timed too.
fn call(bench: &mut Bench<'_>, iteration: u64) -> Result<()> {
    if bench.in_use {
        bench.write(iteration);
    }
    (bench.test.call)(bench)?;
    if bench.in_use {
        bench.read();
    }
    Ok(())
}

/// The clock around all calls: they follow each other without a pause.
pub(crate) fn all_calls(bench: &mut Bench<'_>, iterations: u64) -> Result<f64> {
    let start = now();
    for iteration in 0..iterations {
        call(bench, iteration)?;
    }
    Ok((now() - start) / iterations as f64)
}

/// The clock around each call, and a barrier between them that is not timed.
pub(crate) fn each_call(bench: &mut Bench<'_>, iterations: u64) -> Result<f64> {
    let mut seconds = 0.0;
    for iteration in 0..iterations {
        let start = now();
        call(bench, iteration)?;
        seconds += now() - start;
        bench.world.barrier()?;
    }
    Ok(seconds / iterations as f64)
}

fn tell(bench: &Bench<'_>, iterations: u64) -> Result<()> {
    for rank in 1..bench.participants {
        bench.world.send(&[iterations], (rank, CONTROL))?;
    }
    Ok(())
}

fn hear(world: &World) -> Result<u64> {
    let mut iterations = [STOP];
    world.recv(&mut iterations, (0, CONTROL))?;
    Ok(iterations[0])
}

/// One batch on rank 0: the value of it.
fn lead(bench: &mut Bench<'_>, iterations: u64) -> Result<f64> {
    tell(bench, iterations)?;
    let seconds = (bench.test.batch)(bench, iterations)?;
    let seconds = bench.mean(seconds)?;
    Ok(bench.value(seconds))
}

/// The batches of the other ranks.
fn follow(bench: &mut Bench<'_>) -> Result<()> {
    loop {
        let iterations = hear(bench.world)?;
        if iterations == STOP {
            return Ok(());
        }
        let seconds = (bench.test.batch)(bench, iterations)?;
        bench.mean(seconds)?;
    }
}

/// The seconds that a batch of so many iterations takes.
fn seconds_of(batch: &mut impl FnMut(u64) -> Result<f64>, iterations: u64) -> Result<f64> {
    let start = now();
    batch(iterations)?;
    Ok(now() - start)
}

/// Doubles the number of iterations until a batch takes `wanted` seconds twice: one may have waited for a rank that came late, or
/// have been interrupted. Few iterations would be timed with what rank 0 tells before them.
fn warm_up(mut seconds_of: impl FnMut(u64) -> Result<f64>, wanted: f64) -> Result<u64> {
    let mut iterations = 1;
    while seconds_of(iterations)? < wanted || seconds_of(iterations)? < wanted {
        iterations *= 2;
    }
    Ok(iterations)
}

/// The values of as many batches as `budget` seconds allow, after warming up.
pub(crate) fn batches(budget: f64, mut batch: impl FnMut(u64) -> Result<f64>) -> Result<Vec<f64>> {
    let iterations = warm_up(|iterations| seconds_of(&mut batch, iterations), budget / BATCHES_PER_BUDGET)?;
    let mut values = Vec::new();
    let start = now();
    while values.len() < FEWEST_BATCHES || now() - start < budget {
        values.push(batch(iterations)?);
    }
    Ok(values)
}

pub(crate) fn summarize(mut values: Vec<f64>) -> Summary {
    values.sort_by(f64::total_cmp);
    let batches = values.len();
    if batches == 0 {
        return Summary { median: 0.0, min: 0.0, max: 0.0, batches };
    }
    let median = (values[(batches - 1) / 2] + values[batches / 2]) / 2.0;
    Summary { median, min: values[0], max: values[batches - 1], batches }
}

/// Measures `bench` on all its participants for `budget` seconds; rank 0 gets the summary.
pub(crate) fn measure(bench: &mut Bench<'_>, budget: f64) -> Result<Summary> {
    let mut values = Vec::new();
    if bench.world.rank() == 0 {
        values = batches(budget, |iterations| lead(bench, iterations))?;
        tell(bench, STOP)?;
    } else {
        follow(bench)?;
    }
    Ok(summarize(values))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The iterations of a batch that is to take 100 ms, where each takes 1 ms and the given calls take a second more.
    fn iterations_with_delays(delayed: &[usize]) -> u64 {
        let mut calls = 0;
        let seconds_of = |iterations| {
            calls += 1;
            let delay = if delayed.contains(&calls) { 1.0 } else { 0.0 };
            Ok(iterations as f64 * 1e-3 + delay)
        };
        warm_up(seconds_of, 0.1).unwrap()
    }

    #[test]
    fn one_delay_does_not_end_the_warming_up() {
        assert_eq!(iterations_with_delays(&[]), 128);
        assert_eq!(iterations_with_delays(&[1]), 128, "a rank that comes late");
        assert_eq!(iterations_with_delays(&[3, 6]), 128, "interruptions");
    }
}
