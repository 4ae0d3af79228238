//! A job's segment with typed views of its parts: what the launcher creates and the ranks attach to.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use shm_core::board::Seat;
use shm_core::bytes::{LINE_BYTES, SharedBytes};
use shm_core::direct::{Probe, Remote, Transfer};
use shm_core::pool::Pool;
use shm_core::ring::{Cell, Ring, RingHeader};
use shm_core::{Bell, Doorbell, Segment};

use crate::layout::{CALL_SITES, CallSiteEntry, Geometry, JobHeader, RankControl, TRANSFERS, rank_state};

/// The mapped segment of a job.
pub(crate) struct Job {
    segment: Segment,
    geometry: Geometry,
    bells: Vec<Bell>,
}

impl Job {
    /// Wraps a segment whose header says that it belongs to a job of `ranks` ranks.
    ///
    /// `bells` are the wake-up handles, one per rank.
    pub(crate) fn new(segment: Segment, geometry: Geometry, bells: Vec<Bell>) -> Self {
        assert!(segment.size() >= geometry.size() && bells.len() == geometry.ranks);
        Self { segment, geometry, bells }
    }

    pub(crate) fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    pub(crate) fn segment(&self) -> &Segment {
        &self.segment
    }

    pub(crate) fn header(&self) -> &JobHeader {
        self.segment.at(self.geometry.header())
    }

    pub(crate) fn control(&self, rank: usize) -> &RankControl {
        assert!(rank < self.geometry.ranks);
        self.segment.at(self.geometry.control(rank))
    }

    pub(crate) fn call_sites(&self) -> &[CallSiteEntry] {
        self.segment.slice_at(self.geometry.call_sites(), CALL_SITES)
    }

    pub(crate) fn bell(&self, rank: usize) -> &Bell {
        &self.bells[rank]
    }

    /// Publishes that `rank` will not send any more, and tells everyone.
    pub(crate) fn depart(&self, rank: usize, state: u32) {
        // SYNC departure: what the rank published before is visible to whoever reads its new state.
        self.control(rank).life.state.store(state, Release);
        // A rank that leaves by itself has completed what it rang before. One that died may have stopped between
        // the two steps of a ring: then a sleeper is woken whatever its doorbell says.
        self.tell_departure(if state == rank_state::DEAD { Bell::notify } else { Bell::ring });
    }

    /// Publishes that `rank` matches no more messages, and tells everyone.
    pub(crate) fn announce_leaving(&self, rank: usize) {
        // SYNC leaving: the answers to all matches of this rank are in their rings before.
        self.control(rank).life.leaving.store(1, Release);
        self.tell_departure(Bell::ring);
    }

    fn tell_departure(&self, tell: fn(&Bell, &Doorbell)) {
        self.header().departures.fetch_add(1, Release);
        for (rank, bell) in self.bells.iter().enumerate() {
            tell(bell, &self.control(rank).doorbell);
        }
    }

    /// Whether `rank` has said that it matches no more messages.
    pub(crate) fn is_leaving(&self, rank: usize) -> bool {
        // SYNC leaving
        self.control(rank).life.leaving.load(Acquire) != 0
    }

    /// The state of `rank`, see [`crate::layout::rank_state`].
    ///
    /// A word that is none of them has been written over: the rank counts as attached, so that its process is watched
    /// and its end is told.
    pub(crate) fn state(&self, rank: usize) -> u32 {
        // SYNC departure
        match self.control(rank).life.state.load(Acquire) {
            known @ rank_state::EMPTY..=rank_state::DEAD => known,
            _ => rank_state::ATTACHED,
        }
    }

    /// Says by which word others make sure that they reach the memory of this process, which is to be `rank`.
    pub(crate) fn introduce(&self, rank: usize) {
        let (life, probe) = (&self.control(rank).life, Probe::of_this_process());
        life.probe_address.store(probe.address, Relaxed);
        life.probe_value.store(probe.value, Relaxed);
    }

    /// The memory of `rank`, if it has attached and the system permits it.
    pub(crate) fn memory_of(&self, rank: usize) -> Option<Remote> {
        if self.state(rank) != rank_state::ATTACHED {
            return None;
        }
        let life = &self.control(rank).life;
        let probe =
            Probe { address: life.probe_address.load(Relaxed), value: life.probe_value.load(Relaxed) };
        Remote::open(life.pid.load(Relaxed), probe)
    }

    /// Claims the title of first failure for `rank`; false if another rank holds it.
    pub(crate) fn claim_first_failure(&self, rank: usize) -> bool {
        let mine = rank as u32 + 1;
        self.header().first_failure.compare_exchange(0, mine, Relaxed, Relaxed).is_ok()
    }
}

/// The lanes that lie in the segment.
impl Job {
    /// The ring from `sender` to `receiver`. Its range has to be reserved before it is used.
    pub(crate) fn ring(&self, sender: usize, receiver: usize) -> Ring<'_> {
        let Geometry { ring_cells, ring_bytes, .. } = self.geometry;
        let start = self.geometry.ring(sender, receiver).start;
        let cells = start + size_of::<RingHeader>();
        let bytes = cells + ring_cells * size_of::<Cell>();
        let lines = self.segment.slice_at(bytes, ring_bytes / LINE_BYTES);
        Ring::new(self.segment.at(start), self.segment.slice_at(cells, ring_cells), SharedBytes::new(lines))
    }

    /// The pool of `rank`. Its range has to be reserved before it is used.
    pub(crate) fn pool(&self, rank: usize) -> Pool<'_> {
        let Geometry { pool_chunks, chunk_bytes, .. } = self.geometry;
        let range = self.geometry.pool(rank);
        let lines = pool_chunks * chunk_bytes / LINE_BYTES;
        let bytes = self.segment.slice_at(range.end - pool_chunks * chunk_bytes, lines);
        Pool::new(self.segment.slice_at(range.start, pool_chunks), SharedBytes::new(bytes))
    }

    /// The transfers of messages that `rank` sends directly. Their range has to be reserved before it is used.
    pub(crate) fn transfers(&self, rank: usize) -> &[Transfer] {
        self.segment.slice_at(self.geometry.transfers(rank).start, TRANSFERS)
    }

    /// The seat of `rank` at the collective board. What of its buffer is used has to be reserved before.
    pub(crate) fn seat(&self, rank: usize) -> Seat<'_> {
        let range = self.geometry.board(rank);
        let lines = self.segment.slice_at(range.start, range.len() / LINE_BYTES);
        Seat { place: &self.control(rank).collective, buffer: SharedBytes::new(lines) }
    }
}
