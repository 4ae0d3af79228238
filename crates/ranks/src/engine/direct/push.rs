//! The sender's side of a direct message.
//!
//! # Safety
//!
//! Trusted for writing to a receiver's memory at the address that it gave. The cell with the address carries a seal
//! too: one that is damaged is an error, not a stray write.
#![allow(unsafe_code)]

use std::io;
use std::ops::Range;
use std::thread;

use shm_core::Backoff;
use shm_core::direct::{Claimant, DamagedTransfer, Side, Ticket, Transfer};

use super::{
    BLOCKS_PER_TURN, Key, OFFER_BYTES, Offer, PAUSE, SPINS, Turn, YIELDS, blocks_of, bytes_of, fair_share,
};
use crate::engine::buffer::Outgoing;
use crate::engine::link::Answer;
use crate::engine::send::SendState;
use crate::engine::{Engine, OperationId};
use crate::envelope::{INVITE, PULLED};
use crate::error::Result;
use crate::layout::TRANSFERS;

/// What the sender knows of a direct message.
#[derive(Debug)]
pub(in crate::engine) struct Push {
    /// This rank's number of the shared word.
    transfer: u32,
    pub(super) ticket: Ticket,
    key: Key,
    blocks: u32,
    claimant: Claimant,
    /// Where the receiver wants it, once it has invited this rank.
    target: Option<u64>,
    /// Blocks that this rank has taken with its memory, and pushes from elsewhere.
    claimed: Range<u32>,
    /// Blocks that have been.
    pub(super) pushed: u32,
    /// Whether the receiver knows that.
    told: bool,
    /// Blocks that the receiver has pulled, once it pulls no more.
    pulled: Option<u32>,
}

impl Push {
    fn new(transfer: u32, ticket: Ticket, key: Key, blocks: u32) -> Self {
        Self {
            transfer,
            ticket,
            key,
            blocks,
            claimant: Claimant::new(Side::Back),
            target: None,
            claimed: 0..0,
            pushed: 0,
            told: false,
            pulled: None,
        }
    }

    pub(super) fn transfer(&self) -> u32 {
        self.transfer
    }

    /// One turn: `write` copies these bytes of the message to that address, unless the receiver does without them.
    fn turn(
        &mut self,
        transfer: &Transfer,
        length: u64,
        write: impl FnOnce(u64, Range<usize>) -> io::Result<()>,
    ) -> Turn {
        let blocks = self.take(transfer)?;
        if blocks.is_empty() {
            return Ok(Ok(()));
        }
        let range = bytes_of(&blocks, length);
        let address = self.target.unwrap_or(0).wrapping_add(range.start as u64);
        let written = transfer.gate.during(self.ticket, || write(address, range))?;
        self.pushed += blocks.len() as u32;
        Ok(written.unwrap_or(Ok(())))
    }

    /// The blocks of the next turn.
    fn take(&mut self, transfer: &Transfer) -> std::result::Result<Range<u32>, DamagedTransfer> {
        if self.claimed.is_empty() {
            let wanted = fair_share(self.pushed, self.blocks, transfer);
            return transfer.claim(&mut self.claimant, wanted, self.blocks);
        }
        let start = self.claimed.end - BLOCKS_PER_TURN.min(self.claimed.len() as u32);
        let turn = start..self.claimed.end;
        self.claimed.end = start;
        Ok(turn)
    }

    /// Whether the payload is out of the buffer.
    pub(in crate::engine) fn is_complete(&self) -> bool {
        self.pushed + self.pulled.unwrap_or(0) == self.blocks
    }
}

impl Engine {
    /// Makes send `id` a direct one if that is possible: the payload of its OFFER.
    pub(in crate::engine) fn offer(
        &mut self,
        destination: usize,
        id: OperationId,
    ) -> Option<[u8; OFFER_BYTES]> {
        let length = self.sends.get(id)?.envelope.length;
        let link = &mut self.links[destination];
        if !link.offers || !self.direct.serves(length) {
            return None;
        }
        link.memory(self.job, destination)?;
        let (blocks, transfer) = (blocks_of(length)?, self.take_transfer()?);
        self.direct.offers += 1;
        let send = self.sends.get_mut(id)?;
        let address = send.payload.bytes().as_ptr().expose_provenance() as u64;
        let offer = Offer { message: id, transfer, address, serial: self.direct.offers };
        let origin = self.direct.origin(self.job.place(self.rank));
        let (key, ticket) = (offer.key(origin, length), offer.ticket(origin));
        self.job.transfers(self.rank)[transfer as usize].gate.open(ticket);
        send.push = Some(Push::new(transfer, ticket, key, blocks));
        Some(offer.to_bytes(key))
    }

    fn take_transfer(&mut self) -> Option<u32> {
        if self.direct.free.is_none() {
            // Without room for them messages go through the pool; that says what is missing if it finds no room either.
            self.job.segment().reserve(self.job.transfers_range(self.rank)).ok()?;
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
        seal: u64,
    ) -> std::result::Result<(), String> {
        let push = self.push_to(source, id)?;
        push.key.check(seal, INVITE, source, id, target)?;
        if push.target.is_some() || push.pulled.is_some() {
            return Err(format!("rank {source} invites too late to message {id}"));
        }
        push.target = Some(target);
        if let Some(send) = self.sends.get_mut(id) {
            send.state = SendState::Streaming;
        }
        self.direct.pushes.push(id);
        Ok(())
    }

    /// The receiver has pulled so many blocks of message `id`, and pulls no more.
    pub(in crate::engine) fn on_pulled(
        &mut self,
        source: usize,
        id: u32,
        blocks: u32,
        seal: u64,
    ) -> std::result::Result<(), String> {
        let push = self.push_to(source, id)?;
        push.key.check(seal, PULLED, source, id, blocks.into())?;
        let mine = push.pushed + push.claimed.len() as u32;
        if push.pulled.is_some() || u64::from(mine) + u64::from(blocks) != u64::from(push.blocks) {
            let total = push.blocks;
            return Err(format!(
                "rank {source} has pulled {blocks} of {total} blocks, {mine} are this side's"
            ));
        }
        push.pulled = Some(blocks);
        if push.target.is_none() {
            // Nobody wants what this side has taken back.
            push.pushed += push.claimed.len() as u32;
            (push.claimed, push.told) = (0..0, true);
        }
        self.settle_push(source, id);
        Ok(())
    }

    fn push_to(&mut self, destination: usize, id: u32) -> std::result::Result<&mut Push, String> {
        let send = self.sends.get_mut(id).filter(|send| send.destination == destination);
        let push = send.and_then(|send| send.push.as_mut());
        push.ok_or_else(|| format!("rank {destination} speaks of message {id}, which is not offered to it"))
    }

    /// One turn of the earliest send that this rank is invited to.
    pub(super) fn push(&mut self) -> Result<()> {
        let Some(&id) = self.direct.pushes.first() else { return Ok(()) };
        let Some(send) = self.sends.get_mut(id) else { return Ok(()) };
        let (destination, length) = (send.destination, send.envelope.length);
        let memory = self.links[destination].memory(self.job, destination);
        let (Some(push), Some(memory)) = (&mut send.push, memory) else { return Ok(()) };
        let transfer = &self.job.transfers(self.rank)[push.transfer as usize];
        let payload = &send.payload;
        let turn = push.turn(transfer, length, |address, range| {
            // SAFETY: the receiver has given the address of a buffer for the whole message. It lets nobody at these
            // blocks until it is told that they are there, or has closed the gate, through which this goes.
            unsafe { memory.write(address, &payload.bytes()[range]) }
        });
        if !matches!(turn, Ok(Ok(()))) {
            return self.turn_failed(destination, turn);
        }
        if transfer.left(push.blocks) == 0 {
            self.settle_push(destination, id);
        }
        Ok(())
    }

    /// Nothing of message `id` is left to be claimed: ends what is at its end.
    fn settle_push(&mut self, destination: usize, id: OperationId) {
        let Some(push) = self.sends.get_mut(id).and_then(|send| send.push.as_mut()) else { return };
        if !push.claimed.is_empty() {
            return;
        }
        let (key, blocks, told) = (push.key, push.pushed, std::mem::replace(&mut push.told, true));
        let through = push.is_complete() && push.pulled.is_some();
        self.direct.pushes.retain(|&other| other != id);
        if blocks > 0 && !told {
            self.answer(destination, Answer::Pushed { message: id, blocks, key });
        }
        if through {
            self.finish_send(id);
        }
    }

    /// Makes sure that nobody reads a borrowed payload any more: what is left of it will go out from a copy.
    pub(in crate::engine) fn take_back_payload(&mut self, id: OperationId) {
        let Some(send) = self.sends.get_mut(id) else { return };
        let (destination, Outgoing::Borrowed(_)) = (send.destination, &send.payload) else { return };
        let Some(push) = &mut send.push else { return };
        let transfer = &self.job.transfers(self.rank)[push.transfer as usize];
        match transfer.close(&mut push.claimant, push.blocks) {
            Ok(rest) if rest.is_empty() => {}
            Ok(rest) => push.claimed = rest,
            // Whoever waits next hears of it.
            Err(damage) => drop(self.damaged(format!("{damage} (with rank {destination})"))),
        }
        self.await_pause(destination);
    }

    /// Blocks until `rank` has finished pulling what it was at, or has left.
    fn await_pause(&self, rank: usize) {
        let copying = &self.job.control(rank).copying;
        let earlier = copying.state();
        let mut backoff = Backoff::new(SPINS, YIELDS);
        while !copying.has_paused(earlier) && self.departure(rank).is_none() {
            if !backoff.snooze() {
                thread::sleep(PAUSE);
            }
        }
    }
}
