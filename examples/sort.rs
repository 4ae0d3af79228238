//! Sorts N million records by sample sort.
//!
//! Shows: a collective with unequal counts. Every rank sorts its own records and shows a sample of them to all;
//! from the samples all ranks take the same splitters, which cut the keys into one range per rank; then each
//! rank sends every other its records of that one's range (`all_to_all_varying`), and sorts what it got.
//! The records depend on their index alone, so the input is the same for any number of ranks.
//!
//! ```text
//! cargo shmrun -n 4 --example sort -- --millions 16
//! ```

use std::ops::Range;
use std::time::Instant;

use anyhow::{Context, ensure};
use bytemuck::{Pod, Zeroable};
use clap::Parser;
use ranks::World;
use ranks_examples::{Check, Progress, parse};

/// Sorts records of 16 bytes by sample sort
#[derive(Parser)]
struct Arguments {
    /// Millions of records, of 16 bytes each; about three times their size is needed in memory
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=1024))]
    millions: u64,
    /// Draw the keys from so many different ones only
    #[arg(long, default_value_t = u64::MAX, value_parser = clap::value_parser!(u64).range(1..))]
    distinct: u64,
    #[command(flatten)]
    check: Check,
}

/// Millions of records up to which the sequential answer takes a second or two.
const SMALL: u64 = 16;
/// Samples per rank and range: the ranges then differ in size by some percent.
const SAMPLES: usize = 64;
/// Quantiles printed: the minimum, the maximum, and every eighth between.
const QUANTILES: u64 = 8;

/// What is sorted: by key, equal keys by payload, so that there is one right answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
#[repr(C)]
struct Record {
    key: u64,
    payload: u64,
}

impl Record {
    /// The record that is at `index` before sorting.
    fn generate(index: u64, distinct: u64) -> Self {
        Self { key: scramble(index) % distinct, payload: index }
    }

    /// A number that depends on the record and on `place`.
    fn digest(&self, place: u64) -> u64 {
        scramble(scramble(scramble(self.key) ^ self.payload) ^ place)
    }
}

/// A permutation of the 64-bit numbers that looks random: the output function of SplitMix64.
fn scramble(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What is known of a sequence of records that is spread over the ranks; added up from the ranks' parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
struct Summary {
    count: u64,
    /// The same for every order of the records.
    contents: u64,
    /// The same for one order only.
    order: u64,
}

impl Summary {
    /// Of `records`, the first of which is at index `offset`.
    fn of(records: &[Record], offset: u64) -> Self {
        let digest = |place: fn(u64) -> u64| {
            let records = records.iter().zip(offset..);
            records.fold(0_u64, |sum, (record, index)| sum.wrapping_add(record.digest(place(index))))
        };
        Self { count: records.len() as u64, contents: digest(|_| 0), order: digest(|index| index) }
    }

    fn add(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            contents: self.contents.wrapping_add(other.contents),
            order: self.order.wrapping_add(other.order),
        }
    }

    /// Of all ranks' records.
    fn total(self, world: &World) -> ranks::Result<Self> {
        let mut total = [Self::zeroed()];
        world.all_reduce(&[self], &mut total, Self::add)?;
        Ok(total[0])
    }
}

/// The part of 0..`count` that `rank` generates.
fn share(count: u64, rank: usize, size: usize) -> Range<u64> {
    let cut = |rank: usize| count * rank as u64 / size as u64;
    cut(rank)..cut(rank + 1)
}

/// Sorts the records of all ranks: afterwards those of a rank are not above those of the next.
fn sample_sort(
    world: &World,
    mut records: Vec<Record>,
    mut done: impl FnMut(u64),
) -> ranks::Result<Vec<Record>> {
    records.sort_unstable();
    done(1);
    let splitters = splitters(world, &records)?;
    // Where the range of each rank ends in these records, and so how many there are of each.
    let mut ends: Vec<usize> =
        splitters.iter().map(|splitter| records.partition_point(|r| r < splitter)).collect();
    ends.push(records.len());
    let starts = [0].into_iter().chain(ends.iter().copied());
    let counts: Vec<usize> = ends.iter().zip(starts).map(|(end, start)| end - start).collect();
    let mut received = world.all_to_all_varying(&records, &counts)?.data;
    drop(records);
    done(2);
    // What came from each rank is sorted already: the stable sort finds such runs and merges them.
    received.sort();
    done(3);
    Ok(received)
}

/// The first record of each rank's range but that of rank 0, the same on all ranks.
fn splitters(world: &World, sorted: &[Record]) -> ranks::Result<Vec<Record>> {
    let size = world.size();
    let samples = (SAMPLES * size).min(sorted.len());
    let mine: Vec<Record> = (0..samples).map(|sample| sorted[sample * sorted.len() / samples]).collect();
    let mut all = world.all_gather_varying(&mine)?.data;
    all.sort_unstable();
    Ok((1..size).map(|rank| all[rank * all.len() / size]).collect())
}

/// How many records the ranks before this one have.
fn offset(world: &World, records: &[Record]) -> ranks::Result<u64> {
    let mut counts = vec![0; world.size()];
    world.all_gather(&[records.len() as u64], &mut counts)?;
    Ok(counts[..world.rank()].iter().sum())
}

/// Whether each rank's records are in order, and the ranks' among each other.
fn is_sorted(world: &World, records: &[Record]) -> ranks::Result<bool> {
    // Ranks without records have no ends and are passed over.
    let ends: Vec<Record> = records.first().into_iter().chain(records.last()).copied().collect();
    let mut wrong = [0_u64];
    world.all_reduce(&[u64::from(!records.is_sorted())], &mut wrong, ranks::Sum)?;
    Ok(wrong == [0] && world.all_gather_varying(&ends)?.data.is_sorted())
}

/// Of `records`, which begin at index `offset` of `count` in all: those that are a quantile of all.
fn quantiles(records: &[Record], offset: u64, count: u64) -> Vec<Record> {
    let indices = (0..=QUANTILES).map(|quantile| (count - 1) * quantile / QUANTILES);
    indices
        .filter_map(|index| records.get(usize::try_from(index.checked_sub(offset)?).ok()?).copied())
        .collect()
}

fn main() -> anyhow::Result<()> {
    let (world, arguments) = parse::<Arguments>(ranks::init()?)?;
    let count = arguments.millions * 1_000_000;
    let mut progress = Progress::new(&world, "sorting", 5);
    let share = share(count, world.rank(), world.size());
    let input: Vec<Record> = share.clone().map(|index| Record::generate(index, arguments.distinct)).collect();
    let before = Summary::of(&input, share.start).total(&world)?;
    progress.set(1);

    let started = Instant::now();
    let sorted = sample_sort(&world, input, |phase| progress.set(1 + phase))?;
    world.barrier()?;
    let seconds = started.elapsed().as_secs_f64();

    let offset = offset(&world, &sorted)?;
    let after = Summary::of(&sorted, offset).total(&world)?;
    let is_sorted = is_sorted(&world, &sorted)?;
    let quantiles = world.gather_varying(&quantiles(&sorted, offset, count), 0)?;
    drop(progress);

    if let Some(quantiles) = quantiles {
        print(&after, &quantiles.data);
        eprintln!("sorted in {seconds:.3} s");
        ensure!(is_sorted, "the records are not in order");
        let complete = (after.count, after.contents) == (before.count, before.contents);
        ensure!(complete, "records were lost or changed: before {before:x?}, after {after:x?}");
        eprintln!("check: in order within and between the ranks, and complete");
        if arguments.check.wanted(arguments.millions <= SMALL) {
            compare(count, arguments.distinct, &after, &quantiles.data).context("check failed")?;
        } else {
            arguments.check.skipped();
        }
    }
    Ok(())
}

fn print(summary: &Summary, quantiles: &[Record]) {
    println!("records {}", summary.count);
    println!("contents {:016x}", summary.contents);
    println!("order {:016x}", summary.order);
    for (record, quantile) in quantiles.iter().zip(0..) {
        println!("quantile {quantile}/{QUANTILES} key {:016x} payload {}", record.key, record.payload);
    }
}

/// Compares with the same records sorted by this rank alone.
fn compare(count: u64, distinct: u64, sorted: &Summary, found: &[Record]) -> anyhow::Result<()> {
    let mut records: Vec<Record> = (0..count).map(|index| Record::generate(index, distinct)).collect();
    records.sort_unstable();
    let expected = Summary::of(&records, 0);
    ensure!(*sorted == expected, "sequentially sorted {expected:x?}, by the ranks {sorted:x?}");
    ensure!(
        found == quantiles(&records, 0, count),
        "the quantiles differ from the sequential ones: {found:x?}"
    );
    eprintln!("check: equal to the sequentially sorted records");
    Ok(())
}
