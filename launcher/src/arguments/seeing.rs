//! What is to be seen of a job: statistics, a timeline.

use std::path::PathBuf;

use clap::Args;
use ranks::launch::Observe;

use crate::seeing::Seeing;

/// See what the ranks do.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Information")]
pub(super) struct SeeingOptions {
    /// Print at the end who sent how much to whom, how long each rank waited, and the busiest lines of source
    #[arg(long)]
    stats: bool,
    /// Write a timeline of the ranks to FILE, for ui.perfetto.dev or chrome://tracing
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// How many events the timeline keeps of each rank, the latest; 64 bytes of shared memory each [default: 32768]
    #[arg(long, value_name = "N", requires = "trace", value_parser = clap::value_parser!(u32).range(2..=1 << 24))]
    trace_events: Option<u32>,
}

/// Events of a timeline, unless the user says otherwise: 2 MiB for each rank.
const TIMELINE_EVENTS: u32 = 32 << 10;

impl SeeingOptions {
    /// What the ranks have to do for it.
    pub(super) fn observe(&self) -> Observe {
        match self {
            Self { trace: Some(_), trace_events, .. } => {
                Observe::Timelines { events: trace_events.unwrap_or(TIMELINE_EVENTS) }
            }
            Self { stats: true, .. } => Observe::Counts,
            _ => Observe::Nothing,
        }
    }

    /// What becomes of it.
    pub(super) fn seeing(self) -> Seeing {
        Seeing { statistics: self.stats, timeline: self.trace }
    }
}
