//! Heat along a rod, computed to its end although ranks are killed on the way.
//!
//! Shows: a job that goes on when ranks fail, `shrink`, `agree`, and a checkpoint in memory: every rank keeps a copy of its
//! left neighbour's cells. When a rank is killed, the others make a world without it, put the rod together from their
//! own cells and the copies, divide it anew, and go on from there. If a rank dies together with the keeper of its copy, they
//! begin again. The result is the same to the last bit, whoever died and when.
//!
//! ```text
//! cargo shmrun -n 4 --on-failure=continue --example recover -- --kill 2@5000
//! ```

use std::ops::Range;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use ranks::World;
use ranks_examples::parse;

/// Heat along a rod, whatever happens to the ranks
#[derive(Parser)]
struct Arguments {
    /// Cells of the rod
    #[arg(long, default_value_t = 4_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    cells: u32,
    /// Steps in time
    #[arg(long, default_value_t = 20_000)]
    steps: u64,
    /// Steps between two checkpoints
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
    /// Let the rank that has this number at first kill itself at that step; may be given several times
    #[arg(long, value_name = "RANK@STEP", value_parser = moment)]
    kill: Vec<(usize, u64)>,
}

fn moment(text: &str) -> Result<(usize, u64)> {
    let (rank, step) = text.split_once('@').context("it has the form RANK@STEP")?;
    Ok((rank.parse()?, step.parse()?))
}

/// Some neighbouring cells, from cell `start` on.
#[derive(Clone, Default)]
struct Piece {
    start: usize,
    cells: Vec<f64>,
}

/// What all ranks go back to: agreed on, so all have that of the same step.
#[derive(Clone, Default)]
struct Checkpoint {
    step: u64,
    mine: Piece,
    /// The copy of the left neighbour's.
    kept: Piece,
}

/// This rank's part of the computation.
struct Rod {
    length: usize,
    step: u64,
    mine: Piece,
    checkpoint: Option<Checkpoint>,
}

impl Rod {
    fn new(world: &World, length: usize) -> Self {
        let range = share(length, world.rank(), world.size());
        let mine = Piece { start: range.start, cells: range.map(|cell| at_first(cell, length)).collect() };
        Self { length, step: 0, mine, checkpoint: None }
    }

    /// One step in time: needs the cells on both sides of this rank's.
    fn advance(&mut self, world: &World) -> ranks::Result<()> {
        let (left, right) = self.borders(world)?;
        step(&mut self.mine.cells, left, right);
        self.step += 1;
        Ok(())
    }

    /// The neighbouring cells; a border of the rod is like its last cell.
    fn borders(&self, world: &World) -> ranks::Result<(f64, f64)> {
        let (me, size) = (world.rank(), world.size());
        let (mut left, mut right) = ([self.mine.cells[0]], [self.mine.cells[self.mine.cells.len() - 1]]);
        let (first, last) = (left, right);
        if me > 0 {
            world.send(&first, me - 1)?;
        }
        if me + 1 < size {
            world.sendrecv(&last, me + 1, &mut right, me + 1)?;
        }
        if me > 0 {
            world.recv(&mut left, me - 1)?;
        }
        Ok((left[0], right[0]))
    }

    /// Gives the right neighbour a copy of the cells. It counts when all have theirs: until then the last one does.
    fn save(&mut self, world: &World) -> ranks::Result<()> {
        let (me, size) = (world.rank(), world.size());
        let (left, right) = ((me + size - 1) % size, (me + 1) % size);
        let range = share(self.length, left, size);
        let mut kept = Piece { start: range.start, cells: vec![0.0; range.len()] };
        world.sendrecv(&self.mine.cells, right, &mut kept.cells, left)?;
        world.agree(true)?;
        self.checkpoint = Some(Checkpoint { step: self.step, mine: self.mine.clone(), kept });
        Ok(())
    }

    /// Goes back to the last checkpoint, of which some ranks' parts are only copies, in a world of those that are left.
    fn restore(&mut self, world: &World) -> ranks::Result<()> {
        let Checkpoint { step, mine, kept } = self.checkpoint.clone().unwrap_or_default();
        let starts = world.all_gather_varying(&[mine.start as u64, kept.start as u64])?.data;
        let lengths = world.all_gather_varying(&[mine.cells.len() as u64, kept.cells.len() as u64])?.data;
        let mut cells = world.all_gather_varying(&[mine.cells, kept.cells].concat())?.data.into_iter();
        let mut rod = vec![None; self.length];
        for (start, length) in starts.into_iter().zip(lengths) {
            for (place, cell) in rod[start as usize..][..length as usize].iter_mut().zip(&mut cells) {
                *place = Some(cell);
            }
        }
        let fresh = Self::new(world, self.length);
        let range = fresh.mine.start..fresh.mine.start + fresh.mine.cells.len();
        match rod.into_iter().collect::<Option<Vec<f64>>>() {
            Some(rod) => {
                (self.step, self.mine) = (step, Piece { start: range.start, cells: rod[range].to_vec() })
            }
            // A rank and the keeper of its copy: what they knew is lost.
            None => (self.step, self.mine) = (0, fresh.mine),
        }
        self.save(world)
    }
}

/// The cells of a rank.
fn share(length: usize, rank: usize, size: usize) -> Range<usize> {
    length * rank / size..length * (rank + 1) / size
}

fn at_first(cell: usize, length: usize) -> f64 {
    if cell < length / 3 { 1.0 } else { 0.0 }
}

fn step(cells: &mut [f64], left: f64, right: f64) {
    let mut before = left;
    for at in 0..cells.len() {
        let after = cells.get(at + 1).copied().unwrap_or(right);
        let cell = cells[at];
        cells[at] = cell + 0.25 * (before - 2.0 * cell + after);
        before = cell;
    }
}

fn main() -> Result<()> {
    let (mut world, arguments) = parse::<Arguments>(ranks::init()?)?;
    let length = arguments.cells as usize;
    ensure!(length >= world.size(), "{length} cells are too few for {} ranks", world.size());
    let first_number = world.rank();
    let mut rod = Rod::new(&world, length);
    let cells = loop {
        match compute(&world, &mut rod, &arguments, first_number) {
            Ok(cells) => break cells,
            Err(error) => world = recover(world, &mut rod, &error)?,
        }
    };
    if let Some(cells) = cells {
        check(&cells, arguments.steps)?;
        println!("{length} cells after {} steps: {:e} in the middle", arguments.steps, cells[length / 2]);
    }
    Ok(world.finalize()?)
}

/// Computes to the end, and returns when all ranks have come there: the whole rod, on rank 0.
fn compute(
    world: &World,
    rod: &mut Rod,
    arguments: &Arguments,
    first_number: usize,
) -> ranks::Result<Option<Vec<f64>>> {
    while rod.step < arguments.steps {
        if rod.step.is_multiple_of(arguments.every) {
            rod.save(world)?;
        }
        if arguments.kill.contains(&(first_number, rod.step)) {
            kill_this_process();
        }
        rod.advance(world)?;
    }
    let cells = world.gather_varying(&rod.mine.cells, 0)?;
    world.agree(true)?;
    Ok(cells.map(|cells| cells.data))
}

/// Goes on without the ranks that have failed, as often as it takes.
fn recover(mut world: World, rod: &mut Rod, error: &ranks::Error) -> Result<World> {
    let before = world.size();
    world = world.shrink()?;
    while rod.restore(&world).is_err() {
        world = world.shrink()?;
    }
    if world.rank() == 0 {
        eprintln!("{error}: {} of {before} ranks go on from step {}", world.size(), rod.step);
    }
    Ok(world)
}

/// Compares with the sequential answer.
fn check(cells: &[f64], steps: u64) -> Result<()> {
    let mut expected: Vec<f64> = (0..cells.len()).map(|cell| at_first(cell, cells.len())).collect();
    for _ in 0..steps {
        let (left, right) = (expected[0], expected[expected.len() - 1]);
        step(&mut expected, left, right);
    }
    let wrong = cells.iter().zip(&expected).position(|(cell, expected)| cell.to_bits() != expected.to_bits());
    ensure!(wrong.is_none(), "cell {} differs from the sequential answer", wrong.unwrap_or(0));
    Ok(())
}

/// As SIGKILL from outside would.
fn kill_this_process() {
    let kill = std::process::Command::new("kill").args(["-9", &std::process::id().to_string()]).status();
    unreachable!("kill -9 returned {kill:?}")
}
