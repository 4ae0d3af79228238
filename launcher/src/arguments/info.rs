//! What the launcher says, and whether it runs anything at all.

use std::path::PathBuf;

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
    /// Print the exit code of every rank at the end
    #[arg(long)]
    pub(super) print_all_exitcodes: bool,
    /// Write the launcher's process id to FILE, - (standard output) or + (standard error)
    #[arg(long, value_name = "FILE")]
    pub(super) report_pid: Option<PathBuf>,
}
