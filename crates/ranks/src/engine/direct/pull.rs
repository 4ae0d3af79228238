//! The receiver's side of a direct message.
//!
//! # Safety
//!
//! Trusted for reading into the buffers of receives that the engine has.
#![allow(unsafe_code)]

use std::{io, ptr, thread};

use shm_core::Backoff;
use shm_core::direct::{MAX_PIECES, Piece, Side, Transfer};

use super::{
    BLOCKS_PER_TURN, Offer, PAUSE, SHARED_BLOCKS, SPINS, Turn, YIELDS, blocks_of, bytes_of, copy_turns,
    senders_share,
};
use crate::engine::buffer::Incoming;
use crate::engine::link::{Answer, Link};
use crate::engine::{Engine, OperationId};
use crate::error::Result;

/// What the receiver knows of a direct message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pull {
    offer: Offer,
    blocks: u32,
    /// Blocks that this rank has copied and claimed, or does without.
    pulled: u32,
    /// Blocks that the sender has pushed, as far as it has told.
    pushed: u32,
    invited: bool,
}

impl Pull {
    /// A message of `length` bytes that has been offered.
    pub(in crate::engine) fn new(offer: Offer, length: u64) -> std::result::Result<Self, String> {
        let blocks = blocks_of(length).filter(|&blocks| blocks > 0);
        let blocks = blocks.ok_or_else(|| format!("{length} bytes are offered directly"))?;
        Ok(Self { offer, blocks, pulled: 0, pushed: 0, invited: false })
    }

    /// What to take while the sender copies too: all but its share, and of that, if it does not come, half and half
    /// again.
    fn fair_share(&self, transfer: &Transfer) -> u32 {
        let mine = self.blocks - senders_share(self.blocks);
        let share =
            if self.pulled < mine { mine - self.pulled } else { transfer.left(self.blocks).div_ceil(2) };
        share.clamp(1, BLOCKS_PER_TURN)
    }

    fn is_complete(&self) -> bool {
        self.pulled + self.pushed == self.blocks
    }
}

impl Engine {
    /// A message has found its receive; whether it is pulled. If not, it has to come through the pool.
    pub(in crate::engine) fn begin_pulling(&mut self, source: usize, message: u32) -> bool {
        let link = &mut self.links[source];
        let reached = link.memory(self.job, source).is_some();
        let Some(inflow) = link.inflows.get_mut(&message) else { return false };
        let Some(Pull { blocks, .. }) = inflow.pull.filter(|_| reached) else {
            inflow.pull = None;
            return false;
        };
        let busy = !self.direct.pulls.is_empty();
        self.direct.pulls.push_back((source, message));
        if self.direct.share && (blocks >= SHARED_BLOCKS || busy) {
            self.invite(source, message);
        }
        true
    }

    /// Tells the sender where the message goes, so that it copies too; unless nobody wants it.
    fn invite(&mut self, source: usize, message: u32) {
        let Some(inflow) = self.links[source].inflows.get_mut(&message) else { return };
        let Some(receive) = inflow.receive.and_then(|id| self.receives.get_mut(id)) else { return };
        let (Some(pull), Some(address)) = (&mut inflow.pull, receive.buffer.address()) else { return };
        if !std::mem::replace(&mut pull.invited, true) {
            self.answer(source, Answer::Invite { message, address });
        }
    }

    /// One turn of the earliest messages that are being pulled from one sender.
    ///
    /// It copies first and claims then: so the first copy does not wait for a word that the sender has written last.
    /// What the sender takes meanwhile comes twice.
    pub(super) fn pull(&mut self) -> Result<()> {
        let Some(&(source, _)) = self.direct.pulls.front() else { return Ok(()) };
        let Some(memory) = self.links[source].memory(self.job, source) else { return Ok(()) };
        let mut turns: [Option<Turn>; MAX_PIECES] = [None; MAX_PIECES];
        let mut room = BLOCKS_PER_TURN;
        for (at, turn) in turns.iter_mut().enumerate() {
            let next = self.direct.pulls.get(at).filter(|pull| pull.0 == source && room > 0);
            let Some(&(_, message)) = next else { break };
            *turn = self.plan_pull(source, message, room);
            room -= turn.map_or(0, |turn| turn.blocks);
        }
        let read = |pieces: &[Piece]| {
            // SAFETY: `plan_pull` made them of buffers that the engine has, which nobody looks at meanwhile.
            unsafe { memory.read(pieces) }
        };
        let all_copied = copy_turns(&turns, read).is_ok();
        for turn in turns.into_iter().flatten() {
            // If it failed, which mostly is a sender that has taken its memory back, each for itself.
            let copied = if all_copied { Ok(()) } else { copy_turns(&[Some(turn)], read) };
            self.end_pull_turn(source, turn, copied)?;
        }
        Ok(())
    }

    /// What is to be pulled of a message in this turn.
    fn plan_pull(&mut self, source: usize, message: u32, room: u32) -> Option<Turn> {
        let inflow = self.links[source].inflows.get_mut(&message)?;
        let (pull, length) = (inflow.pull.as_mut()?, inflow.envelope.length);
        let transfer = &self.job.transfers(source)[pull.offer.transfer as usize];
        let share = pull.invited && self.direct.pushes.is_empty();
        let wanted = if share { pull.fair_share(transfer) } else { pull.blocks };
        let blocks = pull.pulled..pull.blocks.min(pull.pulled + wanted.min(room));
        let range = bytes_of(&blocks, length);
        let remote = pull.offer.address.wrapping_add(range.start as u64);
        let receive = inflow.receive.and_then(|id| self.receives.get_mut(id));
        let piece = receive.and_then(|receive| receive.buffer.piece(range));
        let (local, length) = piece.map_or((ptr::null_mut(), 0), |piece| (piece.as_mut_ptr(), piece.len()));
        Some(Turn { message, blocks: blocks.len() as u32, piece: Piece { local, remote, length } })
    }

    fn end_pull_turn(&mut self, source: usize, turn: Turn, copied: io::Result<()>) -> Result<()> {
        let Turn { message, blocks, .. } = turn;
        let inflow = self.links[source].inflows.get_mut(&message);
        let Some(pull) = inflow.and_then(|inflow| inflow.pull.as_mut()) else { return Ok(()) };
        let transfer = &self.job.transfers(source)[pull.offer.transfer as usize];
        let mine = transfer.claim(Side::Front, blocks, pull.blocks).len() as u32;
        pull.pulled += mine;
        let (all, left) = (pull.is_complete(), transfer.left(pull.blocks));
        // A sender that has taken its memory back has left nothing to be claimed.
        if let Err(error) = copied
            && mine > 0
        {
            self.direct.forget_pull(source, message);
            return self.copy_failed(source, &error);
        }
        if left == 0 {
            self.direct.forget_pull(source, message);
            if !all {
                // The sender pushes the rest, also where it has taken its memory back, if it knows where to.
                self.invite(source, message);
            }
            self.end_pulling(source, message);
        }
        Ok(())
    }

    /// Nothing of the message is left to be claimed.
    fn end_pulling(&mut self, source: usize, message: u32) {
        let Some(inflow) = self.links[source].inflows.get_mut(&message) else { return };
        let Some(pull) = &inflow.pull else { return };
        let blocks = pull.pulled;
        if pull.is_complete() || !pull.invited {
            inflow.received = inflow.envelope.length;
        }
        self.answer(source, Answer::Pulled { message, blocks });
        self.end_inflow_if_complete(source, message);
    }

    /// The sender has pushed so many more blocks of the message.
    pub(in crate::engine) fn on_pushed(
        &mut self,
        source: usize,
        message: u32,
        blocks: u32,
    ) -> std::result::Result<(), String> {
        let inflow = self.links[source].inflows.get_mut(&message);
        let inflow = inflow
            .and_then(|inflow| Some((inflow.pull.as_mut()?, &mut inflow.received, inflow.envelope.length)));
        let Some((pull, received, length)) = inflow.filter(|(pull, ..)| pull.invited) else {
            return Err(format!("rank {source} pushes message {message}, to which it is not invited"));
        };
        let Pull { pulled, pushed, blocks: total, .. } = *pull;
        if u64::from(pulled) + u64::from(pushed) + u64::from(blocks) > u64::from(total) {
            return Err(format!(
                "rank {source} pushes {blocks} more of {total} blocks, {pulled} + {pushed} are there"
            ));
        }
        pull.pushed += blocks;
        if pull.is_complete() {
            *received = length;
            if !self.stop_pulling(source, message) {
                self.end_inflow_if_complete(source, message);
            }
        }
        Ok(())
    }

    /// Ends the turns of a message of which nothing is left; false if they have ended before.
    fn stop_pulling(&mut self, source: usize, message: u32) -> bool {
        let pulling = self.direct.forget_pull(source, message);
        if pulling {
            self.end_pulling(source, message);
        }
        pulling
    }

    /// Makes sure that nobody writes to the buffer of a receive that is given up. True if the buffer has to stay for
    /// that, where the engine owns it.
    pub(in crate::engine) fn take_back_buffer(&mut self, id: OperationId) -> bool {
        let Some((source, message, pull)) = self.pull_of(id) else { return false };
        if self.receives.get(id).is_some_and(|receive| matches!(receive.buffer, Incoming::Owned(_))) {
            return true;
        }
        if self.direct.pulls.contains(&(source, message)) {
            let transfer = &self.job.transfers(source)[pull.offer.transfer as usize];
            let rest = transfer.close(Side::Front, pull.blocks).len() as u32;
            self.await_pause(source);
            let inflow = self.links[source].inflows.get_mut(&message);
            if let Some(pull) = inflow.and_then(|inflow| inflow.pull.as_mut()) {
                pull.pulled += rest;
            }
            self.stop_pulling(source, message);
        } else {
            // The transfer is the sender's again, and so is the rest of the message.
            self.await_pushed(source, id);
        }
        false
    }

    /// Blocks until the sender has pushed what receive `id` is getting, or has left.
    fn await_pushed(&mut self, source: usize, id: OperationId) {
        let mut backoff = Backoff::new(SPINS, YIELDS);
        while self.pull_of(id).is_some() && self.departure(source).is_none() {
            if self.drain(source).is_err() {
                // The ring is of no use any more; what has begun ends all the same.
                return self.await_pause(source);
            }
            if !backoff.snooze() {
                thread::sleep(PAUSE);
            }
        }
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
