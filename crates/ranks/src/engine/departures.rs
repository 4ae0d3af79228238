//! Ranks that have left, and what that means for operations that need them.

use std::sync::atomic::Ordering::Acquire;

use super::progress::CELLS_PER_TURN;
use super::receives::Receive;
use super::{Caller, Engine, OperationId};
use crate::error::{Departure, Error, Result};
use crate::layout::rank_state;
use crate::matching::Pattern;

impl Engine {
    pub(super) fn departures_pending(&self) -> bool {
        // SYNC departure
        self.job.header().departures.load(Acquire) != self.departures_seen
    }

    /// Looks for ranks that have left since the last look; whether there were any.
    ///
    /// Their rings are read once more first: what a rank published before it left is still delivered.
    pub(crate) fn notice_departures(&mut self) -> Result<bool> {
        // SYNC departure
        let departures = self.job.header().departures.load(Acquire);
        if departures == self.departures_seen {
            return Ok(false);
        }
        self.departures_seen = departures;
        self.look_for_departures()?;
        Ok(true)
    }

    /// Does it whatever the number of departures says: a rank may have been killed before it counted itself, or something may have
    /// written over the number.
    pub(super) fn look_for_departures(&mut self) -> Result<()> {
        for rank in 0..self.size {
            if rank != self.rank && !self.departed[rank] {
                self.notice_shrinking(rank);
                self.notice_departure(rank)?;
            }
        }
        Ok(())
    }

    fn notice_departure(&mut self, rank: usize) -> Result<()> {
        let departed = self.departure(rank).is_some();
        let leaving = departed || self.job.is_leaving(rank);
        if !departed && (!leaving || self.refusing[rank]) {
            return Ok(());
        }
        self.notice_rings();
        // Ends, unless the rank still sends while it is leaving: then one turn is followed by another soon.
        while self.drain(rank, CELLS_PER_TURN)? && departed {}
        self.refusing[rank] = true;
        self.departed[rank] = departed;
        if departed {
            self.others -= 1;
            self.fail_operations_with(rank);
            self.note_failure(rank);
        } else {
            self.fail_unmatched_sends(rank);
        }
        Ok(())
    }

    /// How `rank` left, if it has.
    pub(crate) fn departure(&self, rank: usize) -> Option<Departure> {
        match self.job.state(rank) {
            rank_state::DETACHED => Some(Departure::Finished),
            rank_state::FAILED | rank_state::DEAD => Some(Departure::Failed),
            _ => None,
        }
    }

    pub(crate) fn peer_gone(&self, caller: Caller, rank: usize) -> Error {
        let how = self.departure(rank).unwrap_or(Departure::Finished);
        Error::PeerGone { operation: caller.operation, rank, how, at: caller.at }
    }

    /// The error for a collective that needs `rank`, if that has left.
    pub(crate) fn gone(&self, caller: Caller, rank: usize) -> Option<Error> {
        self.departed[rank].then(|| self.peer_gone(caller, rank))
    }

    fn fail_operations_with(&mut self, rank: usize) {
        for id in self.posted.waiting_for(rank) {
            self.fail_posted(id, rank);
        }
        self.direct.forget(rank);
        self.fail_inflows(rank);
        self.fail_all_sends(rank);
    }

    /// Long messages that were matched and half sent can never be completed.
    fn fail_inflows(&mut self, rank: usize) {
        self.close_gates_of(rank);
        let broken: Vec<_> = self.links[rank].inflows.values().filter_map(|inflow| inflow.receive).collect();
        self.links[rank].inflows.retain(|_, inflow| inflow.receive.is_none());
        for id in broken {
            if let Some(caller) = self.receives.get(id).map(|receive| receive.caller) {
                let failure = self.peer_gone(caller, rank);
                self.fail_receive(id, failure);
            }
        }
    }

    pub(super) fn fail_posted(&mut self, id: OperationId, rank: usize) {
        let Some(Receive { pattern, caller, .. }) = self.receives.get(id) else { return };
        let (source, caller) = (pattern.source(), *caller);
        self.posted.cancel(source, id);
        let failure = self.peer_gone(caller, rank);
        self.fail_receive(id, failure);
    }

    /// Whether every other rank has left.
    pub(crate) fn is_alone(&self) -> bool {
        self.others == 0
    }

    /// Fails a receive from any rank when every other rank of several has left.
    pub(crate) fn fail_if_nobody_left(&mut self, id: OperationId) {
        let from_any = self.receives.get(id).is_some_and(|receive| receive.pattern.source().is_none());
        if from_any && self.size > 1 {
            self.fail_if_hopeless(id);
        }
    }

    /// Fails a receive that is waited for although only this rank itself could satisfy it: while it waits, it
    /// sends nothing.
    pub(crate) fn fail_if_hopeless(&mut self, id: OperationId) {
        let Some(receive) = self.receives.get(id).filter(|receive| receive.is_open()) else { return };
        let (source, Caller { operation, at }) = (receive.pattern.source(), receive.caller);
        let failure = match source {
            Some(rank) if rank == self.rank => {
                let remedy = "send the message first, with isend or a message up to the eager limit";
                Error::WouldDeadlock { operation, remedy, at }
            }
            None if self.is_alone() => Error::NobodyLeft { operation, at },
            _ => return,
        };
        if self.posted.cancel(source, id) {
            self.fail_receive(id, failure);
        }
    }

    /// Fails a send to this rank itself that is waited for, completes only when it is received, and is not.
    pub(crate) fn fail_send_if_hopeless(&mut self, id: OperationId) {
        let Some(send) = self.sends.get(id) else { return };
        let Caller { operation, at } = send.caller;
        if send.destination == self.rank && !send.is_complete() {
            let remedy = "post the receive first, with irecv";
            self.withdraw_send_to_self(id, Error::WouldDeadlock { operation, remedy, at });
        }
    }

    /// Fails a new receive that only a rank which has left could satisfy.
    pub(super) fn check_departed_source(&mut self, id: OperationId, pattern: Pattern) {
        let gone = match pattern.source() {
            Some(rank) => Some(rank).filter(|&rank| self.departed[rank]),
            None => self.unacknowledged(),
        };
        if let Some(rank) = gone {
            self.fail_posted(id, rank);
        }
    }

    /// Fails the long messages from a rank that has left with a part of them.
    pub(super) fn check_departed_sender(&mut self, rank: usize) {
        if self.departed[rank] {
            self.fail_inflows(rank);
        }
    }

    pub(super) fn departed(&self, rank: usize) -> bool {
        self.departed[rank]
    }

    /// Whether `rank` matches no more messages.
    pub(super) fn refuses(&self, rank: usize) -> bool {
        self.refusing[rank]
    }
}
