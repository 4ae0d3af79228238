//! Why a job could not be started or supervised.

use std::io;
use std::path::PathBuf;

use shm_core::SegmentError;

use crate::layout::MAX_RANKS;

/// A job that could not be started, or a launcher that can no longer watch it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// The number of ranks is 0 or more than a segment holds.
    #[error(
        "a job has between 1 and {MAX_RANKS} ranks, but {ranks} were asked for\n  help: choose a number of ranks from 1 to {MAX_RANKS}"
    )]
    Ranks {
        /// The number that was asked for.
        ranks: usize,
    },
    /// The segment could not be created.
    #[error("cannot create the shared memory of {ranks} ranks: {source}")]
    Segment {
        /// The number of ranks.
        ranks: usize,
        /// What shared memory said.
        source: SegmentError,
    },
    /// The wake-up handles of the ranks could not be created.
    #[error("cannot create the wake-up handle of rank {rank}: {source}")]
    Bell {
        /// The rank.
        rank: usize,
        /// What the system said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The program does not exist.
    #[error("cannot find the program `{program}`\n  help: {help}")]
    NotFound {
        /// The program as it was given.
        program: String,
        /// What to do.
        help: String,
    },
    /// The program exists but cannot be executed.
    #[error("cannot execute `{program}`: {source}\n  help: {help}")]
    NotExecutable {
        /// The program as it was given.
        program: String,
        /// What the system said.
        source: io::Error,
        /// What to do.
        help: String,
    },
    /// The working directory of a rank cannot be entered.
    #[error(
        "rank {rank} cannot work in `{directory}`: {source}\n  help: see --wdir; a relative directory begins at {here}"
    )]
    Directory {
        /// The rank.
        rank: usize,
        /// The directory as it was given.
        directory: String,
        /// Where the launcher itself works.
        here: String,
        /// What the system said.
        source: io::Error,
    },
    /// The memory of the ranks cannot be placed as wished.
    #[error(
        "cannot set on which nodes memory lies: {source}\n  help: leave --mem-bind out; in a container it needs the capability SYS_NICE"
    )]
    Memory {
        /// What the system said.
        source: io::Error,
    },
    /// A file for output cannot be created.
    #[error("cannot write the output to `{}`: {source}\n  help: see --output and --error; a pattern such as DIR/%r.out names a file for each rank", file.display())]
    OutputFile {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A pseudo-terminal cannot be created.
    #[error(
        "cannot make a pseudo-terminal for the output of a rank: {source}\n  help: leave -u out, or see that /dev/pts is mounted"
    )]
    Terminal {
        /// What the system said.
        source: io::Error,
    },
    /// A process could not be started for lack of a resource.
    #[error(
        "cannot start rank {rank}: {source}\n  help: see the limits of processes (ulimit -u) and of open files (ulimit -n)"
    )]
    Start {
        /// The rank.
        rank: usize,
        /// What the system said.
        source: io::Error,
    },
    /// A system call of the supervision failed.
    #[error("cannot {action}: {source}")]
    System {
        /// What was to be done.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl LaunchError {
    /// The exit code that a launcher ends with: 127 for a program that does not exist, 126 for one that cannot
    /// be executed, 125 for all else.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::NotFound { .. } => 127,
            Self::NotExecutable { .. } => 126,
            _ => 125,
        }
    }

    /// Whether a job can have so many ranks.
    ///
    /// # Errors
    ///
    /// [`LaunchError::Ranks`] if it cannot.
    pub fn check_ranks(ranks: usize) -> Result<(), Self> {
        if (1..=MAX_RANKS).contains(&ranks) { Ok(()) } else { Err(Self::Ranks { ranks }) }
    }

    /// For `map_err`: a system call's error with what it was for.
    pub(crate) fn system<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System { action, source: source.into() }
    }
}
