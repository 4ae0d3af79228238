//! Which rank failed first, and what is told of it.

use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::time::Instant;

use rustix::process::Signal;
use shm_core::Bell;

use super::{Failed, Phase, Supervisor};
use crate::last_words;
use crate::launch::control::{self, Record};
use crate::launch::observation;
use crate::launch::output::Closed;
use crate::launch::plan::OnFailure;
use crate::launch::position::{self, Doing, Position};
use crate::launch::rank::Process;
use crate::launch::report::{Ended, Failure, Outcome};
use crate::layout::rank_state;
use crate::turns::Turns;

impl Supervisor {
    pub(super) fn read_control(&mut self) {
        for record in control::receive(&self.started.control) {
            match record {
                Record::Attached { rank, pid } => self.rank_attached(rank as usize, pid),
                Record::Failed { rank } => self.rank_said_failed(rank as usize),
            }
        }
    }

    pub(super) fn rank_said_failed(&mut self, rank: usize) {
        if rank < self.last_states.len() && self.job.state(rank) == rank_state::FAILED {
            self.rank_failed(rank, None);
        }
    }

    /// A rank that attached below a wrapper is watched itself.
    pub(super) fn rank_attached(&mut self, rank: usize, pid: u32) {
        let Some(processes) = self.started.ranks.get_mut(rank) else {
            return;
        };
        let life = &self.job.control(rank).life;
        if life.pid.load(Relaxed) != pid || processes.child.is(pid) || processes.attached.is_some() {
            return;
        }
        let process = Process::watch(pid, life.start_time.load(Relaxed));
        // It came too late for what the others were told.
        match self.phase {
            Phase::Running | Phase::Lingering { .. } => {}
            Phase::Stopping { .. } => process.signal(Signal::TERM),
            Phase::Killed => process.signal(Signal::KILL),
        }
        let gone = process.ended.is_some();
        processes.attached = Some(process);
        if gone {
            self.judge_attached(rank);
        }
    }

    pub(super) fn child_event(&mut self, rank: usize) {
        // What the child said before it ended is in the pipe by now.
        self.read_control();
        if self.started.ranks[rank].child.reap() {
            self.judge_child(rank);
        }
    }

    pub(super) fn attached_event(&mut self, rank: usize) {
        if let Some(process) = &mut self.started.ranks[rank].attached {
            process.inquire();
            self.judge_attached(rank);
        }
    }

    /// The child of the launcher has ended: well or not?
    pub(super) fn judge_child(&mut self, rank: usize) {
        let child = &self.started.ranks[rank].child;
        let state = self.job.state(rank);
        let is_rank = child.is(self.job.control(rank).life.pid.load(Relaxed));
        let unfinished = is_rank && matches!(state, rank_state::ATTACHED | rank_state::FAILED);
        let ended = child.ended;
        if ended != Some(Ended::Code(0)) || unfinished {
            self.rank_failed(rank, ended);
        }
        if is_rank || state == rank_state::EMPTY {
            self.bury(rank, state, ended);
        }
    }

    /// The program below a wrapper has ended. Its exit code after a detach is the wrapper's business.
    pub(super) fn judge_attached(&mut self, rank: usize) {
        let state = self.job.state(rank);
        let ended = self.started.ranks[rank].attached.as_ref().and_then(|process| process.ended);
        if matches!(state, rank_state::ATTACHED | rank_state::FAILED) {
            self.rank_failed(rank, ended);
        }
        self.bury(rank, state, ended);
    }

    /// Tells the others that a rank is gone, unless it has certainly said so itself.
    pub(super) fn bury(&mut self, rank: usize, state: u32, ended: Option<Ended>) {
        self.last_states[rank] = state;
        if matches!(state, rank_state::EMPTY | rank_state::ATTACHED) {
            self.job.depart(rank, rank_state::DEAD);
            return;
        }
        // It may have been killed between saying that it leaves, telling the others, and handing the turn on.
        if matches!(ended, Some(Ended::Signal(..))) {
            self.job.tell_departure(Bell::notify);
        }
        if let Some(turns) = Turns::of(&self.job) {
            turns.leave(rank);
        }
    }

    /// Notes the first failure, before the other ranks can hear of it, and stops the job unless it goes on.
    pub(super) fn rank_failed(&mut self, rank: usize, ended: Option<Ended>) {
        if self.first.is_some() || self.timed_out {
            return;
        }
        if self.goes_on_without(rank) {
            return self.note_loss(rank, ended);
        }
        let first = self.first_failure(rank);
        let ended = ended.filter(|_| first == rank);
        let scene = self.scene(first, ended);
        self.first = Some(Failed { rank: first, after: self.begin.elapsed(), ended, scene });
        let linger = self.orders.limits.linger;
        if self.phase == Phase::Running && !linger.is_zero() {
            self.phase = Phase::Lingering { stop_at: Instant::now() + linger };
        } else {
            self.stop(Some(first), self.grace_after_failure());
        }
    }

    fn goes_on_without(&self, rank: usize) -> bool {
        let aborts = self.job.control(rank).life.aborts.load(Relaxed) != 0;
        self.orders.on_failure == OnFailure::Continue && self.phase == Phase::Running && !aborts
    }

    /// Notes a failure that the job survives, once.
    fn note_loss(&mut self, rank: usize, ended: Option<Ended>) {
        self.job.claim_first_failure(rank);
        if self.lost.iter().all(|lost| lost.rank != rank) {
            let scene = self.scene(rank, ended);
            self.lost.push(Failed { rank, after: self.begin.elapsed(), ended, scene });
        }
    }

    /// Whether the others took note of the failure and went on.
    fn is_recovered(&self, failed: &Failed) -> bool {
        self.job.control(failed.rank).life.recovered.load(Relaxed) != 0
    }

    /// The rank that failed first according to the segment; `rank` if none has claimed that.
    pub(super) fn first_failure(&self, rank: usize) -> usize {
        self.job.claim_first_failure(rank);
        let first = self.job.header().first_failure.load(Relaxed) as usize;
        // Shared memory is input: a damaged word must not become an index.
        if (1..=self.last_states.len()).contains(&first) { first - 1 } else { rank }
    }

    pub(super) fn outcome(&self) -> Outcome {
        let closed = self.flow.output.closed();
        let (recovered, lost): (Vec<_>, Vec<_>) = self.lost.iter().partition(|lost| self.is_recovered(lost));
        let failed = self.first.as_ref().or(lost.first().copied());
        Outcome {
            failure: failed.map(|failed| self.failure(failed)),
            others: failed.map(|failed| failed.scene.others.clone()).unwrap_or_default(),
            state: self.state.clone(),
            hang: self.vigil.fatal().cloned(),
            recovered: recovered.into_iter().map(|failed| self.failure(failed)).collect(),
            interrupted: self.interrupted.map(Signal::as_raw),
            timed_out: self.orders.limits.timeout.filter(|_| self.timed_out),
            positions: self.last_positions(),
            ends: self.started.ranks.iter().map(|rank| rank.child.ended.unwrap_or(Ended::Unknown)).collect(),
            stopped: self.stopped,
            never_attached: self.never_attached(),
            output_closed: closed.as_ref().is_some_and(Closed::is_unread),
            observation: self
                .orders
                .observed_since
                .map(|begin| Box::new(observation::of_job(&self.job, begin.elapsed()))),
            output_error: closed.filter(|closed| !closed.is_unread()).map(|closed| closed.to_string()),
        }
    }

    /// Where the ranks stood, but for the first that failed. All of them may have ended by themselves.
    fn last_positions(&self) -> Vec<Position> {
        let first = self.first.as_ref().map(|first| first.rank);
        let nobody_was_stopped = self.positions.is_empty() && first.is_some();
        let positions = if nobody_was_stopped { position::of_all(&self.job) } else { self.positions.clone() };
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

    pub(super) fn never_attached(&self) -> Vec<usize> {
        let ranks = 0..self.last_states.len();
        ranks.filter(|&rank| self.job.control(rank).life.pid.load(Relaxed) == 0).collect()
    }

    pub(super) fn failure(&self, Failed { rank, after, ended, scene }: &Failed) -> Failure {
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
