//! The command lines of `shmrun` and `cargo shmrun`.
//!
//! Words become options and a program (`words`), options become values in a struct per subject (`read`), and values
//! become a [`Job`] (`decide`). A new option goes into the struct of its subject, and its effect into `decide`.
//!
//! | to change | look at |
//! |---|---|
//! | number of ranks, several programs, directories | `job.rs`, `programs.rs` |
//! | binding and mapping | `placement.rs`; what comes of it: `crate::placement` |
//! | variables of the ranks | `environment.rs`, `tunables.rs` |
//! | output and input | `streams.rs`, `pattern.rs` |
//! | time limits, failures | `ending.rs` |
//! | hangs, strictness, chaos | `checks.rs` |
//! | debuggers and other wrappers | `debug.rs` |
//! | settings of the library | `settings.rs` |
//! | machines | `hosts.rs` |
//! | what is said | `info.rs` |
//! | statistics, timelines | `seeing.rs` |
//! | options of other launchers that mean nothing here | `foreign.rs` |

mod checks;
#[cfg(test)]
mod compatibility;
mod debug;
mod decide;
pub(crate) mod duration;
mod ending;
mod environment;
mod foreign;
mod hosts;
mod info;
mod job;
mod pattern;
mod placement;
mod programs;
mod rank_set;
mod read;
mod seeing;
mod settings;
mod streams;
mod tunables;
mod words;
#[cfg(test)]
mod words_properties;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser};

pub use decide::Job;
use job::ProgramOptions;
pub use read::Request;
use words::Ignored;

use crate::tools::Tool;

const SHMRUN_EXAMPLES: &str = "\
Examples:
  shmrun -n 4 ./app                       four ranks of ./app
  shmrun ./app input.txt                  as many ranks as processors
  shmrun -n 4 --tag ./app                 every line begins with its rank: [2] ...
  shmrun -n 2 --bind-to core ./app        one core per rank
  shmrun -n 1 ./server : -n 3 ./client    two programs, one job
  shmrun -n 4 sh -c 'echo $SHMRUN_RANK of $SHMRUN_SIZE'

Long options may have one dash: -np 4, -bind-to core. Options after PROGRAM belong to the program; behind -- all words
do, a lone : too. The exit code is that of the first rank that failed, 128 plus the signal's number if it was killed;
127: no such program, 126: cannot be executed, 124: time limit, 123: deadlock with --hang=kill, 125: other trouble.";

const CARGO_EXAMPLES: &str = "\
Examples:
  cargo shmrun -n 4 --example wordcount -- src     build an example, run it with the argument src
  cargo shmrun -n 4 --bin app -- --steps 100       the same with a binary
  cargo shmrun -n 4 -- ./app                       run a program as shmrun does, without building";

/// Runs a parallel program: N ranks of PROGRAM on this machine, connected by shared memory.
#[derive(Debug, Parser)]
#[command(
    name = "shmrun",
    version,
    max_term_width = 110,
    args_override_self = true,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true,
    subcommand_value_name = "TOOL",
    subcommand_help_heading = "Tools",
    after_help = SHMRUN_EXAMPLES,
    override_usage = "shmrun [OPTIONS] [--] PROGRAM [ARGS]...\n       \
        shmrun [OPTIONS] PROGRAM [ARGS]... : [-n N] PROGRAM [ARGS]...\n       shmrun TOOL [ARGS]..."
)]
pub struct Shmrun {
    #[command(flatten)]
    program: ProgramOptions,
    /// Read programs from FILE, one per line: [-n N] [--wdir DIR] [-x NAME=VALUE] PROGRAM [ARGS]...
    #[arg(long, alias = "configfile", value_name = "FILE", conflicts_with = "command", help_heading = "Job")]
    app: Option<PathBuf>,
    #[command(flatten)]
    options: JobOptions,
    #[command(subcommand)]
    tool: Option<Tool>,
    /// The program, looked up in PATH when it contains no slash, and its arguments
    #[arg(required_unless_present = "app", trailing_var_arg = true, value_name = "PROGRAM")]
    command: Vec<OsString>,
}

/// One of the programs behind the first.
#[derive(Debug, Parser)]
#[command(
    name = "shmrun",
    args_override_self = true,
    override_usage = "shmrun [OPTIONS] PROGRAM [ARGS]... : [-n N] [--wdir DIR] [-x NAME=VALUE] PROGRAM [ARGS]..."
)]
struct Later {
    #[command(flatten)]
    program: ProgramOptions,
    #[arg(required = true, trailing_var_arg = true, value_name = "PROGRAM")]
    command: Vec<OsString>,
}

/// Builds a target of this workspace in release mode and runs it as N ranks, connected by shared memory.
#[derive(Debug, Parser)]
#[command(
    name = "cargo shmrun",
    version,
    max_term_width = 110,
    args_override_self = true,
    after_help = CARGO_EXAMPLES,
    override_usage = "cargo shmrun [OPTIONS] [-- ARGS...]\n       cargo shmrun [OPTIONS] -- PROGRAM [ARGS]..."
)]
pub struct CargoShmrun {
    #[command(flatten)]
    program: ProgramOptions,
    #[command(flatten)]
    options: JobOptions,
    #[command(flatten)]
    pub(crate) target: Target,
    /// Arguments of the target; or program and arguments when no target is named
    #[arg(last = true, value_name = "ARGS")]
    pub(crate) command: Vec<OsString>,
    #[arg(skip)]
    ignored: Vec<Ignored>,
}

/// Options of the job as a whole.
#[derive(Debug, Args)]
struct JobOptions {
    #[command(flatten)]
    placement: placement::PlacementOptions,
    #[command(flatten)]
    variables: environment::RankVariables,
    #[command(flatten)]
    streams: streams::Streams,
    #[command(flatten)]
    endings: ending::Endings,
    #[command(flatten)]
    checks: checks::Checks,
    #[command(flatten)]
    debugging: debug::Debugging,
    #[command(flatten)]
    settings: settings::Settings,
    #[command(flatten)]
    hosts: hosts::Hosts,
    #[command(flatten)]
    info: info::Info,
    #[command(flatten)]
    seeing: seeing::SeeingOptions,
}

/// What `cargo shmrun` builds.
#[derive(Debug, Args)]
#[group(multiple = true)]
pub(crate) struct Target {
    /// Build and run this example
    #[arg(long, value_name = "NAME", conflicts_with = "bin", help_heading = "Target")]
    pub(crate) example: Option<String>,
    /// Build and run this binary
    #[arg(long, value_name = "NAME", help_heading = "Target")]
    pub(crate) bin: Option<String>,
    /// The package that the target is in
    #[arg(short, long, value_name = "NAME", help_heading = "Target")]
    pub(crate) package: Option<String>,
}
