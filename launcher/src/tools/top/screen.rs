//! The view on a terminal: one row per rank, renewed at every look.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ranks::launch::Watch;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Row as TableRow, Table};
use ratatui::{DefaultTerminal, Frame};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Signal, getpid, kill_process};

use super::rates::{Mood, Rates, Row, TITLES};
use crate::signals;

/// How long keys and signals may stay unnoticed, and the end of the job.
const SLICE: Duration = Duration::from_millis(100);
/// Lines around the rows: title, headings, keys.
const FRAME_LINES: u16 = 2 + HEADING_LINES;
const HEADING_LINES: u16 = 1;

/// Why the view was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    ByUser,
    JobEnded,
}

/// Shows the job until the user leaves or it ends. The terminal is as before when this returns.
///
/// # Errors
///
/// The terminal cannot be used.
pub(super) fn show(watch: &Watch, title: &str, rates: &mut Rates, interval: Duration) -> Result<Left> {
    let signals = signals::redirect().context("cannot redirect signals")?;
    let mut terminal = ratatui::try_init().context("cannot use this terminal")?;
    let left = renew(&mut terminal, &signals, watch, title, rates, interval);
    ratatui::try_restore().context("cannot restore the terminal")?;
    left
}

fn renew(
    terminal: &mut DefaultTerminal,
    signals: &OwnedFd,
    watch: &Watch,
    title: &str,
    rates: &mut Rates,
    interval: Duration,
) -> Result<Left> {
    let mut first = 0;
    let mut stale = true;
    let mut next_look = Instant::now() + interval;
    loop {
        // The end is looked for before the ranks, which are not to be seen any more after it.
        if watch.has_ended() {
            return Ok(Left::JobEnded);
        }
        if Instant::now() >= next_look {
            rates.look(watch.look());
            next_look = Instant::now() + interval;
            stale = true;
        }
        let rows = rates.rows();
        let visible = usize::from(terminal.size()?.height.saturating_sub(FRAME_LINES));
        first = first.min(rows.len().saturating_sub(visible));
        if stale {
            terminal.draw(|frame| draw(frame, title, &rows, first))?;
        }
        let pause = next_look.saturating_duration_since(Instant::now()).min(SLICE);
        if is_gone(pause)? {
            return Ok(Left::ByUser);
        }
        let key = pressed(Duration::ZERO)?;
        stale = !matches!(key, Key::None);
        match key {
            Key::Leave => return Ok(Left::ByUser),
            Key::Lines(lines) => first = first.saturating_add_signed(lines),
            Key::Pages(pages) => first = first.saturating_add_signed(pages * visible as isize),
            Key::Stop => stop()?,
            Key::Redraw | Key::None => {}
        }
        for signal in signals::arrived(signals).into_iter().filter_map(Signal::from_named_raw) {
            match signal {
                Signal::INT | Signal::TERM | Signal::HUP | Signal::QUIT => return Ok(Left::ByUser),
                Signal::TSTP => stop()?,
                Signal::CONT => {
                    come_back(terminal)?;
                    stale = true;
                }
                _ => {}
            }
        }
    }
}

/// Gives the terminal back and stops this process, until the shell continues it: then a SIGCONT has arrived.
fn stop() -> Result<()> {
    ratatui::try_restore().context("cannot restore the terminal")?;
    kill_process(getpid(), Signal::STOP).context("cannot stop")
}

/// Takes the terminal again, which the shell has used meanwhile.
fn come_back(terminal: &mut DefaultTerminal) -> Result<()> {
    // Whoever was stopped by SIGSTOP has not given it back.
    ratatui::try_restore().context("cannot restore the terminal")?;
    // A new view draws everything; to clear the old one it would ask the terminal where the cursor is, and not all answer.
    *terminal = ratatui::try_init().context("cannot use this terminal")?;
    Ok(())
}

enum Key {
    Leave,
    /// As Ctrl-Z does elsewhere.
    Stop,
    /// Scroll.
    Lines(isize),
    Pages(isize),
    Redraw,
    None,
}

/// Waits for a key, at most for `pause`; whether the terminal is gone. Reading from one that is gone would never end: the
/// terminal library takes the end of input for an interruption.
fn is_gone(pause: Duration) -> Result<bool> {
    let terminal = rustix::stdio::stdin();
    let mut polled = [PollFd::new(&terminal, PollFlags::IN)];
    let pause = Timespec::try_from(pause).context("a pause is too long")?;
    match rustix::event::poll(&mut polled, Some(&pause)) {
        Ok(_) => Ok(polled[0].revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL)),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error).context("cannot wait for keys"),
    }
}

fn pressed(pause: Duration) -> Result<Key> {
    if !event::poll(pause)? {
        return Ok(Key::None);
    }
    let Event::Key(key) = event::read()? else { return Ok(Key::Redraw) };
    if key.kind == KeyEventKind::Release {
        return Ok(Key::None);
    }
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    Ok(match key.code {
        KeyCode::Char('q') | KeyCode::Esc => Key::Leave,
        KeyCode::Char('c') if control => Key::Leave,
        KeyCode::Char('z') if control => Key::Stop,
        KeyCode::Down | KeyCode::Char('j') => Key::Lines(1),
        KeyCode::Up | KeyCode::Char('k') => Key::Lines(-1),
        KeyCode::PageDown | KeyCode::Char(' ') => Key::Pages(1),
        KeyCode::PageUp => Key::Pages(-1),
        _ => Key::None,
    })
}

fn draw(frame: &mut Frame<'_>, title: &str, rows: &[Row], first: usize) {
    let parts = [Constraint::Length(1), Constraint::Min(1), Constraint::Length(1)];
    let [above, middle, below] = Layout::vertical(parts).areas(frame.area());
    frame.render_widget(Line::from(title).bold(), above);
    let widths = (0..TITLES.len()).map(|column| {
        let cells = rows.iter().map(|row| row.cells[column].chars().count());
        Constraint::Length(cells.chain([TITLES[column].len()]).max().unwrap_or(0) as u16)
    });
    let heading = TableRow::new(TITLES.map(Cell::from)).style(Style::new().reversed());
    let shown = rows.iter().skip(first).map(|row| {
        TableRow::new(row.cells.iter().map(|cell| Cell::from(cell.as_str()))).style(color(row.mood))
    });
    frame.render_widget(Table::new(shown, widths).header(heading).column_spacing(2), middle);
    let last = rows.len().min(first + usize::from(middle.height.saturating_sub(HEADING_LINES)));
    let keys = format!("q leave   ↑ ↓ scroll   ranks {first}-{} of {}", last.saturating_sub(1), rows.len());
    frame.render_widget(Line::from(keys).dim(), below);
}

fn color(mood: Mood) -> Style {
    match mood {
        Mood::Working => Style::new().fg(Color::Green),
        Mood::Waiting => Style::new().fg(Color::Yellow),
        Mood::Halted => Style::new().fg(Color::Red),
        Mood::Gone => Style::new().dim(),
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::rates::tests::two_looks;
    use super::*;

    #[test]
    fn ranks_are_rows_and_the_first_ones_can_be_scrolled_away() {
        let mut terminal = Terminal::new(TestBackend::new(120, 5)).unwrap();
        let rows = two_looks().rows();
        let mut shown = |first| {
            terminal.draw(|frame| draw(frame, "the job", &rows, first)).unwrap();
            let buffer = terminal.backend().buffer();
            let cells = buffer.content().chunks(usize::from(buffer.area.width));
            cells.map(|line| line.iter().map(|cell| cell.symbol()).collect::<String>()).collect::<Vec<_>>()
        };
        let lines = shown(0);
        assert_eq!(lines[0].trim_end(), "the job");
        assert!(lines[1].starts_with("RANK  STATE"), "{lines:?}");
        assert!(lines[2].starts_with("0     running"), "{lines:?}");
        assert!(lines[3].contains("waits    recv  0     7    1.00 s"), "{lines:?}");
        assert!(lines[4].contains("ranks 0-1 of 3"), "{lines:?}");
        let lines = shown(1);
        assert!(lines[2].starts_with("1     waits") && lines[4].contains("ranks 1-2 of 3"), "{lines:?}");
    }
}
