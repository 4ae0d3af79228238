//! The engine of one rank: all operations under way, and the lanes to all other ranks.
//!
//! ```text
//! send.rs      operations that send: eager, rendezvous, chunks, flow control
//! receive.rs   operations that receive: matching, delivery, truncation
//! receives.rs  the table of them
//! short_ways.rs  messages that go out at once, and that are there already
//! flow.rs      whether messages come one way, and a receive that has come too soon waits a moment
//! progress.rs  one look at everything: cells that came in, work that can go out
//! wait.rs      spin, yield, park
//! patience.rs  how long to spin and to yield
//! neighbours.rs  who shares this rank's processor, and who of them goes on first
//! departures.rs  ranks that leave
//! link.rs      what this rank knows of one other: ring halves, queue, credit
//! chunks.rs    the chunks between this rank and one other
//! publish.rs   what a blocked rank says of itself
//! observe.rs   what a rank counts and records while somebody watches
//! lend.rs      this rank's pool: which chunks may go to whom
//! direct.rs    long messages that both sides copy from process to process
//! buffer.rs    the user's memory
//! membership.rs  who is left of this world, and what operations are told of it
//! renew.rs     the next world, of the survivors
//! ```
//!
//! One thread at a time runs it, inside calls of the user: there is no progress thread. Every blocking call
//! progresses all operations.

pub(crate) mod buffer;
mod chunks;
mod departures;
pub(crate) mod direct;
mod flow;
mod lend;
mod link;
mod membership;
mod neighbours;
mod observe;
mod patience;
mod progress;
pub(crate) mod publish;
pub(crate) mod receive;
pub(crate) mod receives;
pub(crate) mod renew;
pub(crate) mod send;
mod short_ways;
pub(crate) mod slab;
pub(crate) mod wait;

use std::sync::atomic::{AtomicU32, AtomicU64};

use shm_core::board::Board;

use crate::call_site::CallSites;
use crate::engine::direct::Direct;
use crate::engine::lend::Lender;
use crate::engine::link::Link;
use crate::engine::membership::Membership;
use crate::engine::neighbours::Neighbours;
use crate::engine::observe::Observer;
use crate::engine::patience::Patience;
use crate::engine::receive::Kept;
use crate::engine::receives::Receives;
use crate::engine::send::Send;
use crate::engine::slab::Slab;
use crate::error::{CallSite, Error};
use crate::job::Job;
use crate::layout::modes;
use crate::matching::{Posted, Unexpected};
use crate::turns::Turns;

/// Names an operation for as long as it is under way.
pub(crate) type OperationId = u32;

/// Which call of the user an operation belongs to: for errors and for the status line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) operation: &'static str,
    pub(crate) at: CallSite,
}

impl Caller {
    #[track_caller]
    pub(crate) fn new(operation: &'static str) -> Self {
        Self { operation, at: CallSite::here() }
    }
}

pub(crate) struct Engine {
    pub(crate) job: &'static Job,
    pub(crate) rank: usize,
    pub(crate) size: usize,
    /// Up to this a payload goes through the ring ...
    ring_limit: usize,
    /// ... and up to this through chunks, without asking the receiver.
    eager_limit: u64,
    /// Payloads shorter than this may take the short way through the ring: none while somebody watches.
    ring_below: usize,
    unexpected_bound: u64,
    pub(crate) call_sites: CallSites,

    links: Vec<Link>,
    /// There are more ranks than processors.
    pub(crate) shares_processors: bool,
    /// So many share each processor, or more.
    pub(crate) ranks_per_processor: usize,
    /// What a rank shows of a long payload in one round of a collective, if others read while it writes ...
    pub(crate) streamed_bytes: usize,
    /// ... and if all write before they read.
    pub(crate) exchanged_bytes: usize,
    /// Ranks whose ring to this one is in use.
    incoming: Vec<usize>,
    /// Which of them comes first in the next receive from any rank.
    turn_of_any: usize,
    /// Where other ranks announce their rings to this one ...
    senders: &'static [AtomicU64],
    /// ... and the sets of announced rings as last seen.
    announced: Vec<u64>,
    /// Ranks for which something waits to go out.
    outgoing: Vec<usize>,
    lender: Option<Lender>,
    direct: Direct,

    pub(crate) sends: Slab<Send>,
    pub(crate) receives: Receives,
    posted: Posted<OperationId>,
    unexpected: Unexpected<Kept>,
    /// Sends to this rank itself that wait for their receive or for the user, and sends that nobody waits for.
    unfinished_sends: usize,

    pub(crate) board: Board<'static>,
    /// The last one that had not come when this rank wanted to hear all others.
    pub(crate) waited_for_last: usize,
    /// Who sleeps: the job's set.
    sleepers: &'static [AtomicU64],
    neighbours: Neighbours,
    /// Why there can be no more collectives in this world, if so.
    pub(crate) collectives_ended: Option<Box<crate::collective::End>>,
    /// Memory for what a reduction reads from one rank, between reductions.
    pub(crate) scratch: Vec<u64>,
    membership: Membership,
    /// Every send waits for its receiver, every collective for all ranks.
    pub(crate) strict: bool,
    /// This rank runs only when it has the turn.
    turns: Option<Turns<'static>>,
    patience: Patience,
    departures_seen: u32,
    departed: Vec<bool>,
    /// How many other ranks have not departed.
    others: usize,
    /// Ranks that match no more messages: they have left, or are about to.
    refusing: Vec<bool>,
    /// The first failure of a send that nobody waits for: `finalize` reports it.
    pub(crate) lost_send: Option<Error>,
    /// Cells with messages to other ranks, or with parts of them. Most hold a whole one, and took the short way, which progresses nothing
    /// else.
    sent: u64,
    /// Receives that took the short way, and what rounds of collectives count as.
    short_ways: u32,
    /// As many of both as there were at the last look at everything.
    short_ways_seen: u32,
    /// What was found wrong with the segment: whatever has to wait fails from then on.
    damage: Option<String>,
    /// How many want to know what this rank does: the job's count ...
    watchers: &'static AtomicU32,
    /// ... and as last seen.
    watchers_seen: u32,
    observer: Option<Box<Observer>>,
}

impl Engine {
    pub(crate) fn new(job: &'static Job, rank: usize) -> Self {
        use std::sync::atomic::Ordering::Relaxed;
        let geometry = job.geometry();
        let size = job.size();
        let words = geometry.ranks.div_ceil(64);
        let cores = job.header().cores.load(Relaxed) as usize;
        let mut engine = Self {
            job,
            rank,
            size,
            ring_limit: geometry.ring_limit,
            ring_below: geometry.ring_limit + 1,
            eager_limit: job.eager_limit(),
            shares_processors: job.shares_processors(),
            ranks_per_processor: job.ranks_per_processor(),
            streamed_bytes: geometry.streamed_bytes(size, cores),
            exchanged_bytes: geometry.exchanged_bytes(),
            unexpected_bound: job.header().unexpected_bound.load(Relaxed),
            call_sites: CallSites::new(job),
            links: (0..size).map(|other| Link::new(job, rank, other)).collect(),
            incoming: Vec::new(),
            turn_of_any: 0,
            senders: &job.control(rank).senders.bits[..words],
            announced: vec![0; words],
            outgoing: Vec::new(),
            lender: None,
            direct: Direct::new(job, !job.shares_processors()),
            sends: Slab::new(),
            receives: Receives::default(),
            posted: Posted::new(size),
            unexpected: Unexpected::new(size),
            unfinished_sends: 0,
            board: job.board(rank, 0),
            waited_for_last: rank,
            sleepers: &job.header().sleepers.bits[..words],
            neighbours: Neighbours::new(job, rank),
            collectives_ended: None,
            scratch: Vec::new(),
            membership: Membership::new(job, rank, 0, 0),
            strict: job.has_mode(modes::STRICT),
            turns: Turns::of(job),
            patience: if job.has_mode(modes::CHAOS) { Patience::NONE } else { Patience::new(size, cores) },
            departures_seen: 0,
            departed: vec![false; size],
            others: size - 1,
            refusing: vec![false; size],
            lost_send: None,
            sent: 0,
            short_ways: 0,
            short_ways_seen: 0,
            damage: None,
            watchers: &job.header().watchers,
            watchers_seen: 0,
            observer: None,
        };
        engine.follow_watchers();
        engine
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Vectors of receives that are under way go with it.
        self.close_all_gates();
    }
}
