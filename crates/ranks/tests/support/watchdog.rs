//! Ends a rank that hangs, and says where it did.

use std::fmt::Display;
use std::io::Write;
use std::panic::Location;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ranks::World;

/// Far more than any single step takes on a loaded machine, far less than what a continuous integration run has.
const LONGEST_STEP: Duration = Duration::from_secs(240);

struct Step {
    what: String,
    place: &'static Location<'static>,
    since: Instant,
}

static STEP: Mutex<Option<Step>> = Mutex::new(None);

/// Watches this rank from here until its process has ended, so that a hang in finalize is found, too.
#[track_caller]
pub(crate) fn watch(world: &World) {
    step("begins");
    let (rank, size) = (world.rank(), world.size());
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            end_if_hung(rank, size);
        }
    });
}

/// Says what this rank does next, and that it has got so far.
#[track_caller]
pub(crate) fn step(what: impl Display) {
    let step = Step { what: what.to_string(), place: Location::caller(), since: Instant::now() };
    *STEP.lock().unwrap() = Some(step);
}

fn end_if_hung(rank: usize, size: usize) {
    let step = STEP.lock().unwrap();
    let Some(Step { what, place, since }) = step.as_ref() else {
        return;
    };
    if since.elapsed() > LONGEST_STEP {
        // Not eprintln!: a test harness would capture that and lose it in the abort.
        let message =
            format!("watchdog: rank {rank} of {size} made no step for {LONGEST_STEP:?} at {place}: {what}");
        let _ = writeln!(std::io::stderr(), "{message}");
        std::process::abort();
    }
}
