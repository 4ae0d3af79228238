//! What a blocked rank says of itself, for whoever looks from outside: the launcher, tools.
//!
//! Written on the slow path only: in short just before the rank parks for the first time in a call, and in full when
//! it has slept for as long as one sleep may last, or under `--chaos`.

use std::sync::atomic::Ordering::{Relaxed, Release};
use std::sync::atomic::fence;

use super::{Caller, Engine, OperationId};
use crate::envelope::Envelope;
use crate::layout::{MAX_RANKS, NO_RANK, UNRECEIVED_LISTED, awaits};
use crate::matching::Pattern;
use crate::status::operation_number;

/// What a blocked call waits for.
#[derive(Clone, Copy)]
pub(crate) struct Blocked<'a> {
    pub(super) caller: Caller,
    awaits: Awaits<'a>,
    pub(super) peer: Option<usize>,
    pub(super) tag: Option<i32>,
    context: u32,
    pub(super) bytes: u64,
}

#[derive(Clone, Copy)]
enum Awaits<'a> {
    /// A message from the peer, or from anybody.
    Message,
    /// That the peer receives.
    Receiver,
    /// That the peer enters the round that this rank has entered last ...
    Entry,
    /// ... and all others, too.
    EntryOfAll,
    /// That one of several operations is complete; tells the ranks that these wait for.
    OneOf(&'a dyn Fn(&Engine) -> Ranks),
    /// That the peer receives what this rank has sent, so that this one may leave.
    Departure,
    /// That all these ranks come to the same agreement.
    Agreement(&'a dyn Fn(&Engine) -> Ranks),
    /// Nothing any more.
    Nothing,
}

/// A set of ranks.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ranks([u64; MAX_RANKS / 64]);

impl Ranks {
    pub(crate) fn insert(&mut self, rank: usize) {
        self.0[rank / 64] |= 1 << (rank % 64);
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        let words = self.0.into_iter().enumerate();
        words.flat_map(|(at, word)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| at * 64 + bit)
        })
    }

    /// `rank`, or all of the first `size` for `None`.
    pub(crate) fn insert_source(&mut self, rank: Option<usize>, size: usize) {
        match rank {
            Some(rank) => self.insert(rank),
            None => (0..size).for_each(|rank| self.insert(rank)),
        }
    }
}

impl<'a> Blocked<'a> {
    /// In a receive or probe; `bytes` is the room for the message, 0 if any length will do.
    pub(crate) fn in_receive(caller: Caller, pattern: &Pattern, bytes: u64) -> Self {
        let (context, peer, tag) = (pattern.context(), pattern.source(), pattern.tag());
        Self { caller, awaits: Awaits::Message, peer, tag, context, bytes }
    }

    /// In a send to `peer`.
    pub(crate) fn in_send(caller: Caller, peer: usize, tag: i32, context: u32, bytes: u64) -> Self {
        Self { caller, awaits: Awaits::Receiver, peer: Some(peer), tag: Some(tag), context, bytes }
    }

    /// In a collective that `peer` has not come to.
    pub(crate) fn in_collective(caller: Caller, peer: usize, context: u32, bytes: u64) -> Self {
        Self { caller, awaits: Awaits::Entry, peer: Some(peer), tag: None, context, bytes }
    }

    /// The same, if all others have to come to it as well.
    pub(crate) fn and_all_others(self) -> Self {
        Self { awaits: Awaits::EntryOfAll, ..self }
    }

    /// Until one of several operations is complete.
    pub(crate) fn in_any(caller: Caller, context: u32, ranks: &'a dyn Fn(&Engine) -> Ranks) -> Self {
        Self { caller, awaits: Awaits::OneOf(ranks), peer: None, tag: None, context, bytes: 0 }
    }

    /// In a call that has nothing to wait for any more.
    pub(crate) fn in_return(caller: Caller) -> Self {
        Self { caller, awaits: Awaits::Nothing, peer: None, tag: None, context: 0, bytes: 0 }
    }

    /// In an agreement that `ranks` have not come to.
    pub(super) fn in_agreement(caller: Caller, context: u32, ranks: &'a dyn Fn(&Engine) -> Ranks) -> Self {
        Self { caller, awaits: Awaits::Agreement(ranks), peer: None, tag: None, context, bytes: 0 }
    }

    /// Whether all other ranks have to enter the round of a collective.
    pub(super) fn is_for_all(&self) -> bool {
        matches!(self.awaits, Awaits::EntryOfAll)
    }

    /// The operation and its context, if it has no sense any more when its world ends.
    pub(super) fn in_world(&self) -> Option<(Caller, u32)> {
        let outlives = matches!(self.awaits, Awaits::Departure | Awaits::Agreement(_));
        (!outlives).then_some((self.caller, self.context))
    }
}

/// What a call has published of itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Published {
    /// When it began to block, nanoseconds of CLOCK_MONOTONIC.
    since: u64,
    /// Departures that were known then.
    departures: u32,
    /// Messages that had arrived too early when they were listed last.
    listed: Option<u64>,
}

impl Engine {
    /// In a call of `caller` that waits for the end of a send.
    pub(crate) fn blocked_in_send(&self, caller: Caller, id: OperationId) -> Blocked<'static> {
        let Some(send) = self.sends.get(id) else { return Blocked::in_return(caller) };
        let Envelope { tag, context, length, .. } = send.envelope;
        let caller = Caller { at: send.caller.at, ..caller };
        Blocked::in_send(caller, send.destination, tag, context, length)
    }

    /// In a call of `caller` that waits for the end of a receive.
    pub(crate) fn blocked_in_receive(&self, caller: Caller, id: OperationId) -> Blocked<'static> {
        let Some(receive) = self.receives.get(id) else { return Blocked::in_return(caller) };
        Blocked::in_receive(Caller { at: receive.caller.at, ..caller }, &receive.pattern, 0)
    }

    /// In the wait for what has to be done before this rank may leave: the first send that is not out, or a rank
    /// with which a message is under way.
    pub(super) fn blocked_in_leaving(&self, caller: Caller) -> Blocked<'static> {
        let unsettled = || self.links.iter().position(|link| !link.is_settled());
        let blocked = match self.first_unfinished() {
            Some(id) => self.blocked_in_send(caller, id),
            None => Blocked { peer: unsettled(), ..Blocked::in_return(caller) },
        };
        Blocked { awaits: Awaits::Departure, ..blocked }
    }

    /// The first send to another rank that is not out of its buffer.
    pub(super) fn first_unfinished(&self) -> Option<OperationId> {
        self.sends.position(|send| !send.is_complete() && send.destination != self.rank)
    }

    /// Says in short what this rank waits for.
    pub(super) fn publish(&self, blocked: &Blocked<'_>) -> Published {
        let since = shm_core::wait::monotonic_nanoseconds();
        self.write_status(blocked, since, false);
        Published { since, departures: self.departures_seen, listed: None }
    }

    /// Says in full what this rank waits for, unless nothing has changed since it did so.
    pub(super) fn publish_in_full(&self, blocked: &Blocked<'_>, published: &mut Published) {
        let arrived = self.unexpected.arrived();
        if published.listed.replace(arrived) == Some(arrived) {
            return;
        }
        let line = &self.job.control(self.rank).status;
        // SYNC status: even, so that nobody takes the old and the new fields together for one status.
        line.sequence.fetch_add(1, Release);
        self.list_unreceived(blocked.peer);
        self.write_status(blocked, published.since, true);
    }

    /// This rank is not blocked any more.
    pub(super) fn unpublish(&self, published: Published) {
        let line = &self.job.control(self.rank).status;
        if self.departures_seen != published.departures {
            line.released_by.store(self.departures_seen, Relaxed);
        }
        // SYNC status
        line.sequence.fetch_add(1, Release);
    }

    fn write_status(&self, blocked: &Blocked<'_>, since: u64, in_full: bool) {
        let line = &self.job.control(self.rank).status;
        // The fields of the wait before must not change while its number still says "blocked".
        fence(Release);
        let (awaited, peer) = match blocked.awaits {
            Awaits::Message => (awaits::MESSAGE, blocked.peer),
            Awaits::Receiver => (awaits::RECEIVER, blocked.peer),
            Awaits::Entry | Awaits::EntryOfAll => (awaits::ENTRY, blocked.peer),
            Awaits::OneOf(ranks) | Awaits::Agreement(ranks) if in_full => {
                self.write_peers(ranks(self));
                (awaits::ONE_OF, None)
            }
            Awaits::OneOf(_) | Awaits::Agreement(_) => (awaits::UNKNOWN, None),
            Awaits::Departure => {
                (if blocked.peer.is_some() { awaits::RECEIVER } else { awaits::UNKNOWN }, blocked.peer)
            }
            Awaits::Nothing => (awaits::UNKNOWN, None),
        };
        line.operation.store(operation_number(blocked.caller.operation), Relaxed);
        line.awaits.store(awaited, Relaxed);
        line.peer.store(peer.map_or(NO_RANK, |peer| self.job.place(peer) as u32), Relaxed);
        line.tag.store(blocked.tag.unwrap_or(-1) as u32, Relaxed);
        line.context.store(blocked.context, Relaxed);
        line.bytes.store(blocked.bytes, Relaxed);
        line.since.store(since, Relaxed);
        line.call_site.store(u32::from(self.call_sites.intern(blocked.caller.at)), Relaxed);
        line.released_by.store(0, Relaxed);
        line.in_full.store(in_full.into(), Relaxed);
        // SYNC status: odd tells a reader that the fields before it are those of a blocked rank.
        line.sequence.fetch_add(1, Release);
    }

    fn write_peers(&self, ranks: Ranks) {
        let line = &self.job.control(self.rank).awaited_peers;
        let mut places = Ranks::default();
        ranks.iter().for_each(|rank| places.insert(self.job.place(rank)));
        let Ranks(words) = places;
        for (place, word) in line.bits.iter().zip(words) {
            place.store(word, Relaxed);
        }
    }

    /// Lists some of the messages that wait for a receive, those from `peer` first: one of them may be the message
    /// that is waited for under another tag.
    fn list_unreceived(&self, peer: Option<usize>) {
        let list = &self.job.control(self.rank).unreceived;
        let is_from_peer = |source: u16| Some(usize::from(source)) == peer;
        let from_peer = self.unexpected.iter().filter(|envelope| is_from_peer(envelope.source));
        let others = self.unexpected.iter().filter(|envelope| !is_from_peer(envelope.source));
        let listed = list.messages.iter().zip(from_peer.chain(others));
        for (place, envelope) in listed {
            place.source.store(self.job.place(envelope.source.into()) as u32, Relaxed);
            place.call_site.store(envelope.call_site.into(), Relaxed);
            place.tag.store(envelope.tag as u32, Relaxed);
            place.context.store(envelope.context, Relaxed);
            place.bytes.store(envelope.length, Relaxed);
        }
        list.listed.store(self.unexpected.len().min(UNRECEIVED_LISTED) as u32, Relaxed);
        list.count.store(u32::try_from(self.unexpected.len()).unwrap_or(u32::MAX), Relaxed);
    }
}
