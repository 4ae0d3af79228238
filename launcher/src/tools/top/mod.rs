//! `shmrun top`: what the ranks of a running job do, again and again or once.

mod rates;
mod screen;

use std::io::{IsTerminal, stdin, stdout};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use ranks::launch::{self, RunningJob, Watch};

use super::columns;
use crate::arguments::duration;
use rates::Rates;
use screen::Left;

/// By then ranks that slept when the watch began have looked around.
const BEGINNING: Duration = Duration::from_millis(600);

/// What to show.
#[derive(Debug, Args)]
pub struct TopOptions {
    /// The job: its id or the beginning of that, or the process id of its launcher [default: the only one there is]
    job: Option<String>,
    /// Print one table instead of a view that is renewed; also when the output is no terminal
    #[arg(long)]
    once: bool,
    /// Time between two looks: 2, 0.5s, 1m
    #[arg(long, value_name = "TIME", default_value = "1", value_parser = duration::parse)]
    interval: Duration,
}

/// Shows it until the user leaves or the job ends; returns what is to be printed then.
///
/// # Errors
///
/// There is no such job or more than one, it cannot be watched, or the terminal cannot be used.
pub(super) fn run(options: &TopOptions) -> Result<String> {
    let job = select(launch::running(), options.job.as_deref())?;
    let watch = Watch::begin(job.launcher, &job.id)?;
    let title = title(&job, watch.ranks());
    if options.once || !is_usable_terminal() {
        sleep(BEGINNING);
        let mut rates = Rates::new(watch.look());
        sleep(options.interval);
        rates.look(watch.look());
        return Ok(text(&title, &rates));
    }
    let mut rates = Rates::new(watch.look());
    match screen::show(&watch, &title, &mut rates, options.interval)? {
        Left::ByUser => Ok(String::new()),
        // What was to be seen last stays to be seen.
        Left::JobEnded => Ok(format!("{}the job has ended\n", text(&title, &rates))),
    }
}

/// Whether there is a terminal that a view can be drawn on; one that does not know its size says 0.
fn is_usable_terminal() -> bool {
    let has_size =
        rustix::termios::tcgetwinsize(stdout()).is_ok_and(|size| size.ws_col > 0 && size.ws_row > 0);
    has_size && stdin().is_terminal()
}

/// The job that is meant, of those whose launchers live.
fn select(jobs: Vec<RunningJob>, wanted: Option<&str>) -> Result<RunningJob> {
    let has_launcher = |job: &RunningJob| wanted.is_some_and(|wanted| job.launcher.to_string() == wanted);
    let is_meant = |job: &RunningJob| wanted.is_none_or(|wanted| job.id.starts_with(wanted));
    let jobs: Vec<_> = jobs.into_iter().filter(|job| job.watched).collect();
    // The number of a launcher may be how the id of another job begins.
    let (of_launcher, others): (Vec<_>, Vec<_>) = jobs.into_iter().partition(has_launcher);
    let mut meant = of_launcher;
    if meant.is_empty() {
        meant = others.into_iter().filter(is_meant).collect();
    }
    if meant.len() > 1 {
        let list: Vec<String> = meant.iter().map(|job| format!("\n  {}", title(job, job.ranks))).collect();
        bail!("several jobs are running{}\n  help: name one: shmrun top {}", list.concat(), meant[0].id);
    }
    meant.pop().with_context(|| match wanted {
        Some(wanted) => format!("no job {wanted} is running\n  help: see shmrun ps"),
        None => "no job of this user is running".to_owned(),
    })
}

fn title(job: &RunningJob, ranks: usize) -> String {
    let command = job.members.first().map_or("", |member| &member.command);
    let plural = if ranks == 1 { "" } else { "s" };
    printable(&format!("job {}, launcher {}, {ranks} rank{plural}: {command}", job.id, job.launcher))
}

fn text(title: &str, rates: &Rates) -> String {
    let mut rows = vec![rates::TITLES.map(str::to_owned).to_vec()];
    rows.extend(rates.rows().into_iter().map(|row| row.cells.to_vec()));
    format!("{title}\n{}", columns(&rows))
}

/// Text from elsewhere, without what a terminal would obey.
fn printable(text: &str) -> String {
    text.replace(char::is_control, "?")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(id: &str, launcher: u32, watched: bool) -> RunningJob {
        RunningJob { id: id.to_owned(), launcher, watched, ranks: 2, members: Vec::new() }
    }

    #[test]
    fn the_only_job_need_not_be_named() {
        let jobs = || vec![job("aa11", 7, true), job("aa22", 8, true), job("bb33", 9, false)];
        let selected = |wanted| select(jobs(), wanted).map(|job| job.launcher).map_err(|e| e.to_string());
        assert_eq!(selected(Some("aa2")), Ok(8));
        assert_eq!(selected(Some("7")), Ok(7));
        let begins_like_a_number = vec![job("7e11", 9, true), job("aa11", 7, true)];
        assert_eq!(select(begins_like_a_number, Some("7")).unwrap().launcher, 7);
        let several = selected(None).unwrap_err();
        assert!(several.contains("several jobs") && several.contains("aa11") && several.contains("aa22"));
        assert!(!several.contains("bb33"), "its launcher is gone: {several}");
        assert!(selected(Some("bb")).unwrap_err().contains("no job bb"));
        assert_eq!(select(vec![job("cc", 1, true)], None).unwrap().launcher, 1);
        assert!(select(Vec::new(), None).unwrap_err().to_string().contains("no job of this user"));
    }

    #[test]
    fn nothing_from_elsewhere_reaches_the_terminal_as_it_is() {
        assert_eq!(printable("a\x1b[2Jb\n"), "a?[2Jb?");
    }
}
