//! What the standard streams of the ranks are: pipes, pseudo-terminals, files, or those of the launcher.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};
use rustix::pipe::{PipeFlags, pipe_with};

use super::error::LaunchError;
use super::input::Feeder;
use super::label::Label;
use super::output::{Forwarder, Target};
use super::plan::{Input, Output, Plan, StreamPlan};
use super::terminal;

/// A standard stream as a rank gets it.
pub(super) enum End {
    /// That of the launcher.
    Inherited,
    /// Nothing is read, nothing is kept.
    Null,
    /// This descriptor.
    Descriptor(OwnedFd),
}

impl End {
    /// The descriptor that the rank gets in place of the launcher's own; `null` leads nowhere.
    pub(super) fn descriptor<'d>(&'d self, null: BorrowedFd<'d>) -> Option<BorrowedFd<'d>> {
        match self {
            Self::Inherited => None,
            Self::Null => Some(null),
            Self::Descriptor(descriptor) => Some(descriptor.as_fd()),
        }
    }
}

/// Opens the streams of one rank after the other.
pub(super) struct Streams<'p> {
    plan: &'p Plan,
    /// The files that the launcher writes.
    files: HashMap<&'p Path, FileSink>,
    pub(super) forwarder: Forwarder,
    pub(super) feeder: Feeder,
}

struct FileSink {
    number: usize,
    /// Lines of several ranks meet in it.
    of_several_ranks: bool,
}

impl<'p> Streams<'p> {
    /// Opens what is not for one rank alone.
    pub(super) fn new(plan: &'p Plan) -> Result<Self, LaunchError> {
        let mut targets = match plan.output {
            Output::Descriptors => vec![Target::Stdout, Target::Stderr],
            Output::Print { .. } => vec![Target::Print, Target::PrintError],
        };
        let mut files = HashMap::new();
        for (file, usage) in usages(plan).into_iter().filter(|(_, usage)| !usage.is_direct()) {
            files.insert(file, FileSink { number: targets.len(), of_several_ranks: usage.of_several_ranks });
            targets.push(Target::File(create(file, plan.append)?, file.to_owned()));
        }
        Ok(Self { plan, files, forwarder: Forwarder::new(targets), feeder: Feeder::default() })
    }

    /// The standard input, output and error of `rank`.
    pub(super) fn of_rank(&mut self, rank: usize) -> Result<[End; 3], LaunchError> {
        let plan = &self.plan.ranks[rank];
        if plan.foreground {
            return Ok([End::Inherited, End::Inherited, End::Inherited]);
        }
        let input = match self.plan.input {
            Input::Rank(reader) if reader == rank => End::Inherited,
            Input::None | Input::Rank(_) => End::Null,
            Input::All => End::Descriptor(self.feeder.add().map_err(LaunchError::system("create a pipe"))?),
        };
        let output = self.output(0, &plan.stdout, plan.terminal)?;
        let error = match (&plan.stderr, &output) {
            (Some(stderr), _) => self.output(1, stderr, false)?,
            (None, End::Descriptor(output)) => {
                let both = output.try_clone().map_err(LaunchError::system("duplicate a descriptor"));
                End::Descriptor(both?)
            }
            (None, _) => End::Null,
        };
        Ok([input, output, error])
    }

    /// The writing end of a stream; `standard` is the sink where it is shown.
    fn output(&mut self, standard: usize, stream: &StreamPlan, terminal: bool) -> Result<End, LaunchError> {
        let mut sinks = Vec::new();
        if stream.shown {
            sinks.push((standard, stream.label.clone()));
        }
        if let Some(file) = stream.file.as_deref() {
            let Some(sink) = self.files.get(file) else {
                return Ok(End::Descriptor(create(file, self.plan.append)?));
            };
            sinks
                .push((sink.number, if sink.of_several_ranks { stream.label.clone() } else { Label::new() }));
        }
        if sinks.is_empty() {
            return Ok(End::Null);
        }
        let (reader, writer) = match terminal {
            true => terminal::pair().map_err(|source| LaunchError::Terminal { source })?,
            false => pipe_with(PipeFlags::CLOEXEC).map_err(LaunchError::system("create a pipe"))?,
        };
        self.forwarder.add(reader, sinks);
        Ok(End::Descriptor(writer))
    }
}

/// Who writes to a file.
struct Usage {
    rank: usize,
    streams: usize,
    of_several_ranks: bool,
    shown: bool,
}

impl Usage {
    /// One rank can write to it without the launcher.
    fn is_direct(&self) -> bool {
        self.streams == 1 && !self.shown
    }
}

fn usages(plan: &Plan) -> HashMap<&Path, Usage> {
    let mut usages: HashMap<&Path, Usage> = HashMap::new();
    for (rank, plan) in plan.ranks.iter().enumerate() {
        for stream in [Some(&plan.stdout), plan.stderr.as_ref()].into_iter().flatten() {
            let Some(file) = stream.file.as_deref() else { continue };
            let new = Usage { rank, streams: 0, of_several_ranks: false, shown: false };
            let usage = usages.entry(file).or_insert(new);
            usage.streams += 1;
            usage.of_several_ranks |= usage.rank != rank;
            usage.shown |= stream.shown;
        }
    }
    usages
}

/// The number of files that stay open in the launcher.
pub(super) fn open_files(plan: &Plan) -> usize {
    usages(plan).values().filter(|usage| !usage.is_direct()).count()
}

/// Creates a file with the directories that lead to it; empty, or with what it holds already if it is to `append`.
fn create(file: &Path, append: bool) -> Result<OwnedFd, LaunchError> {
    let content = if append { OFlags::APPEND } else { OFlags::TRUNC };
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOCTTY | content;
    let create = || open(file, flags, Mode::from_raw_mode(0o666)).map_err(io::Error::from);
    let created = create().or_else(|error| match (error.kind(), file.parent()) {
        (io::ErrorKind::NotFound, Some(directory)) => {
            std::fs::create_dir_all(directory)?;
            create()
        }
        _ => Err(error),
    });
    created.map_err(|source| LaunchError::OutputFile { file: file.to_owned(), source })
}
