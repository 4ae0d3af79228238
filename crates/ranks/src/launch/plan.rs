//! What is to be run: a [`Plan`].

use std::ffi::OsString;
use std::os::fd::OwnedFd;

/// A job as it was decided on, before anything is created.
#[derive(Debug)]
pub struct Plan {
    /// Number of ranks.
    pub ranks: usize,
    /// The program, looked up in PATH when it contains no slash.
    pub program: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Variables added to the inherited environment of every rank.
    pub variables: Vec<(OsString, OsString)>,
    /// Which processors each rank may use.
    pub binding: Binding,
    /// Where the ranks' output goes.
    pub output: Output,
    /// Begin every line with the rank that wrote it: `[3] text`.
    pub tag_output: bool,
    /// Rank 0 reads the standard input; it is empty for the others, and for rank 0 when this is false.
    pub standard_input: bool,
    /// A guard process ends the job when this process is killed. Needs a process with a single thread.
    pub guard: bool,
    /// A signalfd whose signals are forwarded to the ranks; the signals must be blocked in the calling thread.
    pub signals: Option<OwnedFd>,
}

impl Plan {
    /// A job of `ranks` ranks with default settings: shared binding, output to this process's own.
    pub fn new(ranks: usize, program: impl Into<OsString>) -> Self {
        Self {
            ranks,
            program: program.into(),
            arguments: Vec::new(),
            variables: Vec::new(),
            binding: Binding::default(),
            output: Output::Descriptors,
            tag_output: false,
            standard_input: true,
            guard: false,
            signals: None,
        }
    }
}

/// Which processors a rank may use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Binding {
    /// An even share of the allowed processors when there are at least as many as ranks; otherwise all of them.
    #[default]
    Share,
    /// One core per rank, in turn; ranks beyond the number of cores share.
    Core,
    /// All of them, as inherited.
    None,
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
