//! Operations that send.
//!
//! | state | meaning | leaves it |
//! |---|---|---|
//! | Queued | envelope not out yet | `push_envelope` => Done (eager), Offered |
//! | Offered | rendezvous envelope out, perhaps with early chunks | MATCH => Streaming, Done |
//! | Streaming | matched, payload left | last chunk => Done |
//! | Done | the payload is out of the user's buffer | the user takes it back |
//!
//! A send that is Offered with its whole payload in early chunks is complete for the user, but keeps its number
//! until the match: the receiver will name it.

#[cfg(test)]
mod tests;

use shm_core::ring::Full;

use super::buffer::Outgoing;
use super::direct::Push;
use super::lend::Lender;
use super::link::{Answer, Link, charge, enlarge_ring, open_ring};
use super::receive::Kept;
use super::short_ways::Lending;
use super::{Caller, Engine, OperationId};
use crate::envelope::{
    CHUNK, DATA, EAGER, Envelope, FLAG_SYNCHRONOUS, OFFER, RENDEZVOUS, chunk_flags, control_words,
};
use crate::error::{Error, Result};
use crate::layout::{CHUNK_BYTES, RUN_CHUNKS, part_bytes};

/// Chunks that an unmatched long message may hold: enough for the copy to go on while the match comes back ...
pub(super) const EARLY_CHUNKS: usize = 4;
/// ... and so many of them are told of at once. One by one 512 KiB took distant cores 27.8 µs instead of 26.4, 768 KiB 38.2 and 37.9 (15 alternating
/// groups, Zen 4); between near ones it makes no difference.
const EARLY_RUN: usize = 2;
/// Chunks of a matched message that a near core is told of at once: it reads what left the writer's nearest cache while the other half was written.
/// Half round trips between near cores of a Zen 4 machine, 16 to 22 alternating groups, with chunks one by one, by twos, and by twos in turns of
/// [`NEAR_TURN`], µs: 768 KiB 27.0, 26.6 and 26.0, 1 MiB 35.1, 34.6 and 34.0, 4 MiB 160, 153 and 150; windows of 1 MiB 37.8, 38.2 and 39.4
/// GB/s. By fours 1 MiB took 35.9 where it was 35.4 by twos.
const NEAR_RUN: usize = 2;
/// Chunks of one message to a near core before the next one is served and incoming cells are looked at, if there is nothing for other ranks. With
/// 64 of them, 4 MiB both ways at once 31.5 GB/s instead of 35.4 (90 alternating groups).
const NEAR_TURN: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SendState {
    Queued,
    Offered,
    Streaming,
    Done,
}

/// The chunks that a message got before it was matched.
#[derive(Default)]
struct EarlyChunks {
    list: [u32; EARLY_CHUNKS],
    count: usize,
}

impl EarlyChunks {
    fn push(&mut self, chunk: u32) {
        self.list[self.count] = chunk;
        self.count += 1;
    }

    fn as_slice(&self) -> &[u32] {
        &self.list[..self.count]
    }
}

pub(crate) struct Send {
    pub(crate) destination: usize,
    pub(crate) envelope: Envelope,
    pub(crate) payload: Outgoing,
    pub(crate) state: SendState,
    /// The receiver is this rank: the payload waits here for its receive.
    to_self: bool,
    /// Payload bytes that have left the buffer through the pool.
    copied: usize,
    early: EarlyChunks,
    /// Both sides copy it directly.
    pub(super) push: Option<Push>,
    /// A request or a blocked caller will ask for the outcome.
    pub(crate) wanted: bool,
    pub(crate) failure: Option<Error>,
    pub(crate) caller: Caller,
}

impl Send {
    /// Whether the user may have the buffer back.
    pub(crate) fn is_complete(&self) -> bool {
        let all_in_chunks = self.copied as u64 == self.envelope.length && self.copied > 0;
        let synchronous = self.envelope.flags & FLAG_SYNCHRONOUS != 0;
        let buffered = self.state == SendState::Offered && (all_in_chunks || self.to_self) && !synchronous;
        let all_pushed = self.push.as_ref().is_some_and(Push::is_complete);
        self.state == SendState::Done || buffered || all_pushed || self.failure.is_some()
    }
}

/// What came of starting a send.
pub(crate) enum Started {
    /// The payload is on its way; nothing is left to do.
    Complete(Outgoing),
    /// Ask again by this number.
    Pending(OperationId),
}

impl Engine {
    /// Starts a send that [`Engine::try_eager`] could not do at once. Never blocks.
    ///
    /// # Errors
    ///
    /// No shared memory could be reserved for the ring.
    pub(crate) fn start_send(
        &mut self,
        destination: usize,
        envelope: Envelope,
        payload: Outgoing,
        caller: Caller,
    ) -> Result<Started> {
        match self.observer {
            None => self.start_long_send(destination, envelope, payload, caller),
            Some(_) => self.start_observed_send(destination, envelope, payload, caller),
        }
    }

    /// Starts a send that does not take the short way.
    pub(super) fn start_long_send(
        &mut self,
        destination: usize,
        envelope: Envelope,
        payload: Outgoing,
        caller: Caller,
    ) -> Result<Started> {
        if destination == self.rank {
            return Ok(self.send_to_self(envelope, payload, caller));
        }
        self.open_lanes(destination, envelope.length)?;
        let id = self.insert_send(destination, envelope, payload, caller);
        if self.refuses(destination) {
            let failure = self.peer_gone(caller, destination);
            self.fail_send(id, failure);
            return Ok(Started::Pending(id));
        }
        self.links[destination].queue.push_back(id);
        self.note_outgoing(destination);
        self.flush(destination);
        Ok(Started::Pending(id))
    }

    fn insert_send(
        &mut self,
        destination: usize,
        envelope: Envelope,
        payload: Outgoing,
        caller: Caller,
    ) -> OperationId {
        self.unfinished_sends += 1;
        self.sends.insert(Send {
            destination,
            envelope,
            payload,
            state: SendState::Queued,
            to_self: destination == self.rank,
            copied: 0,
            early: EarlyChunks::default(),
            push: None,
            wanted: true,
            failure: None,
            caller,
        })
    }

    /// A message to this rank itself: given to its receive, or kept until there is one.
    fn send_to_self(&mut self, envelope: Envelope, payload: Outgoing, caller: Caller) -> Started {
        let receive = self.take_posted(&envelope);
        if self.observer.is_some() {
            self.observe_arrival(&envelope, receive);
        }
        if let Some(receive) = receive {
            self.deliver(receive, &envelope, payload.bytes());
            return Started::Complete(payload);
        }
        let id = self.insert_send(self.rank, envelope, payload, caller);
        if let Some(send) = self.sends.get_mut(id) {
            send.state = SendState::Offered;
        }
        self.keep_unexpected(envelope, Kept::FromSelf(id));
        Started::Pending(id)
    }

    /// Makes sure that the lanes exist which a message of this length can need.
    pub(super) fn open_lanes(&mut self, destination: usize, length: u64) -> Result<()> {
        if self.links[destination].producer.is_none() && !self.departed(destination) {
            self.links[destination].producer = Some(open_ring(self.job, self.rank, destination)?);
            // A receiver that sleeps has to learn of its new ring.
            self.links[destination].wake();
        }
        if let Some(producer) = &mut self.links[destination].producer {
            let parts = if length <= self.eager_limit {
                length.div_ceil(part_bytes(length, false) as u64)
            } else {
                0
            };
            enlarge_ring(producer, self.job, (self.rank, destination), parts as usize);
        }
        if length > self.ring_limit as u64 && self.lender.is_none() {
            self.job.segment().reserve(self.job.pool_range(self.rank))?;
            self.lender = Some(Lender::new(self.job.pool(self.rank), self.size));
        }
        Ok(())
    }

    fn note_outgoing(&mut self, destination: usize) {
        if !self.outgoing.contains(&destination) {
            self.outgoing.push(destination);
        }
    }

    /// Queues the answer that a rendezvous message has been matched.
    pub(crate) fn answer_match(&mut self, source: usize, message: u32) -> Result<()> {
        self.open_lanes(source, 0)?;
        self.answer(source, Answer::Match { message });
        Ok(())
    }

    /// Tells `other`, whose ring is open, something of a message between the two.
    pub(super) fn answer(&mut self, other: usize, answer: Answer) {
        if self.departed(other) {
            return;
        }
        self.links[other].answers.push_back(answer);
        self.flush_answers(other);
        self.links[other].wake();
        if !self.links[other].answers.is_empty() {
            self.note_outgoing(other);
        }
    }

    /// Sends what can be sent to `destination` now; whether anything moved.
    pub(crate) fn flush(&mut self, destination: usize) -> bool {
        let answers = self.flush_answers(destination);
        let envelopes = self.flush_envelopes(destination);
        let streams = self.flush_streams(destination);
        let moved = answers || envelopes || streams;
        if moved {
            self.links[destination].wake();
        }
        moved
    }

    fn flush_answers(&mut self, destination: usize) -> bool {
        let link = &mut self.links[destination];
        let Some(producer) = &mut link.producer else { return false };
        let mut moved = false;
        while let Some(&answer) = link.answers.front() {
            let (kind, words) = answer.cell();
            if producer.try_push(kind, words, &[]).is_err() {
                break;
            }
            link.answers.pop_front();
            moved = true;
        }
        moved
    }

    fn flush_envelopes(&mut self, destination: usize) -> bool {
        let mut moved = false;
        while let Some(&id) = self.links[destination].queue.front() {
            if self.push_envelope(destination, id).is_err() {
                break;
            }
            self.links[destination].queue.pop_front();
            moved = true;
        }
        moved
    }

    fn push_envelope(&mut self, destination: usize, id: OperationId) -> std::result::Result<(), Full> {
        let Some(send) = self.sends.get_mut(id) else { return Ok(()) };
        let envelope = send.envelope;
        if envelope.flags & FLAG_SYNCHRONOUS == 0 {
            let link = &mut self.links[destination];
            if envelope.length > self.ring_limit as u64 {
                let payload = std::mem::replace(&mut send.payload, Outgoing::Gone);
                let lent = self.try_lend(destination, &envelope, payload.bytes());
                if let Some(send) = self.sends.get_mut(id) {
                    send.payload = payload;
                }
                match lent {
                    Lending::Done => {
                        self.finish_send(id);
                        return Ok(());
                    }
                    Lending::NoRoom => return Err(Full),
                    Lending::Otherwise => {}
                }
            } else if link.has_credit(envelope.length, self.unexpected_bound) {
                let Some(producer) = &mut link.producer else { return Err(Full) };
                producer.try_push(EAGER | envelope.flags, envelope.words(), send.payload.bytes())?;
                link.charged += charge(envelope.length);
                self.sent = self.sent.wrapping_add(1);
                self.finish_send(id);
                return Ok(());
            }
        }
        self.push_rendezvous(destination, id, envelope)
    }

    /// The envelope of a message whose payload stays here until it is matched, but for a few chunks.
    fn push_rendezvous(
        &mut self,
        destination: usize,
        id: OperationId,
        envelope: Envelope,
    ) -> std::result::Result<(), Full> {
        let Some(producer) = &mut self.links[destination].producer else { return Err(Full) };
        if !producer.has_room() {
            return Err(Full);
        }
        let (offer, number) = (self.offer(destination, id), id.to_le_bytes());
        let (kind, payload) = offer.as_ref().map_or((RENDEZVOUS, &number[..]), |offer| (OFFER, &offer[..]));
        if let Some(producer) = &mut self.links[destination].producer {
            let told = producer.try_push(kind | envelope.flags, envelope.words(), payload);
            debug_assert!(told.is_ok(), "room was checked above");
            self.sent = self.sent.wrapping_add(1);
        }
        if let Some(send) = self.sends.get_mut(id) {
            send.state = SendState::Offered;
        }
        if kind == RENDEZVOUS && envelope.length > self.ring_limit as u64 {
            self.send_early_chunks(destination, id);
        }
        Ok(())
    }

    fn send_early_chunks(&mut self, destination: usize, id: OperationId) {
        self.send_chunks(destination, id, EARLY_CHUNKS, EARLY_RUN);
        self.settle(id);
    }

    fn flush_streams(&mut self, destination: usize) -> bool {
        let mut moved = false;
        for _ in 0..self.links[destination].streams.len() {
            let Some(id) = self.links[destination].streams.pop_front() else { break };
            moved |= self.stream(destination, id);
            let goes_on = self.sends.get(id).is_some_and(|send| send.state == SendState::Streaming);
            if goes_on {
                self.links[destination].streams.push_back(id);
            }
        }
        moved
    }

    /// One turn of a matched message; whether anything moved.
    fn stream(&mut self, destination: usize, id: OperationId) -> bool {
        let Some(send) = self.sends.get_mut(id) else { return false };
        if send.envelope.length <= self.ring_limit as u64 {
            let Some(producer) = &mut self.links[destination].producer else { return false };
            let pushed = producer.try_push(DATA, control_words(id, 0, 0), send.payload.bytes()).is_ok();
            if pushed {
                self.finish_send(id);
            }
            return pushed;
        }
        let producer = self.links[destination].producer.as_ref();
        let moved = match producer.is_some_and(|producer| producer.distance().streams(CHUNK_BYTES)) {
            true => self.send_chunks(destination, id, RUN_CHUNKS, RUN_CHUNKS),
            // Where several ranks wait for chunks, none gets many of them at a time.
            false if self.outgoing.len() > 1 => self.send_chunks(destination, id, RUN_CHUNKS, NEAR_RUN),
            false => self.send_chunks(destination, id, NEAR_TURN, NEAR_RUN),
        };
        if self.sends.get(id).is_some_and(|send| send.copied as u64 == send.envelope.length) {
            self.finish_send(id);
        }
        moved
    }

    /// Sends up to `most` chunks of a long message, so many at once as a `run` has; whether any went out.
    fn send_chunks(&mut self, destination: usize, id: OperationId, most: usize, run: usize) -> bool {
        let mut sent = 0;
        while sent < most {
            let chunks = self.send_run(destination, id, run.min(most - sent));
            if chunks == 0 {
                break;
            }
            sent += chunks;
        }
        sent > 0
    }

    /// Copies the next piece of a long message into the pool and tells the receiver: up to `most` chunks that lie one behind the other, told of in
    /// one cell; how many they are.
    ///
    /// A cell takes as long to come to a distant core as some KiB of payload, and a processor reads a long stretch faster than several short ones. 2
    /// ranks on distant cores of a Zen 4 machine, half round trips, 28 alternating groups, chunk by chunk, up to 4 and up to 8 chunks at a time, µs: 512
    /// KiB 31.9, 27.7 and 29.5, 1 MiB 62.3, 50.8 and 52.2, 4 MiB 246, 205 and 202. For near cores see [`NEAR_RUN`].
    fn send_run(&mut self, destination: usize, id: OperationId, most: usize) -> usize {
        let (Some(send), Some(lender)) = (self.sends.get_mut(id), &mut self.lender) else { return 0 };
        let link = &mut self.links[destination];
        let Some(producer) = &mut link.producer else { return 0 };
        let rest = &send.payload.bytes()[send.copied..];
        if rest.is_empty() || !producer.has_room() {
            return 0;
        }
        let matched = send.state == SendState::Streaming;
        let most = most.min(rest.len().div_ceil(CHUNK_BYTES));
        let Some((first, count)) = lender.lend_run(destination, id, matched, most) else { return 0 };
        let piece = &rest[..rest.len().min(count * CHUNK_BYTES)];
        let streamed = producer.distance().streams(piece.len());
        let filled = link.chunks.fill_run(first, piece, streamed);
        debug_assert!(filled.is_ok(), "chunk {first} and those behind it are some of the pool");
        let words = control_words(id, first, piece.len() as u32);
        let told = producer.try_push(CHUNK | chunk_flags(streamed, false), words, &[]);
        debug_assert!(told.is_ok(), "room was checked above");
        if !matched {
            (first..).take(count).for_each(|chunk| send.early.push(chunk));
        }
        send.copied += piece.len();
        self.sent = self.sent.wrapping_add(1);
        self.links[destination].wake();
        count
    }

    /// The receiver has matched message `id`: the rest may flow.
    pub(crate) fn on_match(&mut self, source: usize, id: OperationId) -> std::result::Result<(), String> {
        let ring_limit = self.ring_limit as u64;
        let Some(send) = self.sends.get_mut(id) else {
            return Err(format!("rank {source} matched message {id}, which does not exist"));
        };
        if send.destination != source || send.state != SendState::Offered {
            return Err(format!("rank {source} matched message {id}, which is not offered to it"));
        }
        send.state = SendState::Streaming;
        if let Some(push) = send.push.take() {
            // It could not reach this rank's memory: the pool will do, for later messages too.
            self.direct.release(id, &push, self.job.transfers(self.rank));
            self.links[source].offers = false;
        }
        if send.copied > 0
            && let Some(lender) = &mut self.lender
        {
            lender.matched(source, id, send.early.as_slice());
        }
        let nothing_left = send.envelope.length > ring_limit && send.copied as u64 == send.envelope.length;
        if nothing_left {
            self.finish_send(id);
        } else {
            self.links[source].streams.push_back(id);
            self.note_outgoing(source);
        }
        Ok(())
    }

    /// The payload of `id` is out: the buffer is the user's again.
    pub(crate) fn finish_send(&mut self, id: OperationId) {
        let Some(send) = self.sends.get_mut(id) else { return };
        send.state = SendState::Done;
        if let Some(push) = send.push.take() {
            self.direct.release(id, &push, self.job.transfers(self.rank));
        }
        self.unfinished_sends -= 1;
        if !send.wanted {
            self.sends.remove(id);
        }
    }

    /// Gives a send up that is in no queue any more: the error goes to whoever waits for it, or to `finalize`.
    fn fail_send(&mut self, id: OperationId, failure: Error) {
        let Some(send) = self.sends.get_mut(id) else { return };
        if send.state == SendState::Done {
            return;
        }
        if send.wanted {
            send.failure.get_or_insert(failure);
        } else {
            self.lost_send.get_or_insert(failure);
        }
        self.finish_send(id);
    }

    /// Gives a send to this rank itself up that no receive has matched.
    pub(super) fn withdraw_send_to_self(&mut self, id: OperationId, failure: Error) {
        let is_it = |kept: &Kept| matches!(kept, Kept::FromSelf(send) if *send == id);
        if self.unexpected.withdraw(self.rank, is_it) {
            self.fail_send(id, failure);
        }
    }

    /// Gives all sends to `destination` up that it has not matched: it matches no more.
    pub(super) fn fail_unmatched_sends(&mut self, destination: usize) {
        self.links[destination].queue.clear();
        self.fail_sends(destination, |state| matches!(state, SendState::Queued | SendState::Offered));
    }

    /// Gives all sends to `destination` up: it has left.
    pub(super) fn fail_all_sends(&mut self, destination: usize) {
        self.links[destination].queue.clear();
        self.links[destination].streams.clear();
        self.links[destination].answers.clear();
        self.fail_sends(destination, |_| true);
        if let Some(lender) = &mut self.lender {
            lender.forget(destination);
        }
        self.links[destination].chunks.forget_held();
    }

    fn fail_sends(&mut self, destination: usize, which: impl Fn(SendState) -> bool) {
        for id in self.sends.numbers() {
            let Some(send) = self.sends.get(id) else { continue };
            if send.destination == destination && which(send.state) && !send.is_complete() {
                let failure = self.peer_gone(send.caller, destination);
                self.fail_send(id, failure);
            }
        }
    }

    /// Takes the outcome of a complete send; `None` while it is not.
    pub(crate) fn take_send(&mut self, id: OperationId) -> Option<Result<Outgoing>> {
        let send = self.sends.get_mut(id)?;
        if !send.is_complete() {
            return None;
        }
        let kept = match send.to_self && send.state == SendState::Offered {
            true => send.payload.copy(),
            false => Outgoing::Gone,
        };
        let payload = std::mem::replace(&mut send.payload, kept);
        let failure = send.failure.take();
        send.wanted = false;
        if send.state == SendState::Done {
            self.sends.remove(id);
        }
        Some(failure.map_or(Ok(payload), Err))
    }

    /// Like [`Engine::take_send`], for a caller that blocks until there is an outcome.
    pub(crate) fn await_send(&mut self, id: OperationId) -> Option<Result<Outgoing>> {
        self.fail_send_if_hopeless(id);
        self.take_send(id)
    }

    /// Nobody asks for the outcome of `id` any more; the message is still sent, from a copy if it must.
    pub(crate) fn abandon_send(&mut self, id: OperationId) {
        self.take_back_payload(id);
        let Some(send) = self.sends.get_mut(id) else { return };
        send.payload.detach();
        send.wanted = false;
        if send.state == SendState::Done {
            self.sends.remove(id);
        }
    }

    /// Frees the buffer of an abandoned send whose payload has gone out early.
    fn settle(&mut self, id: OperationId) {
        if let Some(send) = self.sends.get_mut(id)
            && !send.wanted
            && send.is_complete()
        {
            send.payload = Outgoing::Gone;
        }
    }

    /// Whether every match has been answered: then this rank may say that it matches no more.
    pub(crate) fn has_answered_everything(&self) -> bool {
        self.direct.has_pulled_everything() && self.links.iter().all(|link| link.answers.is_empty())
    }

    /// Whether every send has left its buffer, and every message that was matched has been emptied, wanted or
    /// not: then this rank may end.
    pub(crate) fn has_finished_everything(&self) -> bool {
        (self.unfinished_sends == 0 || self.sends.iter().all(|send| send.is_complete() || send.to_self))
            && self.links.iter().all(Link::is_settled)
    }
}
