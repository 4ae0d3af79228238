//! The ranks' output: a pipe per rank and stream, read as it comes and written on in whole lines.
//!
//! Neither side blocks the launcher: it reads what `poll` says is there, and writes to its own output no more
//! than `poll` says there is room for. When its output is slow, it stops reading, and the ranks wait.

use std::io::{Write as _, stdout};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::fs::{FileType, fstat};
use rustix::io::{Errno, read, write};

use super::lines::{Lines, Partial};
use super::plan::Output;
use super::supervise::{Interest, Token};

/// A pipe that `poll` calls writable has room for PIPE_BUF bytes: writing more could block.
const WRITE_BYTES: usize = 4096;
/// What a pipe holds.
const READ_BYTES: usize = 64 << 10;

/// One of the two output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

/// Both streams of all ranks.
pub(super) struct Forwarder {
    streams: [Forward; 2],
    buffer: Vec<u8>,
}

struct Forward {
    stream: Stream,
    print: bool,
    /// A regular file always takes everything.
    at_once: bool,
    sources: Vec<Source>,
    lines: Lines,
    /// Nobody reads it any more, or writing failed otherwise.
    closed: Option<Errno>,
}

struct Source {
    pipe: Option<OwnedFd>,
    partial: Partial,
}

impl Forwarder {
    pub(super) fn new(output: Output, tagged: bool) -> Self {
        let forward = |stream| Forward::new(stream, output, tagged);
        Self { streams: [forward(Stream::Stdout), forward(Stream::Stderr)], buffer: vec![0; READ_BYTES] }
    }

    /// Adds the read ends of the pipes of the next rank.
    pub(super) fn add(&mut self, pipes: [OwnedFd; 2]) {
        for (forward, pipe) in self.streams.iter_mut().zip(pipes) {
            forward.sources.push(Source { pipe: Some(pipe), partial: Partial::default() });
        }
    }

    /// What the supervisor is to wait for.
    pub(super) fn interests<'a>(&'a self, interests: &mut Vec<Interest<'a>>) {
        self.streams.iter().for_each(|forward| forward.interests(interests));
    }

    pub(super) fn read(&mut self, stream: Stream, rank: usize, now: Instant) {
        self.streams[stream as usize].read(rank, &mut self.buffer, now);
    }

    pub(super) fn write(&mut self, stream: Stream) {
        self.streams[stream as usize].write();
    }

    /// Shows prompts whose time has come.
    pub(super) fn elapse(&mut self, now: Instant) {
        self.streams.iter_mut().for_each(|forward| forward.elapse(now));
    }

    /// When [`Forwarder::elapse`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.streams.iter().filter_map(Forward::deadline).min()
    }

    /// Stops reading: what has not come by now is lost.
    pub(super) fn stop_reading(&mut self) {
        self.streams.iter_mut().for_each(Forward::stop_reading);
    }

    /// All pipes have ended.
    pub(super) fn has_ended(&self) -> bool {
        self.streams.iter().all(|forward| forward.sources.iter().all(|source| source.pipe.is_none()))
    }

    /// Everything that was read has been written.
    pub(super) fn is_flushed(&self) -> bool {
        self.streams.iter().all(|forward| forward.closed.is_some() || forward.lines.ready().is_empty())
    }

    /// Drops what waits to be written, when the user does not want to wait for a blocked output.
    pub(super) fn abandon(&mut self) {
        self.stop_reading();
        self.streams.iter_mut().for_each(|forward| forward.written(forward.lines.ready().len()));
    }

    /// Why a stream cannot be written to any more.
    pub(super) fn closed(&self) -> Option<Errno> {
        self.streams.iter().find_map(|forward| forward.closed)
    }
}

impl Forward {
    fn new(stream: Stream, output: Output, tagged: bool) -> Self {
        let mut forward = Self {
            stream,
            print: output != Output::Descriptors,
            at_once: false,
            sources: Vec::new(),
            lines: Lines::new(tagged),
            closed: None,
        };
        let kind = fstat(forward.target()).map(|stat| FileType::from_raw_mode(stat.st_mode));
        forward.at_once = kind == Ok(FileType::RegularFile);
        forward
    }

    fn interests<'a>(&'a self, interests: &mut Vec<Interest<'a>>) {
        if !self.lines.is_full() {
            let sources = self.sources.iter().enumerate();
            interests.extend(sources.filter_map(|(rank, source)| {
                Some((Token::Read(self.stream, rank), source.pipe.as_ref()?.as_fd(), PollFlags::IN))
            }));
        }
        if !self.lines.ready().is_empty() && self.closed.is_none() {
            interests.push((Token::Write(self.stream), self.target(), PollFlags::OUT));
        }
    }

    fn target(&self) -> BorrowedFd<'static> {
        match self.stream {
            Stream::Stdout => rustix::stdio::stdout(),
            Stream::Stderr => rustix::stdio::stderr(),
        }
    }

    fn read(&mut self, rank: usize, buffer: &mut [u8], now: Instant) {
        let source = &mut self.sources[rank];
        let Some(pipe) = &source.pipe else { return };
        match read(pipe, &mut *buffer) {
            Ok(count) if count > 0 => self.lines.accept(rank, &mut source.partial, &buffer[..count], now),
            Err(Errno::INTR | Errno::AGAIN) => {}
            _ => self.end(rank),
        }
        self.print_ready();
    }

    fn end(&mut self, rank: usize) {
        let source = &mut self.sources[rank];
        source.pipe = None;
        self.lines.end(rank, &mut source.partial);
    }

    fn stop_reading(&mut self) {
        (0..self.sources.len()).for_each(|rank| self.end(rank));
        self.print_ready();
    }

    fn elapse(&mut self, now: Instant) {
        for (rank, source) in self.sources.iter_mut().enumerate() {
            self.lines.elapse(rank, &mut source.partial, now);
        }
        self.print_ready();
    }

    fn deadline(&self) -> Option<Instant> {
        let prompts = self.sources.iter().filter_map(|source| source.partial.due());
        prompts.chain(self.lines.hold_ends()).min()
    }

    fn write(&mut self) {
        let ready = self.lines.ready();
        let chunk = if self.at_once { ready } else { whole_lines(ready, WRITE_BYTES) };
        match write(self.target(), chunk) {
            Ok(count) => self.written(count),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(error) => {
                self.closed = Some(error);
                self.stop_reading();
            }
        }
    }

    fn written(&mut self, count: usize) {
        self.lines.written(count);
    }

    /// Through the macros, whose output test harnesses capture.
    fn print_ready(&mut self) {
        if !self.print {
            return;
        }
        let text = String::from_utf8_lossy(self.lines.ready()).into_owned();
        match self.stream {
            Stream::Stdout => print!("{text}"),
            Stream::Stderr => eprint!("{text}"),
        }
        // A prompt must be seen; what cannot be flushed cannot be shown otherwise either.
        let _ = stdout().flush();
        self.written(self.lines.ready().len());
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
