//! Operations that receive: posting, matching, delivery.
//!
//! | state | meaning | leaves it |
//! |---|---|---|
//! | Posted | waits for a message | a match => Filling (rendezvous), Done |
//! | Filling | matched, payload on its way | last byte => Done |
//! | Done | outcome known | the user takes it |

use super::buffer::Incoming;
use super::chunks::Part;
use super::direct::Pull;
use super::receives::{Expected, Receive};
use super::send::SendState;
use super::{Caller, Engine, OperationId};
use crate::envelope::{Envelope, Lent};
use crate::error::{Error, Result};
use crate::layout::CHUNK_BYTES;
use crate::matching::Pattern;
use crate::status::Status;

/// The payload of a message that came before its receive.
#[derive(Debug)]
pub(crate) enum Kept {
    /// Copied out of the ring or its chunks: it is bounded per pair.
    Eager(Box<[u8]>),
    /// An eager one that is still in its chunks.
    Lent(Box<[Part]>),
    /// Still with the sender, except for early chunks; the sender's number of the message.
    Rendezvous(u32),
    /// A send of this rank itself.
    FromSelf(OperationId),
}

/// A rendezvous message from one rank, from its envelope to its last byte.
#[derive(Debug)]
pub(crate) struct Inflow {
    pub(crate) envelope: Envelope,
    /// The receive that gets it, once matched.
    pub(crate) receive: Option<OperationId>,
    /// Payload bytes that have reached the buffer.
    pub(crate) received: u64,
    /// Chunks that came before the match, with their lengths.
    pub(crate) early: Vec<(u32, u32)>,
    /// Both sides copy it directly.
    pub(crate) pull: Option<Pull>,
}

impl Engine {
    /// Starts a receive. Never blocks.
    ///
    /// # Errors
    ///
    /// No shared memory could be reserved for the answer to a long message.
    #[inline]
    pub(crate) fn start_receive(
        &mut self,
        pattern: Pattern,
        expected: Expected,
        buffer: Incoming,
        caller: Caller,
    ) -> Result<OperationId> {
        let id = self.receives.open(pattern, expected, buffer, caller);
        if !self.unexpected.is_empty() && self.receive_unexpected(id, pattern)? {
            return Ok(id);
        }
        self.posted.post(pattern, id);
        if self.others < self.size - 1 {
            self.check_departed_source(id, pattern);
        }
        Ok(id)
    }

    /// Gives the earliest unexpected message that fits to the new receive `id`; whether there is one.
    fn receive_unexpected(&mut self, id: OperationId, pattern: Pattern) -> Result<bool> {
        if let Err(error) = self.prepare_answer(&pattern) {
            self.receives.close(id);
            return Err(error);
        }
        let Some((envelope, kept)) = self.unexpected.take(&pattern) else { return Ok(false) };
        if self.observer.is_some() {
            self.observe_match(&envelope, Some(id));
        }
        if let Err(error) = self.receive_kept(id, envelope, kept) {
            self.abandon_receive(id);
            return Err(error);
        }
        Ok(true)
    }

    /// Gives a message that was kept to its receive.
    pub(crate) fn receive_kept(&mut self, id: OperationId, envelope: Envelope, kept: Kept) -> Result<()> {
        let source = usize::from(envelope.source);
        match kept {
            Kept::Eager(payload) => {
                self.links[source].release(envelope.length, self.unexpected_bound);
                self.deliver(id, &envelope, &payload);
            }
            Kept::Lent(parts) => {
                let link = &mut self.links[source];
                let mut copied = Ok(());
                let fill = |buffer: &mut [u8]| copied = link.copy_parts(&parts, buffer);
                self.receives.deliver(id, &envelope, &self.call_sites, fill);
                let emptied = copied.and_then(|()| link.empty_kept(&parts));
                emptied.map_err(|error| self.damaged(error.to_string()))?;
                self.links[source].release(envelope.length, self.unexpected_bound);
            }
            Kept::FromSelf(send) => {
                let payload = match self.sends.get_mut(send) {
                    Some(send) => std::mem::replace(&mut send.payload, super::buffer::Outgoing::Gone),
                    None => super::buffer::Outgoing::Gone,
                };
                self.deliver(id, &envelope, payload.bytes());
                if let Some(send) = self.sends.get_mut(send) {
                    send.payload = payload;
                    debug_assert_eq!(send.state, SendState::Offered);
                }
                self.finish_send(send);
            }
            Kept::Rendezvous(message) => {
                self.begin_inflow(id, source, message)?;
                self.check_departed_sender(source);
            }
        }
        Ok(())
    }

    /// The receive for a message that has just arrived, if one is posted.
    #[inline]
    pub(crate) fn take_posted(&mut self, envelope: &Envelope) -> Option<OperationId> {
        self.posted.take_match(envelope)
    }

    pub(crate) fn keep_unexpected(&mut self, envelope: Envelope, kept: Kept) {
        self.unexpected.push(envelope, kept);
    }

    /// Completes a receive with a payload that lies in this process.
    pub(crate) fn deliver(&mut self, id: OperationId, envelope: &Envelope, payload: &[u8]) {
        self.receives.deliver(id, envelope, &self.call_sites, |buffer| buffer.copy_from_slice(payload));
    }

    /// A rendezvous message has found its receive: asks for the payload, empties the early chunks.
    pub(crate) fn begin_inflow(&mut self, id: OperationId, source: usize, message: u32) -> Result<()> {
        let Some(inflow) = self.links[source].inflows.get_mut(&message) else { return Ok(()) };
        inflow.receive = Some(id);
        let envelope = inflow.envelope;
        let early = std::mem::take(&mut inflow.early);
        // A receive that failed keeps its error; the message still has to be emptied.
        if let Some(receive) = self.receives.get_mut(id)
            && !receive.accept(&envelope, &self.call_sites)
        {
            self.drain_for(id, source, message);
        }
        if self.begin_pulling(source, message)? {
            return Ok(());
        }
        if envelope.length > self.eager_limit {
            // It takes the memory of the whole pool in turn, and is the slower the fewer chunks that has: windows of 1 MiB between near
            // cores, after messages that were held, 26.3 and 33 GB/s.
            let given_back = self.links[source].give_back_held();
            given_back.map_err(|error| self.damaged(error.to_string()))?;
        }
        self.answer_match(source, message)?;
        for (chunk, length) in early {
            self.receive_chunk(source, message, (chunk, length), false).map_err(|what| self.damaged(what))?;
        }
        Ok(())
    }

    /// Lets receive `id` go with its error and leaves the message to be thrown away by a receive of nobody.
    fn drain_for(&mut self, id: OperationId, source: usize, message: u32) {
        let Some(receive) = self.receives.get(id) else { return };
        let Receive { pattern, expected, caller, wanted, .. } = *receive;
        if !wanted {
            self.receives.close(id);
        }
        let drain = self.receives.open(pattern, expected, Incoming::Discard, caller);
        self.receives.disown(drain, false);
        if let Some(inflow) = self.links[source].inflows.get_mut(&message) {
            inflow.receive = Some(drain);
        }
    }

    /// The next chunk of a rendezvous message, or a run of them, and the bytes in it; `fresh` if a near core has written them just now.
    pub(crate) fn receive_chunk(
        &mut self,
        source: usize,
        message: u32,
        (chunk, length): (u32, u32),
        fresh: bool,
    ) -> std::result::Result<(), String> {
        let link = &mut self.links[source];
        let (is_run, bytes) = (length as usize > CHUNK_BYTES, length as usize);
        link.chunks.check_run(chunk, bytes).map_err(|what| format!("{what} (from rank {source})"))?;
        let Some(inflow) = link.inflows.get_mut(&message) else {
            return Err(format!("a chunk from rank {source} belongs to no message"));
        };
        if inflow.pull.is_some() {
            return Err(format!(
                "a chunk from rank {source} for message {message}, which is offered directly"
            ));
        }
        let left = inflow.envelope.length - inflow.received - early_bytes(&inflow.early);
        let is_whole = !is_run || u64::from(length) == left || bytes.is_multiple_of(CHUNK_BYTES);
        if u64::from(length) > left || !is_whole {
            return Err(format!("a chunk of {length} bytes from rank {source}, {left} are left"));
        }
        let Some(id) = inflow.receive else {
            inflow.early.push((chunk, length));
            return Ok(());
        };
        let start = inflow.received as usize;
        inflow.received += u64::from(length);
        let buffer = self.receives.get_mut(id).and_then(|receive| receive.buffer.bytes_mut());
        let piece = buffer.map(|buffer| &mut buffer[start..start + bytes]);
        if let Some(piece) = piece {
            let copied = match is_run {
                true => link.chunks.copy_out_run(chunk, piece, fresh),
                false => link.chunks.copy_out(Part { place: Lent::theirs(chunk), fresh, keep: false }, piece),
            };
            copied.map_err(|error| error.to_string())?;
        }
        link.chunks.give_back_run(chunk, bytes).map_err(|error| error.to_string())?;
        self.links[source].wake();
        self.end_inflow_if_complete(source, message);
        Ok(())
    }

    /// The whole payload of a short rendezvous message; `fill` copies it.
    pub(crate) fn receive_data(
        &mut self,
        source: usize,
        message: u32,
        length: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> std::result::Result<(), String> {
        let Some(inflow) = self.links[source].inflows.get_mut(&message) else {
            return Err(format!("data from rank {source} belong to no message"));
        };
        let is_open = inflow.pull.is_none() && inflow.envelope.length == length as u64;
        let Some(id) = inflow.receive.filter(|_| is_open) else {
            return Err(format!("{length} bytes from rank {source} for a message that is not open for them"));
        };
        inflow.received = length as u64;
        let bytes = self.receives.get_mut(id).and_then(|receive| receive.buffer.bytes_mut());
        if let Some(bytes) = bytes {
            fill(&mut bytes[..length]);
        }
        self.end_inflow_if_complete(source, message);
        Ok(())
    }

    pub(super) fn end_inflow_if_complete(&mut self, source: usize, message: u32) {
        let inflows = &mut self.links[source].inflows;
        if inflows.get(&message).is_some_and(|inflow| inflow.received == inflow.envelope.length)
            && let Some(inflow) = inflows.remove(&message)
            && let Some(id) = inflow.receive
        {
            self.receives.finish(id, &inflow.envelope);
        }
    }

    /// Takes the outcome of a complete receive with its buffer; `None` while it is not.
    pub(crate) fn take_receive(&mut self, id: OperationId) -> Option<(Result<Status>, Incoming)> {
        self.receives.take(id)
    }

    /// Like [`Engine::take_receive`], for a receive into a borrowed buffer.
    #[inline]
    pub(crate) fn take_status(&mut self, id: OperationId) -> Option<Result<Status>> {
        self.receives.take_status(id)
    }

    /// Like [`Engine::take_receive`], for a caller that blocks until there is an outcome.
    pub(crate) fn await_receive(&mut self, id: OperationId) -> Option<(Result<Status>, Incoming)> {
        self.fail_if_hopeless(id);
        self.take_receive(id)
    }

    /// Like [`Engine::take_status`], for a caller that blocks until there is an outcome.
    #[inline]
    pub(crate) fn await_status(&mut self, id: OperationId) -> Option<Result<Status>> {
        self.fail_if_hopeless(id);
        self.take_status(id)
    }

    /// Whether a receive is posted for a message that is about to be sent by this rank to itself.
    pub(crate) fn has_posted(&self, envelope: &Envelope) -> bool {
        self.posted.has_match(envelope)
    }

    /// The earliest unexpected message that fits.
    pub(crate) fn peek_unexpected(&self, pattern: &Pattern) -> Option<Status> {
        self.unexpected.peek(pattern).map(|(envelope, _)| Status::of(envelope))
    }

    /// Takes the earliest unexpected message that fits out of matching: no other receive gets it.
    pub(crate) fn take_unexpected(&mut self, pattern: &Pattern) -> Result<Option<(Envelope, Kept)>> {
        self.prepare_answer(pattern)?;
        let taken = self.unexpected.take(pattern);
        if self.observer.is_some()
            && let Some((envelope, _)) = &taken
        {
            self.observe_match(envelope, None);
        }
        Ok(taken)
    }

    /// Opens the ring for the answer that matching the next message will need, while failing costs nothing yet.
    fn prepare_answer(&mut self, pattern: &Pattern) -> Result<()> {
        match self.unexpected.peek(pattern) {
            Some((envelope, Kept::Rendezvous(_))) => self.open_lanes(envelope.source.into(), 0),
            _ => Ok(()),
        }
    }

    /// Receives a message that was taken out of matching.
    pub(crate) fn start_receive_of(
        &mut self,
        (envelope, kept): (Envelope, Kept),
        expected: Expected,
        buffer: Incoming,
        caller: Caller,
    ) -> Result<OperationId> {
        let pattern = Pattern::new(envelope.context, Some(envelope.source.into()), Some(envelope.tag));
        let id = self.receives.open(pattern, expected, buffer, caller);
        if let Err(error) = self.receive_kept(id, envelope, kept) {
            self.abandon_receive(id);
            return Err(error);
        }
        Ok(id)
    }

    pub(crate) fn is_receive_complete(&self, id: OperationId) -> bool {
        self.receives.get(id).is_none_or(|receive| !receive.is_open())
    }

    /// Withdraws a receive that no message has matched yet; false if it is too late for that.
    pub(crate) fn cancel_receive(&mut self, id: OperationId) -> bool {
        let Some(receive) = self.receives.get(id) else { return false };
        let cancelled = self.posted.cancel(receive.pattern.source(), id);
        if cancelled {
            self.receives.close(id);
        }
        cancelled
    }

    /// Nobody asks for the outcome of `id` any more: cancels it, or throws away what still comes.
    pub(crate) fn abandon_receive(&mut self, id: OperationId) {
        if self.cancel_receive(id) {
            return;
        }
        let keep_buffer = self.take_back_buffer(id);
        self.receives.disown(id, keep_buffer);
    }

    /// Gives a receive up with an error for whoever waits for it.
    pub(crate) fn fail_receive(&mut self, id: OperationId, failure: Error) {
        self.receives.fail(id, failure);
    }
}

fn early_bytes(early: &[(u32, u32)]) -> u64 {
    early.iter().map(|&(_, length)| u64::from(length)).sum()
}
