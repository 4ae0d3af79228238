//! What lies where in a job's segment. Every offset is computed here and nowhere else.
//!
//! ```text
//! 0        segment header (shm-core)                  reserved by the launcher
//! 64       JobHeader
//! 4096     RankControl × ranks, one page each         reserved by the launcher
//! ..       call-site table                            reserved by the launcher
//! ..       boards: one per rank                       reserved by their rank, as its collectives grow
//! ..       rings: ranks × ranks, row = sender         reserved by the sender: the first rows at its first message to that
//!                                                  rank, the others when that one lags behind
//! ..       transfers: one page or two per rank        reserved by the sender, at its first direct message
//! ..       pools: one per rank                        reserved by their rank, at its first long message
//! ..       tallies: one per rank                      reserved by the first who wants ranks to observe themselves
//! ..       timelines: one per rank, if the job has them         reserved by the launcher
//! ```
//!
//! Everything in it is an atomic integer or raw bytes. Zeroed memory is the valid initial state of all of it,
//! so reserving a range is all that its first user has to do.
//!
//! # Safety
//!
//! This module asserts that its `repr(C)` structs are plain atomics, valid for any bytes.
#![allow(unsafe_code)]

mod tally;

use std::mem::size_of;
use std::ops::Range;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

use shm_core::agreement::{Ballot, MAX_PARTICIPANTS, Verdict};
use shm_core::board::{AllShown, Place};
use shm_core::direct::Copying;
use shm_core::{Doorbell, Fingerprint, Format, SharedLayout, board, direct, fixed_layout, pool, ring};

use crate::engine::direct::BLOCK_BYTES;
use crate::launch::environment::PROTOCOL_VERSION;
use crate::status::OPERATIONS;
pub(crate) use tally::{Event, PeerTally, SiteTally, Tally, Traffic, event_kind};

/// What the header of a job's segment says: that it is one, and how this build lays it out.
pub(crate) const JOB_FORMAT: Format = Format { kind: u32::from_be_bytes(*b"RANK"), layout: fingerprint() };
/// Names of job segments and semaphores begin with this.
pub(crate) const NAME_PREFIX: &str = "shmrun";
/// The most ranks that one segment holds: the bit set of senders is one cache line.
pub(crate) const MAX_RANKS: usize = 512;

const PAGE: usize = 4096;

/// Bytes of one chunk of a pool.
pub(crate) const CHUNK_BYTES: usize = 16 << 10;
/// An eager message that is longer is lent in parts: its receiver copies one while its sender copies the next. Of this length ...
pub(crate) const PART_BYTES: usize = 8 << 10;
/// ... or, if it is longer than this, in whole chunks: 64 KiB take 2.50 µs in parts of 8 KiB, and 2.39 so, but 16 KiB 0.97 and 1.01
/// (65 alternating rounds on near cores of a Zen 4 machine).
const LONG_PARTS_BEYOND: u64 = 32 << 10;
/// The most parts of an eager message, which may have as many as its receiver may hold on to afterwards: half round trips of 2 ranks
/// between near cores, 15 to 69 alternating groups, with 16 parts and with 32, 384 KiB 14.0 and 11.3 µs, 512 KiB 18.6 and 15.8, windows 31.9
/// and 36.2, 32.9 and 33.3 GB/s. With 64, 1 MiB 35.4 and 33.4 µs, but windows 33.1 and 31.3 GB/s.
pub(crate) const MOST_PARTS: usize = 32;
/// The longest eager message.
pub(crate) const EAGER_BYTES: u64 = (MOST_PARTS * CHUNK_BYTES) as u64;
/// The longest one to a distant core, and where ranks may hold on to less.
pub(crate) const LESS_EAGER_BYTES: u64 = 256 << 10;
/// The most chunks of a long message that are told of at once, and how many of a matched one go to a distant core, or where there are messages for several
/// ranks, before the next one is served and incoming cells are looked at.
pub(crate) const RUN_CHUNKS: usize = 4;
/// Parts for which there is room in the rows that a ring begins with, and all that there is where there are very many ranks.
pub(crate) const FIRST_PARTS: usize = 8;

/// The length of the parts of an eager message of so many bytes, but for the last one: whole chunks, if they are `streamed` to a
/// distant core, which reads four pages of one at the same time (docs/decisions/012-distant-cores.md).
#[inline]
pub(crate) const fn part_bytes(length: u64, streamed: bool) -> usize {
    if streamed || length > LONG_PARTS_BEYOND { CHUNK_BYTES } else { PART_BYTES }
}

/// Facts about the job, written by the launcher before any rank exists.
#[repr(C, align(64))]
pub(crate) struct JobHeader {
    /// Number of ranks.
    pub(crate) ranks: AtomicU32,
    /// Processors that the job may use: ranks spin for long only when there are at least as many as ranks that do not sleep.
    pub(crate) cores: AtomicU32,
    /// Random; ties the environment variables to this segment.
    pub(crate) job: AtomicU64,
    /// Process id of the launcher.
    pub(crate) launcher_pid: AtomicU32,
    /// 1 + the rank that failed first; 0 while none has. Set once, by compare-and-swap.
    pub(crate) first_failure: AtomicU32,
    /// Start time of the launcher in clock ticks since boot: a pid alone may be reused.
    pub(crate) launcher_start: AtomicU64,
    /// Bytes of unexpected eager messages that one rank buffers from one other.
    pub(crate) unexpected_bound: AtomicU64,
    /// Grows by one with each rank that detaches or dies, after its state has changed.
    pub(crate) departures: AtomicU32,
    /// Ranks that have opened all semaphores (named-semaphores build).
    pub(crate) semaphores_opened: AtomicU32,
    /// Messages of so many bytes or more are copied directly, where the system permits it.
    pub(crate) direct_from: AtomicU64,
    /// Who wants ranks to observe themselves: the launcher, tools. The tallies are reserved before it grows.
    pub(crate) watchers: AtomicU32,
    /// Events that each rank's timeline holds; 0 if the job has no timelines.
    pub(crate) timeline_events: AtomicU32,
    /// How the ranks are to behave: see [`modes`].
    pub(crate) modes: AtomicU32,
    /// 1 + the rank that has the turn, 0 for nobody (`turns.rs`).
    pub(crate) turn: AtomicU32,
    /// What turns are drawn from.
    pub(crate) draws: AtomicU64,
    pub(crate) sleepers: Sleepers,
    pub(crate) processors: Processors,
    pub(crate) all_shown: AllShown,
    /// Whose proposal holds in what ranks agreed on last.
    pub(crate) verdict: Verdict,
    /// 1 if the job goes on when a rank fails.
    pub(crate) survives: AtomicU32,
}

/// The bits of [`JobHeader::modes`].
pub(crate) mod modes {
    /// Every send waits for its receiver, every collective for all ranks.
    pub(crate) const STRICT: u32 = 1;
    /// Ranks take turns.
    pub(crate) const CHAOS: u32 = 2;
}

/// Ranks that sleep or are about to, one bit each: who enters a collective looks here instead of at every doorbell.
/// A sleeper's status line says whom it waits for.
#[repr(C, align(64))]
pub(crate) struct Sleepers {
    pub(crate) bits: [AtomicU64; MAX_RANKS / 64],
}

/// 1 + the number of the processor on which each rank was when it last waited for long, 0 if it never has or if that is not known.
/// It may be on another one by now.
#[repr(C, align(64))]
pub(crate) struct Processors {
    pub(crate) of: [AtomicU32; MAX_RANKS],
}

/// The states of [`RankControl::state`].
pub(crate) mod rank_state {
    /// No process has claimed the rank yet. => ATTACHED
    pub(crate) const EMPTY: u32 = 0;
    /// `init` has returned in a process. => DETACHED, FAILED, DEAD
    pub(crate) const ATTACHED: u32 = 1;
    /// Finalized: sends nothing more. What it sent is still to be received.
    pub(crate) const DETACHED: u32 = 2;
    /// Said itself that it failed (panic, abort). => DEAD
    pub(crate) const FAILED: u32 = 3;
    /// The launcher saw its process end without detaching, or end before attaching.
    pub(crate) const DEAD: u32 = 4;
}

/// Bytes kept of a rank's last words: panic message, location.
pub(crate) const LAST_WORDS_BYTES: usize = 2040;

/// One rank's page: what others need to know of it.
#[repr(C, align(64))]
pub(crate) struct RankControl {
    /// Wakes the rank: messages, returned chunks, collectives, departures.
    pub(crate) doorbell: Doorbell,
    pub(crate) life: Life,
    pub(crate) senders: Senders,
    pub(crate) status: StatusLine,
    pub(crate) awaited_peers: PeersLine,
    /// Wakes the rank when it has the turn.
    pub(crate) turn_bell: Doorbell,
    pub(crate) unreceived: Unreceived,
    /// Whether the rank is copying into or out of another one's memory.
    pub(crate) copying: Copying,
    /// Its words in the collectives of the world.
    pub(crate) collective: Place,
    /// What it says where ranks agree on who is left.
    pub(crate) ballot: Ballot,
    /// Length of `last_words` in bytes; written after them (Release).
    pub(crate) last_words_length: AtomicU32,
    pub(crate) reserved: AtomicU32,
    /// UTF-8, what the panic hook or `abort` recorded.
    pub(crate) last_words: [AtomicU8; LAST_WORDS_BYTES],
}

/// Who the rank is and how it ended.
#[repr(C, align(64))]
pub(crate) struct Life {
    /// See [`rank_state`].
    pub(crate) state: AtomicU32,
    /// Process id of the claimant; claimed by compare-and-swap from 0.
    pub(crate) pid: AtomicU32,
    /// Start time of that process in clock ticks since boot.
    pub(crate) start_time: AtomicU64,
    /// Exit code that an `abort` asked for, valid when state is FAILED; or the status of `exit`, once `exited` is 1.
    pub(crate) exit_code: AtomicU32,
    /// 1 once the rank has begun to finalize: it matches no more messages.
    pub(crate) leaving: AtomicU32,
    /// 1 once the exit handler ran without a detach before it: the process called `exit`.
    pub(crate) exited: AtomicU32,
    /// 1 + the number of the world that the rank is leaving for one of the survivors: it sends nothing more there.
    pub(crate) shrinking: AtomicU32,
    /// 1 once the survivors of the rank, which has failed, have gone on without it.
    pub(crate) recovered: AtomicU32,
    /// 1 if the rank has failed so as to end the whole job.
    pub(crate) aborts: AtomicU32,
    /// The number of this rank's departure among all in the job, from 1; 0 before.
    pub(crate) departure: AtomicU32,
    /// The thread that attached, by the system's number: in a test it is not the first one of its process.
    pub(crate) thread: AtomicU32,
    /// A word of the process by which others make sure that they reach its memory, valid when state is ATTACHED.
    pub(crate) probe_address: AtomicU64,
    /// What that word says.
    pub(crate) probe_value: AtomicU64,
}

/// Ranks that have announced their ring to this rank, one bit each.
#[repr(C, align(64))]
pub(crate) struct Senders {
    pub(crate) bits: [AtomicU64; MAX_RANKS / 64],
}

/// What the rank is blocked in; written on the slow path only, just before it parks.
#[repr(C, align(64))]
pub(crate) struct StatusLine {
    /// Odd while blocked; grows by one at each change.
    pub(crate) sequence: AtomicU64,
    /// Its number, by `status::operation_number`.
    pub(crate) operation: AtomicU32,
    /// What is waited for: see [`awaits`].
    pub(crate) awaits: AtomicU32,
    /// Peer rank, or [`NO_RANK`] for any or none.
    pub(crate) peer: AtomicU32,
    /// Tag, or -1 for any or none.
    pub(crate) tag: AtomicU32,
    pub(crate) context: AtomicU32,
    /// Bytes of the message, where known.
    pub(crate) bytes: AtomicU64,
    /// Nanoseconds of CLOCK_MONOTONIC when the operation began to block.
    pub(crate) since: AtomicU64,
    /// Interned call site.
    pub(crate) call_site: AtomicU32,
    /// Once it is not blocked any more: the number of the departure that ended the wait, 0 if none did.
    pub(crate) released_by: AtomicU32,
    /// 1 when [`RankControl::unreceived`] belongs to this wait too.
    pub(crate) in_full: AtomicU32,
}

/// No rank in particular.
pub(crate) const NO_RANK: u32 = u32::MAX;

/// The values of [`StatusLine::awaits`].
pub(crate) mod awaits {
    /// The rank did not say.
    pub(crate) const UNKNOWN: u32 = 0;
    /// A message from the peer, or from anybody.
    pub(crate) const MESSAGE: u32 = 1;
    /// That the peer receives.
    pub(crate) const RECEIVER: u32 = 2;
    /// That the peer comes to the round of the board that this rank is in, or has done with one before it.
    pub(crate) const ENTRY: u32 = 3;
    /// That one of the ranks in [`super::RankControl::awaited_peers`] does something.
    pub(crate) const ONE_OF: u32 = 4;
}

/// The ranks that a blocked one waits for, one bit each, when they are several.
#[repr(C, align(64))]
pub(crate) struct PeersLine {
    pub(crate) bits: [AtomicU64; MAX_RANKS / 64],
}

/// Messages that a blocked rank knows of is listed by it, at most.
pub(crate) const UNRECEIVED_LISTED: usize = 4;

/// Messages that a blocked rank has and has not received.
#[repr(C, align(64))]
pub(crate) struct Unreceived {
    /// How many there are.
    pub(crate) count: AtomicU32,
    /// How many are listed.
    pub(crate) listed: AtomicU32,
    pub(crate) messages: [UnreceivedMessage; UNRECEIVED_LISTED],
}

/// One of them.
#[repr(C)]
pub(crate) struct UnreceivedMessage {
    pub(crate) bytes: AtomicU64,
    pub(crate) source: AtomicU32,
    pub(crate) call_site: AtomicU32,
    pub(crate) tag: AtomicU32,
    pub(crate) context: AtomicU32,
}

// A field that a list here lacks does not compile: "pattern requires `..`".
fixed_layout!(JobHeader {
    ranks,
    cores,
    job,
    launcher_pid,
    first_failure,
    launcher_start,
    unexpected_bound,
    departures,
    semaphores_opened,
    direct_from,
    watchers,
    timeline_events,
    modes,
    turn,
    draws,
    sleepers,
    processors,
    all_shown,
    verdict,
    survives,
});
fixed_layout!(Sleepers { bits });
fixed_layout!(Processors { of });
fixed_layout!(RankControl {
    doorbell,
    life,
    senders,
    status,
    awaited_peers,
    turn_bell,
    unreceived,
    copying,
    collective,
    ballot,
    last_words_length,
    reserved,
    last_words,
});
fixed_layout!(Life {
    state,
    pid,
    start_time,
    exit_code,
    leaving,
    exited,
    probe_address,
    probe_value,
    shrinking,
    recovered,
    aborts,
    departure,
    thread,
});
fixed_layout!(Senders { bits });
fixed_layout!(StatusLine {
    sequence,
    operation,
    awaits,
    peer,
    tag,
    context,
    bytes,
    since,
    call_site,
    released_by,
    in_full,
});
fixed_layout!(PeersLine { bits });
fixed_layout!(Unreceived { count, listed, messages });
fixed_layout!(UnreceivedMessage { bytes, source, call_site, tag, context });

// SAFETY: repr(C), atomics only, any bytes are valid values.
unsafe impl SharedLayout for JobHeader {}
// SAFETY: repr(C), atomics only, any bytes are valid values.
unsafe impl SharedLayout for RankControl {}

const _: () = {
    assert!(size_of::<JobHeader>() <= PAGE - shm_core::Segment::DATA_OFFSET);
    assert!(MAX_RANKS <= MAX_PARTICIPANTS);
    assert!(size_of::<Life>() == 64);
    assert!(size_of::<RankControl>() <= PAGE);
    assert!(size_of::<StatusLine>() == 64);
    assert!(size_of::<Event>() == 64);
};

/// Direct messages that one rank may have under way; more go through its pool.
pub(crate) const TRANSFERS: usize = 128;

/// Of a pool other ranks may hold on to one part of so many, all together.
const HELD_PART: usize = 4;

/// Pieces of a long payload that are shown at once where ranks share processors: see [`Geometry::streamed_bytes`].
const SHARED_PIECES: usize = 4;
/// Pieces of a rank's buffer for collectives of which it shows one at once where all show: see
/// [`Geometry::exchanged_bytes`].
const EXCHANGED_PIECES: usize = 4;

/// Rows of one ring, but for very many ranks: 64 short messages find room (docs/decisions/002-eager-lane.md).
const RING_ROWS: usize = 23;
/// Rows that a ring begins with, until its receiver lags behind: three come round while ranks answer each other, and a
/// message in parts needs room for all of them.
pub(crate) const FIRST_RING_ROWS: usize = ring::FEWEST_ROWS + FIRST_PARTS.div_ceil(ring::ROW_CELLS);

const _: () = {
    // Wherever they are, the parts of the longest eager message find room.
    assert!(MOST_PARTS.div_ceil(ring::ROW_CELLS) + ring::FEWEST_ROWS <= RING_ROWS);
    assert!((LONG_PARTS_BEYOND as usize).div_ceil(PART_BYTES) <= FIRST_PARTS && FIRST_PARTS <= MOST_PARTS);
};

/// Sizes and offsets of a job with a given number of ranks. The same in every process of the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) ranks: usize,
    /// Cells of one ring.
    pub(crate) ring_cells: usize,
    /// Longest payload that travels through a ring.
    pub(crate) ring_limit: usize,
    /// Chunks of one pool.
    pub(crate) pool_chunks: usize,
    /// Bytes of a rank's buffer for collectives.
    pub(crate) board_bytes: usize,
    /// What a rank shows in one round of a collective in which the others read one piece while it writes the next.
    pub(crate) piece_bytes: usize,
}

impl Geometry {
    /// The layout for `ranks` ranks.
    ///
    /// A pool holds 2 MiB: at least a core's
    /// L2 cache, so that lines have left the writer's L2 when they are read (docs/decisions), and always more
    /// chunks than ranks, since one per destination is kept for matched messages.
    pub(crate) const fn new(ranks: usize) -> Self {
        Self {
            ranks,
            ring_cells: ring::ROW_CELLS * if ranks > 64 { FIRST_RING_ROWS } else { RING_ROWS },
            ring_limit: ring::PAYLOAD_BYTES,
            pool_chunks: if ranks > 64 { 2 * ranks } else { 128 },
            board_bytes: if ranks <= 8 {
                2 << 20
            } else if ranks <= 16 {
                1 << 20
            } else {
                256 << 10
            },
            piece_bytes: if ranks <= 16 { 64 << 10 } else { 16 << 10 },
        }
    }

    /// What each of `size` ranks on `cores` processors shows of a long payload in one round in which the others read one piece
    /// while it writes the next. Where ranks share a processor a round takes as long as it takes for all of them to have had it:
    /// then there are fewer rounds. 1 MiB by 8 ranks on 2 processors, µs with 64 and 256 KiB: broadcasts 192 and 89, reductions
    /// 560 and 138, gathers 608 and 143.
    pub(crate) fn streamed_bytes(self, size: usize, cores: usize) -> usize {
        if size > cores { SHARED_PIECES * self.piece_bytes } else { self.piece_bytes }
    }

    /// What each rank shows of a long payload in one round in which all show before they read: as much as leaves room for the
    /// next round while somebody still reads. The first lines have left the writer's nearest caches then when they are read,
    /// and come sooner: docs/decisions/005-board.md.
    pub(crate) const fn exchanged_bytes(self) -> usize {
        self.board_bytes / EXCHANGED_PIECES
    }

    const fn add_to(self, fingerprint: Fingerprint) -> Fingerprint {
        fingerprint
            .number(self.ring_cells as u64)
            .number(ring::ROW_CELLS as u64)
            .number(ring::MOST_ROWS as u64)
            .number(self.ring_limit as u64)
            .number(self.pool_chunks as u64)
            .number(CHUNK_BYTES as u64)
            .number(PART_BYTES as u64)
            .number(LONG_PARTS_BEYOND)
            .number(MOST_PARTS as u64)
            .number(RUN_CHUNKS as u64)
            .number(self.board_bytes as u64)
            .number(self.piece_bytes as u64)
            .number(SHARED_PIECES as u64)
            .number(EXCHANGED_PIECES as u64)
    }

    pub(crate) fn header(&self) -> usize {
        shm_core::Segment::DATA_OFFSET
    }

    pub(crate) fn control(&self, rank: usize) -> usize {
        PAGE + rank * PAGE
    }

    pub(crate) fn call_sites(&self) -> usize {
        self.control(self.ranks)
    }

    /// End of what the launcher reserves before the first rank starts.
    pub(crate) fn start(&self) -> usize {
        self.call_sites() + CALL_SITES * size_of::<CallSiteEntry>()
    }

    pub(crate) fn board(&self, rank: usize) -> Range<usize> {
        block(self.start(), rank, self.board_bytes)
    }

    pub(crate) fn ring(&self, sender: usize, receiver: usize) -> Range<usize> {
        let index = sender * self.ranks + receiver;
        block(self.board(self.ranks).start, index, self.ring_size())
    }

    /// The longest message that can be eager: all of its parts have to find room in a ring at once, and its receiver may hold on to them
    /// or keep them, else it would copy an unexpected one twice.
    pub(crate) fn eager_bytes(&self) -> u64 {
        let has_all_rows = self.ring_cells == ring::ROW_CELLS * RING_ROWS;
        let held = (self.held_chunks() * CHUNK_BYTES) as u64;
        if has_all_rows { held.max(LESS_EAGER_BYTES) } else { (FIRST_PARTS * CHUNK_BYTES) as u64 }
    }

    /// How many chunks of messages that it has read a rank may hold on to, for each other rank: fewer, or none, where so many ranks do that the
    /// pools would be short of them.
    pub(crate) fn held_chunks(&self) -> usize {
        MOST_PARTS.min(self.pool_chunks / HELD_PART / (self.ranks - 1).max(1))
    }

    /// The part of a ring that its first rows lie in.
    pub(crate) fn first_rows(&self, sender: usize, receiver: usize) -> Range<usize> {
        let start = self.ring(sender, receiver).start;
        let cells = FIRST_RING_ROWS * ring::ROW_CELLS * size_of::<ring::Cell>();
        start..start + size_of::<ring::RingHeader>() + cells
    }

    pub(crate) fn transfers(&self, rank: usize) -> Range<usize> {
        const SIZE: usize = TRANSFERS * size_of::<shm_core::direct::Transfer>();
        const { assert!(SIZE.is_multiple_of(PAGE)) };
        block(self.ring(self.ranks, 0).start, rank, SIZE)
    }

    pub(crate) fn pool(&self, rank: usize) -> Range<usize> {
        block(self.transfers(self.ranks).start, rank, self.pool_size())
    }

    /// What `rank` counts of itself: its [`Tally`] ...
    pub(crate) fn tally(&self, rank: usize) -> Range<usize> {
        block(self.pool(self.ranks).start, rank, self.tally_size())
    }

    /// ... then a [`PeerTally`] for each rank ...
    pub(crate) fn peer_tallies(&self, rank: usize) -> usize {
        self.tally(rank).start + size_of::<Tally>()
    }

    /// ... then a [`SiteTally`] for each number of a call site.
    pub(crate) fn site_tallies(&self, rank: usize) -> usize {
        self.peer_tallies(rank) + self.ranks * size_of::<PeerTally>()
    }

    /// Bytes of a segment without timelines.
    pub(crate) fn size(&self) -> usize {
        self.tally(self.ranks).start
    }

    /// The timeline of `rank`, where each has room for `events`.
    pub(crate) fn timeline(&self, rank: usize, events: u32) -> Range<usize> {
        block(self.size(), rank, events as usize * size_of::<Event>())
    }

    /// Bytes of a segment whose timelines have room for so many events each.
    pub(crate) fn size_with(&self, events: u32) -> usize {
        self.timeline(self.ranks, events).start
    }

    fn tally_size(&self) -> usize {
        let lists = self.ranks * size_of::<PeerTally>() + SITE_TALLIES * size_of::<SiteTally>();
        (size_of::<Tally>() + lists).next_multiple_of(PAGE)
    }

    fn ring_size(&self) -> usize {
        (size_of::<ring::RingHeader>() + self.ring_cells * size_of::<ring::Cell>()).next_multiple_of(PAGE)
    }

    fn pool_size(&self) -> usize {
        let returns = self.pool_chunks * size_of::<shm_core::pool::Returns>();
        returns.next_multiple_of(PAGE) + self.pool_chunks * CHUNK_BYTES
    }
}

fn block(start: usize, index: usize, size: usize) -> Range<usize> {
    let begin = start + index * size;
    begin..begin + size
}

/// Entries of the call-site table: one per line of source that communicates.
pub(crate) const CALL_SITES: usize = 512;
/// One for each number of a call site, 0 included.
pub(crate) const SITE_TALLIES: usize = CALL_SITES + 1;
/// Bytes kept of a call site's file name: the end of a long path.
pub(crate) const CALL_SITE_FILE_BYTES: usize = 112;

/// A line of source code that called into the library, interned for all ranks.
#[repr(C)]
pub(crate) struct CallSiteEntry {
    /// EMPTY => CLAIMED => READY; a rank that dies in between leaves the entry CLAIMED for good.
    pub(crate) state: AtomicU32,
    pub(crate) line: AtomicU32,
    pub(crate) column: AtomicU32,
    pub(crate) file_length: AtomicU32,
    pub(crate) file: [AtomicU8; CALL_SITE_FILE_BYTES],
}

fixed_layout!(CallSiteEntry { state, line, column, file_length, file });
// SAFETY: repr(C), atomics only, any bytes are valid values.
unsafe impl SharedLayout for CallSiteEntry {}

/// Of all that lies in a job's segment, and of what else its ranks and their launcher have to agree on.
///
/// Two builds with the same fingerprint may still differ in what they do with a field: then the version of the crate,
/// or [`PROTOCOL_VERSION`], has to grow.
const fn fingerprint() -> Fingerprint {
    let structs = Fingerprint::new("job")
        .and::<JobHeader>()
        .and::<RankControl>()
        .and::<CallSiteEntry>()
        .and::<ring::RingHeader>()
        .and::<ring::Cell>()
        .and::<pool::Returns>()
        .and::<direct::Transfer>()
        .and::<Tally>()
        .and::<PeerTally>()
        .and::<SiteTally>()
        .and::<Event>();
    let constants = [
        PROTOCOL_VERSION as usize,
        cfg!(feature = "named-semaphores") as usize,
        CALL_SITES,
        TRANSFERS,
        BLOCK_BYTES,
        board::SLOT_LIMIT,
        board::SLOTS_BYTES,
    ];
    // The first message of a row of cells lies behind the others; runs of chunks come before a match, too.
    let mut result = structs.text(env!("CARGO_PKG_VERSION")).text("rows downwards, early runs");
    let mut at = 0;
    while at < constants.len() {
        result = result.number(constants[at] as u64);
        at += 1;
    }
    // The sizes of lanes change with the number of ranks, at a few of these.
    let mut ranks = 1;
    while ranks <= MAX_RANKS {
        result = Geometry::new(ranks).add_to(result);
        ranks += 1;
    }
    // Ranks compare operations by their numbers.
    let mut operation = 0;
    while operation < OPERATIONS.len() {
        result = result.text(OPERATIONS[operation]);
        operation += 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use shm_core::board::SLOTS_BYTES;

    use super::*;

    #[test]
    fn jobs_stay_within_their_memory_budgets() {
        let four = Geometry::new(4);
        assert!(four.start() <= 16 << 20);
        assert!(four.size() <= 32 << 20, "{} bytes", four.size());
        // In a /dev/shm of 1 GB (ci/many-ranks).
        let many = Geometry::new(128);
        assert!(many.size() <= 1 << 30, "{} bytes", many.size());
    }

    #[test]
    fn areas_do_not_overlap_and_every_pool_has_a_chunk_per_destination() {
        for ranks in [1, 2, 3, 8, 9, 33, 128, MAX_RANKS] {
            let geometry = Geometry::new(ranks);
            assert!(geometry.control(ranks) <= geometry.board(0).start);
            assert_eq!(geometry.board(ranks).start, geometry.ring(0, 0).start);
            assert_eq!(geometry.ring(ranks - 1, ranks - 1).end, geometry.transfers(0).start);
            assert_eq!(geometry.transfers(ranks).start, geometry.pool(0).start);
            assert_eq!(geometry.pool(ranks - 1).end, geometry.tally(0).start);
            let tally_end = geometry.site_tallies(ranks - 1) + SITE_TALLIES * size_of::<SiteTally>();
            assert!(tally_end <= geometry.tally(ranks - 1).end);
            assert_eq!(geometry.tally(ranks - 1).end, geometry.size());
            assert_eq!(geometry.timeline(ranks - 1, 8).end, geometry.size_with(8));
            assert_eq!(geometry.size_with(0), geometry.size());
            let eager = match ranks {
                ..=2 => 512 << 10,
                3..=64 => 256 << 10,
                _ => 128 << 10,
            };
            assert_eq!(geometry.eager_bytes(), eager);
            assert!(geometry.pool_chunks > ranks);
            assert!(SLOTS_BYTES + 2 * SHARED_PIECES * geometry.piece_bytes <= geometry.board_bytes);
            assert!(SLOTS_BYTES + 2 * geometry.exchanged_bytes() <= geometry.board_bytes);
            assert!(
                geometry.pool(0).start.is_multiple_of(PAGE) && geometry.board(0).start.is_multiple_of(PAGE)
            );
        }
    }
}
