//! Measurements of `ranks` beside Open MPI, and transfers too large for the tests.
//!
//! Run it under the launcher: `shmrun -n 2 ranks-bench latency`. `benches/README.md` defines every measurement.

mod latency;
mod soak;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Measurements of ranks, and transfers too large for its tests: run them under shmrun.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    program: Program,
}

#[derive(Subcommand)]
enum Program {
    /// Half round trip by message size, between exactly 2 ranks: prints `size median_us min_us`.
    Latency {
        /// Message sizes in bytes.
        #[arg(long, value_delimiter = ',', default_value = "8,4096,65536,1048576")]
        sizes: Vec<usize>,
    },
    /// One message of several GiB between exactly 2 ranks, every word checked. Needs twice its size in memory.
    LongMessage {
        /// Size in GiB; 5 is beyond what 32 bits count.
        #[arg(long, default_value_t = 5)]
        gib: usize,
    },
    /// An all-to-all of large parts, every word checked. Needs 2 x ranks x ranks x MiB of memory.
    AllToAll {
        /// MiB from each rank to each.
        #[arg(long, default_value_t = 64)]
        mib: usize,
    },
}

fn main() -> Result<()> {
    let args = Args::parse();
    let world = ranks::init()?;
    match args.program {
        Program::Latency { sizes } => latency::run(&world, &sizes)?,
        Program::LongMessage { gib } => soak::long_message(&world, gib)?,
        Program::AllToAll { mib } => soak::all_to_all(&world, mib)?,
    }
    Ok(world.finalize()?)
}
