//! What is to be run: a [`Plan`].

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::create::Tuning;
use super::error::LaunchError;
use super::label::Label;

/// A job as it was decided on, before anything is created.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The ranks, by number.
    pub ranks: Vec<RankPlan>,
    /// Variables added to the environment of every rank.
    pub variables: Vec<(OsString, OsString)>,
    /// The processors that all ranks together may use, for deciding whether to spin; `None` for all that this
    /// process may use.
    pub cores: Option<usize>,
    /// On which nodes the memory of the ranks lies.
    pub memory: Memory,
    /// What is done about a job that hangs.
    pub hang: Hang,
    /// Every send waits for its receiver, every collective for all ranks.
    pub strict: bool,
    /// One rank runs at a time, in an order that this seed gives.
    pub chaos: Option<u64>,
    /// Begins what is said while the job runs.
    pub name: String,
    /// Where the ranks' output goes.
    pub output: Output,
    /// Which ranks read the standard input; it is empty for the others.
    pub input: Input,
    /// When the job is ended although no rank failed, and how patiently.
    pub limits: Limits,
    /// What becomes of the others when a rank fails.
    pub on_failure: OnFailure,
    /// What the library does differently from usual.
    pub tuning: Tuning,
    /// Files for output are continued where they exist already, instead of created anew.
    pub append: bool,
    /// Is told what happens, for the curious.
    pub observer: Option<fn(&Event)>,
    /// A guard process ends the job when this process is killed. Needs a process with a single thread.
    pub guard: bool,
    /// A signalfd whose signals are forwarded to the ranks; the signals must be blocked in the calling thread.
    pub signals: Option<Arc<OwnedFd>>,
}

/// What becomes of the other ranks when one fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// The job ends: they are stopped.
    #[default]
    Kill,
    /// They go on: their operations with the failed rank fail, and they can
    /// [`shrink`](crate::World::shrink) their world. The job ends well if they finish after they took note of each failure
    /// (`shrink`, [`acknowledge`](crate::World::acknowledge)). A rank that calls [`abort`](crate::World::abort) ends the
    /// job all the same.
    Continue,
}

/// Times that end a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// How long the job may take.
    pub timeout: Option<Duration>,
    /// After the first failure the other ranks have this time before they are stopped: those that need the failed
    /// rank get errors then, and can say so.
    pub linger: Duration,
    /// Time from SIGTERM to SIGKILL for ranks that are to end; `None` for what the occasion calls for.
    pub grace: Option<Duration>,
}

/// One rank of a [`Plan`].
#[derive(Debug, Clone)]
pub struct RankPlan {
    /// The program, looked up in PATH when it contains no slash.
    pub program: OsString,
    /// Its arguments.
    pub arguments: Arc<[OsString]>,
    /// Inherit the environment of this process.
    pub inherit_environment: bool,
    /// Variables of this rank, besides those of all ranks.
    pub variables: Vec<(OsString, OsString)>,
    /// The working directory; `None` for that of this process.
    pub directory: Option<PathBuf>,
    /// The processors that it may use, by number; none given means all that this process may use.
    pub processors: Vec<usize>,
    /// What becomes of its standard output.
    pub stdout: StreamPlan,
    /// What becomes of its standard error; `None`: what becomes of its standard output, in the order written.
    pub stderr: Option<StreamPlan>,
    /// Its standard output is a pseudo-terminal: programs then write line by line.
    pub terminal: bool,
    /// It gets this process's own standard streams, whatever is said of them elsewhere.
    pub foreground: bool,
}

/// What becomes of what a rank writes to one of its streams. Neither shown nor kept in a file, it is dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamPlan {
    /// It goes to the stream of the same name of this process.
    pub shown: bool,
    /// It goes to this file, which is created anew, with the directories that lead to it.
    pub file: Option<PathBuf>,
    /// What each line begins with where it meets lines of other ranks.
    pub label: Label,
}

/// On which nodes memory lies that is touched for the first time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Memory {
    /// As this process has it.
    #[default]
    Inherited,
    /// On that of the processor which touches it.
    Local,
    /// On these in turn, page by page.
    Interleaved(Vec<usize>),
}

/// Which ranks read the standard input of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// None.
    None,
    /// This one, and it reads the very descriptor.
    Rank(usize),
    /// All of them, each a copy.
    All,
}

impl Plan {
    /// A job of `ranks` equal ranks with default settings: see [`Plan::new`].
    ///
    /// # Errors
    ///
    /// [`LaunchError::Ranks`] for a number that no job can have.
    pub fn equal(ranks: usize, rank: RankPlan) -> Result<Self, LaunchError> {
        LaunchError::check_ranks(ranks)?;
        Ok(Self::new(vec![rank; ranks]))
    }

    /// A job of these ranks with default settings: output to this process's own, rank 0 reads its input.
    pub fn new(ranks: Vec<RankPlan>) -> Self {
        Self {
            ranks,
            variables: Vec::new(),
            cores: None,
            memory: Memory::Inherited,
            hang: Hang::default(),
            strict: false,
            chaos: None,
            name: "ranks".to_owned(),
            output: Output::Descriptors,
            input: Input::Rank(0),
            limits: Limits::default(),
            on_failure: OnFailure::default(),
            tuning: Tuning::of_environment(),
            append: false,
            observer: None,
            guard: false,
            signals: None,
        }
    }

    /// Whether a rank has the launcher's own streams.
    pub(super) fn has_foreground(&self) -> bool {
        self.ranks.iter().any(|rank| rank.foreground)
    }

    /// Tells the observer, if there is one.
    pub(super) fn tell(&self, event: impl FnOnce() -> Event) {
        if let Some(observer) = self.observer {
            observer(&event());
        }
    }
}

impl RankPlan {
    /// A rank that runs `program` and inherits everything else.
    pub fn new(program: impl Into<OsString>, arguments: Vec<OsString>) -> Self {
        Self {
            program: program.into(),
            arguments: arguments.into(),
            inherit_environment: true,
            variables: Vec::new(),
            directory: None,
            processors: Vec::new(),
            stdout: StreamPlan::shown(),
            stderr: Some(StreamPlan::shown()),
            terminal: false,
            foreground: false,
        }
    }
}

impl StreamPlan {
    /// To the stream of the same name of this process, as it is.
    pub fn shown() -> Self {
        Self { shown: true, ..Self::default() }
    }
}

/// What is done about a job that hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hang {
    /// What is done.
    pub action: HangAction,
    /// How long ranks wait before it counts as a hang.
    pub after: Duration,
}

/// What is done about a job that hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HangAction {
    /// Nothing: nobody looks.
    Off,
    /// It is said on the standard error, each finding once.
    Warn,
    /// The same, and a deadlock ends the job.
    Kill,
}

impl Default for Hang {
    fn default() -> Self {
        Self { action: HangAction::Warn, after: Duration::from_secs(5) }
    }
}

/// Something that happened while a job was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The job's segment exists.
    Segment {
        /// Its bytes, most of which are not backed by memory until they are used.
        bytes: usize,
        /// It is anonymous memory, because /dev/shm is missing or has no room for it.
        anonymous: bool,
    },
    /// A rank was started.
    Started {
        /// Its number.
        rank: usize,
        /// Its process.
        pid: u32,
    },
}

/// Where the ranks' output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// To the standard output and error descriptors of this process. A blocked one holds the ranks back.
    Descriptors,
    /// Through `print!` and `eprint!`, which test harnesses capture. What a rank writes to its standard output
    /// before it claims it with [`crate::spawn()`] is dropped if `drop_before_spawn`.
    Print {
        /// Give the ranks /dev/null as standard output, and the pipe as an extra descriptor.
        drop_before_spawn: bool,
    },
}
