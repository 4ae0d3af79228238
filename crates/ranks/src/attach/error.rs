//! Why a process could not become a rank.

use std::io;

use shm_core::{BellError, Fingerprint, SegmentError};

use crate::launch::LaunchError;

/// A process could not become a rank of its job.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// A variable of the hand-over has a value that no launcher writes.
    #[error(
        "the environment variable {name}={value:?} is damaged: {problem}\n  help: start the program with shmrun \
         and leave its variables as they are, or remove all SHMRUN_ variables to run it alone"
    )]
    Variable {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Some variables of the hand-over are there, this one is not.
    #[error(
        "the environment variable {name} is missing, but {found} is set\n  help: start the program with shmrun, \
         or remove all SHMRUN_ variables to run it alone"
    )]
    Missing {
        /// The missing variable.
        name: &'static str,
        /// One that is there.
        found: &'static str,
    },
    /// The program was linked with a version of this library that does not understand the launcher.
    #[error(
        "the launcher speaks version {found} of the hand-over, this program version {known}\n  help: build the \
         program and shmrun from the same version of ranks"
    )]
    Protocol {
        /// The launcher's version.
        found: u32,
        /// The version that this library knows.
        known: u32,
    },
    /// Launcher and program are of one version, but were built from different sources or with different features.
    #[error(
        "the launcher lays the job's segment out as {found}, this program as {known}: they were built from \
         different sources\n  help: build the program and shmrun from the same version of ranks, with the same \
         features (cargo install --path launcher, or cargo shmrun in the checkout)"
    )]
    OtherBuild {
        /// The fingerprint of the launcher's layout.
        found: Fingerprint,
        /// The fingerprint of this program's layout.
        known: Fingerprint,
    },
    /// An inherited descriptor is not there, or is something else.
    #[error(
        "{name}={number} names no descriptor of this job: {problem}\n  help: a wrapper between shmrun and this \
         program must leave its descriptors open (Python: close_fds=False); a program that a rank starts as a \
         helper must not inherit the SHMRUN_ variables"
    )]
    Descriptor {
        /// The variable.
        name: &'static str,
        /// The descriptor's number.
        number: i32,
        /// What is wrong with it.
        problem: String,
    },
    /// The inherited segment is damaged or of another version.
    #[error("{name}={number} is not the segment of this job: {source}", name = crate::launch::environment::SEGMENT_FD)]
    Segment {
        /// The descriptor's number.
        number: i32,
        /// What the check said.
        source: SegmentError,
    },
    /// The segment belongs to another job, or has another size than the variables say.
    #[error(
        "{name}={value} does not fit the inherited segment, which says {found}\n  help: the variables of two jobs \
         are mixed: start the program with shmrun and leave its variables as they are"
    )]
    OtherJob {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What the segment says.
        found: String,
    },
    /// Another process is or was this rank.
    #[error(
        "rank {rank} is already taken: process {pid} {how}\n  help: a job has one process per rank: start further \
         programs with a shmrun of their own"
    )]
    Taken {
        /// The rank.
        rank: usize,
        /// The process that has it.
        pid: u32,
        /// What became of that process.
        how: &'static str,
    },
    /// This process has been a rank before.
    #[error("this process has been a rank before\n  help: call ranks::init() once, and keep the world")]
    Again,
    /// Another launcher has started several processes, each of which would be alone here.
    #[error(
        "{name}={value} says that this is one of several processes, but they were not started by shmrun and would \
         all run alone\n  help: start the program with `shmrun -n {value}`; if each is meant to run alone, set \
         {singleton}=1", singleton = crate::launch::environment::SINGLETON
    )]
    Foreign {
        /// The other launcher's variable.
        name: &'static str,
        /// The number of processes that it tells.
        value: String,
    },
    /// The launcher has ended, or lives where this process cannot see it.
    #[error(
        "the launcher of this job (process {pid}) is gone or in another pid namespace\n  help: start the program \
         with shmrun inside the container"
    )]
    LauncherGone {
        /// The launcher's process id.
        pid: u32,
    },
    /// A wake-up handle could not be opened.
    #[error("cannot open the wake-up handle of rank {rank}: {source}")]
    Bell {
        /// The rank.
        rank: usize,
        /// What the system said.
        source: BellError,
    },
    /// The segment of a world of size 1 could not be created.
    #[error("cannot make a world of size 1: {0}")]
    Alone(LaunchError),
    /// A system call failed.
    #[error("cannot {action}: {source}")]
    System {
        /// What was to be done.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl AttachError {
    pub(super) fn variable(name: &'static str, value: &str, problem: impl ToString) -> Self {
        Self::Variable { name, value: value.to_owned(), problem: problem.to_string() }
    }

    pub(super) fn system<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System { action, source: source.into() }
    }
}
