//! The short ways: a message that goes out at once, and one that is received when it is there already, without an
//! operation. Everything else is in `send.rs` and `receive.rs`.

#[cfg(test)]
mod tests;

use shm_core::ring::{Body, Consumer, InShuttle, Producer};

use super::Engine;
use super::buffer::BorrowedBuffer;
use super::chunks::part_behind;
use super::link::charge;
use super::receives::Expected;
use crate::envelope::{self, EAGER, Envelope, FLAG_SYNCHRONOUS, LENT, Lent, PART, chunk_flags, part_words};
use crate::error::Result;
use crate::layout::{CHUNK_BYTES, LESS_EAGER_BYTES, PART_BYTES, part_bytes};
use crate::matching::Pattern;
use crate::status::Status;

/// What came of [`Engine::try_receive_now`].
pub(crate) enum Now {
    /// Here it is.
    Received(Status),
    /// Nothing has come from that rank.
    NotYet,
    /// It takes the long way: something else comes first, or the message is long, or it does not fit.
    Otherwise,
}

/// What came of taking a message out of its chunks.
enum Taken {
    Yes,
    /// Not all of it has come.
    NotYet,
    /// The long way waits for the rest, or finds out what is wrong.
    Otherwise,
}

/// What came of [`Engine::try_lend`].
pub(super) enum Lending {
    /// The message is on its way.
    Done,
    /// It can go when the receiver has taken what lies in the ring, for which it need not receive anything.
    NoRoom,
    /// Its receiver has to be asked.
    Otherwise,
}

/// The place in the chunk of `held` that was read last, or its beginning if not so many bytes fit there.
#[inline]
fn with_room_for(held: Lent, bytes: usize) -> Lent {
    if held.offset as usize + bytes <= CHUNK_BYTES { held } else { Lent { offset: 0, ..held } }
}

impl Engine {
    /// The short way: nothing waits before this message, and it fits into the ring.
    // The envelope must not go through memory on its way to the cell (see `Envelope`): so it is made when the cell is
    // there, and given to nobody by reference. It has these flags, and the payload's length.
    #[inline(always)]
    pub(crate) fn try_short<const SHUTTLE: bool>(
        &mut self,
        destination: usize,
        flags: u16,
        payload: &[u8],
        envelope: impl FnOnce() -> Envelope,
    ) -> bool {
        self.may_be_eager(destination, flags)
            && payload.len() < self.ring_below
            && self.push_now::<SHUTTLE>(destination, payload, envelope)
    }

    /// Sends a message at once if it is eager and nobody watches; never to this rank itself, to which there is no ring.
    pub(crate) fn try_eager(&mut self, destination: usize, envelope: &Envelope, payload: &[u8]) -> bool {
        self.observer.is_none() && self.send_at_once(destination, envelope, payload)
    }

    /// Sends a message at once if it is eager: through the ring or in chunks.
    pub(super) fn send_at_once(&mut self, destination: usize, envelope: &Envelope, payload: &[u8]) -> bool {
        self.may_be_eager(destination, envelope.flags)
            && match payload.len() <= self.ring_limit {
                true => self.push_now::<false>(destination, payload, || *envelope),
                false => matches!(self.try_lend(destination, envelope, payload), Lending::Done),
            }
    }

    /// Whether nothing waits before this message, and nobody waits for its match.
    #[inline(always)]
    fn may_be_eager(&self, destination: usize, flags: u16) -> bool {
        self.links[destination].queue.is_empty() && flags & FLAG_SYNCHRONOUS == 0
    }

    /// Sends a message through the ring, if there is room for it.
    #[inline(always)]
    fn push_now<const SHUTTLE: bool>(
        &mut self,
        destination: usize,
        payload: &[u8],
        envelope: impl FnOnce() -> Envelope,
    ) -> bool {
        let link = &mut self.links[destination];
        let has_credit = link.has_credit(payload.len() as u64, self.unexpected_bound);
        let Some(producer) = &mut link.producer else { return false };
        let header = || {
            let envelope = envelope();
            (EAGER | envelope.flags, envelope.words())
        };
        if !has_credit {
            return false;
        }
        if SHUTTLE && link.consumer.as_ref().is_some_and(|consumer| consumer.shuttle_takes(payload.len())) {
            let (kind, words) = header();
            if !link.send_in_shuttle(kind, words, payload) {
                return false;
            }
        } else if producer.try_push_with(payload, header).is_err() {
            return false;
        }
        link.charged += charge(payload.len() as u64);
        if SHUTTLE {
            link.last_sent = payload.len() as u32;
        }
        link.wake();
        self.sent = self.sent.wrapping_add(1);
        true
    }

    /// Sends a message that is too long for the ring, if it is eager and there are chunks for it.
    pub(super) fn try_lend(&mut self, destination: usize, envelope: &Envelope, payload: &[u8]) -> Lending {
        let link = &mut self.links[destination];
        if envelope.length > self.eager_limit || !link.has_credit(envelope.length, self.unexpected_bound) {
            return Lending::Otherwise;
        }
        let outcome = match payload.len() <= PART_BYTES {
            true => self.lend_whole(destination, envelope, payload),
            false => {
                let distance = link.producer.as_ref().map(Producer::distance);
                let streamed = distance.is_some_and(|distance| distance.streams(payload.len()));
                if streamed && envelope.length > LESS_EAGER_BYTES {
                    return Lending::Otherwise;
                }
                self.lend_parts(destination, envelope, payload, streamed)
            }
        };
        if let Lending::Done = outcome {
            let link = &mut self.links[destination];
            link.charged += charge(envelope.length);
            link.last_sent = payload.len() as u32;
            link.wake();
        }
        outcome
    }

    fn lend_whole(&mut self, destination: usize, envelope: &Envelope, payload: &[u8]) -> Lending {
        let link = &mut self.links[destination];
        let (Some(producer), Some(lender)) = (&mut link.producer, &mut self.lender) else {
            return Lending::Otherwise;
        };
        if !producer.has_room() {
            return Lending::NoRoom;
        }
        let held = link.chunks.take_held().map(|held| with_room_for(held, payload.len()));
        let Some(place) = held.or_else(|| lender.lend_whole(destination, payload.len())) else {
            return Lending::Otherwise;
        };
        let streamed = held.is_none() && producer.distance().streams(payload.len());
        let filled = link.chunks.fill(place, payload, streamed);
        debug_assert!(filled.is_ok(), "{place:?} was checked when it was received");
        let (kind, lent) = (LENT | envelope.flags | chunk_flags(streamed, false), place.for_the_other());
        let told = producer.try_push(kind, envelope.words(), &lent.to_bytes());
        debug_assert!(told.is_ok(), "room was checked above");
        self.sent = self.sent.wrapping_add(1);
        Lending::Done
    }

    /// Nothing comes between the parts, and once the first is on its way nothing stops the others: a receiver that has seen
    /// that one need not do anything else before the last, unless this rank dies.
    ///
    /// All of them are `streamed`, or none. What this rank holds on to is in its own cache: what is streamed goes elsewhere.
    fn lend_parts(
        &mut self,
        destination: usize,
        envelope: &Envelope,
        payload: &[u8],
        streamed: bool,
    ) -> Lending {
        let link = &mut self.links[destination];
        let (Some(producer), Some(lender)) = (&mut link.producer, &mut self.lender) else {
            return Lending::Otherwise;
        };
        let directly = link.offers && self.direct.serves(envelope.length);
        let part_bytes = part_bytes(envelope.length, streamed);
        let parts = payload.len().div_ceil(part_bytes);
        let held = if streamed { 0 } else { link.chunks.held() };
        let chunks = payload.len().div_ceil(CHUNK_BYTES).saturating_sub(held);
        if directly || !producer.can_have_room_for(parts) || chunks > 0 && !lender.may_lend(chunks) {
            return Lending::Otherwise;
        }
        if !producer.has_room_for(parts) {
            return Lending::NoRoom;
        }
        let mut last = None;
        for (index, part) in payload.chunks(part_bytes).enumerate() {
            let place = last.and_then(|last| part_behind(last, part_bytes)).unwrap_or_else(|| {
                let held = if streamed { None } else { link.chunks.take_held() };
                let place = held.map(|held| Lent { offset: 0, ..held });
                place.or_else(|| lender.lend_eager(destination)).expect("the chunks were counted above")
            });
            let filled = link.chunks.fill(place, part, streamed);
            debug_assert!(filled.is_ok(), "{place:?} was checked when it was received");
            let flags = chunk_flags(streamed, index + 1 < parts && part_behind(place, part_bytes).is_some());
            let lent = place.for_the_other();
            let told = match index {
                0 => producer.try_push(LENT | envelope.flags | flags, envelope.words(), &lent.to_bytes()),
                _ => producer.try_push(PART | flags, part_words(index, lent), &[]),
            };
            debug_assert!(told.is_ok(), "room was checked above");
            last = Some(place);
        }
        self.sent = self.sent.wrapping_add(parts as u64);
        Lending::Done
    }

    /// Whether what comes next from a rank goes to who receives now: no other receive is posted, and no message waits.
    #[inline(always)]
    pub(super) fn comes_first(&self) -> bool {
        self.posted.is_empty() & self.unexpected.is_empty()
    }

    /// Whether the next cell from `source` is there.
    #[inline(always)]
    pub(super) fn has_next(&self, source: usize) -> bool {
        self.links[source].consumer.as_ref().is_some_and(Consumer::is_ready)
    }

    /// Receives the next message from `source` if there is nothing special about it: it is there, it has elements of
    /// this type, all of which are in the cell or in one chunk and fit into the buffer, and no other receive or message comes
    /// first. What its cell says is returned as it was read: more would be put together in memory. There need not be such a rank.
    ///
    /// If it was `AWAITED`, it is most likely to come in the shuttle.
    // What nearly all short messages are, in as few instructions as possible: see docs/decisions/002-eager-lane.md.
    #[inline(always)]
    pub(super) fn take_ordinary<const AWAITED: bool>(
        &mut self,
        source: usize,
        pattern: Pattern,
        element_type: u32,
        buffer: &mut [u8],
    ) -> Option<Body> {
        debug_assert!(self.comes_first());
        let link = self.links.get_mut(source)?;
        let consumer = link.consumer.as_mut()?;
        let body = match consumer.peek_cell() {
            Ok(body) => body?.ok()?,
            Err(there) if AWAITED => {
                return self.take_from_shuttle(source, there, pattern, element_type, buffer);
            }
            Err(_) => return self.take_from_shuttle_aside(source, pattern, element_type, buffer),
        };
        if !pattern.fits_words(&body.words, source, element_type) {
            return None;
        }
        let length = if body.kind == EAGER {
            let length = body.payload_bytes();
            if length > buffer.len() || body.words[2] != length as u64 {
                return None;
            }
            consumer.copy_payload(&body, buffer);
            if consumer.pop(&body) {
                link.wake();
            }
            length as u64
        } else {
            let length = body.words[2];
            if !envelope::is_in_a_chunk(&body) || length > buffer.len().min(PART_BYTES) as u64 {
                return None;
            }
            link.take_next_part(buffer, length).ok()?;
            length
        };
        link.release(length, self.unexpected_bound);
        self.short_ways = self.short_ways.wrapping_add(1);
        Some(body)
    }

    /// [`Engine::take_ordinary`] of the message that has been found in the shuttle.
    #[inline(always)]
    fn take_from_shuttle(
        &mut self,
        source: usize,
        there: InShuttle,
        pattern: Pattern,
        element_type: u32,
        buffer: &mut [u8],
    ) -> Option<Body> {
        let link = &mut self.links[source];
        let consumer = link.consumer.as_mut()?;
        let body = consumer.peek_shuttle(there).ok()?;
        let length = body.words[2];
        let is_ordinary = pattern.fits_words(&body.words, source, element_type)
            && length <= buffer.len() as u64
            && body.kind == EAGER
            && length == body.payload_bytes() as u64;
        if !is_ordinary {
            return None;
        }
        consumer.copy_payload(&body, buffer);
        consumer.pop(&body);
        link.release(length, self.unexpected_bound);
        self.short_ways = self.short_ways.wrapping_add(1);
        Some(body)
    }

    /// [`Engine::take_from_shuttle`] out of the way of messages that come through the ring: with few arguments, so that these
    /// stay in registers.
    #[inline(never)]
    fn take_from_shuttle_aside(
        &mut self,
        source: usize,
        pattern: Pattern,
        element_type: u32,
        buffer: &mut [u8],
    ) -> Option<Body> {
        let there = self.links[source].consumer.as_mut()?.peek_cell().err()?;
        self.take_from_shuttle(source, there, pattern, element_type, buffer)
    }

    /// The short way of a receive: the message is the next one in its ring, nothing else wants it, and it
    /// fits. It is then copied straight into the buffer, and no operation is made.
    ///
    /// If it is the `only` message that this receive can get, its first parts are copied before the last one has come.
    // What is found in the cell must not go through memory: what is written in parts and read as a whole takes longer
    // than all the rest. So nothing of it is given away by reference.
    #[inline(never)]
    pub(crate) fn try_receive_now(
        &mut self,
        source: usize,
        pattern: Pattern,
        expected: &Expected,
        buffer: &mut [u8],
        only: bool,
    ) -> Now {
        if !self.comes_first() {
            return Now::Otherwise;
        }
        let link = &mut self.links[source];
        let Some(consumer) = &mut link.consumer else { return Now::Otherwise };
        let body = match consumer.peek() {
            None => return Now::NotYet,
            Some(Ok(body)) => body,
            Some(Err(_)) => return Now::Otherwise,
        };
        let envelope = Envelope::from_body(&body);
        let fits = usize::from(envelope.source) == source
            && pattern.fits(&envelope)
            && envelope.length <= buffer.len() as u64
            && expected.accepts(&envelope);
        if !fits {
            return Now::Otherwise;
        }
        if envelope::kind(&body) == LENT && !body.is_in_shuttle() {
            let buffer = &mut buffer[..envelope.length as usize];
            match self.take_lent_now(source, &body, buffer, only) {
                Taken::Yes => {}
                Taken::NotYet => return Now::NotYet,
                Taken::Otherwise => return Now::Otherwise,
            }
        } else if envelope::kind(&body) == EAGER && envelope.length == body.payload_bytes() as u64 {
            consumer.copy_payload(&body, buffer);
            if consumer.pop(&body) {
                link.wake();
            }
        } else {
            return Now::Otherwise;
        }
        self.links[source].release(envelope.length, self.unexpected_bound);
        self.short_ways = self.short_ways.wrapping_add(1);
        Now::Received(Status::of(&envelope))
    }

    /// [`Engine::try_receive_now`] from any rank. Where several have sent something, the one after the last one's turn. The
    /// long way, too, where nobody has sent anything so far.
    pub(super) fn try_receive_from_any(
        &mut self,
        pattern: Pattern,
        expected: &Expected,
        buffer: &mut [u8],
    ) -> Now {
        if !self.comes_first() || self.incoming.is_empty() {
            return Now::Otherwise;
        }
        // Of two ranks only one can send to the other: what it sends next is what is received.
        let only = self.size == 2;
        for turn in self.turn_of_any..self.turn_of_any + self.incoming.len() {
            let turn = if turn < self.incoming.len() { turn } else { turn - self.incoming.len() };
            let source = self.incoming[turn];
            if !self.links[source].consumer.as_mut().is_some_and(Consumer::look) {
                if let Some(producer) = &mut self.links[source].producer {
                    producer.prepare();
                }
                continue;
            }
            let ordinary = match expected.object {
                false => self.take_ordinary::<true>(source, pattern, expected.element_type, buffer),
                true => None,
            };
            let received = match ordinary {
                Some(body) => Now::Received(Status::of(&Envelope::from_body(&body))),
                None => self.try_receive_now(source, pattern, expected, buffer, only),
            };
            match received {
                Now::NotYet => {}
                Now::Otherwise => return Now::Otherwise,
                Now::Received(_) => {
                    self.turn_of_any = if turn + 1 < self.incoming.len() { turn + 1 } else { 0 };
                    return received;
                }
            }
        }
        Now::NotYet
    }

    /// Takes the next message from `source`, which is LENT and fits into `buffer`.
    #[inline(never)]
    fn take_lent_now(&mut self, source: usize, first: &Body, buffer: &mut [u8], only: bool) -> Taken {
        let mut looks = 0;
        if buffer.len() > PART_BYTES && !self.links[source].has_all_parts(first) {
            looks = if only { self.spins() } else { 0 };
            if looks == 0 {
                // Not a byte of it is in the buffer: another one may come sooner.
                return Taken::NotYet;
            }
        }
        match self.links[source].take_lent(first, buffer, looks) {
            true => Taken::Yes,
            false => Taken::Otherwise,
        }
    }

    /// [`Engine::take_ordinary`] for a call that does not wait.
    #[inline(always)]
    pub(crate) fn receive_ordinary(
        &mut self,
        source: usize,
        pattern: Pattern,
        element_type: u32,
        buffer: &mut BorrowedBuffer,
    ) -> Option<Body> {
        // Who watches sees operations only; and receives that are posted may share this memory.
        if self.observer.is_some() | !self.comes_first() {
            return None;
        }
        self.take_ordinary::<false>(source, pattern, element_type, buffer.bytes_mut())
    }

    /// Looks a few times more for the next message from `source` where that is most likely to come in a moment (see `flow.rs`); whether it
    /// looked.
    #[inline]
    fn look_again(&mut self, source: usize) -> bool {
        // What this rank has under way goes on where a receive is posted and waited for.
        let has_time = !self.shares_processors && self.outgoing.is_empty() && self.direct.is_idle();
        has_time && self.unexpected.is_empty() && self.links[source].look_again(self.sent)
    }

    /// [`Engine::try_receive_now`] for a call that does not wait, or only for a moment: when receives are posted, they get what has come
    /// first. `None` if the message is not there, or does not come alone.
    ///
    /// A receive that is posted and completed later costs several times as much.
    pub(crate) fn receive_at_once(
        &mut self,
        pattern: Pattern,
        expected: &Expected,
        buffer: &mut BorrowedBuffer,
    ) -> Result<Option<Status>> {
        if self.observer.is_some() {
            // Who watches sees operations only.
            return Ok(None);
        }
        let source = pattern.source();
        let looked = match self.posted.is_empty() {
            true => source.filter(|&source| self.look_again(source)),
            false if !source.map_or(Ok(false), |source| self.serve_posted(source))? => return Ok(None),
            false => None,
        };
        // Not before: receives that were served just now may share this memory.
        let buffer = buffer.bytes_mut();
        let now = match source {
            Some(source) => self.try_receive_now(source, pattern, expected, buffer, false),
            None => self.try_receive_from_any(pattern, expected, buffer),
        };
        let status = match now {
            Now::Received(status) => Some(status),
            Now::NotYet | Now::Otherwise => None,
        };
        if let Some(source) = looked {
            self.links[source].looked_again(status.is_some());
        }
        Ok(status)
    }

    /// Gives what has come from `source` to receives that are posted; whether none is left.
    #[inline(never)]
    fn serve_posted(&mut self, source: usize) -> Result<bool> {
        if self.links[source].consumer.as_ref().is_some_and(Consumer::is_ready) {
            self.drain(source, self.posted.len())?;
        }
        Ok(self.posted.is_empty())
    }
}
