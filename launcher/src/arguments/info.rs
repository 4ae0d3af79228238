//! What the launcher says, and whether it runs anything at all.

use clap::Args;

/// Talk.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Information")]
pub(super) struct Info {
    /// Say nothing but errors
    #[arg(short, long, short_alias = 'Q')]
    pub(super) quiet: bool,
    /// Say what is decided and done
    #[arg(short, long)]
    pub(super) verbose: bool,
    /// Print what would run where, and run nothing
    #[arg(long, aliases = ["do-not-launch", "test-only"])]
    pub(super) dry_run: bool,
}
