//! When a job ends, and how patiently it is ended.

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::{Args, ValueEnum};
use ranks::launch::Limits;

use super::duration;

/// Limits and failures.
#[derive(Debug, Args)]
#[command(next_help_heading = "End of the job")]
pub(super) struct Endings {
    /// End the job after this time, with exit code 124: 30 or 30s, 5m, 1:30. Also: MPIEXEC_TIMEOUT (seconds)
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    timeout: Option<Duration>,
    /// The same as srun writes it, in minutes or MM:SS
    #[arg(short = 't', long, value_name = "TIME", value_parser = duration::parse_srun, hide = true)]
    time: Option<Duration>,
    /// When a rank fails: kill the others, or let them continue, who can go on without it [default: kill]
    #[arg(long, value_name = "WHAT", default_value = "kill", hide_default_value = true)]
    on_failure: OnFailure,
    /// The same as Open MPI and MPICH spell continue
    #[arg(long, aliases = ["continuous", "disable-auto-cleanup"], hide = true)]
    enable_recovery: bool,
    /// Time from SIGTERM to SIGKILL for ranks that are to end [default: 250ms after a failure, 5s after SIGTERM]
    #[arg(long, value_name = "TIME", value_parser = duration::parse_or_zero)]
    grace: Option<Duration>,
    /// Start a job that failed again, up to N times; ranks see in SHMRUN_RESTART which time it is
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true, value_parser = whole_number::<u32>)]
    pub(super) max_restarts: u32,
}

impl Endings {
    pub(super) fn on_failure(&self) -> ranks::OnFailure {
        let continues = self.enable_recovery || self.on_failure == OnFailure::Continue;
        if continues { ranks::OnFailure::Continue } else { ranks::OnFailure::Kill }
    }

    pub(super) fn limits(&self) -> Result<Limits> {
        let timeout = match self.timeout.or(self.time) {
            None => timeout_of_environment()?,
            given => given,
        };
        Ok(Limits { timeout, grace: self.grace, ..Limits::default() })
    }
}

pub(super) fn whole_number<N: FromStr>(text: &str) -> Result<N, String> {
    text.parse().map_err(|_| "a whole number is needed, for example 3".to_owned())
}

fn timeout_of_environment() -> Result<Option<Duration>> {
    let Some(value) = std::env::var_os("MPIEXEC_TIMEOUT").filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let value = value.to_string_lossy();
    let parsed = duration::parse(&value).map_err(|problem| anyhow!("MPIEXEC_TIMEOUT={value}: {problem}"));
    parsed.map(Some)
}

/// [`ranks::OnFailure`] in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnFailure {
    /// End the job with its first failure.
    Kill,
    /// Go on: operations with the failed rank fail, and the others can leave it behind.
    Continue,
}
