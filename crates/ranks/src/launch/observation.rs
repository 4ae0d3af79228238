//! What the ranks of a job have counted and recorded of themselves, read when the job has ended.
//!
//! Ranks wrote it, so it is input: times are brought into the job's own, numbers of ranks and lines are checked, and an
//! event of no known kind is left out.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::time::Duration;

use shm_core::wait::monotonic_nanoseconds;

use super::position::{self, Wait};
use crate::call_site;
use crate::job::Job;
use crate::layout::{Event, Traffic, event_kind, rank_state};
use crate::status::operation_name;

/// What the ranks did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observation {
    /// How long the job took.
    pub duration: Duration,
    /// The ranks, by number.
    pub ranks: Vec<RankObservation>,
    /// Lines of source that did something, in no order.
    pub call_sites: Vec<SiteObservation>,
}

/// What one rank did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RankObservation {
    /// What it sent to each rank.
    pub sent: Vec<Count>,
    /// What it received from each rank.
    pub received: Vec<Count>,
    /// Time in calls that waited for other ranks.
    pub waiting: Duration,
    /// How many such calls there were.
    pub waits: u64,
    /// The call that it was waiting in at the end.
    pub last_wait: Option<Wait>,
    /// Its timeline in the order of ends, as far as there was room for it.
    pub events: Vec<TimelineEvent>,
    /// Events that were replaced by later ones.
    pub lost_events: u64,
}

/// Messages and the bytes in them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// How many.
    pub messages: u64,
    /// Bytes in all of them.
    pub bytes: u64,
}

/// What a line of source did, on all ranks together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SiteObservation {
    /// `file:line:column`, `None` for all lines that are not known.
    pub at: Option<String>,
    /// The call there.
    pub operation: &'static str,
    /// Messages sent or received, and collectives.
    pub calls: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Time that it waited.
    pub waiting: Duration,
}

/// Something that a rank did. Times are counted from the start of the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimelineEvent {
    /// What it was.
    pub kind: EventKind,
    /// The call of the user.
    pub operation: &'static str,
    /// When it began.
    pub begin: Duration,
    /// When it ended.
    pub end: Duration,
    /// The other rank, where it is one.
    pub peer: Option<usize>,
    /// The tag of the message, where there is one.
    pub tag: Option<i32>,
    /// Bytes of the message, or of each rank's part of a collective.
    pub bytes: u64,
    /// Of a message: its number among those from its sender to its receiver, from 1 on; 0 if it is not known.
    pub number: u64,
    /// The line of source.
    pub at: Option<Arc<str>>,
}

/// The kinds of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// A message was handed to the library: the time that took.
    Sent,
    /// A message has found its receive.
    Received,
    /// The rank waited for others.
    Waited,
    /// The rank took part in a collective.
    Collective,
    /// The rank was waiting for others when the job ended.
    Unfinished,
}

impl Count {
    fn of(traffic: &Traffic) -> Self {
        Self { messages: traffic.messages.load(Relaxed), bytes: traffic.bytes.load(Relaxed) }
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let messages = self.messages.saturating_add(other.messages);
        Self { messages, bytes: self.bytes.saturating_add(other.bytes) }
    }
}

/// What the ranks of a job did that took so long.
pub(super) fn of_job(job: &Job, duration: Duration) -> Observation {
    let sites = Sites::read(job);
    let end = monotonic_nanoseconds();
    let period = Period { begin: end.saturating_sub(nanoseconds(duration)), end };
    let ranks = 0..job.geometry().ranks;
    Observation {
        duration,
        ranks: ranks.clone().map(|rank| of_rank(job, rank, period, &sites)).collect(),
        call_sites: sites.observed(job),
    }
}

fn of_rank(job: &Job, rank: usize, period: Period, sites: &Sites) -> RankObservation {
    let (tally, peers) = (job.tally(rank), job.peer_tallies(rank));
    let last_wait = (job.state(rank) != rank_state::DETACHED).then(|| position::wait(job, rank)).flatten();
    let (mut events, lost_events) = timeline(job, rank, period, sites);
    if let Some(wait) = &last_wait
        && !job.timeline(rank).is_empty()
    {
        events.push(unfinished(wait, period));
    }
    RankObservation {
        sent: peers.iter().map(|peer| Count::of(&peer.sent)).collect(),
        received: peers.iter().map(|peer| Count::of(&peer.received)).collect(),
        waiting: waiting(job, rank, last_wait.as_ref()).min(period.duration()),
        waits: tally.waits.load(Relaxed),
        last_wait,
        events,
        lost_events,
    }
}

/// Time that a rank has waited, the wait included that has not ended.
pub(super) fn waiting(job: &Job, rank: usize, wait: Option<&Wait>) -> Duration {
    let ended = Duration::from_nanos(job.tally(rank).waiting.load(Relaxed));
    ended.saturating_add(wait.map_or(Duration::ZERO, |wait| wait.time))
}

/// What a rank sent to all others, and what it received from them.
pub(super) fn traffic(job: &Job, rank: usize) -> (Count, Count) {
    let sum = |of: fn(&crate::layout::PeerTally) -> &Traffic| {
        job.peer_tallies(rank).iter().map(|peer| Count::of(of(peer))).fold(Count::default(), Count::and)
    };
    (sum(|peer| &peer.sent), sum(|peer| &peer.received))
}

/// The events that a rank has left, and how many were replaced.
fn timeline(job: &Job, rank: usize, period: Period, sites: &Sites) -> (Vec<TimelineEvent>, u64) {
    let line = job.timeline(rank);
    let room = line.len() as u64;
    // SYNC timeline
    let count = job.tally(rank).events.load(Acquire);
    if room == 0 {
        return (Vec::new(), 0);
    }
    // The place of the oldest may be half overwritten by an event that its rank did not live to count.
    let kept = if count < room { count } else { room - 1 };
    let events = (count - kept..count).filter_map(|number| {
        let event = &line[(number % room) as usize];
        read(event, job.geometry().ranks, period, sites)
    });
    (events.collect(), count - kept)
}

fn read(event: &Event, ranks: usize, period: Period, sites: &Sites) -> Option<TimelineEvent> {
    let kind = match event.kind.load(Relaxed) {
        event_kind::SENT => EventKind::Sent,
        event_kind::RECEIVED => EventKind::Received,
        event_kind::WAITED => EventKind::Waited,
        event_kind::COLLECTIVE => EventKind::Collective,
        _ => return None,
    };
    let begin = period.place(event.begin.load(Relaxed));
    let peer = event.peer.load(Relaxed) as usize;
    let tag = event.tag.load(Relaxed) as i32;
    Some(TimelineEvent {
        kind,
        operation: operation_name(event.operation.load(Relaxed)),
        begin,
        end: period.place(event.end.load(Relaxed)).max(begin),
        peer: (peer < ranks).then_some(peer),
        tag: (tag >= 0).then_some(tag),
        bytes: event.bytes.load(Relaxed),
        number: event.number.load(Relaxed),
        at: sites.name(event.call_site.load(Relaxed)),
    })
}

fn unfinished(wait: &Wait, period: Period) -> TimelineEvent {
    TimelineEvent {
        kind: EventKind::Unfinished,
        operation: wait.operation,
        begin: period.duration().saturating_sub(wait.time),
        end: period.duration(),
        peer: wait.peer.map(|peer| peer as usize),
        tag: wait.tag,
        bytes: wait.bytes,
        number: 0,
        at: wait.at.as_deref().map(Arc::from),
    }
}

/// From the start of a job to its end, nanoseconds of CLOCK_MONOTONIC.
#[derive(Clone, Copy)]
struct Period {
    begin: u64,
    end: u64,
}

impl Period {
    fn duration(self) -> Duration {
        Duration::from_nanos(self.end - self.begin)
    }

    /// A moment of the job, counted from its start.
    fn place(self, time: u64) -> Duration {
        Duration::from_nanos(time.clamp(self.begin, self.end) - self.begin)
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The names of all call sites, by number.
struct Sites(Vec<Option<Arc<str>>>);

impl Sites {
    fn read(job: &Job) -> Self {
        let numbers = 0..job.site_tallies(0).len();
        let name = |number: usize| call_site::describe(job, u16::try_from(number).ok()?).map(Arc::from);
        Self(numbers.map(name).collect())
    }

    fn name(&self, number: u32) -> Option<Arc<str>> {
        self.0.get(number as usize).cloned().flatten()
    }

    fn observed(&self, job: &Job) -> Vec<SiteObservation> {
        let sites = self.0.iter().enumerate().filter_map(|(number, at)| {
            let mut site = SiteObservation { at: at.as_deref().map(str::to_owned), ..Default::default() };
            for rank in 0..job.geometry().ranks {
                let tally = &job.site_tallies(rank)[number];
                site.calls = site.calls.saturating_add(tally.calls.load(Relaxed));
                site.bytes = site.bytes.saturating_add(tally.bytes.load(Relaxed));
                let waiting = Duration::from_nanos(tally.waiting.load(Relaxed));
                site.waiting = site.waiting.saturating_add(waiting);
                match tally.operation.load(Relaxed) {
                    0 => {}
                    operation => site.operation = operation_name(operation),
                }
            }
            (site.calls > 0 || !site.waiting.is_zero()).then_some(site)
        });
        sites.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::{Observe, in_process, in_process_observed};

    fn job_with_timelines(events: u32) -> Job {
        let job = in_process_observed(2, Observe::Timelines { events });
        job.unwrap()
    }

    #[test]
    fn a_timeline_keeps_the_newest_and_survives_nonsense() {
        let job = job_with_timelines(8);
        let line = job.timeline(1);
        let now = monotonic_nanoseconds();
        for (number, event) in line.iter().enumerate() {
            event.kind.store(event_kind::SENT, Relaxed);
            event.begin.store(now - 100 + number as u64, Relaxed);
            event.number.store(number as u64, Relaxed);
            event.peer.store(u32::MAX - 1, Relaxed);
            event.call_site.store(u32::MAX, Relaxed);
        }
        line[3].kind.store(99, Relaxed);
        job.tally(1).events.store(10, Relaxed);
        let observed = of_job(&job, Duration::from_secs(1));
        assert_eq!(observed.ranks[0].events, []);
        let RankObservation { events, lost_events, .. } = &observed.ranks[1];
        // Events 3 to 9 are kept, in the places 3 to 7, 0 and 1; that in place 3 is of no known kind.
        let numbers: Vec<u64> = events.iter().map(|event| event.number).collect();
        assert_eq!((numbers, *lost_events), (vec![4, 5, 6, 7, 0, 1], 3));
        assert!(events.iter().all(|event| event.peer.is_none() && event.at.is_none()));
        assert!(events.iter().all(|event| event.begin <= event.end && event.end <= observed.duration));
        job.tally(1).events.store(u64::MAX, Relaxed);
        assert_eq!(of_job(&job, Duration::MAX).ranks[1].events.len(), 6);
    }

    #[test]
    fn a_job_of_nonsense_size_has_no_timeline() {
        let job = job_with_timelines(8);
        job.header().timeline_events.store(u32::MAX, Relaxed);
        assert!(job.timeline(0).is_empty());
        assert!(in_process(1).unwrap().timeline(0).is_empty());
    }
}
