//! The loop that watches a job until its last process is gone.
//!
//! - here: the loop, and what it waits for
//! - `deaths`: which rank failed first, and what is told of it
//! - `ending`: stopping and killing ranks, signals, time limits

mod deaths;
mod ending;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Signal;

use super::create::Observe;
use super::error::LaunchError;
use super::hang::Vigil;
use super::input::Feeder;
use super::output::Forwarder;
use super::plan::{Limits, OnFailure, Plan};
use super::position::Position;
use super::report::{Ended, Outcome};
use super::scene::Scene;
use super::start::Started;
use crate::job::Job;
use crate::layout::rank_state;

/// Time from SIGTERM to SIGKILL for the other ranks after the first failure.
pub const GRACE: Duration = Duration::from_millis(250);
/// The same when the user ended the job: ranks may want to save something.
const INTERRUPT_GRACE: Duration = Duration::from_secs(2);
/// Time that ranks have for ending by themselves after SIGTERM, SIGHUP or SIGQUIT to the launcher.
const TERMINATION: Duration = Duration::from_secs(5);
/// How long Ctrl-Z waits for the ranks to be stopped: a program may have its own use for the signal.
const STOPPING: Duration = Duration::from_millis(200);
/// Time between two looks at whether they are.
const STOPPING_PAUSE: Duration = Duration::from_millis(1);
/// How long output is awaited after the last rank, from processes that kept its pipes open. What the ranks wrote
/// is read in any case, however slow our own output is.
const DRAIN: Duration = Duration::from_millis(200);
/// How long the launcher goes on killing what is left of a failed job.
pub(super) const SWEEP: Duration = Duration::from_secs(2);

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    Control,
    Signals,
    Child(usize),
    Attached(usize),
    Read(usize),
    Write(usize),
    Input,
    Feed(usize),
}

/// An event to wait for.
pub(super) type Interest<'a> = (Token, BorrowedFd<'a>, PollFlags);

/// Running => Lingering => Stopping => Killed
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// A rank failed. The others may still say what that meant for them.
    Lingering {
        stop_at: Instant,
    },
    /// The ranks were asked to end.
    Stopping {
        kill_at: Instant,
    },
    Killed,
}

/// A rank that failed, when, and how its process ended if that is how it failed.
#[derive(Debug, Clone)]
struct Failed {
    rank: usize,
    after: Duration,
    ended: Option<Ended>,
    scene: Scene,
}

/// What the ranks write and read, on its way.
pub(super) struct Flow {
    pub(super) output: Forwarder,
    pub(super) input: Feeder,
}

/// What the supervisor is to obey besides the ranks.
pub(super) struct Orders {
    limits: Limits,
    on_failure: OnFailure,
    /// When the job began, if the ranks observe themselves.
    observed_since: Option<Instant>,
    signals: Option<Arc<OwnedFd>>,
    /// A rank has the terminal, for a debugger: what is typed there is not meant for the job.
    foreground: bool,
}

impl Orders {
    pub(super) fn of(plan: &Plan, signals: Option<Arc<OwnedFd>>, begin: Instant) -> Self {
        Self {
            limits: plan.limits.clone(),
            on_failure: plan.on_failure,
            observed_since: (plan.tuning.observe != Observe::Nothing).then_some(begin),
            signals,
            foreground: plan.has_foreground(),
        }
    }
}

pub(super) struct Supervisor {
    pub(super) job: Job,
    id: u64,
    pub(super) started: Started,
    pub(super) flow: Flow,
    pub(super) vigil: Vigil,
    orders: Orders,
    begin: Instant,
    phase: Phase,
    /// The failure that ended the job.
    first: Option<Failed>,
    /// Failures that did not.
    lost: Vec<Failed>,
    /// State of each rank when its process ended.
    last_states: Vec<u32>,
    /// What every rank did when the time was over.
    state: Option<String>,
    /// Where the ranks stood when they were stopped.
    positions: Vec<Position>,
    stopped: usize,
    interrupted: Option<Signal>,
    timed_out: bool,
    /// Set when the last process is gone.
    drain_until: Option<Instant>,
}

impl Supervisor {
    pub(super) fn new(job: Job, id: u64, started: Started, flow: Flow, vigil: Vigil, orders: Orders) -> Self {
        let last_states = vec![rank_state::EMPTY; started.ranks.len()];
        Self {
            job,
            id,
            started,
            flow,
            vigil,
            orders,
            begin: Instant::now(),
            phase: Phase::Running,
            first: None,
            lost: Vec::new(),
            last_states,
            state: None,
            positions: Vec::new(),
            stopped: 0,
            interrupted: None,
            timed_out: false,
            drain_until: None,
        }
    }

    /// Returns when no process of the job is left and all output is written.
    pub(super) fn run(mut self) -> Result<Outcome, LaunchError> {
        let mut asked = Instant::now();
        loop {
            self.flow.output.elapse(asked);
            self.act_in_time(Instant::now());
            if self.has_finished() {
                return Ok(self.outcome());
            }
            let events = self.wait().map_err(LaunchError::system("wait for the ranks"))?;
            asked = Instant::now();
            events.into_iter().for_each(|token| self.handle(token));
        }
    }

    fn has_finished(&self) -> bool {
        self.drain_until.is_some() && self.flow.output.has_ended() && self.flow.output.is_flushed()
    }

    /// Does what is due at `now`.
    fn act_in_time(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Stopping { kill_at } if kill_at <= now) {
            self.kill();
        }
        if matches!(self.phase, Phase::Lingering { stop_at } if stop_at <= now) {
            self.stop(self.first.as_ref().map(|first| first.rank), self.grace_after_failure());
        }
        if self.time_ends().is_some_and(|end| end <= now) {
            self.time_out();
        }
        match self.drain_until {
            None if self.started.ranks.iter().all(|rank| rank.has_ended()) => self.sweep(),
            Some(end) if end <= now => {
                self.flow.output.stop_waiting(now);
                self.drain_until = Some(now + DRAIN);
            }
            _ => {}
        }
        if self.flow.output.closed().is_some() && self.phase == Phase::Running {
            self.flow.output.stop_reading(now);
            self.stop(None, self.grace(GRACE));
        }
        if self.is_undisturbed() {
            self.watch(now);
        }
    }

    /// Ranks run, and nobody has asked them to end.
    fn is_undisturbed(&self) -> bool {
        self.phase == Phase::Running && self.interrupted.is_none() && self.drain_until.is_none()
    }

    /// Blocks until something happens or is due.
    fn wait(&self) -> Result<Vec<Token>, Errno> {
        let interests = self.interests();
        let mut descriptors: Vec<PollFd<'_>> = interests
            .iter()
            .map(|(_, descriptor, events)| PollFd::from_borrowed_fd(*descriptor, *events))
            .collect();
        match poll(&mut descriptors, self.timeout().as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        let ready =
            interests.iter().zip(&descriptors).filter(|(_, descriptor)| !descriptor.revents().is_empty());
        Ok(ready.map(|((token, ..), _)| *token).collect())
    }

    /// The control pipe comes first: who attached must be known before a death is judged.
    fn interests(&self) -> Vec<Interest<'_>> {
        let mut interests = vec![(Token::Control, self.started.control.as_fd(), PollFlags::IN)];
        interests.extend(
            self.orders.signals.as_ref().map(|signals| (Token::Signals, signals.as_fd(), PollFlags::IN)),
        );
        for (index, rank) in self.started.ranks.iter().enumerate() {
            let attached = rank.attached.as_ref().map(|process| (Token::Attached(index), process));
            // A program before its wrapper, which may repeat the program's exit code.
            let processes = [attached, Some((Token::Child(index), &rank.child))].into_iter().flatten();
            let alive = processes.filter(|(_, process)| process.ended.is_none());
            interests
                .extend(alive.filter_map(|(token, process)| Some((token, process.pidfd()?, PollFlags::IN))));
        }
        self.flow.output.interests(&mut interests);
        self.flow.input.interests(&mut interests);
        interests
    }

    fn timeout(&self) -> Option<Timespec> {
        let phase_ends = match self.phase {
            Phase::Stopping { kill_at: time } | Phase::Lingering { stop_at: time } => Some(time),
            _ => None,
        };
        let drain_until = self.drain_until.filter(|_| !self.flow.output.has_ended());
        let look = self.vigil.next().filter(|_| self.is_undisturbed());
        let times = [phase_ends, self.time_ends(), drain_until, self.flow.output.deadline(), look];
        let next = times.into_iter().flatten().min()?;
        let time = next.saturating_duration_since(Instant::now());
        Some(Timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) })
    }

    fn handle(&mut self, token: Token) {
        match token {
            Token::Control => self.read_control(),
            Token::Signals => self.read_signals(),
            Token::Child(rank) => self.child_event(rank),
            Token::Attached(rank) => self.attached_event(rank),
            Token::Read(intake) => self.flow.output.read(intake, Instant::now()),
            Token::Write(sink) => self.flow.output.write(sink),
            Token::Input => self.flow.input.read(),
            Token::Feed(reader) => self.flow.input.write(reader),
        }
    }
}
