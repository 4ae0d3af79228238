//! What every rank says of itself, at one moment. Shared memory is input: numbers are checked, text is cleaned.

use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::atomic::fence;
use std::time::Duration;

use shm_core::board::{Seen, Topic};

use crate::call_site::describe as site;
use crate::collective::operation_and_site;
use crate::job::Job;
use crate::layout::{NO_RANK, RankControl, StatusLine, UNRECEIVED_LISTED, awaits, modes, rank_state};
use crate::status::operation_name;
use crate::turns::Turns;

/// Looks at a status line that changes meanwhile, before it is called busy.
const LOOKS: u32 = 3;

/// All ranks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Snapshot {
    pub(crate) ranks: Vec<View>,
    /// Every send waits for its receiver.
    pub(crate) strict: bool,
    /// Longest message that is sent without waiting for its receiver.
    pub(crate) eager_limit: u64,
}

/// One rank.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct View {
    pub(crate) life: Life,
    /// The call that it is blocked in, or was blocked in last.
    pub(crate) wait: Option<Wait>,
    /// It is blocked in that call.
    pub(crate) blocked: bool,
    /// It slept, and nobody had rung, at the moment of the snapshot.
    pub(crate) asleep: bool,
    /// The last round of collectives that it has done with ...
    pub(crate) done: u64,
    /// ... and the last one in which it has shown something to the others.
    pub(crate) shown: u64,
    /// The collective that it entered last, and where.
    pub(crate) last_collective: Option<String>,
    /// It may run only when it has the turn (`--chaos`), and another rank has it.
    pub(crate) out_of_turn: bool,
    /// The thread that attached, as it says itself.
    pub(crate) thread: u32,
    /// What its process does.
    pub(crate) outside: Outside,
}

impl View {
    /// It takes no part any more.
    pub(crate) fn has_left(&self) -> bool {
        matches!(self.life, Life::Finished | Life::Failed)
    }

    /// It waits in a call, and its process may run.
    pub(crate) fn waits(&self) -> bool {
        self.blocked && !matches!(self.outside, Outside::Stopped | Outside::Traced)
    }
}

/// Where a rank is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// No process has called `init` for it.
    Absent,
    Attached,
    Finished,
    Failed,
}

/// A call that blocks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wait {
    /// Odd; another number means another wait.
    pub(crate) number: u64,
    pub(crate) operation: &'static str,
    pub(crate) awaits: Awaits,
    pub(crate) tag: Option<u32>,
    pub(crate) context: u32,
    pub(crate) bytes: u64,
    /// How long it has been going on.
    pub(crate) time: Duration,
    pub(crate) site: Option<String>,
    /// The number of the departure that ended it, 0 if it was none.
    pub(crate) released_by: u32,
    /// Messages that have arrived and wait for another receive: the first few ...
    pub(crate) unreceived: Vec<Unreceived>,
    /// ... of so many.
    pub(crate) unreceived_count: usize,
}

/// What ends a wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Awaits {
    /// It did not say.
    Unknown,
    /// A message, from this rank or from anybody.
    Message(Option<usize>),
    /// That this rank receives.
    Receiver(usize),
    /// That this rank enters a collective.
    Entry(usize),
    /// That one of these does something.
    OneOf(Vec<usize>),
}

/// A message that waits for its receive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unreceived {
    pub(crate) source: usize,
    pub(crate) tag: u32,
    pub(crate) context: u32,
    pub(crate) bytes: u64,
    pub(crate) site: Option<String>,
}

/// What the process of a rank does, as the system tells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Outside {
    #[default]
    Unknown,
    /// It uses a processor.
    Computing,
    /// Stopped by a signal.
    Stopped,
    /// A debugger has stopped it.
    Traced,
    /// It sleeps in the system; in what, where the system tells.
    Sleeping(Option<String>),
}

impl Snapshot {
    /// Looks at all ranks of a job. `now` is CLOCK_MONOTONIC in nanoseconds.
    pub(crate) fn take(job: &Job, now: u64) -> Self {
        let size = job.geometry().ranks;
        // Two looks: see `shm_core::wait`. What a rank says while it is asleep does not change, so it may be read
        // between them.
        let sleeps = || (0..size).map(|rank| job.control(rank).doorbell.asleep());
        let first: Vec<_> = sleeps().collect();
        let mut ranks: Vec<_> = (0..size).map(|rank| view(job, rank, now)).collect();
        if let Some(turns) = Turns::of(job) {
            let holder = turns.holder();
            let ranks = ranks.iter_mut().enumerate();
            ranks.for_each(|(rank, view)| view.out_of_turn = !view.blocked && holder != Some(rank));
        }
        for ((view, first), second) in ranks.iter_mut().zip(first).zip(sleeps()) {
            view.asleep = first.is_some() && first == second;
        }
        Self { ranks, strict: job.has_mode(modes::STRICT), eager_limit: job.least_eager_limit() }
    }

    /// What `look` finds, or what it finds after `pause` if fewer ranks seem to be on their way then: ranks that sleep
    /// in a call get up now and then to look around, and are as little asleep at that moment as those that compute.
    pub(crate) fn settled(mut look: impl FnMut() -> Self, pause: impl FnOnce()) -> Self {
        let first = look();
        if first.on_their_way() == 0 {
            return first;
        }
        pause();
        let second = look();
        if second.on_their_way() < first.on_their_way() { second } else { first }
    }

    /// Ranks that are not asleep, whether in a call or not, and that nobody has stopped.
    fn on_their_way(&self) -> usize {
        let in_call = |view: &View| view.waits() && !view.asleep;
        let is_one = |view: &&View| {
            view.life == Life::Attached && (in_call(view) || view.outside == Outside::Computing)
        };
        self.ranks.iter().filter(is_one).count()
    }

    /// A number that changes when something moves: waits, collectives, messages in great number, departures.
    pub(crate) fn activity(job: &Job) -> u64 {
        let size = job.geometry().ranks;
        let header = job.header();
        let mut sum = u64::from(header.departures.load(Relaxed));
        let mut add = |value: u64| sum = sum.rotate_left(5).wrapping_add(value);
        for rank in 0..size {
            let control = job.control(rank);
            add(u64::from(job.state(rank)));
            add(control.status.sequence.load(Relaxed));
            let Seen { done, shown, .. } = control.collective.look();
            add(done);
            add(shown);
            // Only rings that are announced are backed by memory.
            let announced = |source: &usize| {
                control.senders.bits[source / 64].load(Acquire) >> (source % 64) & 1 == 1 && *source != rank
            };
            for source in (0..size).filter(announced) {
                let ring = job.ring(source, rank);
                add(ring.read_cells());
                add(ring.shuttle().messages().into());
            }
        }
        sum
    }

    /// As it was before the departure with this number, as far as that ended waits: they count as if they were still
    /// going on, also where a rank has left since because of it. 0 is none.
    pub(crate) fn before_departure(mut self, number: u32) -> Self {
        // Later departures are the consequences of this one.
        let is_later = |wait: &Wait| wait.released_by >= number;
        let released = |view: &&mut View| number > 0 && view.wait.as_ref().is_some_and(is_later);
        for view in self.ranks.iter_mut().filter(released) {
            (view.blocked, view.life) = (true, Life::Attached);
        }
        self
    }

    pub(crate) fn size(&self) -> usize {
        self.ranks.len()
    }
}

fn view(job: &Job, rank: usize, now: u64) -> View {
    let control = job.control(rank);
    let life = match job.state(rank) {
        rank_state::EMPTY => Life::Absent,
        rank_state::ATTACHED => Life::Attached,
        rank_state::DETACHED => Life::Finished,
        _ => Life::Failed,
    };
    let Seen { done, shown, topic } = control.collective.look();
    let (blocked, wait) = match (0..LOOKS).find_map(|_| status(job, control, now)) {
        Some((blocked, wait)) => (blocked && life == Life::Attached, wait),
        None => (false, None),
    };
    View {
        life,
        wait,
        blocked,
        asleep: false,
        done,
        shown,
        last_collective: (shown > 0).then(|| collective(job, topic)),
        out_of_turn: false,
        thread: control.life.thread.load(Relaxed),
        outside: Outside::Unknown,
    }
}

/// A collective, as a rank said what it believes it to be.
fn collective(job: &Job, topic: Topic) -> String {
    let (operation, place) = operation_and_site(topic);
    let place = site(job, place).map_or_else(String::new, |site| format!(" at {site}"));
    format!("{}{place}", operation_name(operation))
}

/// The status line, and whether the rank is blocked; `None` if it changed meanwhile.
fn status(job: &Job, control: &RankControl, now: u64) -> Option<(bool, Option<Wait>)> {
    let line = &control.status;
    // SYNC status
    let number = line.sequence.load(Acquire);
    if number == 0 {
        return Some((false, None));
    }
    let wait = read(job, control, number, now);
    // The fields were read before the number is read again.
    fence(Acquire);
    (line.sequence.load(Relaxed) == number).then_some((number % 2 == 1, Some(wait)))
}

fn read(job: &Job, control: &RankControl, number: u64, now: u64) -> Wait {
    let line = &control.status;
    let size = job.geometry().ranks;
    let tag = line.tag.load(Relaxed);
    let (unreceived, unreceived_count) =
        if line.in_full.load(Relaxed) == 1 { unreceived(job, control) } else { (Vec::new(), 0) };
    Wait {
        number,
        operation: operation_name(line.operation.load(Relaxed)),
        awaits: awaited(line, control, size),
        tag: (tag != u32::MAX).then_some(tag),
        context: line.context.load(Relaxed),
        bytes: line.bytes.load(Relaxed),
        time: Duration::from_nanos(now.saturating_sub(line.since.load(Relaxed))),
        site: site(job, line.call_site.load(Relaxed) as u16),
        released_by: line.released_by.load(Relaxed),
        unreceived,
        unreceived_count,
    }
}

fn awaited(line: &StatusLine, control: &RankControl, size: usize) -> Awaits {
    let peer = line.peer.load(Relaxed);
    let rank = usize::try_from(peer).ok().filter(|&rank| rank < size);
    match (line.awaits.load(Relaxed), rank) {
        (awaits::MESSAGE, None) if peer == NO_RANK => Awaits::Message(None),
        (awaits::MESSAGE, Some(rank)) => Awaits::Message(Some(rank)),
        (awaits::RECEIVER, Some(rank)) => Awaits::Receiver(rank),
        (awaits::ENTRY, Some(rank)) => Awaits::Entry(rank),
        (awaits::ONE_OF, _) => {
            let bit =
                |rank: &usize| control.awaited_peers.bits[rank / 64].load(Relaxed) >> (rank % 64) & 1 == 1;
            Awaits::OneOf((0..size).filter(bit).collect())
        }
        _ => Awaits::Unknown,
    }
}

fn unreceived(job: &Job, control: &RankControl) -> (Vec<Unreceived>, usize) {
    let list = &control.unreceived;
    let listed = (list.listed.load(Relaxed) as usize).min(UNRECEIVED_LISTED);
    let messages = list.messages[..listed].iter().filter_map(|message| {
        let source = message.source.load(Relaxed) as usize;
        (source < job.geometry().ranks).then(|| Unreceived {
            source,
            tag: message.tag.load(Relaxed),
            context: message.context.load(Relaxed),
            bytes: message.bytes.load(Relaxed),
            site: site(job, message.call_site.load(Relaxed) as u16),
        })
    });
    (messages.collect(), list.count.load(Relaxed) as usize)
}
