//! Heat spreads over a plate with some spots that are held hot or cold.
//!
//! Shows: a grid cut into blocks of rows, one per rank, and the exchange of border rows ("halos") between
//! neighbours by `sendrecv` in every step. Every cell is computed by the same formula from the same
//! numbers whoever owns it, so that the result is the same to the last bit for any number of ranks.
//!
//! ```text
//! cargo shmrun -n 4 --example heat -- --output heat.png
//! ```

mod picture;
mod plate;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use clap::Parser;
use ranks::World;
use ranks_examples::{Check, Progress, parse, root_succeeded};

use plate::{Block, Shape};

/// Heat diffusion on a plate, with a picture of the result
#[derive(Parser)]
struct Arguments {
    /// Rows of the plate
    #[arg(long, default_value_t = 320, value_parser = clap::value_parser!(u32).range(1..=32_768))]
    rows: u32,
    /// Columns of the plate
    #[arg(long, default_value_t = 480, value_parser = clap::value_parser!(u32).range(1..=32_768))]
    columns: u32,
    /// Steps in time
    #[arg(long, default_value_t = 10_000)]
    steps: u64,
    /// Write a PNG picture of the plate to this file
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    check: Check,
}

/// Cell updates up to which the sequential answer takes some seconds at most.
const SMALL: u64 = 2_000_000_000;

fn main() -> anyhow::Result<()> {
    let (world, arguments) = parse::<Arguments>(ranks::init()?)?;
    let shape = Shape { rows: arguments.rows as usize, columns: arguments.columns as usize };
    // A file that cannot be written is found now, not after hours of work.
    let picture = create(&world, arguments.output.as_deref());
    if !root_succeeded(&world, &picture)? && world.rank() != 0 {
        return Ok(());
    }
    let picture = picture?;

    let started = Instant::now();
    let mut block = Block::new(shape, world.rank(), world.size());
    let mut progress = Progress::new(&world, "heating", arguments.steps);
    for step in 1..=arguments.steps {
        exchange_halos(&world, &mut block)?;
        block.step();
        progress.set(step);
    }
    drop(progress);

    let Some(plate) = world.gather_varying(&block.cells(), 0)? else {
        return Ok(());
    };
    eprintln!("{} steps in {:.3} s", arguments.steps, started.elapsed().as_secs_f64());
    print_values(shape, &plate.data);
    if let Some(file) = picture {
        picture::write(file, shape, &plate.data).context("cannot write the picture")?;
    }
    let updates = (plate.data.len() as u64).saturating_mul(arguments.steps);
    if arguments.check.wanted(updates <= SMALL) {
        compare(shape, arguments.steps, &plate.data)?;
    } else {
        arguments.check.skipped();
    }
    Ok(())
}

/// Opens the picture's file on rank 0.
fn create(world: &World, output: Option<&Path>) -> anyhow::Result<Option<File>> {
    match output {
        Some(path) if world.rank() == 0 => {
            let file = File::create(path)
                .with_context(|| format!("cannot create the picture {}", path.display()))?;
            Ok(Some(file))
        }
        _ => Ok(None),
    }
}

/// Gives the neighbours this block's border rows, and gets theirs.
fn exchange_halos(world: &World, block: &mut Block) -> ranks::Result<()> {
    let (above, below) = (block.above(), block.below());
    let (first_row, halo_below) = block.first_row_and_halo_below();
    shift(world, first_row, above, halo_below, below)?;
    let (last_row, halo_above) = block.last_row_and_halo_above();
    shift(world, last_row, below, halo_above, above)
}

/// Sends `row` to one neighbour and receives `halo` from the opposite one, as far as they exist.
fn shift(
    world: &World,
    row: &[f64],
    to: Option<usize>,
    halo: &mut [f64],
    from: Option<usize>,
) -> ranks::Result<()> {
    match (to, from) {
        (Some(to), Some(from)) => world.sendrecv(row, to, halo, from).map(drop),
        (Some(to), None) => world.send(row, to),
        (None, Some(from)) => world.recv(halo, from).map(drop),
        (None, None) => Ok(()),
    }
}

/// The same figures for the same plate, and other figures as soon as one bit of it differs.
fn print_values(shape: Shape, plate: &[f64]) {
    println!("plate {} x {}", shape.rows, shape.columns);
    println!("mean {}", plate.iter().sum::<f64>() / plate.len() as f64);
    for (part, name) in [(1, "quarter"), (2, "centre"), (3, "three quarters")] {
        let cell = (shape.rows * part / 4) * shape.columns + shape.columns * part / 4;
        println!("{name} {}", plate[cell]);
    }
    println!("checksum {:016x}", checksum(plate));
}

/// FNV-1a over the bits of all cells.
fn checksum(plate: &[f64]) -> u64 {
    let bytes = plate.iter().flat_map(|cell| cell.to_bits().to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// Compares with the same steps done by this rank alone.
fn compare(shape: Shape, steps: u64, plate: &[f64]) -> anyhow::Result<()> {
    let mut whole = Block::new(shape, 0, 1);
    (0..steps).for_each(|_| whole.step());
    let expected = whole.cells();
    ensure!(expected.len() == plate.len(), "{} cells arrived of {}", plate.len(), expected.len());
    if let Some(cell) = (0..plate.len()).find(|&cell| plate[cell].to_bits() != expected[cell].to_bits()) {
        let (row, column) = (cell / shape.columns, cell % shape.columns);
        bail!("row {row}, column {column} is {:e}, sequentially {:e}", plate[cell], expected[cell]);
    }
    eprintln!("check: every cell equal to the sequential result in all bits");
    Ok(())
}
