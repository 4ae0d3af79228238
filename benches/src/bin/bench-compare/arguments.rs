//! The command line.

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

use crate::machine;

/// Measures ranks beside the MPI libraries that benches/peers has set up, in interleaved rounds.
#[derive(Parser)]
#[command(name = "bench-compare", version)]
pub(crate) struct Arguments {
    /// Few sizes, few rounds, 3 minutes: to see that it works, not to quote
    #[arg(long)]
    pub(crate) quick: bool,
    /// How long all rounds together may take [default: 40, with --quick 3]
    #[arg(long)]
    minutes: Option<f64>,
    /// Rounds at most; fewer where the minutes do not suffice
    #[arg(long, default_value_t = 100)]
    pub(crate) rounds: usize,
    /// Tests, with commas between them, such as latency,bw,allreduce,startup [default: all]
    #[arg(long, value_delimiter = ',', value_name = "TEST")]
    pub(crate) tests: Vec<String>,
    /// Message sizes in bytes [default: powers of two, where there are more ranks than cores a few of them]
    #[arg(long, value_delimiter = ',', value_name = "BYTES")]
    pub(crate) sizes: Vec<usize>,
    /// Peers or configurations, such as openmpi5,impi,mpich5-default [default: all]
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub(crate) peers: Vec<String>,
    /// Where the results go [default: docs/benchmarks, with --quick target/benchmarks]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Build nothing and set up no peer: use what is there
    #[arg(long)]
    pub(crate) no_setup: bool,
    /// Measure nothing: write the Markdown and the plots again from the results.json that is there
    #[arg(long)]
    pub(crate) render: bool,
}

impl Arguments {
    pub(crate) fn parse() -> Self {
        Parser::parse()
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.minutes.unwrap_or(if self.quick { 3.0 } else { 40.0 }) * 60.0
    }

    /// A quick look must not overwrite the figures that are published.
    pub(crate) fn output(&self) -> Result<PathBuf> {
        let default = if self.quick { "target/benchmarks" } else { "docs/benchmarks" };
        self.output.clone().map_or_else(|| Ok(machine::repository()?.join(default)), Ok)
    }

    pub(crate) fn wants_test(&self, test: &str) -> bool {
        self.tests.is_empty() || self.tests.iter().any(|wanted| wanted == test)
    }

    pub(crate) fn wants_peer(&self, peer: &str, configuration: &str) -> bool {
        self.peers.is_empty() || self.peers.iter().any(|wanted| wanted == peer || wanted == configuration)
    }
}
