//! Running a job, and turning what came of it into words and an exit code.

use std::ffi::OsString;
use std::io::{Write, stderr, stdout};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use ranks::launch::{self, Ended, Event, LaunchError, Outcome, Plan, RankPlan};

use crate::arguments::{Job, Request};
use crate::signals;

/// The exit code for wrong arguments and trouble of the launcher itself.
const TROUBLE: i32 = 125;

/// How a launcher ends: an exit code, and a message for the standard error where there is something to say.
#[derive(Debug, Default)]
pub struct Ending {
    code: i32,
    message: Option<String>,
}

/// Does what a command line asks for.
///
/// # Errors
/// When it could not be done. A job that failed is no error.
pub fn answer(program: &str, request: Request) -> anyhow::Result<Ending> {
    match request {
        Request::Job(job) => run(program, *job),
        Request::Tool(tool, parser) => {
            tool.run(*parser)?;
            Ok(Ending::default())
        }
    }
}

/// Runs the job and waits for its end.
///
/// # Errors
/// When the job could not be started.
pub fn run(program: &str, job: Job) -> anyhow::Result<Ending> {
    job.notes.iter().for_each(|note| say(program, &format!("note: {note}")));
    if let Some(table) = &job.table {
        say(program, table.trim_end());
    }
    if job.verbose || job.dry_run {
        say(program, &commands(&job.plan.ranks));
    }
    if job.dry_run {
        return Ok(Ending::default());
    }
    if let Some(file) = &job.report_pid {
        report_pid(file).with_context(|| format!("cannot write the process id to {}", file.display()))?;
    }
    let seeing = job.seeing.prepare()?;
    let mut plan = job.plan;
    plan.guard = true;
    plan.name = program.to_owned();
    plan.observer = job.verbose.then_some(tell as fn(&Event));
    plan.variables.extend(terminal_width());
    plan.signals = Some(signals::redirect().context("cannot redirect signals")?.into());
    let outcome = run_and_restart(program, plan, job.restarts)?;
    if let Some(observation) = &outcome.observation {
        match seeing.show(observation) {
            Ok(said) => said.iter().for_each(|text| say(program, text)),
            // How the job ended is the greater news.
            Err(error) => say(program, &format!("warning: {error:#}")),
        }
    }
    if job.exit_codes {
        say(program, &exit_codes(&outcome.ends));
    }
    Ok(Ending { code: outcome.exit_code(), message: outcome.message() })
}

/// Runs the job, and runs it again when a rank failed.
fn run_and_restart(program: &str, mut plan: Plan, restarts: u32) -> Result<Outcome, LaunchError> {
    let begin = Instant::now();
    let limit = plan.limits.timeout;
    for restart in 0..restarts {
        let outcome = launch::run(plan.clone())?;
        if !outcome.is_worth_another_try() {
            return Ok(outcome);
        }
        let failure = outcome.message().unwrap_or_default();
        let restart = restart + 1;
        say(program, &format!("{failure}\n  restart {restart} of {restarts}"));
        plan.variables.push(("SHMRUN_RESTART".into(), restart.to_string().into()));
        // What the first try wrote stays, and the limit is for all of them together.
        plan.append = true;
        plan.limits.timeout = limit.map(|limit| limit.saturating_sub(begin.elapsed()));
    }
    launch::run(plan)
}

/// Writes the process id of this launcher.
fn report_pid(file: &Path) -> std::io::Result<()> {
    let pid = std::process::id();
    match file.as_os_str().as_encoded_bytes() {
        b"-" => writeln!(stdout(), "{pid}"),
        b"+" => writeln!(stderr(), "{pid}"),
        _ => std::fs::write(file, format!("{pid}\n")),
    }
}

/// How each rank ended, as a table.
fn exit_codes(ends: &[Ended]) -> String {
    by_rank("exit codes of the ranks", ends, |ended| ended.to_string())
}

/// What each rank runs, as a table.
fn commands(ranks: &[RankPlan]) -> String {
    let commands: Vec<String> = ranks.iter().map(command).collect();
    by_rank("commands of the ranks", &commands, String::clone)
}

fn command(rank: &RankPlan) -> String {
    let words = [&rank.program].into_iter().chain(rank.arguments.iter());
    let words: Vec<String> = words.map(|word| quoted(&word.to_string_lossy())).collect();
    let directory = rank.directory.as_ref().map(|directory| format!("in {}: ", directory.display()));
    directory.unwrap_or_default() + &words.join(" ")
}

/// A word as a shell would take it back.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-./=+:,@%".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// A line for each sequence of ranks for which the same is to be said.
fn by_rank<T: PartialEq>(title: &str, values: &[T], text: impl Fn(&T) -> String) -> String {
    let mut table = title.to_owned();
    let mut first = 0;
    for same in values.chunk_by(|a, b| a == b) {
        let last = first + same.len() - 1;
        let ranks = if first == last { first.to_string() } else { format!("{first}-{last}") };
        table += &format!("\n  {ranks}: {}", text(&same[0]));
        first = last + 1;
    }
    table
}

/// Tells the user what happens.
fn tell(event: &Event) {
    let text = match event {
        Event::Segment { bytes, anonymous: true } => format!(
            "segment: {bytes} bytes of anonymous memory (/dev/shm is missing or has no room for them)"
        ),
        Event::Segment { bytes, anonymous: false } => {
            format!("segment: {bytes} bytes in /dev/shm, without name")
        }
        Event::Started { rank, pid } => format!("rank {rank}: process {pid}"),
    };
    say("shmrun", &text);
}

/// Tells the user something.
fn say(program: &str, text: &str) {
    // Nothing is left to be done when the standard error is closed.
    let _ = writeln!(stderr(), "{program}: {text}");
}

/// Tells the ranks that what they write to their standard error, a pipe, ends on a terminal of this width: a
/// progress bar may be drawn there.
fn terminal_width() -> Option<(OsString, OsString)> {
    let columns = rustix::termios::tcgetwinsize(stderr()).ok()?.ws_col;
    // A terminal that does not know its size says 0: most have this width at least.
    let columns = if columns == 0 { 80 } else { columns };
    Some(("SHMRUN_STDERR_COLUMNS".into(), columns.to_string().into()))
}

/// Prints what there is to say and gives the process's exit code.
pub fn exit(program: &str, ending: anyhow::Result<Ending>) -> ExitCode {
    let Ending { code, message } = ending.unwrap_or_else(|error| trouble(program, &error));
    if let Some(message) = message {
        say(program, &message);
    }
    ExitCode::from(code as u8)
}

fn trouble(program: &str, error: &anyhow::Error) -> Ending {
    if let Some(usage) = error.downcast_ref::<clap::Error>() {
        // A closed output needs no second message.
        if usage.use_stderr() {
            let _ = write!(stderr(), "{program}: ");
        }
        let _ = usage.print();
        return Ending { code: if usage.use_stderr() { TROUBLE } else { 0 }, message: None };
    }
    match error.downcast_ref::<LaunchError>() {
        // Its text contains that of its cause.
        Some(launch) => Ending { code: launch.exit_code(), message: Some(format!("error: {launch}")) },
        None => Ending { code: TROUBLE, message: Some(format!("error: {error:#}")) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_can_be_given_back_to_a_shell() {
        let words = ["-c", "echo 'it' $HOME", "", "a=b"].map(Into::into).to_vec();
        let mut rank = RankPlan::new("./app", words);
        assert_eq!(command(&rank), r"./app -c 'echo '\''it'\'' $HOME' '' a=b");
        rank.directory = Some("/tmp".into());
        assert!(command(&rank).starts_with("in /tmp: ./app"));
    }

    #[test]
    fn ranks_of_which_the_same_is_said_share_a_line() {
        assert_eq!(by_rank("codes", &[0, 0, 1, 0], i32::to_string), "codes\n  0-1: 0\n  2: 1\n  3: 0");
    }
}
