//! What the examples share: their command lines, the switch for their own check, and progress bars.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};
use ranks::World;

/// Reads the command line into `A`; hands the world back with it.
///
/// All ranks have the same command line. If it is wrong, or asks for help, rank 0 alone says so, the
/// world is left in order, and every rank exits with clap's code (2 for an error, 0 for help).
///
/// # Errors
///
/// If the ranks cannot wait for the message of rank 0.
pub fn parse<A: Parser>(world: World) -> ranks::Result<(World, A)> {
    match A::try_parse() {
        Ok(arguments) => Ok((world, arguments)),
        Err(error) => {
            if world.rank() == 0 {
                // With standard error closed there is nobody left to tell.
                let _ = error.print();
            }
            // The first rank that exits ends the others: not before the message is out.
            world.barrier()?;
            world.finalize()?;
            std::process::exit(error.exit_code())
        }
    }
}

/// Tells every rank whether rank 0's `outcome` is a success; the others' own `outcome` is not looked at.
///
/// Where it is false, rank 0 returns its error and the others return quietly: one message, not one per rank.
///
/// # Errors
///
/// If rank 0 cannot be reached.
pub fn root_succeeded<T>(world: &World, outcome: &anyhow::Result<T>) -> ranks::Result<bool> {
    let mut success = [u8::from(outcome.is_ok())];
    world.broadcast(&mut success, 0)?;
    Ok(success == [1])
}

/// The switch for an example's check against its sequential answer; flatten it into the arguments.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Check {
    /// Compare with the sequential answer, however long it takes
    #[arg(long, overrides_with = "no_check")]
    check: bool,
    /// Do not compare with the sequential answer
    #[arg(long)]
    no_check: bool,
}

impl Check {
    /// Whether to check: as the command line says, and if it says nothing when the input is `small`.
    pub fn wanted(&self, small: bool) -> bool {
        self.check || (small && !self.no_check)
    }

    /// Says on standard error that there was no check, and how to get one.
    pub fn skipped(&self) {
        eprintln!("check: skipped (--check compares with the sequential answer)");
    }
}

/// How long the work lasts before a bar appears: what is over sooner needs none.
const PATIENCE: Duration = Duration::from_secs(1);
/// Redraws per second: a bar that moves, and hardly any output.
const REDRAWS: u8 = 8;

/// A progress bar on rank 0's standard error, silent elsewhere and when that is not a terminal.
///
/// It appears after one second, and goes away when it is dropped.
pub struct Progress {
    bar: ProgressBar,
    started: Instant,
    terminal: Option<Terminal>,
}

impl Progress {
    /// A bar for `length` steps of the work called `label`; with length 0 it only counts.
    pub fn new(world: &World, label: &str, length: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::hidden());
        let template = match length {
            0 => "{prefix} {human_pos}, {elapsed}",
            _ => "{prefix} [{bar:32}] {percent:>3} %, {eta} left",
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("=> "));
        bar.set_prefix(label.to_owned());
        let terminal = if world.rank() == 0 { Terminal::find() } else { None };
        Self { bar, started: Instant::now(), terminal }
    }

    /// Says that `done` steps of the work are done.
    pub fn set(&mut self, done: u64) {
        if self.terminal.is_some() && self.started.elapsed() >= PATIENCE {
            self.bar.set_draw_target(
                self.terminal.take().map_or_else(ProgressDrawTarget::hidden, Terminal::target),
            );
        }
        self.bar.set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Where a bar can be drawn.
enum Terminal {
    /// Standard error is a terminal.
    Direct,
    /// Standard error goes through the launcher, whose own is a terminal.
    Forwarded(Forwarded),
}

impl Terminal {
    /// The terminal behind standard error, if there is one.
    fn find() -> Option<Self> {
        if io::stderr().is_terminal() {
            return Some(Self::Direct);
        }
        // Set by the launcher, which stands between a rank and its terminal.
        let columns = env::var("SHMRUN_STDERR_COLUMNS").ok()?.parse().ok()?;
        Some(Self::Forwarded(Forwarded { columns, drawing: Mutex::default() }))
    }

    fn target(self) -> ProgressDrawTarget {
        match self {
            Self::Direct => ProgressDrawTarget::stderr_with_hz(REDRAWS),
            Self::Forwarded(terminal) => ProgressDrawTarget::term_like_with_hz(Box::new(terminal), REDRAWS),
        }
    }
}

/// A terminal of known width at the far end of standard error.
#[derive(Debug)]
struct Forwarded {
    columns: u16,
    /// What is written at the next flush, in one piece, so that no other rank's line gets into it.
    drawing: Mutex<String>,
}

impl Forwarded {
    fn draw(&self, text: &str) -> io::Result<()> {
        self.drawing.lock().map_err(|_| io::Error::other("an earlier draw panicked"))?.push_str(text);
        Ok(())
    }

    /// Moves the cursor by `count` in the direction whose control sequence ends in `code`.
    fn move_cursor(&self, count: usize, code: char) -> io::Result<()> {
        if count == 0 { Ok(()) } else { self.draw(&format!("\x1b[{count}{code}")) }
    }
}

impl TermLike for Forwarded {
    fn width(&self) -> u16 {
        self.columns
    }

    fn move_cursor_up(&self, lines: usize) -> io::Result<()> {
        self.move_cursor(lines, 'A')
    }

    fn move_cursor_down(&self, lines: usize) -> io::Result<()> {
        self.move_cursor(lines, 'B')
    }

    fn move_cursor_right(&self, columns: usize) -> io::Result<()> {
        self.move_cursor(columns, 'C')
    }

    fn move_cursor_left(&self, columns: usize) -> io::Result<()> {
        self.move_cursor(columns, 'D')
    }

    fn write_line(&self, line: &str) -> io::Result<()> {
        self.draw(line)?;
        self.draw("\n")
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.draw(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.draw("\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        let mut drawing = self.drawing.lock().map_err(|_| io::Error::other("an earlier draw panicked"))?;
        io::stderr().write_all(std::mem::take(&mut *drawing).as_bytes())
    }
}
