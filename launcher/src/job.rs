//! Running a job, and turning what came of it into words and an exit code.

use std::ffi::OsString;
use std::io::{Write, stderr};
use std::process::ExitCode;

use anyhow::Context;
use ranks::launch::{self, Event, LaunchError};

use crate::arguments::Job;
use crate::signals;

/// The exit code for wrong arguments and trouble of the launcher itself.
const TROUBLE: i32 = 125;

/// How a launcher ends: an exit code, and a message for the standard error where there is something to say.
#[derive(Debug, Default)]
pub struct Ending {
    code: i32,
    message: Option<String>,
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
    let mut plan = job.plan;
    if job.dry_run {
        return Ok(Ending::default());
    }
    plan.guard = true;
    plan.name = program.to_owned();
    plan.observer = job.verbose.then_some(tell as fn(&Event));
    plan.variables.extend(terminal_width());
    plan.signals = Some(signals::redirect().context("cannot redirect signals")?);
    let outcome = launch::run(plan)?;
    Ok(Ending { code: outcome.exit_code(), message: outcome.message() })
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
    let Ending { code, message } = ending.unwrap_or_else(|error| trouble(&error));
    if let Some(message) = message {
        say(program, &message);
    }
    ExitCode::from(code as u8)
}

fn trouble(error: &anyhow::Error) -> Ending {
    if let Some(usage) = error.downcast_ref::<clap::Error>() {
        // A closed output needs no second message.
        let _ = usage.print();
        return Ending { code: if usage.use_stderr() { TROUBLE } else { 0 }, message: None };
    }
    match error.downcast_ref::<LaunchError>() {
        // Its text contains that of its cause.
        Some(launch) => Ending { code: launch.exit_code(), message: Some(format!("error: {launch}")) },
        None => Ending { code: TROUBLE, message: Some(format!("error: {error:#}")) },
    }
}
