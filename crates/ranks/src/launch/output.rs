//! The ranks' output: read as it comes and written on in whole lines.
//!
//! An [`Intake`] is the launcher's end of a pipe or pseudo-terminal that ranks write to, a [`Sink`] is what it is
//! written on to: the launcher's own output, or a file. Neither side blocks the launcher: it reads what `poll` says
//! is there, and writes no more than `poll` says there is room for. When a sink is slow, its intakes are not read,
//! and the ranks wait.

use std::fmt;
use std::io::{Write as _, stdout};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Instant;

use rustix::buffer::spare_capacity;
use rustix::event::PollFlags;
use rustix::fs::{FileType, fstat};
use rustix::io::{Errno, read, write};

use super::label::{Clock, Label};
use super::lines::{Lines, Partial};
use super::supervise::{Interest, Token};

/// A pipe that `poll` calls writable has room for PIPE_BUF bytes: writing more could block.
const WRITE_BYTES: usize = 4096;
/// What a pipe holds.
const READ_BYTES: usize = 64 << 10;

/// All that the ranks write and that goes through the launcher.
pub(super) struct Forwarder {
    sinks: Vec<Sink>,
    intakes: Vec<Intake>,
    buffer: Vec<u8>,
}

/// What output is written on to.
pub(super) struct Sink {
    target: Target,
    /// A regular file always takes everything.
    at_once: bool,
    lines: Lines,
    /// Nobody reads it any more, or writing failed otherwise.
    closed: Option<Errno>,
}

/// Where a [`Sink`] leads.
pub(super) enum Target {
    /// The standard output of the launcher.
    Stdout,
    /// Its standard error.
    Stderr,
    /// The macro `print!`, whose output test harnesses capture.
    Print,
    /// `eprint!`.
    PrintError,
    /// A file, with its name for messages.
    File(OwnedFd, PathBuf),
}

struct Intake {
    pipe: Option<OwnedFd>,
    /// Bytes read since [`Forwarder::begin_drain`].
    drained: usize,
    /// Numbers of the sinks, and the line that goes there.
    sinks: Vec<(usize, Partial)>,
}

/// A sink that cannot be written to.
pub(super) struct Closed {
    error: Errno,
    /// The name of a file.
    file: Option<PathBuf>,
}

impl Forwarder {
    pub(super) fn new(targets: impl IntoIterator<Item = Target>) -> Self {
        let clock = Clock::new();
        let sinks = targets.into_iter().map(|target| Sink::new(target, clock)).collect();
        Self { sinks, intakes: Vec::new(), buffer: Vec::with_capacity(READ_BYTES) }
    }

    /// Adds the read end of a pipe, and the numbers of the sinks that its lines go to, with their labels.
    pub(super) fn add(&mut self, pipe: OwnedFd, sinks: Vec<(usize, Label)>) {
        let number = self.intakes.len();
        let sinks = sinks.into_iter().map(|(sink, label)| (sink, Partial::new(number, label))).collect();
        self.intakes.push(Intake { pipe: Some(pipe), drained: 0, sinks });
    }

    /// What the supervisor is to wait for.
    pub(super) fn interests<'a>(&'a self, interests: &mut Vec<Interest<'a>>) {
        for (number, intake) in self.intakes.iter().enumerate() {
            if let Some(pipe) = intake.pipe.as_ref().filter(|_| self.takes(intake)) {
                interests.push((Token::Read(number), pipe.as_fd(), PollFlags::IN));
            }
        }
        for (number, sink) in self.sinks.iter().enumerate() {
            if let Some(target) = sink.descriptor().filter(|_| sink.has_work()) {
                interests.push((Token::Write(number), target, PollFlags::OUT));
            }
        }
    }

    /// Whether all sinks of an intake have room.
    fn takes(&self, intake: &Intake) -> bool {
        intake.sinks.iter().all(|(sink, partial)| !self.sinks[*sink].lines.is_full_for(partial))
    }

    pub(super) fn read(&mut self, intake: usize, now: Instant) {
        let Self { sinks, intakes, buffer } = self;
        let intake = &mut intakes[intake];
        let Some(pipe) = &intake.pipe else { return };
        buffer.clear();
        match read(pipe, spare_capacity(buffer)) {
            Ok(count) if count > 0 => {
                intake.drained += count;
                for (sink, partial) in &mut intake.sinks {
                    sinks[*sink].lines.accept(partial, buffer, now);
                    sinks[*sink].print();
                }
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            // A pseudo-terminal that nobody has open any more ends with EIO.
            _ => intake.end(sinks, now),
        }
    }

    pub(super) fn write(&mut self, sink: usize) {
        if self.sinks[sink].write().is_err() {
            self.stop_reading(Instant::now());
        }
    }

    /// Adds lines of the launcher's own to what goes to its standard error.
    pub(super) fn say(&mut self, lines: &str) {
        if let Some(sink) = self.sinks.iter_mut().find(|sink| sink.is_standard_error()) {
            sink.lines.insert(lines.as_bytes());
            sink.print();
        }
    }

    /// Shows prompts whose time has come. `now` is not later than the moment when the intakes were asked for more
    /// the last time: a line whose rest waits to be read is no prompt.
    pub(super) fn elapse(&mut self, now: Instant) {
        for intake in &mut self.intakes {
            for (sink, partial) in &mut intake.sinks {
                let sink = &mut self.sinks[*sink];
                if !sink.lines.is_full() {
                    sink.lines.elapse(partial, now);
                    sink.print();
                }
            }
        }
    }

    /// When [`Forwarder::elapse`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let lines = |sink: &usize| Some(&self.sinks[*sink].lines).filter(|lines| !lines.is_full());
        let partials = self.intakes.iter().flat_map(|intake| &intake.sinks);
        let prompts = partials.filter_map(|(sink, partial)| lines(sink)?.due(partial));
        let holds = self.sinks.iter().filter(|sink| !sink.lines.is_full());
        prompts.chain(holds.filter_map(|sink| sink.lines.hold_ends())).min()
    }

    /// Stops reading: what has not come by now is lost.
    pub(super) fn stop_reading(&mut self, now: Instant) {
        self.intakes.iter_mut().for_each(|intake| intake.end(&mut self.sinks, now));
    }

    /// The last rank is gone: what it left in the pipes has to be read, but not what comes later.
    pub(super) fn begin_drain(&mut self) {
        self.intakes.iter_mut().for_each(|intake| intake.drained = 0);
    }

    /// Some time later: stops reading what only other processes can still write. An intake that could not be read
    /// because its sink is slow stays, up to what a pipe holds.
    pub(super) fn stop_waiting(&mut self, now: Instant) {
        let Self { sinks, intakes, .. } = self;
        for intake in intakes {
            let held_back =
                intake.sinks.iter().any(|(sink, partial)| sinks[*sink].lines.is_full_for(partial));
            if !held_back || intake.drained >= READ_BYTES {
                intake.end(sinks, now);
            }
        }
    }

    /// All pipes have ended.
    pub(super) fn has_ended(&self) -> bool {
        self.intakes.iter().all(|intake| intake.pipe.is_none())
    }

    /// Everything that was read has been written.
    pub(super) fn is_flushed(&self) -> bool {
        self.sinks.iter().all(|sink| !sink.has_work())
    }

    /// Drops what waits to be written, when the user does not want to wait for a blocked output.
    pub(super) fn abandon(&mut self) {
        self.stop_reading(Instant::now());
        self.sinks.iter_mut().for_each(|sink| sink.lines.written(sink.lines.ready().len()));
    }

    /// A sink that cannot be written to any more.
    pub(super) fn closed(&self) -> Option<Closed> {
        let sink = self.sinks.iter().find(|sink| sink.closed.is_some())?;
        let file = if let Target::File(_, name) = &sink.target { Some(name.clone()) } else { None };
        sink.closed.map(|error| Closed { error, file })
    }
}

impl Closed {
    /// Whoever reads our output has gone: that is no error.
    pub(super) fn is_unread(&self) -> bool {
        self.file.is_none() && self.error == Errno::PIPE
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{}: {}", file.display(), self.error),
            None => write!(f, "{}", self.error),
        }
    }
}

impl Intake {
    fn end(&mut self, sinks: &mut [Sink], now: Instant) {
        if self.pipe.take().is_some() {
            for (sink, partial) in &mut self.sinks {
                sinks[*sink].lines.end(partial, now);
                sinks[*sink].print();
            }
        }
    }
}

impl Sink {
    fn new(target: Target, clock: Clock) -> Self {
        let mut sink = Self { target, at_once: false, lines: Lines::new(clock), closed: None };
        let kind =
            sink.descriptor().map(|target| fstat(target).map(|stat| FileType::from_raw_mode(stat.st_mode)));
        sink.at_once = kind == Some(Ok(FileType::RegularFile));
        sink
    }

    fn is_standard_error(&self) -> bool {
        matches!(self.target, Target::Stderr | Target::PrintError)
    }

    /// `None` if it is written to otherwise.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match &self.target {
            Target::Stdout => Some(rustix::stdio::stdout()),
            Target::Stderr => Some(rustix::stdio::stderr()),
            Target::Print | Target::PrintError => None,
            Target::File(file, _) => Some(file.as_fd()),
        }
    }

    fn has_work(&self) -> bool {
        self.closed.is_none() && !self.lines.ready().is_empty()
    }

    fn write(&mut self) -> Result<(), Errno> {
        let Some(target) = self.descriptor() else { return Ok(()) };
        let ready = self.lines.ready();
        let chunk = if self.at_once { ready } else { whole_lines(ready, WRITE_BYTES) };
        match write(target, chunk) {
            Ok(count) => self.lines.written(count),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(error) => {
                self.closed = Some(error);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Writes what is ready through the macros, if that is the way.
    fn print(&mut self) {
        let text = || String::from_utf8_lossy(self.lines.ready());
        match self.target {
            Target::Print => print!("{}", text()),
            Target::PrintError => eprint!("{}", text()),
            _ => return,
        }
        // A prompt must be seen; what cannot be flushed cannot be shown otherwise either.
        let _ = stdout().flush();
        self.lines.written(self.lines.ready().len());
    }
}

/// The beginning of `bytes`, at most `limit` of them, up to the end of a line if one ends within them.
fn whole_lines(bytes: &[u8], limit: usize) -> &[u8] {
    let chunk = &bytes[..bytes.len().min(limit)];
    let end = chunk.iter().rposition(|&byte| byte == b'\n').map_or(chunk.len(), |position| position + 1);
    &chunk[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_end_with_a_line_where_they_can() {
        assert_eq!(whole_lines(b"ab\ncd\nef", 7), b"ab\ncd\n");
        assert_eq!(whole_lines(b"abcdef", 4), b"abcd");
        assert_eq!(whole_lines(b"ab", 4), b"ab");
    }
}
