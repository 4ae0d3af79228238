//! Measurements of `ranks` by the definitions of the OSU micro-benchmarks, and transfers too large for the tests.
//!
//! Run it under the launcher: `shmrun -n 2 ranks-bench latency,bw`. `docs/benchmarks.md` defines every measurement.
//!
//! The same tests for MPI are in `mpi/ranks_bench.c`, whose sections have the names of these modules and come in
//! this order: `arguments`, `output`, `timing`, `bench`, `pattern`, `latency`, `bandwidth`, `collectives`, `tests`.
//! Functions, constants and loops correspond line by line: change both or neither. `floor`, `idle`, `memory`, `startup` and
//! `soak` are only here: MPI has no part in the first, and the others are about this library alone.

mod arguments;
mod bandwidth;
mod bench;
mod collectives;
mod floor;
mod idle;
mod latency;
mod memory;
mod output;
mod pattern;
mod soak;
mod startup;
mod tests;
mod timing;

use anyhow::Result;
use arguments::{Arguments, Program};

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(Program::Startup { ranks, rounds, format }) = arguments.program {
        return startup::run(&ranks, rounds, format);
    }
    let world = ranks::init()?;
    match arguments.program {
        None => tests::run(&world, &arguments)?,
        Some(Program::Floor { sizes, format, milliseconds }) => {
            floor::run(&world, &sizes, format, milliseconds / 1e3)?;
        }
        Some(Program::Idle { seconds, format }) => idle::run(&world, seconds, format)?,
        Some(Program::Memory { format }) => memory::run(&world, format)?,
        Some(Program::Init | Program::Startup { .. }) => {}
        Some(Program::LongMessage { gib }) => soak::long_message(&world, gib)?,
        Some(Program::LongCollectives { gib }) => soak::long_collectives(&world, gib)?,
        Some(Program::AllToAll { mib }) => soak::all_to_all(&world, mib)?,
    }
    Ok(world.finalize()?)
}
