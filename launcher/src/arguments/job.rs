//! What runs: the number of ranks, programs, directories.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::environment::Environment;

/// Options that each program of a job has for itself.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Job")]
pub(super) struct ProgramOptions {
    /// Number of ranks [default: auto, one per processor that may be used]
    #[arg(short = 'n', long = "np", visible_alias = "ntasks", aliases = ["n", "nproc-per-node"], value_name = "N|auto", value_parser = count)]
    pub(super) ranks: Option<Count>,
    /// Run in this directory; a relative program is looked up there [default: the current directory]
    #[arg(short = 'C', long, visible_aliases = ["wd", "chdir"], aliases = ["workdir", "gwdir"], short_alias = 'D', value_name = "DIR")]
    pub(super) wdir: Option<PathBuf>,
    #[command(flatten)]
    pub(super) environment: Environment,
}

/// What is so for all programs that do not say otherwise.
#[derive(Debug, Default)]
pub(super) struct Common {
    pub(super) wdir: Option<PathBuf>,
    pub(super) environment: Environment,
}

impl ProgramOptions {
    /// What these options of the first program, or of none if there is a file of programs, mean for all.
    pub(super) fn common(&self, file: bool) -> Common {
        let environment = self.environment.clone();
        let environment = if file { environment } else { environment.common() };
        Common { wdir: self.wdir.clone(), environment }
    }
}

/// One program of a job.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) options: ProgramOptions,
    /// The program and its arguments.
    pub(super) words: Vec<OsString>,
}

/// A number of ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    /// As many as fit.
    Auto,
    /// So many.
    Number(usize),
}

fn count(text: &str) -> Result<Count, String> {
    match (text, text.parse()) {
        ("auto" | "cpu", _) => Ok(Count::Auto),
        (_, Ok(0)) => Err("a job has at least 1 rank".to_owned()),
        (_, Ok(ranks)) => Ok(Count::Number(ranks)),
        _ => Err("the number of ranks is a whole number, for example -n 4, or auto".to_owned()),
    }
}
