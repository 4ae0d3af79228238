//! What [`ranks::test`](macro@crate::test) expands to.

use std::fmt::Display;
use std::panic::resume_unwind;
use std::time::Duration;

use super::error::others;
use super::parent::Spawn;
use crate::error::Error;
use crate::launch::OnFailure;
use crate::spawn::SpawnError;
use crate::world::World;

/// Long enough for what a test computes, short enough for whoever waits for it.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// Replaces the time of every test: seconds, or `off`.
const TIMEOUT: &str = "RANKS_TEST_TIMEOUT";

/// A test whose body runs as every rank of a job.
#[derive(Debug)]
pub struct Test {
    spawn: Spawn,
    ranks: usize,
}

/// What the body of a test may return.
#[diagnostic::on_unimplemented(
    message = "a test with ranks cannot return `{Self}`",
    label = "this function returns `{Self}`",
    note = "it returns nothing, or a Result<(), E> whose E implements Display"
)]
pub trait TestResult {
    /// The text of an error.
    fn error(self) -> Option<String>;
}

impl TestResult for () {
    fn error(self) -> Option<String> {
        None
    }
}

impl<E: Display> TestResult for Result<(), E> {
    fn error(self) -> Option<String> {
        // The alternate form is the longer one where there are two: anyhow adds the causes.
        self.err().map(|error| format!("{error:#}"))
    }
}

impl Test {
    /// A test with this path, the name of the crate first, as a job of `ranks` ranks.
    pub fn new(ranks: usize, path: &str) -> Self {
        let name = path.split_once("::").map_or(path, |(_, name)| name);
        Self { spawn: Spawn::new(ranks).test_name(name).tag_output().timeout(DEFAULT_TIMEOUT), ranks }
    }

    /// How long the test may take.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.spawn = self.spawn.timeout(timeout);
        self
    }

    /// What becomes of the others when a rank fails.
    pub fn on_failure(mut self, on_failure: OnFailure) -> Self {
        self.spawn = self.spawn.on_failure(on_failure);
        self
    }

    /// Runs a body that borrows the world.
    ///
    /// # Panics
    /// If a rank fails, or if the job takes too long.
    #[track_caller]
    pub fn run_with_reference<R: TestResult>(self, body: fn(&World) -> R) {
        self.run(|world| match body(&world).error() {
            Some(error) => Err(world.fail(error)),
            None => world.finalize().map_err(|error| error.to_string()),
        });
    }

    /// Runs a body that owns the world.
    ///
    /// # Panics
    /// If a rank fails, or if the job takes too long.
    #[track_caller]
    pub fn run_with_world<R: TestResult>(self, body: fn(World) -> R) {
        self.run(|world| body(world).error().map_or(Ok(()), Err));
    }

    #[track_caller]
    fn run(mut self, body: impl FnOnce(World) -> Result<(), String>) {
        if let Ok(text) = std::env::var(TIMEOUT) {
            self.spawn = self.spawn.maybe_timeout(timeout(&text));
        }
        let Err(error) = self.spawn.run_world(body) else { return };
        let message = format!("with {} ranks: {}", self.ranks, describe(&error));
        eprintln!("{message}");
        // Not with `panic!`: the place and the backtrace of this line would only be in the way.
        resume_unwind(Box::new(message))
    }
}

fn timeout(text: &str) -> Option<Duration> {
    let seconds = (text != "off").then(|| {
        text.parse().unwrap_or_else(|_| panic!("{TIMEOUT}={text:?} is neither seconds nor \"off\""))
    });
    seconds.map(Duration::from_secs)
}

/// Without the place of the call, which the panic names already.
fn describe(error: &Error) -> String {
    match error {
        Error::Spawn(error) => match &**error {
            SpawnError::Failed { failure, positions, .. } => format!("{failure}{}", others(positions)),
            SpawnError::TimedOut { timeout, state, .. } => {
                format!("the test did not end within {timeout:?}\n{state}")
            }
            error => error.to_string(),
        },
        error => error.to_string(),
    }
}
