//! Output and input of the ranks.

use clap::Args;

/// What happens to what the ranks write, and what they read.
#[derive(Debug, Args)]
#[command(next_help_heading = "Input and output")]
pub(super) struct Streams {
    /// Begin each line of output with the rank that wrote it
    #[arg(short = 'l', long, visible_aliases = ["label"], aliases = ["tag-output", "prepend-rank"])]
    pub(super) tag: bool,
}
