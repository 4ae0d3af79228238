//! The command line.

use clap::{Parser, Subcommand, ValueEnum};

use crate::tests::{TESTS, Test};

/// Measurements of ranks, and transfers too large for its tests: run them under shmrun.
#[derive(Parser)]
#[command(
    name = "ranks-bench",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub(crate) struct Arguments {
    /// Tests, with commas between them: latency, any-latency, bw, bibw, mbw-mr, barrier, bcast, reduce, allreduce,
    /// allgather, alltoall, gather, scatter
    #[arg(required = true, value_delimiter = ',', value_name = "TEST", value_parser = test)]
    pub(crate) tests: Vec<&'static Test>,
    /// Message sizes in bytes [default: powers of two up to 4 MiB, of collectives up to 1 MiB]
    #[arg(long, value_delimiter = ',', value_name = "BYTES")]
    pub(crate) sizes: Vec<usize>,
    /// What rank 0 prints
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
    /// How long each size is measured, without the time to warm up
    #[arg(long, default_value_t = 20.0)]
    pub(crate) milliseconds: f64,
    /// Messages under way at once in bw, bibw and mbw-mr
    #[arg(long, default_value_t = 64)]
    pub(crate) window: usize,
    /// Write all that is sent before each call, and read of all that was received after it; both are timed, too
    #[arg(long)]
    pub(crate) in_use: bool,
    /// Measure nothing: verify what every test transfers, byte by byte
    #[arg(long)]
    pub(crate) check: bool,
    #[command(subcommand)]
    pub(crate) program: Option<Program>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Comment lines that begin with #, then rows of size and values
    Table,
    /// One document
    Json,
}

#[derive(Subcommand)]
pub(crate) enum Program {
    /// The limits of the machine: one cache line handed from rank to rank, and memcpy by size.
    Floor {
        /// Sizes for memcpy in bytes.
        #[arg(long, value_delimiter = ',', default_value = "1024,4096,16384,65536,262144,1048576,4194304")]
        sizes: Vec<usize>,
        /// What rank 0 prints
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
        /// How long the line and each size are measured, without the time to warm up
        #[arg(long, default_value_t = 20.0)]
        milliseconds: f64,
    },
    /// Processor time of ranks that are blocked in recv, in recv from any source, in barrier, and of the launcher.
    Idle {
        /// How long they are left blocked
        #[arg(long, default_value_t = 5.0)]
        seconds: f64,
        /// What rank 0 prints
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
    },
    /// What the job takes of the machine's memory: at its start, after every collective has run once, and at most.
    Memory {
        /// What rank 0 prints
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
    },
    /// Times whole jobs that initialize and finalize. Not to be run under shmrun: it runs shmrun.
    Startup {
        /// Numbers of ranks
        #[arg(short = 'n', long = "np", value_delimiter = ',', value_name = "N", default_value = "2,8")]
        ranks: Vec<usize>,
        /// In each round there is one job of each number of ranks
        #[arg(long, default_value_t = 20)]
        rounds: usize,
        /// What is printed
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
    },
    /// Initializes and finalizes, nothing else.
    Init,
    /// One message of several GiB between exactly 2 ranks, every word checked. Needs twice its size in memory.
    LongMessage {
        /// Size in GiB; 5 is beyond what 32 bits count.
        #[arg(long, default_value_t = 5)]
        gib: usize,
    },
    /// A broadcast and an all-gather of several GiB between exactly 2 ranks, every word checked. Needs three times its
    /// size in memory.
    LongCollectives {
        /// Size in GiB; 3 is beyond what 31 bits count.
        #[arg(long, default_value_t = 3)]
        gib: usize,
    },
    /// An all-to-all of large parts, every word checked. Needs 2 x ranks x ranks x MiB of memory.
    AllToAll {
        /// MiB from each rank to each.
        #[arg(long, default_value_t = 64)]
        mib: usize,
    },
}

impl Arguments {
    pub(crate) fn parse() -> Self {
        Parser::parse()
    }

    /// The sizes at which `test` runs.
    pub(crate) fn sizes_of(&self, test: &Test) -> Vec<usize> {
        if test.largest == 0 {
            return vec![0];
        }
        if !self.sizes.is_empty() {
            return self.sizes.clone();
        }
        let powers = (0..usize::BITS).map(|power| 1 << power);
        let zero = (test.smallest == 0).then_some(0);
        zero.into_iter()
            .chain(powers.skip_while(|&size| size < test.smallest).take_while(|&size| size <= test.largest))
            .collect()
    }
}

fn test(name: &str) -> Result<&'static Test, String> {
    TESTS.iter().find(|test| test.name == name).ok_or_else(|| "there is no such test".to_owned())
}
