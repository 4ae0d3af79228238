//! The receiver's side of a direct message.

use std::thread;

use shm_core::Backoff;
use shm_core::direct::{Claimant, Remote, Side};

use super::{
    BLOCKS_PER_TURN, Key, Offer, PAUSE, SHARED_BLOCKS, SPINS, Turn, YIELDS, blocks_of, bytes_of, fair_share,
};
use crate::attach;
use crate::engine::buffer::Incoming;
use crate::engine::link::{Answer, Link};
use crate::engine::{Engine, OperationId};
use crate::envelope::PUSHED;
use crate::error::Result;

/// What the receiver knows of a direct message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pull {
    offer: Offer,
    key: Key,
    blocks: u32,
    claimant: Claimant,
    /// Blocks that this rank has copied, or does without.
    pulled: u32,
    invited: bool,
    /// Invited, and neither through nor kept out since: the sender may write to the buffer.
    lent: bool,
}

impl Pull {
    /// A message of `length` bytes that has been offered.
    pub(in crate::engine) fn new(offer: Offer, key: Key, length: u64) -> std::result::Result<Self, String> {
        let blocks = blocks_of(length).filter(|&blocks| blocks > 0);
        let blocks = blocks.ok_or_else(|| format!("{length} bytes are offered directly"))?;
        let claimant = Claimant::new(Side::Front);
        Ok(Self { offer, key, blocks, claimant, pulled: 0, invited: false, lent: false })
    }
}

impl Engine {
    /// A message has found its receive; whether it is pulled. If not, it has to come through the pool.
    pub(in crate::engine) fn begin_pulling(&mut self, source: usize, message: u32) -> Result<bool> {
        let link = &mut self.links[source];
        let reached = link.memory(self.job, source).is_some();
        let Some(inflow) = link.inflows.get_mut(&message) else { return Ok(false) };
        let Some(Pull { blocks, .. }) = inflow.pull.filter(|_| reached) else {
            inflow.pull = None;
            return Ok(false);
        };
        let first = self.direct.pulls.is_empty();
        self.direct.pulls.push_back((source, message));
        if self.direct.share && blocks >= SHARED_BLOCKS {
            self.invite(source, message);
        }
        if first {
            self.pull(source, message)?;
        }
        Ok(true)
    }

    /// Tells the sender where the message goes, so that it copies too; unless nobody wants it.
    fn invite(&mut self, source: usize, message: u32) {
        let Some(inflow) = self.links[source].inflows.get_mut(&message) else { return };
        let Some(receive) = inflow.receive.and_then(|id| self.receives.get_mut(id)) else { return };
        let (Some(pull), Some(address)) = (&mut inflow.pull, receive.buffer.address()) else { return };
        if !std::mem::replace(&mut pull.invited, true) {
            pull.lent = true;
            let key = pull.key;
            self.answer(source, Answer::Invite { message, address, key });
        }
    }

    /// One turn of a message, the earliest that is being pulled.
    pub(super) fn pull(&mut self, source: usize, message: u32) -> Result<()> {
        let link = &mut self.links[source];
        let (Some(memory), Some(inflow)) = (link.memory(self.job, source), link.inflows.get_mut(&message))
        else {
            return Ok(());
        };
        let (Some(pull), length) = (&mut inflow.pull, inflow.envelope.length) else { return Ok(()) };
        let mut receive = inflow.receive.and_then(|id| self.receives.get_mut(id));
        let transfer = &self.job.transfers(source)[pull.offer.transfer as usize];
        let share = pull.invited && self.direct.pushes.is_empty();
        let wanted = if share { fair_share(pull.pulled, pull.blocks, transfer) } else { BLOCKS_PER_TURN };
        let turn = self.job.control(self.rank).copying.during(|| -> Turn {
            let blocks = transfer.claim(&mut pull.claimant, wanted, pull.blocks)?;
            pull.pulled += blocks.len() as u32;
            let range = bytes_of(&blocks, length);
            let address = pull.offer.address.wrapping_add(range.start as u64);
            let piece = receive.as_mut().and_then(|receive| receive.buffer.piece(range));
            Ok(piece.map_or(Ok(()), |piece| memory.read(address, piece)))
        });
        if !matches!(turn, Ok(Ok(()))) {
            self.direct.pulls.pop_front();
            return self.turn_failed(source, turn);
        }
        if transfer.left(pull.blocks) == 0 {
            // What is left goes out from elsewhere if the sender has taken its memory back.
            let all = pull.pulled == pull.blocks;
            self.direct.pulls.pop_front();
            if !all {
                self.invite(source, message);
            }
            self.end_pulling(source, message);
        }
        Ok(())
    }

    /// Nothing of the message is left to be claimed.
    fn end_pulling(&mut self, source: usize, message: u32) {
        let Some(inflow) = self.links[source].inflows.get_mut(&message) else { return };
        let Some(Pull { key, pulled, blocks, invited, lent, .. }) = inflow.pull else { return };
        if pulled == blocks || !invited {
            inflow.received = inflow.envelope.length;
            if lent {
                // With damaged claims the sender could be at blocks that are here.
                self.close_gate(source, message);
            }
        }
        self.answer(source, Answer::Pulled { message, blocks: pulled, key });
        self.end_inflow_if_complete(source, message);
    }

    /// The sender has pushed so many blocks of the message, and pushes no more.
    pub(in crate::engine) fn on_pushed(
        &mut self,
        source: usize,
        message: u32,
        blocks: u32,
        seal: u64,
    ) -> std::result::Result<(), String> {
        let inflow = self.links[source].inflows.get_mut(&message);
        let pull = inflow.and_then(|inflow| {
            let pull = inflow.pull.as_mut().filter(|pull| pull.invited)?;
            Some((pull, &mut inflow.received, inflow.envelope.length))
        });
        let Some((pull, received, length)) = pull else {
            return Err(format!("rank {source} pushes message {message}, to which it is not invited"));
        };
        let Pull { key, pulled, blocks: total, .. } = *pull;
        key.check(seal, PUSHED, source, message, blocks.into())?;
        pull.lent = false;
        if u64::from(pulled) + u64::from(blocks) != u64::from(total) {
            return Err(format!(
                "rank {source} has pushed {blocks} of {total} blocks, {pulled} are this side's"
            ));
        }
        *received = length;
        if !self.stop_pulling(source, message) {
            self.end_inflow_if_complete(source, message);
        }
        Ok(())
    }

    /// Ends the turns of a message of which nothing is left; false if they have ended before.
    fn stop_pulling(&mut self, source: usize, message: u32) -> bool {
        let pulling = self.direct.pulls.iter().position(|&pull| pull == (source, message));
        if let Some(at) = pulling {
            self.direct.pulls.remove(at);
            self.end_pulling(source, message);
        }
        pulling.is_some()
    }

    /// Makes sure that nobody writes to the buffer of a receive that is given up. True if the buffer has to stay for
    /// that, where the engine owns it.
    pub(in crate::engine) fn take_back_buffer(&mut self, id: OperationId) -> bool {
        let Some((source, message)) = self.pull_of(id) else { return false };
        if self.receives.get(id).is_some_and(|receive| matches!(receive.buffer, Incoming::Owned(_))) {
            return true;
        }
        if self.direct.pulls.contains(&(source, message)) {
            // Else the sender was told that nothing more is pulled: the claims may be another message's by now.
            self.take_rest(source, message);
        }
        self.close_gate(source, message);
        self.stop_pulling(source, message);
        false
    }

    /// Takes what nobody has of a message that is not wanted.
    fn take_rest(&mut self, source: usize, message: u32) {
        let inflow = self.links[source].inflows.get_mut(&message);
        let Some(pull) = inflow.and_then(|inflow| inflow.pull.as_mut()) else { return };
        let transfer = &self.job.transfers(source)[pull.offer.transfer as usize];
        match transfer.close(&mut pull.claimant, pull.blocks) {
            Ok(rest) => pull.pulled += rest.len() as u32,
            // Whoever waits next hears of it.
            Err(damage) => drop(self.damaged(format!("{damage} (with rank {source})"))),
        }
    }

    /// Makes sure that the sender of a message does not write to its buffer, and will not. Blocks while it does: for one
    /// of its turns, or until it has left. Ends the process if damage keeps this rank from knowing.
    fn close_gate(&mut self, source: usize, message: u32) {
        let inflow = self.links[source].inflows.get_mut(&message);
        let Some(pull) = inflow.and_then(|inflow| inflow.pull.as_mut()) else { return };
        if !std::mem::replace(&mut pull.lent, false) {
            return;
        }
        let offer = pull.offer;
        let ticket = offer.ticket(self.direct.origin(self.job.place(source)));
        let gate = &self.job.transfers(source)[offer.transfer as usize].gate;
        let mut backoff = Backoff::new(SPINS, YIELDS);
        loop {
            match gate.close(ticket) {
                Ok(true) => return,
                _ if self.is_gone(source, offer.address) => return,
                Ok(false) if backoff.snooze() => {}
                Ok(false) => thread::sleep(PAUSE),
                Err(damage) => {
                    attach::abort_damaged(self.job, self.rank, format!("{damage} (with rank {source})"))
                }
            }
        }
    }

    /// Whether the process of `rank` is gone, and not just said to be: nothing is at `address` any more, where it had
    /// a message.
    fn is_gone(&mut self, rank: usize, address: u64) -> bool {
        let is_there = |memory: Remote| memory.read(address, &mut [0]).is_ok();
        self.departure(rank).is_some() && !self.links[rank].memory(self.job, rank).is_some_and(is_there)
    }

    /// Does [`Engine::close_gate`] for all messages of `source`, which has left.
    pub(in crate::engine) fn close_gates_of(&mut self, source: usize) {
        let messages: Vec<u32> = self.links[source].inflows.keys().copied().collect();
        messages.into_iter().for_each(|message| self.close_gate(source, message));
    }

    /// Does it for all messages.
    pub(in crate::engine) fn close_all_gates(&mut self) {
        (0..self.links.len()).for_each(|source| self.close_gates_of(source));
    }

    /// The direct message that a receive is getting: its sender and its number.
    fn pull_of(&self, id: OperationId) -> Option<(usize, u32)> {
        let of_link = |(source, link): (usize, &Link)| {
            let mut inflows = link.inflows.iter();
            inflows.find_map(|(&message, inflow)| {
                (inflow.receive == Some(id) && inflow.pull.is_some()).then_some((source, message))
            })
        };
        self.links.iter().enumerate().find_map(of_link)
    }
}
