//! Whole lines out of many streams into one: the rules, without any descriptor.
//!
//! - A line reaches the output in one piece, whoever else writes meanwhile.
//! - A line without its end is shown when nobody has written for [`PROMPT_DELAY`], or its rank not for
//!   [`PATIENCE`], so that a prompt is seen. Silence of its rank alone says little: a rank that has to wait for a
//!   processor in the middle of a line is as silent.
//! - A line that is shown is *open*: lines of other ranks are held back until its rank ends it, at most for
//!   [`HOLD`], after which a line break is put in. When too much is held back, only the open line's rank is read.
//! - A piece that ends on a multiple of [`STDIO_UNIT`] bytes is no prompt but a full buffer of a C or Rust
//!   library, whose rest will follow.
//! - A rank's last line needs no end.

use std::mem::take;
use std::time::{Duration, Instant};

use super::label::{self, Clock, Label};

/// Silence after which the beginning of a line is shown.
pub(super) const PROMPT_DELAY: Duration = Duration::from_millis(20);
/// The same, when others do write.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long the lines of other ranks wait for the end of an open line.
const HOLD: Duration = Duration::from_secs(1);
/// Bytes that wait at most, and the longest line that is kept together.
const LIMIT: usize = 1 << 20;
/// Buffers of standard libraries are multiples of this: 1024 for terminals and lines, 4096, 8192.
const STDIO_UNIT: u64 = 1024;

/// One stream on its way into one output: the beginning of a line that has not ended yet.
#[derive(Debug, Default)]
pub(super) struct Partial {
    /// Tells streams apart.
    stream: usize,
    /// What its lines begin with.
    label: Label,
    bytes: Vec<u8>,
    received: u64,
    since: Option<Instant>,
}

/// One output: what is ready to be written, and what waits.
#[derive(Debug)]
pub(super) struct Lines {
    clock: Clock,
    /// When anybody wrote the last time.
    last: Option<Instant>,
    ready: Vec<u8>,
    /// How much of `ready` has been written already.
    written: usize,
    open: Option<Open>,
    held: Vec<u8>,
    held_since: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    stream: usize,
    ended: bool,
}

impl Lines {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            last: None,
            ready: Vec::new(),
            written: 0,
            open: None,
            held: Vec::new(),
            held_since: None,
        }
    }

    /// Takes what a stream's rank wrote.
    pub(super) fn accept(&mut self, partial: &mut Partial, bytes: &[u8], now: Instant) {
        partial.received += bytes.len() as u64;
        partial.since = Some(now);
        self.last = Some(now);
        let Some(end) = bytes.iter().rposition(|&byte| byte == b'\n') else {
            partial.bytes.extend_from_slice(bytes);
            if partial.bytes.len() > LIMIT {
                self.show(partial, now);
            }
            return;
        };
        partial.bytes.extend_from_slice(&bytes[..=end]);
        let lines = take(&mut partial.bytes);
        self.push_lines(partial, &lines, now);
        partial.bytes.extend_from_slice(&bytes[end + 1..]);
    }

    /// Puts whole lines in that come from no stream.
    pub(super) fn insert(&mut self, lines: &[u8]) {
        if self.open.is_some() {
            self.break_line();
        }
        self.ready.extend_from_slice(lines);
    }

    /// A stream has ended: its last line is complete as it is.
    pub(super) fn end(&mut self, partial: &mut Partial, now: Instant) {
        if !partial.bytes.is_empty() {
            self.close_for(partial.stream);
            self.show(partial, now);
        }
        if let Some(open) = &mut self.open
            && open.stream == partial.stream
        {
            open.ended = true;
            if !self.held.is_empty() {
                self.break_line();
            }
        }
    }

    /// Shows the beginning of a line if its rank has been silent for long enough, and gives up holding lines
    /// back when it took too long.
    pub(super) fn elapse(&mut self, partial: &mut Partial, now: Instant) {
        if self.due(partial).is_some_and(|due| due <= now) {
            partial.since = None;
            self.show(partial, now);
        }
        if self.hold_ends().is_some_and(|end| end <= now) {
            self.break_line();
        }
    }

    /// When the beginning of a line is to be shown.
    pub(super) fn due(&self, partial: &Partial) -> Option<Instant> {
        let prompt = !partial.bytes.is_empty() && !partial.received.is_multiple_of(STDIO_UNIT);
        let since = partial.since.filter(|_| prompt)?;
        Some((self.last? + PROMPT_DELAY).min(since + PATIENCE))
    }

    /// When held lines are to be let go.
    pub(super) fn hold_ends(&self) -> Option<Instant> {
        self.held_since.map(|since| since + HOLD)
    }

    /// What can be written now.
    pub(super) fn ready(&self) -> &[u8] {
        &self.ready[self.written..]
    }

    /// Forgets the first `count` bytes of [`Lines::ready`].
    pub(super) fn written(&mut self, count: usize) {
        self.written += count;
        // Moved together rarely: small pieces of a long text are written one after the other.
        if self.written == self.ready.len() || self.written > LIMIT {
            self.ready.drain(..self.written);
            self.written = 0;
        }
    }

    /// Whether a stream should wait before it is read again.
    pub(super) fn is_full_for(&self, partial: &Partial) -> bool {
        let is_open = self.open.is_some_and(|open| open.stream == partial.stream);
        self.ready().len() > LIMIT || !is_open && self.held.len() > LIMIT
    }

    /// Whether everything waits for the output.
    pub(super) fn is_full(&self) -> bool {
        self.ready().len() > LIMIT
    }

    fn push_lines(&mut self, partial: &Partial, lines: &[u8], now: Instant) {
        let labelled = Labelled { label: &partial.label, clock: self.clock, now };
        match self.open {
            Some(open) if open.stream == partial.stream => {
                let first = 1 + lines.iter().position(|&byte| byte == b'\n').unwrap_or(lines.len() - 1);
                self.ready.extend_from_slice(&lines[..first]);
                self.open = None;
                labelled.append(&mut self.ready, &lines[first..]);
                self.release();
            }
            Some(open) if !open.ended => {
                labelled.append(&mut self.held, lines);
                self.held_since.get_or_insert(now);
            }
            _ => {
                self.close_for(partial.stream);
                labelled.append(&mut self.ready, lines);
            }
        }
    }

    /// Appends the beginning of a line, unless another stream's line is open.
    fn show(&mut self, partial: &mut Partial, now: Instant) {
        let stream = partial.stream;
        if self.open.is_some_and(|open| open.stream != stream) && partial.bytes.len() <= LIMIT {
            return;
        }
        self.close_for(stream);
        if self.open.is_none() {
            label::push(&mut self.ready, &partial.label, self.clock, now);
        }
        self.ready.append(&mut partial.bytes);
        self.open = Some(Open { stream, ended: false });
    }

    /// Ends the open line of another stream.
    fn close_for(&mut self, stream: usize) {
        if self.open.is_some_and(|open| open.stream != stream) {
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
    /// The stream with this number, whose lines begin with `label`.
    pub(super) fn new(stream: usize, label: Label) -> Self {
        Self { stream, label, ..Self::default() }
    }
}

/// How lines are marked.
struct Labelled<'t> {
    label: &'t Label,
    clock: Clock,
    now: Instant,
}

impl Labelled<'_> {
    fn append(&self, output: &mut Vec<u8>, lines: &[u8]) {
        if self.label.is_empty() {
            return output.extend_from_slice(lines);
        }
        for line in lines.split_inclusive(|&byte| byte == b'\n') {
            label::push(output, self.label, self.clock, self.now);
            output.extend_from_slice(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::label::LabelPart;
    use super::*;

    struct Streams {
        lines: Lines,
        partial: [Partial; 2],
        now: Instant,
    }

    impl Streams {
        fn new(labelled: bool) -> Self {
            let label = |rank: usize| vec![LabelPart::Text(format!("[{rank}] ").into_bytes())];
            let partial =
                [0, 1].map(|rank| Partial::new(rank, if labelled { label(rank) } else { Label::new() }));
            Self { lines: Lines::new(Clock::new()), partial, now: Instant::now() }
        }

        fn write(&mut self, rank: usize, text: &str) {
            self.lines.accept(&mut self.partial[rank], text.as_bytes(), self.now);
        }

        fn wait(&mut self, time: Duration) {
            self.now += time;
            for partial in &mut self.partial {
                self.lines.elapse(partial, self.now);
            }
        }

        fn end(&mut self, rank: usize) {
            self.lines.end(&mut self.partial[rank], self.now);
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
    fn a_pause_in_a_line_is_no_prompt_while_others_write() {
        let mut streams = Streams::new(false);
        streams.write(0, "beginning ");
        for _ in 0..10 {
            streams.wait(PROMPT_DELAY / 2);
            streams.write(1, "x\n");
        }
        assert_eq!(streams.shown(), "x\n".repeat(10));
        streams.write(0, "and end\n");
        assert_eq!(streams.shown(), "x\n".repeat(10) + "beginning and end\n");
        streams.write(0, "prompt ");
        let before = streams.shown().len();
        for _ in 0..=2 * PATIENCE.as_millis() / PROMPT_DELAY.as_millis() {
            streams.wait(PROMPT_DELAY / 2);
            streams.write(1, "x\n");
        }
        assert!(streams.shown()[before..].ends_with("prompt "), "{}", streams.shown());
    }

    #[test]
    fn an_open_line_is_not_broken_because_others_write_much() {
        let mut streams = Streams::new(false);
        streams.write(0, "open ");
        streams.wait(PROMPT_DELAY);
        streams.write(1, &"x\n".repeat(LIMIT));
        let is_full = |streams: &Streams, rank: usize| streams.lines.is_full_for(&streams.partial[rank]);
        assert!(is_full(&streams, 1) && !is_full(&streams, 0));
        streams.write(0, "and closed\n");
        assert!(streams.shown().starts_with("open and closed\nx\n"));
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
    fn lines_of_the_launcher_stand_alone() {
        let mut streams = Streams::new(true);
        streams.write(0, "name? ");
        streams.wait(PROMPT_DELAY);
        streams.write(1, "half");
        streams.lines.insert(b"note\n");
        streams.write(1, " and half\n");
        assert_eq!(streams.shown(), "[0] name? \nnote\n[1] half and half\n");
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
        assert!(streams.lines.is_full_for(&streams.partial[0]));
    }
}
