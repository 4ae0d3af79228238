//! The next world, of the survivors.
//!
//! ```text
//! announce   this rank sends nothing more in the old world: whoever waits there gives up
//! settle     what it has matched is received to its end
//! agree      who is left; everyone here has settled then, so no matched message is under way
//! stopped    everyone has left the old world's lanes alone since
//! emptied    everyone has thrown away what lay in them
//! ```
//!
//! Only after the last stage does anybody send in the new world: so what is found in a lane belongs to the old world
//! before it, and to the new one after. Rings and pools go on where they stand. The board goes on behind the last
//! round that any survivor has begun: cells of interrupted rounds are never taken for new ones, and nobody reads in
//! them any more.
//!
//! A rank that dies on the way is not waited for. If that was after the agreement it is a member of the new world,
//! whose other members then find it dead.

use std::mem;
use std::sync::atomic::Ordering::Acquire;

use shm_core::ring::{Body, Consumer};

use super::link::{Link, first_place};
use super::membership::Membership;
use super::publish::{Blocked, Ranks};
use super::receive::Kept;
use super::{Caller, Engine};
use crate::envelope::{self, Envelope};
use crate::error::Result;
use crate::job::Job;
use crate::layout::EAGER_BYTES;
use crate::matching::Posted;
use crate::world::context_of;

/// The kinds of agreements.
pub(crate) const AGREE: u32 = 1;
pub(crate) const SHRINK: u32 = 2;

/// The stages after the agreement on a new world.
const STOPPED: u32 = 1;
const EMPTIED: u32 = 2;

/// The rings to this rank, by their senders.
type Consumers = Vec<Option<Consumer<'static>>>;

impl Engine {
    /// Leaves this world for one of the ranks that are left; blocks until all of them have come. This engine is of no
    /// use then.
    pub(crate) fn shrink(&mut self, caller: Caller) -> Result<Self> {
        // Requests that were forgotten: what is not matched yet never will be.
        self.posted = Posted::new(self.size);
        self.job.announce_shrinking(self.rank, self.membership.world);
        self.complete_matched(caller)?;
        let agreed = loop {
            let round = self.board.round();
            let agreed = self.agree(SHRINK, round, u64::max, caller)?;
            // Who came to it with `agree` is told to shrink, and comes again.
            if agreed.kinds == SHRINK {
                break agreed;
            }
        };
        let is_left = |&rank: &usize| !agreed.failed.contains(rank) && !agreed.finished.contains(rank);
        let members: Vec<_> = (0..self.size).filter(is_left).collect();
        (0..self.size)
            .filter(|&rank| agreed.failed.contains(rank))
            .for_each(|rank| self.job.note_recovery(rank));
        let (mut next, mut consumers) = self.renewed(&members, agreed.value)?;
        next.pass_stage(STOPPED, caller)?;
        let announced = next.empty_rings(&mut consumers)?;
        next.pass_stage(EMPTIED, caller)?;
        next.open_rings(announced, consumers);
        Ok(next)
    }

    /// Blocks until every message that this rank has matched is complete.
    fn complete_matched(&mut self, caller: Caller) -> Result<()> {
        let peers = |engine: &Self| {
            let mut ranks = Ranks::default();
            let unsettled = engine.links.iter().enumerate().filter(|(_, link)| !link.is_settled());
            unsettled.for_each(|(rank, _)| ranks.insert(rank));
            ranks
        };
        let blocked = Blocked::in_agreement(caller, context_of(self.membership.world), &peers);
        self.wait_until(blocked, |engine| {
            let settled = engine.direct.has_pulled_everything() && engine.links.iter().all(Link::is_settled);
            settled.then_some(())
        })
    }

    /// The engine of the next world, which goes on with this one's lanes but listens to nobody yet.
    fn renewed(&mut self, members: &[usize], round: u64) -> Result<(Self, Consumers)> {
        let Some(rank) = members.iter().position(|&member| member == self.rank) else {
            return Err(self.damaged(format!("rank {} is not among the survivors", self.rank)));
        };
        let job: &'static Job = Box::leak(Box::new(self.job.of(members)));
        let mut next = Self::new(job, rank);
        let agreements = self.membership.agreement.number();
        next.membership = Membership::new(job, rank, self.membership.world + 1, agreements);
        next.senders = &[];
        next.board = job.board(rank, round);
        next.board.set_room(self.board.room());
        self.give_up_messages()?;
        next.links = members
            .iter()
            .map(|&old| mem::replace(&mut self.links[old], Link::new(self.job, self.rank, old)))
            .collect();
        next.lender = self.lender.take().map(|lender| lender.renewed(members));
        next.direct.take_over(&mut self.direct);
        // The links compare what came with it.
        next.sent = self.sent;
        let consumers = next.links.iter_mut().map(|link| link.consumer.take()).collect();
        Ok((next, consumers))
    }

    /// Forgets what nobody has matched, and gives back the memory that it holds.
    pub(super) fn give_up_messages(&mut self) -> Result<()> {
        let mut damaged = None;
        for (envelope, kept) in self.unexpected.take_all() {
            let link = &mut self.links[usize::from(envelope.source)];
            match kept {
                Kept::Eager(_) => link.release(envelope.length, self.unexpected_bound),
                Kept::Lent(parts) => {
                    link.release(envelope.length, self.unexpected_bound);
                    damaged = link.empty_kept(&parts).err().or(damaged);
                }
                Kept::Rendezvous(_) | Kept::FromSelf(_) => {}
            }
        }
        for id in self.sends.numbers() {
            if let Some(push) = self.sends.get_mut(id).and_then(|send| send.push.take()) {
                self.direct.release(id, &push, self.job.transfers(self.rank));
            }
        }
        for link in &mut self.links {
            let inflows = mem::take(&mut link.inflows);
            let early = inflows.into_values().flat_map(|inflow| inflow.early);
            for (chunk, length) in early {
                damaged = link.chunks.give_back_run(chunk, length as usize).err().or(damaged);
            }
            damaged = link.give_back_held().err().or(damaged);
            link.answers.clear();
            link.queue.clear();
            link.streams.clear();
        }
        damaged.map_or(Ok(()), |error| Err(self.damaged(error.to_string())))
    }

    /// Throws away what lies in the rings to this rank, when nobody writes to them: which rings there are.
    fn empty_rings(&mut self, consumers: &mut Consumers) -> Result<Vec<u64>> {
        let words = self.job.geometry().ranks.div_ceil(64);
        // SYNC ring-announce
        let bits = self.job.control(self.rank).senders.bits[..words].iter().map(|word| word.load(Acquire));
        let announced: Vec<u64> = bits.collect();
        let me = self.rank;
        for source in (0..self.size).filter(|&source| source != me) {
            let place = self.job.place(source);
            if announced[place / 64] >> (place % 64) & 1 == 1 {
                let fresh = || self.job.consumer(source, me);
                let consumer = consumers[source].take().unwrap_or_else(fresh);
                consumers[source] = Some(self.empty_ring(source, consumer)?);
            }
        }
        Ok(announced)
    }

    pub(super) fn empty_ring(
        &mut self,
        source: usize,
        mut consumer: Consumer<'static>,
    ) -> Result<Consumer<'static>> {
        while let Some(body) = consumer.peek() {
            let body = body.map_err(|error| self.damaged(format!("{error} (ring from rank {source})")))?;
            self.throw_away(source, &consumer, &body).map_err(|what| self.damaged(what))?;
            consumer.pop(&body);
        }
        let link = &mut self.links[source];
        link.released_published = link.released;
        consumer.release(link.released);
        Ok(consumer)
    }

    fn throw_away(
        &mut self,
        source: usize,
        consumer: &Consumer<'static>,
        body: &Body,
    ) -> std::result::Result<(), String> {
        let link = &mut self.links[source];
        let place = match envelope::kind(body) {
            envelope::EAGER => {
                link.release(body.payload_bytes() as u64, self.unexpected_bound);
                None
            }
            envelope::LENT => {
                let length = Envelope::from_body(body).length;
                if length > EAGER_BYTES {
                    return Err(format!("an eager message of {length} bytes from rank {source}"));
                }
                link.release(length, self.unexpected_bound);
                Some(first_place(consumer, body)?)
            }
            envelope::PART => Some(envelope::part(body).1),
            envelope::CHUNK => {
                let (_, chunk, length) = envelope::control(body);
                let length = length as usize;
                link.chunks.check_run(chunk, length)?;
                return link.chunks.give_back_run(chunk, length).map_err(|error| error.to_string());
            }
            // Envelopes and answers hold nothing.
            _ => None,
        };
        match place.filter(|_| !envelope::keeps_chunk(body)) {
            Some(place) => link.chunks.give_back(place).map(drop).map_err(|error| error.to_string()),
            None => Ok(()),
        }
    }

    /// Begins to listen: to the rings that were emptied, and to new ones.
    fn open_rings(&mut self, announced: Vec<u64>, consumers: Consumers) {
        for (source, consumer) in consumers.into_iter().enumerate() {
            if consumer.is_some() {
                self.links[source].consumer = consumer;
                self.incoming.push(source);
            }
        }
        self.senders = &self.job.control(self.rank).senders.bits[..announced.len()];
        self.announced = announced;
        self.forget_departures();
    }

    /// Who has left is to be noticed again: before, its ring was not listened to.
    fn forget_departures(&mut self) {
        self.departures_seen = 0;
        self.departed.fill(false);
        self.refusing.fill(false);
        self.others = self.size - 1;
        self.collectives_ended = None;
        let Membership { world, agreement, .. } = &self.membership;
        self.membership = Membership::new(self.job, self.rank, *world, agreement.number());
    }
}
