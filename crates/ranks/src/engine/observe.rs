//! Counting and recording what this rank does while somebody watches: `--stats`, `--trace`, `shmrun top`.
//!
//! Nobody watches, mostly: then the short ways of messages must not notice this module. So while somebody does, no
//! message takes a short way. The longest message that may is shorter than any, and a receive becomes an operation at
//! once. On the long ways each of the functions below costs one branch when off.
//!
//! A rank counts in its own part of the segment, which nobody else writes: plain loads and stores. It keeps what it has
//! counted when it is killed.
//!
//! Messages from one rank to another have numbers, which sender and receiver count each for itself: messages come in
//! the order in which they were sent. A message that came before its receive keeps its number here until then; among
//! those with the same source, context and tag the first that came is the first received.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use shm_core::wait::monotonic_nanoseconds;

use super::buffer::Outgoing;
use super::publish::Blocked;
use super::send::Started;
use super::{Caller, Engine, OperationId};
use crate::envelope::Envelope;
use crate::error::Result;
use crate::job::Job;
use crate::layout::{Event, NO_RANK, PeerTally, SITE_TALLIES, SiteTally, Tally, Traffic, event_kind};
use crate::status::operation_number;

/// This rank's side of what others want to know of it.
pub(crate) struct Observer {
    /// Knows the places of ranks, by which they are counted: those of a world of survivors have other numbers.
    job: &'static Job,
    tally: &'static Tally,
    peers: &'static [PeerTally],
    sites: &'static [SiteTally],
    timeline: &'static [Event],
    /// Messages sent to each rank ...
    sent: Vec<u64>,
    /// ... and come from each.
    arrived: Vec<u64>,
    /// Numbers of messages that came before their receives, by source, context and tag.
    early: HashMap<(u16, u32, i32), VecDeque<u64>>,
}

/// What an event tells.
#[derive(Clone, Copy)]
struct Told {
    kind: u32,
    caller: Caller,
    /// The number of the caller's line.
    site: u16,
    peer: Option<usize>,
    tag: Option<i32>,
    bytes: u64,
    number: u64,
}

impl Observer {
    fn new(job: &'static Job, rank: usize) -> Self {
        let ranks = job.size();
        Self {
            job,
            tally: job.tally(rank),
            peers: job.peer_tallies(rank),
            sites: job.site_tallies(rank),
            timeline: job.timeline(rank),
            sent: vec![0; ranks],
            arrived: vec![0; ranks],
            early: HashMap::new(),
        }
    }

    /// The time, if events are recorded: counting messages needs none.
    fn time(&self) -> u64 {
        if self.timeline.is_empty() { 0 } else { monotonic_nanoseconds() }
    }

    fn count_call(&self, caller: Caller, site: u16, bytes: u64) {
        let line = &self.sites[usize::from(site) % SITE_TALLIES];
        add(&line.calls, 1);
        add(&line.bytes, bytes);
        line.operation.store(operation_number(caller.operation), Relaxed);
    }

    fn count_wait(&self, caller: Caller, site: u16, time: u64) {
        add(&self.tally.waiting, time);
        add(&self.tally.waits, 1);
        let line = &self.sites[usize::from(site) % SITE_TALLIES];
        add(&line.waiting, time);
        // A message that `wait` waits for was sent or received by another call, which is the one to name.
        if line.operation.load(Relaxed) == 0 {
            line.operation.store(operation_number(caller.operation), Relaxed);
        }
    }

    fn record(&self, begin: u64, end: u64, told: Told) {
        if self.timeline.is_empty() {
            return;
        }
        let count = self.tally.events.load(Relaxed);
        let event = &self.timeline[(count % self.timeline.len() as u64) as usize];
        event.begin.store(begin, Relaxed);
        event.end.store(end, Relaxed);
        event.bytes.store(told.bytes, Relaxed);
        event.number.store(told.number, Relaxed);
        event.kind.store(told.kind, Relaxed);
        event.operation.store(operation_number(told.caller.operation), Relaxed);
        event.peer.store(told.peer.map_or(NO_RANK, |peer| self.job.place(peer) as u32), Relaxed);
        event.tag.store(told.tag.unwrap_or(-1) as u32, Relaxed);
        event.call_site.store(told.site.into(), Relaxed);
        // SYNC timeline: whoever sees the count finds the event.
        self.tally.events.store(count.wrapping_add(1), Release);
    }
}

impl Traffic {
    fn count(&self, bytes: u64) {
        add(&self.messages, 1);
        add(&self.bytes, bytes);
    }
}

/// Adds to a word that only this rank writes.
fn add(word: &AtomicU64, more: u64) {
    word.store(word.load(Relaxed).wrapping_add(more), Relaxed);
}

impl Engine {
    /// Begins or ends to observe, when somebody has begun or ended to watch.
    #[cold]
    pub(super) fn follow_watchers(&mut self) {
        // SYNC watchers
        self.watchers_seen = self.watchers.load(Acquire);
        let watched = self.watchers_seen > 0;
        if watched == self.observer.is_some() {
            return;
        }
        self.observer = watched.then(|| Box::new(Observer::new(self.job, self.rank)));
        self.ring_below = if watched { 0 } else { self.ring_limit + 1 };
    }

    /// The time when something began that [`Engine::observe_wait`] or [`Engine::observe_collective`] will tell of;
    /// 0 while nobody watches.
    #[inline]
    pub(crate) fn observed_since(&self) -> u64 {
        if self.observer.is_some() { monotonic_nanoseconds() } else { 0 }
    }

    /// Starts a send while somebody watches.
    #[cold]
    pub(super) fn start_observed_send(
        &mut self,
        destination: usize,
        envelope: Envelope,
        payload: Outgoing,
        caller: Caller,
    ) -> Result<Started> {
        let begin = self.observer.as_ref().map_or(0, |observer| observer.time());
        // Before it goes out: a receiver that has it finds it counted.
        let number = self.count_send(destination, &envelope, caller);
        let started = match self.send_at_once(destination, &envelope, payload.bytes()) {
            true => Ok(Started::Complete(payload)),
            false => self.start_long_send(destination, envelope, payload, caller),
        };
        if let Some(observer) = &self.observer {
            let Envelope { tag, call_site: site, length: bytes, .. } = envelope;
            let kind = event_kind::SENT;
            let told = Told { kind, caller, site, peer: Some(destination), tag: Some(tag), bytes, number };
            observer.record(begin, observer.time(), told);
        }
        started
    }

    fn count_send(&mut self, destination: usize, envelope: &Envelope, caller: Caller) -> u64 {
        let Some(observer) = &mut self.observer else { return 0 };
        observer.peers[observer.job.place(destination)].sent.count(envelope.length);
        observer.count_call(caller, envelope.call_site, envelope.length);
        observer.sent[destination] += 1;
        number(envelope, observer.sent[destination])
    }

    /// A message has come: for this receive, or before there is one.
    #[cold]
    pub(super) fn observe_arrival(&mut self, envelope: &Envelope, receive: Option<OperationId>) {
        let Some(observer) = &mut self.observer else { return };
        let source = usize::from(envelope.source);
        observer.arrived[source] += 1;
        let number = number(envelope, observer.arrived[source]);
        match receive {
            Some(id) => self.observe_receive(envelope, number, Some(id)),
            None => observer.early.entry(early_key(envelope)).or_default().push_back(number),
        }
    }

    /// A message that came before its receive is received now.
    #[cold]
    pub(super) fn observe_match(&mut self, envelope: &Envelope, receive: Option<OperationId>) {
        let Some(observer) = &mut self.observer else { return };
        let key = early_key(envelope);
        let mut number = 0;
        if let Some(numbers) = observer.early.get_mut(&key) {
            number = numbers.pop_front().unwrap_or(0);
            if numbers.is_empty() {
                observer.early.remove(&key);
            }
        }
        self.observe_receive(envelope, number, receive);
    }

    fn observe_receive(&mut self, envelope: &Envelope, number: u64, receive: Option<OperationId>) {
        let caller = receive.and_then(|id| self.receives.get(id)).map(|receive| receive.caller);
        let site = caller.map_or(0, |caller| self.call_sites.intern(caller.at));
        let Some(observer) = &self.observer else { return };
        let Envelope { source, tag, length: bytes, .. } = *envelope;
        let source = usize::from(source);
        observer.peers[observer.job.place(source)].received.count(bytes);
        let Some(caller) = caller else { return };
        observer.count_call(caller, site, bytes);
        let kind = event_kind::RECEIVED;
        let told = Told { kind, caller, site, peer: Some(source), tag: Some(tag), bytes, number };
        let now = observer.time();
        observer.record(now, now, told);
    }

    /// This rank has waited.
    #[cold]
    pub(super) fn observe_wait(&mut self, begin: u64, blocked: &Blocked<'_>) {
        let Blocked { caller, peer, tag, bytes, .. } = *blocked;
        let site = self.call_sites.intern(caller.at);
        let Some(observer) = &self.observer else { return };
        let end = monotonic_nanoseconds();
        observer.count_wait(caller, site, end.saturating_sub(begin));
        let kind = event_kind::WAITED;
        observer.record(begin, end, Told { kind, caller, site, peer, tag, bytes, number: 0 });
    }

    /// This rank has taken part in a collective.
    #[cold]
    pub(crate) fn observe_collective(&mut self, begin: u64, caller: Caller, bytes: u64) {
        let site = self.call_sites.intern(caller.at);
        let Some(observer) = &self.observer else { return };
        observer.count_call(caller, site, bytes);
        let kind = event_kind::COLLECTIVE;
        let told = Told { kind, caller, site, peer: None, tag: None, bytes, number: 0 };
        observer.record(begin, observer.time(), told);
    }
}

/// The number of a message, which is the only one of this context between the two in the whole job.
fn number(envelope: &Envelope, count: u64) -> u64 {
    // Each world counts from 1 on, and has contexts of its own.
    u64::from(envelope.context) << 40 | count
}

fn early_key(envelope: &Envelope) -> (u16, u32, i32) {
    (envelope.source, envelope.context, envelope.tag)
}

#[cfg(test)]
mod tests;
