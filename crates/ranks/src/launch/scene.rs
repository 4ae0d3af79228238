//! What is known about the first failure at the moment when it is noticed: later the others have moved on.

use std::sync::atomic::Ordering::Relaxed;

use rustix::process::Signal;

use super::lookout;
use super::memory::KillCount;
use super::plan::Plan;
use super::report::Ended;
use super::supervise::Supervisor;
use crate::diagnose;

/// What was known before the job began, for the case that a rank fails.
#[derive(Debug)]
pub(super) struct Witness {
    /// The programs of the ranks.
    programs: Vec<String>,
    killed: Option<KillCount>,
}

/// The circumstances of a failure.
#[derive(Debug, Clone, Default)]
pub(super) struct Scene {
    /// What the rank was doing.
    pub(super) doing: Option<String>,
    /// Where the others stood, in one line; empty where there are none.
    pub(super) others: String,
    /// Why the system killed it.
    pub(super) cause: Option<String>,
}

impl Witness {
    pub(super) fn new(plan: &Plan) -> Self {
        let programs = plan.ranks.iter().map(|rank| rank.program.to_string_lossy().into_owned());
        Self { programs: programs.collect(), killed: KillCount::read() }
    }

    /// The program of a rank.
    pub(super) fn program(&self, rank: usize) -> &str {
        self.programs.get(rank).map_or("", String::as_str)
    }

    /// Whether the ranks run different programs.
    pub(super) fn has_several_programs(&self) -> bool {
        self.programs.windows(2).any(|pair| pair[0] != pair[1])
    }
}

impl Supervisor {
    /// Looks at the ranks now that `rank` has failed, before the others are stopped.
    pub(super) fn scene(&self, rank: usize, ended: Option<Ended>) -> Scene {
        let departure = self.job.control(rank).life.departure.load(Relaxed);
        let snapshot = lookout::of_the_idle(&self.job, &self.pids()).before_departure(departure);
        let killed = matches!(ended, Some(Ended::Signal(signal)) if signal == Signal::KILL.as_raw())
            || ended == Some(Ended::Unknown);
        let cause = self.vigil.witness.killed.as_ref().filter(|_| killed).and_then(KillCount::cause);
        Scene { doing: diagnose::last_seen(&snapshot, rank), others: diagnose::stand(&snapshot, rank), cause }
    }
}
