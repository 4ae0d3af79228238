//! One look at everything: what came in, and what can go out now.

use std::sync::atomic::Ordering::{Acquire, Relaxed};

use shm_core::ring::{Body, Consumer, PAYLOAD_BYTES};

use super::Engine;
use super::direct::{Offer, Pull};
use super::receive::{Inflow, Kept};
use crate::envelope::{self, Envelope};
use crate::error::{Error, Result};

/// Cells taken from one ring before the others get their turn.
pub(super) const CELLS_PER_TURN: usize = 64;

impl Engine {
    /// Moves whatever can move, without blocking; whether anything did.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] if the segment holds nonsense, [`Error::Segment`] if it cannot grow.
    #[inline]
    pub(crate) fn progress(&mut self) -> Result<bool> {
        self.short_ways_seen = self.all_short_ways();
        if self.watchers.load(Relaxed) != self.watchers_seen {
            self.follow_watchers();
        }
        self.notice_rings();
        let mut moved = false;
        for index in 0..self.incoming.len() {
            moved |= self.drain(self.incoming[index], CELLS_PER_TURN)?;
        }
        if !self.outgoing.is_empty() {
            moved |= self.flush_all();
        }
        if !self.direct.is_idle() {
            self.copy_directly()?;
            moved = true;
        }
        Ok(moved)
    }

    /// Starts to listen to ranks that have sent their first message.
    #[inline]
    pub(super) fn notice_rings(&mut self) {
        for (word, bits) in self.senders.iter().enumerate() {
            // SYNC ring-announce
            let now = bits.load(Acquire);
            if now != self.announced[word] {
                self.open_announced(word, now);
            }
        }
    }

    #[cold]
    fn open_announced(&mut self, word: usize, now: u64) {
        let new = now & !self.announced[word];
        self.announced[word] = now;
        for place in (0..64).filter(|bit| new >> bit & 1 == 1).map(|bit| word * 64 + bit) {
            // Bits of ranks that do not exist, this rank's own, and bits that were lost and come again can only be
            // damage; nothing is lost with them, but a ring that is read has a place where it is read.
            if let Some(source) = self.job.rank_at(place)
                && source != self.rank
                && self.links[source].consumer.is_none()
            {
                self.links[source].consumer = Some(self.job.consumer(source, self.rank));
                self.incoming.push(source);
            }
        }
    }

    /// Takes the cells that have come from `source`, at most `most`; whether there were any.
    #[inline]
    pub(crate) fn drain(&mut self, source: usize, most: usize) -> Result<bool> {
        for taken in 0..most {
            let Some(body) = self.links[source].consumer.as_mut().and_then(Consumer::peek) else {
                return Ok(taken > 0);
            };
            let body = body.map_err(|error| self.damaged(format!("{error} (ring from rank {source})")))?;
            match envelope::kind(&body) {
                envelope::EAGER => self.take_eager(source, &body)?,
                kind if body.is_in_shuttle() => {
                    return Err(
                        self.damaged(format!("kind {kind} from rank {source} where eager messages come"))
                    );
                }
                envelope::LENT if !self.links[source].has_all_parts(&body) => {
                    // It counts as not sent yet: should its sender die now, it never was.
                    return Ok(taken > 0);
                }
                envelope::LENT => {
                    self.take_lent(source, &body).map_err(|what| self.damaged(what))?;
                    continue;
                }
                _ => self.take_cell(source, &body)?,
            }
            self.pop(source, &body);
        }
        Ok(true)
    }

    /// Gives the cell back; wakes its sender if that may wait for room.
    #[inline]
    fn pop(&mut self, source: usize, body: &Body) {
        if let Some(consumer) = &mut self.links[source].consumer
            && consumer.pop(body)
        {
            self.links[source].wake();
        }
    }

    fn take_cell(&mut self, source: usize, body: &Body) -> Result<()> {
        let (message, chunk, length) = envelope::control(body);
        let outcome = match envelope::kind(body) {
            envelope::RENDEZVOUS | envelope::OFFER => return self.take_rendezvous(source, body),
            envelope::CHUNK => self.receive_chunk(source, message, (chunk, length), envelope::is_fresh(body)),
            envelope::DATA => self.take_data(source, message, body),
            envelope::MATCH => self.on_match(source, message),
            envelope::INVITE => {
                self.on_invite(source, message, envelope::invitation(body), envelope::seal(body))
            }
            envelope::PULLED => self.on_pulled(source, message, chunk, envelope::seal(body)),
            envelope::PUSHED => self.on_pushed(source, message, chunk, envelope::seal(body)),
            kind => Err(format!("a cell of unknown kind {kind} from rank {source}")),
        };
        outcome.map_err(|what| self.damaged(what))
    }

    #[inline]
    fn take_eager(&mut self, source: usize, body: &Body) -> Result<()> {
        let envelope = Envelope::from_body(body);
        let sound = usize::from(envelope.source) == source && envelope.length == body.payload_bytes() as u64;
        let link = &mut self.links[source];
        let Some(consumer) = link.consumer.as_ref().filter(|_| sound) else {
            return Err(self.nonsense(source, body));
        };
        let receive = self.posted.take_match(&envelope);
        match receive {
            Some(id) => {
                let fill = |buffer: &mut [u8]| consumer.copy_payload(body, buffer);
                self.receives.deliver(id, &envelope, &self.call_sites, fill);
                link.release(envelope.length, self.unexpected_bound);
            }
            None => {
                let mut payload = vec![0; body.payload_bytes()].into_boxed_slice();
                consumer.copy_payload(body, &mut payload);
                self.unexpected.push(envelope, Kept::Eager(payload));
            }
        }
        if self.observer.is_some() {
            self.observe_arrival(&envelope, receive);
        }
        Ok(())
    }

    /// What is wrong with an eager message.
    #[cold]
    fn nonsense(&mut self, source: usize, body: &Body) -> Error {
        let what = match checked_envelope(source, body) {
            Err(what) => what,
            Ok(envelope) => {
                let found = body.payload_bytes();
                format!("an eager message of {} bytes with {found} of them", envelope.length)
            }
        };
        self.damaged(what)
    }

    /// A message whose payload is in chunks, all of which have come: they are emptied at once, matched or not, and its cells
    /// are given back.
    fn take_lent(&mut self, source: usize, body: &Body) -> std::result::Result<(), String> {
        let envelope = checked_envelope(source, body)?;
        let parts = self.links[source].parts(body)?;
        let receive = self.posted.take_match(&envelope);
        if receive.is_none()
            && let Some(kept) = self.links[source].keep_parts(body, &parts)
        {
            self.unexpected.push(envelope, Kept::Lent(kept));
            if self.observer.is_some() {
                self.observe_arrival(&envelope, receive);
            }
            return Ok(());
        }
        let link = &self.links[source];
        let mut copied = Ok(());
        let mut fill = |buffer: &mut [u8]| copied = link.copy_parts(parts.as_slice(), buffer);
        match receive {
            Some(id) => self.receives.deliver(id, &envelope, &self.call_sites, fill),
            None => {
                let mut payload = vec![0; envelope.length as usize].into_boxed_slice();
                fill(&mut payload);
                self.unexpected.push(envelope, Kept::Eager(payload));
            }
        }
        copied.map_err(|error| error.to_string())?;
        let link = &mut self.links[source];
        if receive.is_some() {
            link.release(envelope.length, self.unexpected_bound);
        }
        link.finish_parts(body, &parts)?;
        if self.observer.is_some() {
            self.observe_arrival(&envelope, receive);
        }
        Ok(())
    }

    fn take_rendezvous(&mut self, source: usize, body: &Body) -> Result<()> {
        let envelope = checked_envelope(source, body).map_err(|what| self.damaged(what))?;
        let (message, pull) = self.number_of(source, body, &envelope).map_err(|what| self.damaged(what))?;
        if self.links[source].inflows.contains_key(&message) {
            // The one under way stays: its sender may be writing to its buffer.
            return Err(self.damaged(format!("rank {source} uses the message number {message} twice")));
        }
        if self.has_posted(&envelope) {
            // Before anything changes: without room for the answer the message stays in its ring.
            self.open_lanes(source, 0)?;
        }
        let inflow = Inflow { envelope, receive: None, received: 0, early: Vec::new(), pull };
        self.links[source].inflows.insert(message, inflow);
        let receive = self.take_posted(&envelope);
        if self.observer.is_some() {
            self.observe_arrival(&envelope, receive);
        }
        match receive {
            Some(id) => self.begin_inflow(id, source, message)?,
            None => self.keep_unexpected(envelope, Kept::Rendezvous(message)),
        }
        Ok(())
    }

    /// The sender's number of a rendezvous message, and where it lies if it is offered directly.
    fn number_of(
        &self,
        source: usize,
        body: &Body,
        envelope: &Envelope,
    ) -> std::result::Result<(u32, Option<Pull>), String> {
        let mut inline = [0; PAYLOAD_BYTES];
        let payload = inline.get_mut(..body.payload_bytes());
        let payload = payload.zip(self.links[source].consumer.as_ref()).map(|(bytes, consumer)| {
            consumer.copy_payload(body, bytes);
            &*bytes
        });
        if envelope::kind(body) == envelope::OFFER {
            let length = envelope.length;
            let origin = self.direct.origin(self.job.place(source));
            let offer = payload.and_then(|bytes| Offer::from_bytes(bytes, origin, length));
            let (offer, key) =
                offer.ok_or_else(|| format!("an offer from rank {source} that it cannot have made"))?;
            return Ok((offer.message, Some(Pull::new(offer, key, length)?)));
        }
        let number = payload.and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
        let number =
            number.ok_or_else(|| format!("a rendezvous message from rank {source} without a number"))?;
        Ok((number, None))
    }

    fn take_data(&mut self, source: usize, message: u32, body: &Body) -> std::result::Result<(), String> {
        let Some(consumer) = self.links[source].consumer.take() else { return Ok(()) };
        let length = body.payload_bytes();
        let outcome =
            self.receive_data(source, message, length, |buffer| consumer.copy_payload(body, buffer));
        self.links[source].consumer = Some(consumer);
        outcome
    }

    #[cold]
    fn flush_all(&mut self) -> bool {
        let mut moved = false;
        let mut index = 0;
        while let Some(&destination) = self.outgoing.get(index) {
            moved |= self.flush(destination);
            if self.links[destination].is_idle() {
                self.outgoing.remove(index);
            } else {
                index += 1;
            }
        }
        moved
    }

    /// Remembers that the segment cannot be trusted any more.
    #[cold]
    pub(crate) fn damaged(&mut self, what: String) -> Error {
        self.damage.get_or_insert_with(|| what.clone());
        Error::Damaged { what }
    }
}

/// The envelope of a cell, if it says where it really comes from.
fn checked_envelope(source: usize, body: &Body) -> std::result::Result<Envelope, String> {
    let envelope = Envelope::from_body(body);
    if usize::from(envelope.source) != source || usize::try_from(envelope.length).is_err() {
        return Err(format!("a message in the ring from rank {source} says it is from {}", envelope.source));
    }
    Ok(envelope)
}
