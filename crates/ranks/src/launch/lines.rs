//! Whole lines out of many streams into one: the rules, without any descriptor.
//!
//! - A line reaches the output in one piece, whoever else writes meanwhile.
//! - A line without its end is shown after [`PROMPT_DELAY`] of silence, so that a prompt is seen. That line is
//!   then *open*: lines of other ranks are held back until its rank ends it, at most for [`HOLD`], after which
//!   a line break is put in.
//! - A piece that ends on a multiple of [`STDIO_UNIT`] bytes is no prompt but a full buffer of a C or Rust
//!   library, whose rest will follow.
//! - A rank's last line needs no end.

use std::mem::take;
use std::time::{Duration, Instant};

/// Silence after which the beginning of a line is shown.
pub(super) const PROMPT_DELAY: Duration = Duration::from_millis(20);
/// How long the lines of other ranks wait for the end of an open line.
const HOLD: Duration = Duration::from_secs(1);
/// Bytes that wait at most, and the longest line that is kept together.
const LIMIT: usize = 1 << 20;
/// Buffers of standard libraries are multiples of this: 1024 for terminals and lines, 4096, 8192.
const STDIO_UNIT: u64 = 1024;

/// The beginning of a line of one rank's stream.
#[derive(Debug, Default)]
pub(super) struct Partial {
    bytes: Vec<u8>,
    received: u64,
    since: Option<Instant>,
}

/// One output: what is ready to be written, and what waits.
#[derive(Debug, Default)]
pub(super) struct Lines {
    tagged: bool,
    ready: Vec<u8>,
    open: Option<Open>,
    held: Vec<u8>,
    held_since: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    rank: usize,
    ended: bool,
}

impl Lines {
    pub(super) fn new(tagged: bool) -> Self {
        Self { tagged, ..Self::default() }
    }

    /// Takes what `rank` wrote.
    pub(super) fn accept(&mut self, rank: usize, partial: &mut Partial, bytes: &[u8], now: Instant) {
        partial.received += bytes.len() as u64;
        partial.since = Some(now);
        let Some(end) = bytes.iter().rposition(|&byte| byte == b'\n') else {
            partial.bytes.extend_from_slice(bytes);
            if partial.bytes.len() > LIMIT {
                self.show(rank, partial);
            }
            return;
        };
        partial.bytes.extend_from_slice(&bytes[..=end]);
        self.push_lines(rank, &take(&mut partial.bytes), now);
        partial.bytes.extend_from_slice(&bytes[end + 1..]);
    }

    /// The stream of `rank` has ended: its last line is complete as it is.
    pub(super) fn end(&mut self, rank: usize, partial: &mut Partial) {
        if !partial.bytes.is_empty() {
            self.close_for(rank);
            self.show(rank, partial);
        }
        if let Some(open) = &mut self.open
            && open.rank == rank
        {
            open.ended = true;
            if !self.held.is_empty() {
                self.break_line();
            }
        }
    }

    /// Shows the beginning of a line if its rank has been silent for long enough, and gives up holding lines
    /// back when it took too long.
    pub(super) fn elapse(&mut self, rank: usize, partial: &mut Partial, now: Instant) {
        if partial.due().is_some_and(|due| due <= now) {
            partial.since = None;
            self.show(rank, partial);
        }
        if self.hold_ends().is_some_and(|end| end <= now) {
            self.break_line();
        }
    }

    /// When held lines are to be let go.
    pub(super) fn hold_ends(&self) -> Option<Instant> {
        self.held_since.map(|since| since + HOLD)
    }

    /// What can be written now.
    pub(super) fn ready(&self) -> &[u8] {
        &self.ready
    }

    /// Forgets the first `count` bytes of [`Lines::ready`].
    pub(super) fn written(&mut self, count: usize) {
        self.ready.drain(..count);
    }

    /// Whether the ranks should wait before they write more.
    pub(super) fn is_full(&self) -> bool {
        self.ready.len() + self.held.len() > LIMIT
    }

    fn push_lines(&mut self, rank: usize, lines: &[u8], now: Instant) {
        match self.open {
            Some(open) if open.rank == rank => {
                let first = 1 + lines.iter().position(|&byte| byte == b'\n').unwrap_or(lines.len() - 1);
                self.ready.extend_from_slice(&lines[..first]);
                self.open = None;
                tag(&mut self.ready, self.tagged, rank, &lines[first..]);
                self.release();
            }
            Some(open) if !open.ended => {
                tag(&mut self.held, self.tagged, rank, lines);
                self.held_since.get_or_insert(now);
                if self.held.len() > LIMIT {
                    self.break_line();
                }
            }
            _ => {
                self.close_for(rank);
                tag(&mut self.ready, self.tagged, rank, lines);
            }
        }
    }

    /// Appends the beginning of a line, unless another rank's line is open.
    fn show(&mut self, rank: usize, partial: &mut Partial) {
        if self.open.is_some_and(|open| open.rank != rank) && partial.bytes.len() <= LIMIT {
            return;
        }
        self.close_for(rank);
        if self.open.is_none() && self.tagged {
            push_tag(&mut self.ready, rank);
        }
        self.ready.append(&mut partial.bytes);
        self.open = Some(Open { rank, ended: false });
    }

    /// Ends the open line of another rank.
    fn close_for(&mut self, rank: usize) {
        if self.open.is_some_and(|open| open.rank != rank) {
            self.break_line();
        }
    }

    fn break_line(&mut self) {
        self.ready.push(b'\n');
        self.open = None;
        self.release();
    }

    fn release(&mut self) {
        self.ready.append(&mut self.held);
        self.held_since = None;
    }
}

impl Partial {
    /// When the beginning of the line is to be shown.
    pub(super) fn due(&self) -> Option<Instant> {
        let prompt = !self.bytes.is_empty() && !self.received.is_multiple_of(STDIO_UNIT);
        self.since.filter(|_| prompt).map(|since| since + PROMPT_DELAY)
    }
}

fn tag(output: &mut Vec<u8>, tagged: bool, rank: usize, lines: &[u8]) {
    if !tagged {
        return output.extend_from_slice(lines);
    }
    for line in lines.split_inclusive(|&byte| byte == b'\n') {
        push_tag(output, rank);
        output.extend_from_slice(line);
    }
}

fn push_tag(output: &mut Vec<u8>, rank: usize) {
    output.extend_from_slice(format!("[{rank}] ").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Streams {
        lines: Lines,
        partial: [Partial; 2],
        now: Instant,
    }

    impl Streams {
        fn new(tagged: bool) -> Self {
            Self { lines: Lines::new(tagged), partial: Default::default(), now: Instant::now() }
        }

        fn write(&mut self, rank: usize, text: &str) {
            self.lines.accept(rank, &mut self.partial[rank], text.as_bytes(), self.now);
        }

        fn wait(&mut self, time: Duration) {
            self.now += time;
            for (rank, partial) in self.partial.iter_mut().enumerate() {
                self.lines.elapse(rank, partial, self.now);
            }
        }

        fn end(&mut self, rank: usize) {
            self.lines.end(rank, &mut self.partial[rank]);
        }

        fn shown(&self) -> &str {
            std::str::from_utf8(self.lines.ready()).unwrap()
        }
    }

    #[test]
    fn pieces_of_lines_do_not_mix() {
        let mut streams = Streams::new(true);
        streams.write(0, "a");
        streams.write(1, "x\ny");
        streams.write(0, "b\nc");
        streams.write(1, "z\n");
        streams.end(0);
        assert_eq!(streams.shown(), "[1] x\n[0] ab\n[1] yz\n[0] c");
    }

    #[test]
    fn a_prompt_is_shown_and_other_lines_wait_for_its_end() {
        let mut streams = Streams::new(true);
        streams.write(0, "name? ");
        assert_eq!(streams.shown(), "");
        streams.wait(PROMPT_DELAY);
        assert_eq!(streams.shown(), "[0] name? ");
        streams.write(1, "news\n");
        assert_eq!(streams.shown(), "[0] name? ");
        streams.write(0, "thanks\nbye\n");
        assert_eq!(streams.shown(), "[0] name? thanks\n[0] bye\n[1] news\n");
    }

    #[test]
    fn a_prompt_does_not_hold_others_for_ever() {
        let mut streams = Streams::new(false);
        streams.write(0, "name? ");
        streams.wait(PROMPT_DELAY);
        streams.write(1, "news\n");
        streams.wait(HOLD);
        assert_eq!(streams.shown(), "name? \nnews\n");
        streams.write(0, "\n");
        assert_eq!(streams.shown(), "name? \nnews\n\n");
    }

    #[test]
    fn a_full_stdio_buffer_is_no_prompt() {
        let mut streams = Streams::new(false);
        streams.write(0, &"x".repeat(4096));
        streams.wait(PROMPT_DELAY);
        streams.write(1, "y\n");
        streams.write(0, "x\n");
        assert_eq!(streams.shown(), format!("y\n{}\n", "x".repeat(4097)));
    }

    #[test]
    fn a_last_line_without_end_is_kept_and_parted_from_the_next() {
        let mut streams = Streams::new(false);
        streams.write(0, "last");
        streams.end(0);
        assert_eq!(streams.shown(), "last");
        streams.write(1, "more\n");
        assert_eq!(streams.shown(), "last\nmore\n");
    }

    #[test]
    fn two_last_lines_are_parted() {
        let mut streams = Streams::new(false);
        streams.write(0, "a");
        streams.write(1, "b");
        streams.end(0);
        streams.end(1);
        assert_eq!(streams.shown(), "a\nb");
    }

    #[test]
    fn an_endless_line_is_bounded() {
        let mut streams = Streams::new(false);
        streams.write(0, &"x".repeat(LIMIT + 1));
        assert!(streams.lines.is_full());
    }
}
