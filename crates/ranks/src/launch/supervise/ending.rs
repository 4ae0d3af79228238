//! Ending a job: because a rank failed, the user wants it, or its time is over.

use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Signal, getpid, kill_process};

use super::{DRAIN, GRACE, INTERRUPT_GRACE, Phase, STOPPING, STOPPING_PAUSE, SWEEP, Supervisor, TERMINATION};
use crate::launch::cleanup;
use crate::launch::environment::job_text;
use crate::launch::position;
use crate::launch::rank::RankProcesses;
use crate::launch::signals::{self, Arrival};

impl Supervisor {
    /// When the time of the job is over, unless it is ending already.
    pub(super) fn time_ends(&self) -> Option<Instant> {
        let end = self.begin.checked_add(self.orders.limits.timeout?);
        end.filter(|_| self.phase == Phase::Running && !self.timed_out)
    }

    pub(super) fn time_out(&mut self) {
        self.timed_out = true;
        if self.drain_until.is_some() {
            // Only a reader of our output that does not read is left to wait for.
            return self.flow.output.abandon();
        }
        self.state = Some(self.state());
        self.stop(None, self.grace(GRACE));
    }

    /// Time from SIGTERM to SIGKILL after a rank failed.
    pub(super) fn grace_after_failure(&self) -> Duration {
        self.grace(if self.interrupted.is_some() { INTERRUPT_GRACE } else { GRACE })
    }

    /// What the user allows for, otherwise what is usual.
    pub(super) fn grace(&self, usual: Duration) -> Duration {
        self.orders.limits.grace.unwrap_or(usual)
    }

    /// The last rank is gone: ends what a failed job left running.
    pub(super) fn sweep(&mut self) {
        if self.phase != Phase::Running || !self.lost.is_empty() {
            cleanup::kill_all(&job_text(self.id), SWEEP);
        }
        self.flow.output.begin_drain();
        self.drain_until = Some(Instant::now() + DRAIN);
    }

    /// Asks all ranks but `except` to end. The first failed rank may still be writing its message.
    pub(in crate::launch) fn stop(&mut self, except: Option<usize>, grace: Duration) {
        let kill_at = Instant::now() + grace;
        match &mut self.phase {
            Phase::Running | Phase::Lingering { .. } => self.phase = Phase::Stopping { kill_at },
            Phase::Stopping { kill_at: earlier } => *earlier = kill_at.min(*earlier),
            Phase::Killed => return,
        }
        self.positions = position::of_all(&self.job);
        let others = self.started.ranks.iter().enumerate().filter(|(rank, _)| Some(*rank) != except);
        let alive: Vec<_> = others.filter(|(_, processes)| !processes.has_ended()).collect();
        // The first call counts: in later ones some have ended already.
        self.stopped = self.stopped.max(alive.len());
        for (_, processes) in alive {
            processes.signal(Signal::TERM);
            // A stopped process gets SIGTERM only when it continues.
            processes.signal(Signal::CONT);
        }
    }

    pub(super) fn kill(&mut self) {
        self.phase = Phase::Killed;
        self.started.ranks.iter().for_each(|rank| rank.signal(Signal::KILL));
    }

    pub(super) fn read_signals(&mut self) {
        let arrivals = self.orders.signals.as_ref().map(signals::receive).unwrap_or_default();
        arrivals.into_iter().for_each(|arrival| self.signal_arrived(arrival));
    }

    pub(super) fn signal_arrived(&mut self, Arrival { signal, from_process }: Arrival) {
        if self.orders.foreground && !from_process && signal == Signal::INT {
            return;
        }
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
            self.phase = Phase::Stopping { kill_at: Instant::now() + self.grace(TERMINATION) };
        }
    }

    /// Stops this process, after the ranks, until the shell continues the job.
    pub(super) fn stop_until_continued(&self) {
        // The shell takes the terminal back when this process stops. A rank that has not yet come to its own
        // signal would still sit in its read from the terminal, and take what is typed for the shell.
        let deadline = Instant::now() + STOPPING;
        while !self.started.ranks.iter().all(RankProcesses::is_halted) && Instant::now() < deadline {
            sleep(STOPPING_PAUSE);
        }
        // Fails for no process that may signal itself.
        let _ = kill_process(getpid(), Signal::STOP);
    }
}
