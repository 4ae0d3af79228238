//! The loop that watches a job until its last process is gone.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Signal, getpid, kill_process};

use super::cleanup;
use super::control::{self, Record};
use super::environment::job_text;
use super::error::LaunchError;
use super::hang::Vigil;
use super::input::Feeder;
use super::output::{Closed, Forwarder};
use super::plan::Limits;
use super::position::{self, Doing, Position};
use super::rank::{Process, RankProcesses};
use super::report::{Ended, Failure, Outcome};
use super::scene::Scene;
use super::signals::{self, Arrival};
use super::start::Started;
use super::watch;
use crate::job::Job;
use crate::last_words;
use crate::layout::rank_state;
use crate::turns::Turns;

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

/// The first rank that failed, when, and how its process ended if that is how it failed.
#[derive(Debug, Clone)]
struct First {
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

pub(super) struct Supervisor {
    pub(super) job: Job,
    id: u64,
    pub(super) started: Started,
    pub(super) flow: Flow,
    pub(super) vigil: Vigil,
    signals: Option<OwnedFd>,
    begin: Instant,
    phase: Phase,
    first: Option<First>,
    /// State of each rank when its process ended.
    last_states: Vec<u32>,
    /// How long the job may take, and until when that is.
    limit: Option<(Duration, Instant)>,
    timed_out: bool,
    linger: Duration,
    /// What every rank did when the time was over.
    state: Option<String>,
    /// Where the ranks stood when they were stopped.
    positions: Vec<Position>,
    stopped: usize,
    interrupted: Option<Signal>,
    /// Set when the last process is gone.
    drain_until: Option<Instant>,
}

impl Supervisor {
    pub(super) fn new(
        job: Job,
        id: u64,
        started: Started,
        flow: Flow,
        vigil: Vigil,
        signals: Option<OwnedFd>,
        Limits { timeout, linger }: Limits,
    ) -> Self {
        let last_states = vec![rank_state::EMPTY; started.ranks.len()];
        let begin = Instant::now();
        Self {
            job,
            id,
            started,
            flow,
            vigil,
            signals,
            begin,
            phase: Phase::Running,
            first: None,
            last_states,
            limit: timeout.and_then(|timeout| Some((timeout, begin.checked_add(timeout)?))),
            timed_out: false,
            linger,
            state: None,
            positions: Vec::new(),
            stopped: 0,
            interrupted: None,
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
            self.stop(self.first.as_ref().map(|first| first.rank), self.grace());
        }
        if self.time_ends().is_some_and(|end| end <= now) {
            self.timed_out = true;
            self.state = Some(self.state());
            self.stop(None, GRACE);
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
            self.stop(None, GRACE);
        }
        if self.is_undisturbed() {
            self.watch(now);
        }
    }

    /// Ranks run, and nobody has asked them to end.
    fn is_undisturbed(&self) -> bool {
        self.phase == Phase::Running && self.interrupted.is_none() && self.drain_until.is_none()
    }

    /// When a job that nothing else has ended is to end.
    fn time_ends(&self) -> Option<Instant> {
        self.limit.filter(|_| self.phase == Phase::Running && self.drain_until.is_none()).map(|(_, end)| end)
    }

    /// The last rank is gone: ends what a failed job left running.
    fn sweep(&mut self) {
        if self.phase != Phase::Running {
            cleanup::kill_all(&job_text(self.id), SWEEP);
        }
        self.flow.output.begin_drain();
        self.drain_until = Some(Instant::now() + DRAIN);
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
        interests
            .extend(self.signals.as_ref().map(|signals| (Token::Signals, signals.as_fd(), PollFlags::IN)));
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
        let times = [phase_ends, drain_until, self.flow.output.deadline(), self.time_ends(), look];
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
            Token::Read(source) => self.flow.output.read(source, Instant::now()),
            Token::Write(sink) => self.flow.output.write(sink),
            Token::Input => self.flow.input.read(),
            Token::Feed(reader) => self.flow.input.write(reader),
        }
    }

    fn read_control(&mut self) {
        for record in control::receive(&self.started.control) {
            match record {
                Record::Attached { rank, pid } => self.rank_attached(rank as usize, pid),
                Record::Failed { rank } => self.rank_said_failed(rank as usize),
            }
        }
    }

    fn rank_said_failed(&mut self, rank: usize) {
        if rank < self.last_states.len() && self.job.state(rank) == rank_state::FAILED {
            self.rank_failed(rank, None);
        }
    }

    /// A rank that attached below a wrapper is watched itself.
    fn rank_attached(&mut self, rank: usize, pid: u32) {
        let Some(processes) = self.started.ranks.get_mut(rank) else {
            return;
        };
        let life = &self.job.control(rank).life;
        if life.pid.load(Relaxed) != pid || processes.child.is(pid) || processes.attached.is_some() {
            return;
        }
        let process = Process::watch(pid, life.start_time.load(Relaxed));
        let gone = process.ended.is_some();
        processes.attached = Some(process);
        if gone {
            self.judge_attached(rank);
        }
    }

    fn child_event(&mut self, rank: usize) {
        // What the child said before it ended is in the pipe by now.
        self.read_control();
        if self.started.ranks[rank].child.reap() {
            self.judge_child(rank);
        }
    }

    fn attached_event(&mut self, rank: usize) {
        if let Some(process) = &mut self.started.ranks[rank].attached {
            process.inquire();
            self.judge_attached(rank);
        }
    }

    /// The child of the launcher has ended: well or not?
    fn judge_child(&mut self, rank: usize) {
        let child = &self.started.ranks[rank].child;
        let state = self.job.state(rank);
        let is_rank = child.is(self.job.control(rank).life.pid.load(Relaxed));
        let unfinished = is_rank && matches!(state, rank_state::ATTACHED | rank_state::FAILED);
        if child.ended != Some(Ended::Code(0)) || unfinished {
            self.rank_failed(rank, child.ended);
        }
        if is_rank || state == rank_state::EMPTY {
            self.bury(rank, state);
        }
    }

    /// The program below a wrapper has ended. Its exit code after a detach is the wrapper's business.
    fn judge_attached(&mut self, rank: usize) {
        let state = self.job.state(rank);
        if matches!(state, rank_state::ATTACHED | rank_state::FAILED) {
            let ended = self.started.ranks[rank].attached.as_ref().and_then(|process| process.ended);
            self.rank_failed(rank, ended);
        }
        self.bury(rank, state);
    }

    /// Tells the others that a rank is gone, unless it said so itself.
    fn bury(&mut self, rank: usize, state: u32) {
        self.last_states[rank] = state;
        if matches!(state, rank_state::EMPTY | rank_state::ATTACHED) {
            self.job.depart(rank, rank_state::DEAD);
        } else if let Some(turns) = Turns::of(&self.job) {
            // It may have been killed between saying that it leaves and handing the turn on.
            turns.leave(rank);
        }
    }

    /// Notes the first failure, before the other ranks can hear of it, and stops the job.
    fn rank_failed(&mut self, rank: usize, ended: Option<Ended>) {
        if self.first.is_some() || self.timed_out {
            return;
        }
        let first = self.first_failure(rank);
        let ended = ended.filter(|_| first == rank);
        let scene = self.scene(first, ended);
        self.first = Some(First { rank: first, after: self.begin.elapsed(), ended, scene });
        if self.phase == Phase::Running && !self.linger.is_zero() {
            self.phase = Phase::Lingering { stop_at: Instant::now() + self.linger };
        } else {
            self.stop(Some(first), self.grace());
        }
    }

    fn grace(&self) -> Duration {
        if self.interrupted.is_some() { INTERRUPT_GRACE } else { GRACE }
    }

    /// The rank that failed first according to the segment; `rank` if none has claimed that.
    fn first_failure(&self, rank: usize) -> usize {
        self.job.claim_first_failure(rank);
        let first = self.job.header().first_failure.load(Relaxed) as usize;
        // Shared memory is input: a damaged word must not become an index.
        if (1..=self.last_states.len()).contains(&first) { first - 1 } else { rank }
    }

    /// Asks all ranks but `except` to end. The first failed rank may still be writing its message.
    pub(super) fn stop(&mut self, except: Option<usize>, grace: Duration) {
        let kill_at = Instant::now() + grace;
        match &mut self.phase {
            Phase::Running | Phase::Lingering { .. } => self.phase = Phase::Stopping { kill_at },
            Phase::Stopping { kill_at: earlier } => *earlier = kill_at.min(*earlier),
            Phase::Killed => return,
        }
        self.positions = position::of_all(&watch::now(&self.job));
        let others = self.started.ranks.iter().enumerate().filter(|(rank, _)| Some(*rank) != except);
        let alive: Vec<_> = others.filter(|(_, processes)| !processes.has_ended()).collect();
        self.stopped = alive.len();
        for (_, processes) in alive {
            processes.signal(Signal::TERM);
            // A stopped process gets SIGTERM only when it continues.
            processes.signal(Signal::CONT);
        }
    }

    fn kill(&mut self) {
        self.phase = Phase::Killed;
        self.started.ranks.iter().for_each(|rank| rank.signal(Signal::KILL));
    }

    fn read_signals(&mut self) {
        let arrivals = self.signals.as_ref().map(signals::receive).unwrap_or_default();
        arrivals.into_iter().for_each(|arrival| self.signal_arrived(arrival));
    }

    fn signal_arrived(&mut self, Arrival { signal, from_process }: Arrival) {
        let ends_job = matches!(signal, Signal::INT | Signal::TERM | Signal::HUP | Signal::QUIT);
        if ends_job && (self.interrupted.is_some() || self.drain_until.is_some()) {
            self.flow.output.abandon();
            return self.kill();
        }
        if signal == Signal::QUIT {
            self.say_state(self.begin.elapsed());
        }
        if from_process {
            self.started.ranks.iter().for_each(|rank| rank.signal(signal));
        }
        if signal == Signal::TSTP {
            self.stop_until_continued();
        }
        if ends_job {
            self.interrupted = Some(signal);
        }
        if ends_job && signal != Signal::INT && self.phase == Phase::Running {
            // A program may have its own use for Ctrl-C, but not for these.
            self.phase = Phase::Stopping { kill_at: Instant::now() + TERMINATION };
        }
    }

    /// Stops this process, after the ranks, until the shell continues the job.
    fn stop_until_continued(&self) {
        // The shell takes the terminal back when this process stops. A rank that has not yet come to its own
        // signal would still sit in its read from the terminal, and take what is typed for the shell.
        let deadline = Instant::now() + STOPPING;
        while !self.started.ranks.iter().all(RankProcesses::is_halted) && Instant::now() < deadline {
            sleep(STOPPING_PAUSE);
        }
        // Fails for no process that may signal itself.
        let _ = kill_process(getpid(), Signal::STOP);
    }

    fn outcome(&self) -> Outcome {
        let closed = self.flow.output.closed();
        Outcome {
            failure: self.first.as_ref().map(|first| self.failure(first)),
            others: self.first.as_ref().map(|first| first.scene.others.clone()).unwrap_or_default(),
            timed_out: self.limit.filter(|_| self.timed_out).map(|(timeout, _)| timeout),
            state: self.state.clone(),
            positions: self.last_positions(),
            hang: self.vigil.fatal().cloned(),
            interrupted: self.interrupted.map(Signal::as_raw),
            stopped: self.stopped,
            never_attached: self.never_attached(),
            output_closed: closed.as_ref().is_some_and(Closed::is_unread),
            output_error: closed.filter(|closed| !closed.is_unread()).map(|closed| closed.to_string()),
        }
    }

    /// Where the ranks stood, but for the first that failed. All of them may have ended by themselves.
    fn last_positions(&self) -> Vec<Position> {
        let first = self.first.as_ref().map(|first| first.rank);
        let nobody_was_stopped = self.positions.is_empty() && first.is_some();
        let positions = if nobody_was_stopped {
            position::of_all(&watch::now(&self.job))
        } else {
            self.positions.clone()
        };
        let others = positions.into_iter().filter(|position| Some(position.rank) != first);
        others.map(|position| self.failed_too(&position).unwrap_or(position)).collect()
    }

    /// What a rank said that failed after the first one, or was stopped while it did.
    fn failed_too(&self, position: &Position) -> Option<Position> {
        let ended = self.started.ranks[position.rank].last_ended();
        let failed = self.first.is_some()
            && matches!(position.doing, Doing::Running | Doing::Gone | Doing::Finished)
            && ended != Some(Ended::Code(0));
        let words = last_words::read(self.job.control(position.rank)).filter(|_| failed)?;
        Some(Position { rank: position.rank, doing: Doing::FailedToo(words) })
    }

    fn never_attached(&self) -> Vec<usize> {
        let ranks = 0..self.last_states.len();
        ranks.filter(|&rank| self.job.control(rank).life.pid.load(Relaxed) == 0).collect()
    }

    fn failure(&self, First { rank, after, ended, scene }: &First) -> Failure {
        let (rank, after) = (*rank, *after);
        let control = self.job.control(rank);
        let last = self.started.ranks[rank].last_ended();
        let state = self.last_states[rank];
        let mut ended = ended.or(last).unwrap_or(Ended::Unknown);
        // SYNC exit-status
        if ended == Ended::Unknown && control.life.exited.load(Acquire) != 0 {
            // It was gone before the system could be asked; its exit handler has left the status.
            ended = Ended::Code(control.life.exit_code.load(Relaxed) as i32);
        }
        Failure {
            rank,
            ended,
            code: (state == rank_state::FAILED).then(|| control.life.exit_code.load(Relaxed) as i32),
            attached: matches!(state, rank_state::ATTACHED | rank_state::FAILED),
            last_words: last_words::read(control),
            after,
            program: self.vigil.witness.program(rank).to_owned(),
            of_several_programs: self.vigil.witness.has_several_programs(),
            doing: scene.doing.clone(),
            cause: scene.cause.clone(),
        }
    }
}
