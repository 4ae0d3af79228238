//! What the supervisor does about a job that hangs, and what it says of a job that runs.

use std::time::{Duration, Instant};

use super::lookout::{self, Lookout};
use super::plan::{Hang, HangAction, Plan};
use super::scene::Witness;
use super::supervise::{GRACE, Supervisor};

/// The watch over a job, and what came of it.
#[derive(Debug)]
pub(super) struct Vigil {
    hang: Hang,
    name: String,
    pub(super) witness: Witness,
    /// `None` where nobody wants to know.
    lookout: Option<Lookout>,
    /// The deadlock that ended the job.
    fatal: Option<String>,
}

impl Vigil {
    pub(super) fn new(plan: &Plan) -> Self {
        let hang = plan.hang;
        let lookout =
            (hang.action != HangAction::Off).then(|| Lookout::new(hang, plan.ranks.len(), Instant::now()));
        Self { hang, name: plan.name.clone(), witness: Witness::new(plan), lookout, fatal: None }
    }

    /// When to look next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.lookout.as_ref().map(Lookout::next)
    }

    /// The deadlock that ended the job.
    pub(super) fn fatal(&self) -> Option<&String> {
        self.fatal.as_ref()
    }
}

impl Supervisor {
    /// Looks whether the job moves, if it is time for that.
    pub(super) fn watch(&mut self, now: Instant) {
        if self.vigil.next().is_none_or(|next| next > now) {
            return;
        }
        let pids = self.pids();
        let Some(lookout) = &mut self.vigil.lookout else { return };
        for report in lookout.look(&self.job, &pids, now) {
            if report.certain && self.vigil.hang.action == HangAction::Kill {
                self.vigil.fatal = Some(report.text);
                return self.stop(None, GRACE);
            }
            self.say(&report.text);
        }
    }

    /// Says what every rank does.
    pub(super) fn say_state(&mut self, after: Duration) {
        let seconds = after.as_secs_f64();
        self.say(&format!("state of the ranks after {seconds:.1} s\n{}", self.state()));
    }

    /// What every rank does.
    pub(super) fn state(&self) -> String {
        lookout::state(&self.job, &self.pids())
    }

    fn say(&mut self, text: &str) {
        self.flow.output.say(&format!("{}: {text}\n", self.vigil.name));
    }

    /// The processes of the ranks that have not ended.
    pub(super) fn pids(&self) -> Vec<Option<u32>> {
        self.started.ranks.iter().map(|rank| rank.running()).collect()
    }
}
