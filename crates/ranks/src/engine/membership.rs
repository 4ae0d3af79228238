//! Who is left of this world, and what operations are told of it where the job survives failures.
//!
//! A rank that fails is noticed like any other that leaves (`wait.rs`), and operations that need it fail. Besides,
//! where the job goes on:
//!
//! - collectives fail on every rank that would have to wait, and later ones on all: who else is in one may have given
//!   up already;
//! - receives from any rank fail until somebody has said that the failure is known: what they wait for may never come;
//! - once a rank leaves the world for one of the survivors (`renew.rs`), whoever has to wait gives up: that rank may
//!   be the one that was to answer, or the one that was to answer it.
//!
//! What can be completed without waiting is completed in any case.

use shm_core::agreement::{Agreed, Agreement, Fate};

use super::publish::{Blocked, Ranks};
use super::{Caller, Engine};
use crate::collective::End;
use crate::error::{Departure, Error, Result};
use crate::job::Job;
use crate::world::{COLLECTIVE, context_of};

pub(super) struct Membership {
    /// Number of this world: the job's first is 0, each of survivors gets the next.
    pub(super) world: u32,
    /// Whether the job goes on when a rank fails.
    survives: bool,
    /// The first rank that has failed, where the job goes on.
    failed: Option<usize>,
    /// One that receives from any rank have to report.
    unacknowledged: Option<usize>,
    /// The first rank that has left this world for one of the survivors.
    shrinking: Option<usize>,
    pub(super) agreement: Agreement<'static>,
}

impl Membership {
    /// Of world number `world`, whose ranks have been through `agreements`.
    pub(super) fn new(job: &'static Job, rank: usize, world: u32, agreements: u64) -> Self {
        let ballots = (0..job.size()).map(|rank| &job.control(rank).ballot);
        Self {
            world,
            survives: job.survives(),
            failed: None,
            unacknowledged: None,
            shrinking: None,
            agreement: Agreement::new(ballots, &job.header().verdict, rank, agreements),
        }
    }
}

impl Engine {
    /// A rank has left; what that means for others if it has failed and the job goes on.
    pub(super) fn note_failure(&mut self, rank: usize) {
        if !self.membership.survives || self.departure(rank) != Some(Departure::Failed) {
            return;
        }
        // What is sent to it from now on would lie in its ring and look as if it had been delivered.
        self.links[rank].producer = None;
        self.membership.failed.get_or_insert(rank);
        self.membership.unacknowledged.get_or_insert(rank);
        self.collectives_ended.get_or_insert_with(|| Box::new(End::Failure(rank)));
        for id in self.posted.waiting_for_any() {
            self.fail_posted(id, rank);
        }
    }

    /// Looks whether `rank` has left this world for one of the survivors.
    pub(super) fn notice_shrinking(&mut self, rank: usize) {
        if self.membership.shrinking.is_none() && self.job.is_shrinking(rank, self.membership.world) {
            self.membership.shrinking = Some(rank);
        }
    }

    /// Why an operation that has to wait should not, if so.
    pub(super) fn check_membership(&self, blocked: &Blocked<'_>) -> Result<()> {
        blocked.in_world().map_or(Ok(()), |(caller, context)| self.check_world(caller, context))
    }

    /// [`Engine::check_membership`] for an operation that is asked about.
    pub(crate) fn check_world(&self, caller: Caller, context: u32) -> Result<()> {
        match (self.membership.failed, self.membership.shrinking) {
            (Some(failed), _) if context & COLLECTIVE != 0 => Err(self.peer_gone(caller, failed)),
            (failed, Some(rank)) => {
                Err(Error::Shrinking { operation: caller.operation, rank, failed, at: caller.at })
            }
            (_, None) => Ok(()),
        }
    }

    /// The number of this world.
    pub(crate) fn world_number(&self) -> u32 {
        self.membership.world
    }

    /// A failure that receives from any rank have to report.
    pub(crate) fn unacknowledged(&self) -> Option<usize> {
        self.membership.unacknowledged
    }

    /// The ranks that have left in one way, or that have not left, as of now.
    pub(crate) fn ranks_with(&mut self, departure: Option<Departure>) -> Result<Vec<usize>> {
        self.progress()?;
        self.notice_departures()?;
        Ok((0..self.size).filter(|&rank| self.departure(rank) == departure).collect())
    }

    /// Receives from any rank report the failures that are known now no more: which these are.
    pub(crate) fn acknowledge(&mut self) -> Result<Vec<usize>> {
        let failed = self.ranks_with(Some(Departure::Failed))?;
        self.membership.unacknowledged = None;
        failed.iter().for_each(|&rank| self.job.note_recovery(rank));
        Ok(failed)
    }

    /// Enters the next agreement and blocks until every rank that is here has, whoever dies meanwhile.
    pub(crate) fn agree(
        &mut self,
        kind: u32,
        contribution: u64,
        combine: fn(u64, u64) -> u64,
        caller: Caller,
    ) -> Result<Agreed> {
        self.membership.agreement.enter(kind, contribution);
        self.await_all(0, caller, |engine| {
            let agreement = &engine.membership.agreement;
            match agreement.decide(combine, |rank| engine.fate(rank)) {
                Ok(agreed) => agreed.map(Ok),
                Err(_) => Some(Err(engine.damaged("the ranks' ballots do not fit together".into()))),
            }
        })?
    }

    /// Passes a stage of the agreement entered last and blocks until every rank that is here has.
    pub(super) fn pass_stage(&mut self, stage: u32, caller: Caller) -> Result<()> {
        self.membership.agreement.pass(stage);
        self.await_all(stage, caller, |engine| {
            let agreement = &engine.membership.agreement;
            agreement.awaited(stage, |rank| engine.fate(rank)).is_none().then_some(())
        })
    }

    /// Blocks until `done` gives an answer, which the others' ballots or their deaths can bring.
    fn await_all<T>(
        &mut self,
        stage: u32,
        caller: Caller,
        done: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<T> {
        self.job.ring_all(shm_core::Bell::ring);
        let awaited = |engine: &Self| {
            let mut ranks = Ranks::default();
            let agreement = &engine.membership.agreement;
            agreement
                .awaited(stage, |rank| engine.fate(rank))
                .into_iter()
                .for_each(|rank| ranks.insert(rank));
            ranks
        };
        let context = context_of(self.membership.world);
        self.wait_until(Blocked::in_agreement(caller, context, &awaited), done)
    }

    fn fate(&self, rank: usize) -> Fate {
        match self.departure(rank) {
            None => Fate::Here,
            Some(Departure::Finished) => Fate::Finished,
            Some(Departure::Failed) => Fate::Failed,
        }
    }

    /// The error for an operation in whose stead somebody has called `shrink`.
    pub(crate) fn shrinking(&mut self, caller: Caller) -> Error {
        let world = self.membership.world;
        let rank = (0..self.size).find(|&rank| self.job.is_shrinking(rank, world)).unwrap_or(self.rank);
        let Caller { operation, at } = caller;
        Error::Shrinking { operation, rank, failed: self.membership.failed, at }
    }
}
