//! π as the integral of 4 / (1 + x²) from 0 to 1, by the midpoint rule.
//!
//! Shows: dividing work among ranks so that the result does not depend on their number. Floating-point sums
//! depend on their order; so the steps are cut into a fixed number of blocks, each block is summed by one
//! rank, and rank 0 adds the blocks up in the order of the blocks, not of the ranks. The last digit printed
//! is the same for 1 rank and for 8.
//!
//! ```text
//! cargo shmrun -n 4 --example pi -- --steps 1000000000
//! ```

use std::f64::consts::PI;
use std::ops::Range;
use std::time::Instant;

use anyhow::{Context, ensure};
use clap::Parser;
use ranks_examples::{Check, Progress, parse};

/// Blocks that the steps are cut into: enough to share them evenly among some hundred ranks.
const BLOCKS: u64 = 4096;
/// Up to here the sequential answer takes a second or so.
const SMALL: u64 = 500_000_000;

/// π by numerical integration, the same to the last bit for any number of ranks
#[derive(Parser)]
struct Arguments {
    /// Steps of the midpoint rule
    #[arg(long, default_value_t = 100_000_000, value_parser = clap::value_parser!(u64).range(1..=1 << 50))]
    steps: u64,
    #[command(flatten)]
    check: Check,
}

/// The `part`-th of `parts` nearly equal pieces of 0..`whole`.
fn piece(whole: u64, part: u64, parts: u64) -> Range<u64> {
    // In 128 bits, as `whole * parts` need not fit into 64.
    let cut = |part| (u128::from(whole) * u128::from(part) / u128::from(parts)) as u64;
    cut(part)..cut(part + 1)
}

/// The sum of the integrand over the steps of one block.
fn block_sum(block: u64, steps: u64) -> f64 {
    let width = 1.0 / steps as f64;
    piece(steps, block, BLOCKS)
        .map(|step| {
            let x = (step as f64 + 0.5) * width;
            4.0 / (1.0 + x * x)
        })
        .sum()
}

/// The integral, from the sums of all blocks in their order.
fn integral(blocks: &[f64], steps: u64) -> f64 {
    blocks.iter().sum::<f64>() / steps as f64
}

fn main() -> anyhow::Result<()> {
    let (world, Arguments { steps, check }) = parse::<Arguments>(ranks::init()?)?;
    let started = Instant::now();

    let mine = piece(BLOCKS, world.rank() as u64, world.size() as u64);
    let mut progress = Progress::new(&world, "integrating", mine.end - mine.start);
    let mut sums = Vec::new();
    for block in mine {
        sums.push(block_sum(block, steps));
        progress.set(sums.len() as u64);
    }
    drop(progress);

    // Parts arrive in the order of the ranks, which here is the order of the blocks.
    if let Some(all) = world.gather_varying(&sums, 0)? {
        let result = integral(&all.data, steps);
        println!("pi {result}");
        println!("error {:e}", (result - PI).abs());
        eprintln!("{steps} steps in {:.3} s", started.elapsed().as_secs_f64());
        if check.wanted(steps <= SMALL) {
            compare(result, steps).context("check failed")?;
        } else {
            check.skipped();
        }
    }
    Ok(())
}

/// Compares with the same sum done by this rank alone, to the last bit, and with π.
fn compare(result: f64, steps: u64) -> anyhow::Result<()> {
    let blocks: Vec<f64> = (0..BLOCKS).map(|block| block_sum(block, steps)).collect();
    let expected = integral(&blocks, steps);
    ensure!(result.to_bits() == expected.to_bits(), "sequential sum {expected}, sum of the ranks {result}");
    // The midpoint rule errs by 1 / (12 steps²) here, rounding by some units in the last place.
    let bound = 0.1 / (steps as f64).powi(2) + 1e-13;
    ensure!((result - PI).abs() <= bound, "{result} is farther than {bound:e} from π = {PI}");
    eprintln!("check: equal to the sequential sum in all bits, and π within {bound:.1e}");
    Ok(())
}
