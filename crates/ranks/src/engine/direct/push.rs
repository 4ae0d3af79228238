//! The sender's side of a direct message.
//!
//! # Safety
//!
//! Trusted for writing to a receiver's memory at the address that it gave. The cell with the address carries a seal
//! too: one that is damaged is an error, not a stray write.
#![allow(unsafe_code)]

use std::ops::Range;

use shm_core::direct::{MAX_PIECES, Piece, Side, Transfer};

use super::{BLOCKS_PER_TURN, Offer, Turn, blocks_of, bytes_of, copy_turns, senders_share};
use crate::engine::buffer::Outgoing;
use crate::engine::link::Answer;
use crate::engine::send::{Send, SendState};
use crate::engine::{Engine, OperationId};
use crate::error::Result;
use crate::layout::TRANSFERS;

/// What the sender knows of a direct message.
#[derive(Debug)]
pub(in crate::engine) struct Push {
    /// This rank's number of the shared word.
    transfer: u32,
    blocks: u32,
    /// Where the receiver wants it, once it has invited this rank.
    target: Option<u64>,
    /// Blocks that this rank has taken with its memory, and pushes from elsewhere.
    claimed: Range<u32>,
    /// Blocks that have been pushed.
    pushed: u32,
    /// Whether all others are the receiver's.
    nothing_left: bool,
    /// Those of them that the receiver knows of.
    told: u32,
    /// Blocks that the receiver has pulled, once it pulls no more.
    pulled: Option<u32>,
}

impl Push {
    pub(super) fn transfer(&self) -> u32 {
        self.transfer
    }

    /// The blocks of the next turn, and whether the receiver still wants them.
    fn take(&mut self, transfer: &Transfer, room: u32) -> (Range<u32>, bool) {
        if self.claimed.is_empty() {
            let wanted = senders_share(self.blocks).saturating_sub(self.pushed).min(room);
            let blocks = transfer.claim(Side::Back, wanted, self.blocks);
            self.nothing_left = (blocks.len() as u32) < wanted;
            return (blocks, true);
        }
        let start = self.claimed.end - room.min(self.claimed.len() as u32);
        let turn = start..self.claimed.end;
        self.claimed.end = start;
        (turn, !transfer.is_closed(Side::Front))
    }

    fn has_pushed_its_share(&self) -> bool {
        self.claimed.is_empty() && (self.nothing_left || self.pushed >= senders_share(self.blocks))
    }

    /// Whether the payload is out of the buffer, and the receiver reads it no more.
    pub(in crate::engine) fn is_complete(&self) -> bool {
        self.pulled.is_some_and(|pulled| pulled + self.pushed == self.blocks)
    }
}

/// What is to be pushed of a send in this turn; counted as pushed.
fn plan_push(id: OperationId, send: &mut Send, transfers: &[Transfer], room: u32) -> Option<Turn> {
    let (push, length) = (send.push.as_mut()?, send.envelope.length);
    let (blocks, open) = push.take(&transfers[push.transfer as usize], room);
    push.pushed += blocks.len() as u32;
    let range = bytes_of(&blocks, length);
    let remote = push.target?.wrapping_add(range.start as u64);
    let data = if open { &send.payload.bytes()[range] } else { &[] };
    // What is only read from needs no other pointer than what is written to.
    let piece = Piece { local: data.as_ptr().cast_mut(), remote, length: data.len() };
    Some(Turn { message: id, blocks: blocks.len() as u32, piece })
}

impl Engine {
    /// Makes send `id` a direct one if that is possible: the payload of its OFFER.
    pub(in crate::engine) fn offer(&mut self, destination: usize, id: OperationId) -> Option<[u8; 24]> {
        let length = self.sends.get(id)?.envelope.length;
        let link = &mut self.links[destination];
        if length < self.direct.from || !link.offers {
            return None;
        }
        link.memory(self.job, destination)?;
        let (blocks, transfer) = (blocks_of(length)?, self.take_transfer()?);
        let send = self.sends.get_mut(id)?;
        let address = send.payload.bytes().as_ptr().expose_provenance() as u64;
        let none = Push {
            transfer,
            blocks,
            target: None,
            claimed: 0..0,
            pushed: 0,
            nothing_left: false,
            told: 0,
            pulled: None,
        };
        send.push = Some(none);
        Some(Offer { message: id, transfer, address }.to_bytes(self.job))
    }

    fn take_transfer(&mut self) -> Option<u32> {
        if self.direct.free.is_none() {
            // Without room for them messages go through the pool; that says what is missing if it finds no room either.
            self.job.segment().reserve(self.job.geometry().transfers(self.rank)).ok()?;
            self.direct.free = Some((0..TRANSFERS as u32).rev().collect());
        }
        self.direct.free.as_mut()?.pop()
    }

    /// The receiver wants message `id` at `target`, and shares the work.
    pub(in crate::engine) fn on_invite(
        &mut self,
        source: usize,
        id: u32,
        target: u64,
    ) -> std::result::Result<(), String> {
        let push = self.push_to(source, id)?;
        if push.target.is_some() || push.pulled.is_some() {
            return Err(format!("rank {source} invites too late to message {id}"));
        }
        push.target = Some(target);
        let taken_back = !push.claimed.is_empty();
        if let Some(send) = self.sends.get_mut(id) {
            send.state = SendState::Streaming;
        }
        if !taken_back {
            self.direct.pushes.push(id);
        }
        Ok(())
    }

    /// The receiver has pulled so many blocks of message `id`, and pulls no more.
    pub(in crate::engine) fn on_pulled(
        &mut self,
        source: usize,
        id: u32,
        blocks: u32,
    ) -> std::result::Result<(), String> {
        let push = self.push_to(source, id)?;
        let mine = push.pushed + push.claimed.len() as u32;
        if push.pulled.is_some() || u64::from(mine) + u64::from(blocks) != u64::from(push.blocks) {
            let total = push.blocks;
            return Err(format!(
                "rank {source} has pulled {blocks} of {total} blocks, {mine} are this side's"
            ));
        }
        push.pulled = Some(blocks);
        if push.claimed.is_empty() {
            self.settle_push(source, id);
        } else if push.target.is_some() {
            // It went out from this rank's memory before it was taken back; now nobody reads there any more.
            self.direct.pushes.push(id);
        } else {
            // Nobody wants what was taken back.
            push.pushed += push.claimed.len() as u32;
            (push.claimed, push.told) = (0..0, push.pushed);
            self.settle_push(source, id);
        }
        Ok(())
    }

    fn push_to(&mut self, destination: usize, id: u32) -> std::result::Result<&mut Push, String> {
        let send = self.sends.get_mut(id).filter(|send| send.destination == destination);
        let push = send.and_then(|send| send.push.as_mut());
        push.ok_or_else(|| format!("rank {destination} speaks of message {id}, which is not offered to it"))
    }

    /// One turn of the earliest sends that this rank is invited to by one receiver.
    pub(super) fn push(&mut self) -> Result<()> {
        let first = self.direct.pushes.first().and_then(|&id| self.sends.get(id));
        let Some(destination) = first.map(|send| send.destination) else { return Ok(()) };
        let Some(memory) = self.links[destination].memory(self.job, destination) else { return Ok(()) };
        let mut turns: [Option<Turn>; MAX_PIECES] = [None; MAX_PIECES];
        let mut room = BLOCKS_PER_TURN;
        let outcome = self.job.control(self.rank).copying.during(|| {
            for (at, turn) in turns.iter_mut().enumerate() {
                let Some(&id) = self.direct.pushes.get(at).filter(|_| room > 0) else { break };
                let Some(send) = self.sends.get_mut(id).filter(|send| send.destination == destination) else {
                    break;
                };
                *turn = plan_push(id, send, self.job.transfers(self.rank), room);
                room -= turn.map_or(0, |turn| turn.blocks);
            }
            copy_turns(&turns, |pieces| {
                // SAFETY: the receiver has given the beginning of a buffer for the whole message, and leaves what this
                // rank has claimed alone until it is told that it is there, or has closed the transfer and seen this
                // rank pause. The local end is the payload of a send.
                unsafe { memory.write(pieces) }
            })
        });
        if let Err(error) = outcome {
            return self.copy_failed(destination, &error);
        }
        for turn in turns.into_iter().flatten() {
            let push = self.sends.get(turn.message).and_then(|send| send.push.as_ref());
            if push.is_some_and(Push::has_pushed_its_share) {
                self.settle_push(destination, turn.message);
            }
        }
        Ok(())
    }

    /// This side pushes no more of message `id`, for now: ends what is at its end.
    fn settle_push(&mut self, destination: usize, id: OperationId) {
        let Some(push) = self.sends.get_mut(id).and_then(|send| send.push.as_mut()) else { return };
        if !push.claimed.is_empty() {
            return;
        }
        let blocks = push.pushed - std::mem::replace(&mut push.told, push.pushed);
        let through = push.is_complete();
        self.direct.pushes.retain(|&other| other != id);
        if blocks > 0 {
            self.answer(destination, Answer::Pushed { message: id, blocks });
        }
        if through {
            self.finish_send(id);
        }
    }

    /// Makes sure that what others still read of a borrowed payload is not used: the rest will go out from a copy.
    pub(in crate::engine) fn take_back_payload(&mut self, id: OperationId) {
        let Some(send) = self.sends.get_mut(id) else { return };
        let (Outgoing::Borrowed(_), Some(push)) = (&send.payload, &mut send.push) else { return };
        let transfer = &self.job.transfers(self.rank)[push.transfer as usize];
        if push.pulled.is_none() {
            push.claimed = transfer.close(Side::Back, push.blocks);
            // What has not been pulled is pushed when the receiver has said that it reads no more.
            self.direct.pushes.retain(|&other| other != id);
        }
    }
}
