//! The caller's side: starting this program again and waiting for its ranks.

use std::env;
use std::ffi::OsString;
use std::io::{Write, stdout};
use std::panic::Location;
use std::path::PathBuf;
use std::time::Duration;

use super::identity::{Call, VARIABLE};
use super::{SpawnError, child, harness};
use crate::World;
use crate::error::Result;
use crate::launch::{
    self, Ended, Failure, Input, LabelPart, LaunchError, Limits, OnFailure, Outcome, Output, Plan, RankPlan,
    StreamPlan,
};

/// Time for the errors that a failed rank means for the others: most fail within a millisecond, on a loaded machine
/// somewhat later. Who does not fail then computes, or waits for a rank that does.
const LINGER: Duration = Duration::from_millis(250);

/// Runs `body` as a job of `ranks` ranks, each in a process of its own, and waits for all of them.
///
/// The ranks are copies of the current program, started again with the same arguments (in a test, with those
/// that select this test). Each runs from its beginning to this call, so code before it runs once per rank and
/// must come here again; each ends here, so code behind it runs in the calling process only. A call that comes
/// before this one in a copy returns `Ok(())` at once. Nothing is handed over but arguments and environment:
/// `body` sees what the copy computed for it.
///
/// The ranks' output is printed by this process, in whole lines. Rank 0 reads its standard input, except in tests.
///
/// # Errors
///
/// [`Error::Spawn`](crate::Error::Spawn) if a rank panicked, aborted, was killed or exited by itself: the error's
/// text contains its panic message. Also if a copy ended without coming to this call, or if this call is made by
/// a rank of another. [`Error::Launch`](crate::Error::Launch) if the processes could not be started.
///
/// # MPI
/// No counterpart: the tests of MPI programs need `mpirun`. `MPI_Comm_spawn` adds processes to a running job.
///
/// # Examples
///
/// ```
/// ranks::spawn(3, |world| {
///     assert_eq!(world.size(), 3);
///     assert!(world.rank() < 3);
/// })?;
///
/// let error = ranks::spawn(2, |world| assert_eq!(world.rank(), 0, "not the first")).unwrap_err();
/// assert!(error.to_string().contains("not the first"), "{error}");
/// # Ok::<(), ranks::Error>(())
/// ```
#[track_caller]
pub fn spawn<F: FnOnce(&World)>(ranks: usize, body: F) -> Result<()> {
    Spawn::new(ranks).run(body)
}

/// [`spawn()`] with settings.
///
/// ```
/// ranks::Spawn::new(2).arguments(["--quiet"]).run(|world| {
///     assert_eq!(std::env::args().nth(1).as_deref(), Some("--quiet"));
///     assert_eq!(world.size(), 2);
/// })?;
/// # Ok::<(), ranks::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Spawn {
    ranks: usize,
    test_name: Option<String>,
    arguments: Option<Vec<OsString>>,
    timeout: Option<Duration>,
    on_failure: OnFailure,
    tag_output: bool,
}

impl Spawn {
    /// A job of `ranks` ranks.
    pub fn new(ranks: usize) -> Self {
        Self {
            ranks,
            test_name: None,
            arguments: None,
            timeout: None,
            on_failure: OnFailure::default(),
            tag_output: false,
        }
    }

    /// The name of the running test as the harness prints it, for a test that calls from a thread or a helper
    /// from which the name cannot be told.
    pub fn test_name(mut self, name: impl Into<String>) -> Self {
        self.test_name = Some(name.into());
        self
    }

    /// The arguments that the copies are started with, instead of this program's own.
    pub fn arguments<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments = Some(arguments.into_iter().map(Into::into).collect());
        self
    }

    /// Ends the job with [`SpawnError::TimedOut`], which says where each rank stands, when it takes longer than this.
    /// Without it, a job takes what time it takes.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let both_receive = |world: &ranks::World| drop(world.recv_vec::<u8>(1 - world.rank()));
    /// let error = ranks::Spawn::new(2).timeout(Duration::from_secs(1)).run(both_receive).unwrap_err();
    /// assert!(error.to_string().contains("deadlock (cycle of 2)"), "{error}");
    /// ```
    pub fn timeout(self, timeout: Duration) -> Self {
        self.maybe_timeout(Some(timeout))
    }

    /// What becomes of the others when a rank fails: by default they are stopped. See [`World::shrink`].
    ///
    /// A rank that panicked is an error of this call all the same, when the others have ended: what panics here is
    /// mostly an assertion. Ranks that were killed or exited are not, if the others went on without them.
    pub fn on_failure(mut self, on_failure: OnFailure) -> Self {
        self.on_failure = on_failure;
        self
    }

    pub(super) fn maybe_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.timeout = timeout;
        self
    }

    /// Begins every line of the ranks' output with the rank.
    pub(super) fn tag_output(mut self) -> Self {
        self.tag_output = true;
        self
    }

    /// Runs `body` as every rank of the job. See [`spawn()`].
    ///
    /// # Errors
    ///
    /// As [`spawn()`].
    #[track_caller]
    pub fn run<F: FnOnce(&World)>(self, body: F) -> Result<()> {
        self.run_world(|world| {
            body(&world);
            world.finalize().map_err(|error| error.to_string())
        })
    }

    /// [`Spawn::run`] with a body that owns the world, as [`World::shrink`] and [`World::finalize`] need it. A rank whose body returns
    /// an error has failed.
    ///
    /// # Errors
    ///
    /// As [`spawn()`].
    #[track_caller]
    pub fn run_with_world<F: FnOnce(World) -> Result<()>>(self, body: F) -> Result<()> {
        self.run_world(|world| body(world).map_err(|error| error.to_string()))
    }

    /// [`Spawn::run`] with a body that owns the world and may return the text of an error.
    #[track_caller]
    pub(super) fn run_world<F: FnOnce(World) -> child::Returned>(self, body: F) -> Result<()> {
        let site = Location::caller();
        if child::has_arrived() {
            return Err(SpawnError::Nested { at: site.to_string() }.into());
        }
        let copy = self.copy::<F>(site)?;
        let call = Call::count(site, copy.test.clone());
        match Call::of_this_process() {
            Some(mine) if mine == call => child::run(body),
            Some(_) => Ok(()),
            None => copy.run(&self, &call),
        }
    }

    /// How a copy of this program is started so that it comes to this call.
    fn copy<F>(&self, site: &Location<'_>) -> Result<Copy> {
        let program =
            env::current_exe().map_err(|source| SpawnError::Program { at: site.to_string(), source })?;
        let own: Vec<OsString> = env::args_os().skip(1).collect();
        let named = self.test_name.is_some();
        let is_test = named || self.arguments.is_none() && harness::is_test(&program, &own);
        let test = is_test.then(|| self.test_name.clone().unwrap_or_else(|| harness::test_name::<F>(&own)));
        let selected = test.as_deref().map(harness::arguments_for);
        let arguments = self.arguments.clone().or(selected).unwrap_or(own);
        Ok(Copy { program, arguments, test })
    }
}

/// A copy of this program to be started.
struct Copy {
    program: PathBuf,
    arguments: Vec<OsString>,
    /// The test in it, if it is a test binary.
    test: Option<String>,
}

impl Copy {
    fn run(self, settings: &Spawn, call: &Call) -> Result<()> {
        let command = self.command();
        let outcome = launch::run(self.plan(settings, call)?)?;
        Ok(judge(&outcome, call, command)?)
    }

    fn plan(self, settings: &Spawn, call: &Call) -> std::result::Result<Plan, LaunchError> {
        // What this process has printed comes before what its ranks print.
        let _ = stdout().flush();
        let is_test = self.test.is_some();
        let rank = RankPlan::new(self.program, self.arguments);
        let mut plan = Plan::equal(settings.ranks, rank)?;
        if settings.tag_output {
            plan.ranks.iter_mut().enumerate().for_each(|(number, rank)| tag(rank, number));
        }
        plan.variables = vec![(VARIABLE.into(), call.encode(std::process::id()).into())];
        plan.input = if is_test { Input::None } else { Input::Rank(0) };
        plan.on_failure = settings.on_failure;
        plan.limits = Limits { timeout: settings.timeout, linger: LINGER, ..Limits::default() };
        plan.output = if is_test { Output::Print { drop_before_spawn: true } } else { Output::Descriptors };
        Ok(plan)
    }

    fn command(&self) -> String {
        let words = self.arguments.iter().map(|argument| argument.to_string_lossy());
        words.fold(self.program.to_string_lossy().into_owned(), |line, word| line + " " + &word)
    }
}

fn tag(rank: &mut RankPlan, number: usize) {
    let text = LabelPart::Text(format!("[{number}] ").into_bytes());
    rank.stdout.label = vec![text.clone()];
    rank.stderr = Some(StreamPlan { label: vec![text], ..StreamPlan::shown() });
}

fn judge(outcome: &Outcome, call: &Call, command: String) -> std::result::Result<(), SpawnError> {
    let at = call.site.clone();
    let positions = outcome.positions.clone();
    if let Some(timeout) = outcome.timed_out {
        let state = outcome.state.clone().unwrap_or_default();
        return Err(SpawnError::TimedOut { at, timeout, state });
    }
    // An assertion that failed is a failure of the caller's, whether or not the others went on without that rank.
    let panic = outcome.recovered.iter().find(|failure| failure.is_panic());
    match (outcome.failure.as_ref().or(panic), outcome.never_attached.first()) {
        (Some(failure), _)
            if failure.last_words.is_some() || !outcome.never_attached.contains(&failure.rank) =>
        {
            // They all run the caller's own program.
            let failure = Failure { program: String::new(), ..failure.clone() };
            Err(SpawnError::Failed { at, failure: Box::new(failure), positions })
        }
        (Some(failure), _) if failure.ended == Ended::Code(child::NOT_JOINED) => {
            Err(SpawnError::NotJoined { at, rank: failure.rank })
        }
        (_, Some(&rank)) => Err(SpawnError::NotReached { at, rank, command }),
        _ => Ok(()),
    }
}
