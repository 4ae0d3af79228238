//! The receiver's side of a direct message.

use shm_core::direct::Side;

use super::{BLOCKS_PER_TURN, Key, Offer, SHARED_BLOCKS, blocks_of, bytes_of, fair_share};
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
    /// Blocks that this rank has copied, or does without.
    pulled: u32,
    invited: bool,
}

impl Pull {
    /// A message of `length` bytes that has been offered.
    pub(in crate::engine) fn new(offer: Offer, key: Key, length: u64) -> std::result::Result<Self, String> {
        let blocks = blocks_of(length).filter(|&blocks| blocks > 0);
        let blocks = blocks.ok_or_else(|| format!("{length} bytes are offered directly"))?;
        Ok(Self { offer, key, blocks, pulled: 0, invited: false })
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
        let mut copied = Ok(());
        self.job.control(self.rank).copying.during(|| {
            let blocks = transfer.claim(Side::Front, wanted, pull.blocks);
            let range = bytes_of(&blocks, length);
            let address = pull.offer.address.wrapping_add(range.start as u64);
            if let Some(piece) = receive.as_mut().and_then(|receive| receive.buffer.piece(range)) {
                copied = memory.read(address, piece);
            }
            pull.pulled += blocks.len() as u32;
        });
        if let Err(error) = copied {
            self.direct.pulls.pop_front();
            return self.copy_failed(source, &error);
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
        let Some(Pull { key, pulled, blocks, invited, .. }) = inflow.pull else { return };
        if pulled == blocks || !invited {
            inflow.received = inflow.envelope.length;
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
        let inflow = inflow.and_then(|inflow| Some((inflow.pull.filter(|pull| pull.invited)?, inflow)));
        let Some((Pull { key, pulled, blocks: total, .. }, inflow)) = inflow else {
            return Err(format!("rank {source} pushes message {message}, to which it is not invited"));
        };
        key.check(seal, PUSHED, source, message, blocks.into())?;
        if u64::from(pulled) + u64::from(blocks) != u64::from(total) {
            return Err(format!(
                "rank {source} has pushed {blocks} of {total} blocks, {pulled} are this side's"
            ));
        }
        inflow.received = inflow.envelope.length;
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
        let Some((source, message, pull)) = self.pull_of(id) else { return false };
        if self.receives.get(id).is_some_and(|receive| matches!(receive.buffer, Incoming::Owned(_))) {
            return true;
        }
        let transfer = &self.job.transfers(source)[pull.offer.transfer as usize];
        if !self.direct.pulls.contains(&(source, message)) {
            // The sender was told that nothing more is pulled: the transfer may be another message's by now.
            transfer.withdraw(pull.offer.serial);
            self.await_pause(source);
            return false;
        }
        let pulled = pull.pulled + transfer.close(Side::Front, pull.blocks).len() as u32;
        self.await_pause(source);
        let inflow = self.links[source].inflows.get_mut(&message);
        if let Some(pull) = inflow.and_then(|inflow| inflow.pull.as_mut()) {
            pull.pulled = pulled;
        }
        self.stop_pulling(source, message);
        false
    }

    /// The direct message that a receive is getting: its sender, its number, and what is known of it.
    fn pull_of(&self, id: OperationId) -> Option<(usize, u32, Pull)> {
        let of_link = |(source, link): (usize, &Link)| {
            let mut inflows = link.inflows.iter();
            inflows.find_map(|(&message, inflow)| {
                (inflow.receive == Some(id)).then_some((source, message, inflow.pull?))
            })
        };
        self.links.iter().enumerate().find_map(of_link)
    }
}
