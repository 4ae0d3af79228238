//! A spawned process on its way: running a rank, and ending with it.

use std::io::{Write, stderr, stdout};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::World;
use crate::attach;
use crate::launch::{RETURNED_ERROR, environment, process};

/// The exit code of a process that has come to its call and cannot join the job.
pub(super) const NOT_JOINED: i32 = 111;

/// Set when this process has come to its call.
static ARRIVED: AtomicBool = AtomicBool::new(false);

/// Whether this process is a rank of a `spawn` already.
pub(super) fn has_arrived() -> bool {
    ARRIVED.load(Relaxed)
}

/// What a body returns: the text of an error.
pub(super) type Returned = Result<(), String>;

/// Runs `body` as a rank and ends the process: with 0, with 101 after a panic, with 1 after another failure.
pub(super) fn run(body: impl FnOnce(World) -> Returned) -> ! {
    ARRIVED.store(true, Relaxed);
    take_output();
    attach::hush_consequences();
    let world = crate::init().unwrap_or_else(|error| stay_out(&error.to_string()));
    // The body owns the world, so that a panic drops it while it unwinds: that is how the job learns of it.
    let ended = catch_unwind(AssertUnwindSafe(move || body(world)));
    match ended {
        Ok(Ok(())) => exit(0),
        Ok(Err(error)) => give_up(&error),
        // The panic hook has printed and recorded the message.
        Err(_) => exit(101),
    }
}

/// Ends a process that has come to its call and is no rank: nothing can be recorded for it.
fn stay_out(error: &str) -> ! {
    // The parent learns it from the code; there is nobody else to tell when this fails.
    let _ = writeln!(stderr(), "error: {error}");
    exit(NOT_JOINED)
}

fn give_up(error: &str) -> ! {
    attach::record_last_words(&format!("{RETURNED_ERROR}: {error}"));
    // The parent learns it from the record; there is nobody else to tell when this fails.
    if !attach::is_hushed() {
        let _ = writeln!(stderr(), "error: {error}");
    }
    exit(1)
}

/// Makes the pipe from the parent the standard output: what the test harness printed before is dropped.
fn take_output() {
    let number = std::env::var(environment::SPAWN_OUTPUT_FD).ok().and_then(|number| number.parse().ok());
    // Standard streams are nobody's gift: such a number can only be damage, and would be closed below.
    let Some(number) = number.filter(|&number| number > 2) else { return };
    let Ok(pipe) = process::duplicate_inherited(number) else { return };
    // What the harness has buffered belongs to the old output.
    let _ = stdout().flush();
    // Without it, output is lost but the rank can run.
    let _ = rustix::stdio::dup2_stdout(&pipe);
    process::close(number);
}
