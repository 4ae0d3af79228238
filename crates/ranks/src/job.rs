//! A job's segment with typed views of its parts: what the launcher creates and the ranks attach to.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use shm_core::board::{Board, Seat};
use shm_core::bytes::{LINE_BYTES, SharedBytes};
use shm_core::direct::{Probe, Remote, Transfer};
use shm_core::pool::Pool;
use shm_core::ring::{Consumer, Ring, RingHeader, Side};
use shm_core::{Bell, Doorbell, Segment, SegmentError};

use crate::layout::{
    CALL_SITES, CHUNK_BYTES, CallSiteEntry, Event, Geometry, JobHeader, LESS_EAGER_BYTES, PeerTally,
    RankControl, SITE_TALLIES, SiteTally, TRANSFERS, Tally, modes, rank_state,
};
use crate::turns::Turns;

/// The mapped segment of a job, as the ranks of one world see it: by their numbers in that world.
///
/// The places of ranks in the segment never change. Who is `r` in a world of survivors has the place of the rank that
/// it was at first.
pub(crate) struct Job {
    segment: Arc<Segment>,
    geometry: Geometry,
    bells: Arc<[Bell]>,
    /// The place of each rank.
    places: Vec<usize>,
}

impl Job {
    /// Wraps a segment whose header says that it belongs to a job of `ranks` ranks.
    ///
    /// `bells` are the wake-up handles, one per rank.
    pub(crate) fn new(segment: Segment, geometry: Geometry, bells: Vec<Bell>) -> Self {
        assert!(segment.size() >= geometry.size() && bells.len() == geometry.ranks);
        let places = (0..geometry.ranks).collect();
        Self { segment: Arc::new(segment), geometry, bells: bells.into(), places }
    }

    /// The job as a world of `members`, which are ranks of this one, sees it.
    pub(crate) fn of(&self, members: &[usize]) -> Self {
        let places = members.iter().map(|&rank| self.places[rank]).collect();
        Self { segment: self.segment.clone(), geometry: self.geometry, bells: self.bells.clone(), places }
    }

    /// The number of ranks.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        self.places.len()
    }

    /// Whether there are more ranks than processors.
    pub(crate) fn shares_processors(&self) -> bool {
        self.size() > self.header().cores.load(Relaxed) as usize
    }

    /// How many ranks share each processor, rounded down.
    pub(crate) fn ranks_per_processor(&self) -> usize {
        self.size() / (self.header().cores.load(Relaxed) as usize).max(1)
    }

    /// The place of `rank` in the segment: the number by which the launcher knows it.
    pub(crate) fn place(&self, rank: usize) -> usize {
        self.places[rank]
    }

    /// Who has a place in the segment; `None` if that rank is not of this world.
    pub(crate) fn rank_at(&self, place: usize) -> Option<usize> {
        // In order: survivors keep theirs.
        self.places.binary_search(&place).ok()
    }

    /// A job as a process sees it that wakes nobody in it.
    pub(crate) fn view(segment: Segment, geometry: Geometry) -> Self {
        assert!(segment.size() >= geometry.size());
        let places = (0..geometry.ranks).collect();
        Self { segment: Arc::new(segment), geometry, bells: Arc::new([]), places }
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

    /// The length from which on messages are copied directly; never 0.
    pub(crate) fn direct_from(&self) -> u64 {
        self.header().direct_from.load(Relaxed).max(1)
    }

    /// The longest message that is sent without waiting for its receiver, between near cores.
    pub(crate) fn eager_limit(&self) -> u64 {
        // How far cores are from each other is measured, and may come out otherwise when turns are to repeat.
        let most = if self.has_mode(modes::CHAOS) { LESS_EAGER_BYTES } else { u64::MAX };
        self.geometry.eager_bytes().min(self.direct_from() - 1).min(most)
    }

    /// The same between any cores.
    pub(crate) fn least_eager_limit(&self) -> u64 {
        self.eager_limit().min(LESS_EAGER_BYTES)
    }

    /// Whether the job was started with this one of [`crate::layout::modes`].
    pub(crate) fn has_mode(&self, mode: u32) -> bool {
        self.header().modes.load(Relaxed) & mode != 0
    }

    pub(crate) fn control(&self, rank: usize) -> &RankControl {
        self.segment.at(self.geometry.control(self.places[rank]))
    }

    /// The control block at a place in the segment, whoever has it in this world.
    pub(crate) fn control_at(&self, place: usize) -> &RankControl {
        assert!(place < self.geometry.ranks);
        self.segment.at(self.geometry.control(place))
    }

    /// The doorbell's handle of a place in the segment.
    pub(crate) fn bell_at(&self, place: usize) -> &Bell {
        &self.bells[place]
    }

    pub(crate) fn call_sites(&self) -> &[CallSiteEntry] {
        self.segment.slice_at(self.geometry.call_sites(), CALL_SITES)
    }

    pub(crate) fn bell(&self, rank: usize) -> &Bell {
        &self.bells[self.places[rank]]
    }

    /// Publishes that `rank` will not send any more, and tells everyone.
    pub(crate) fn depart(&self, rank: usize, state: u32) {
        // SYNC departure: what the rank published before is visible to whoever reads its new state.
        self.control(rank).life.state.store(state, Release);
        // A rank that leaves by itself has completed what it rang before. One that died may have stopped between
        // the two steps of a ring: then a sleeper is woken whatever its doorbell says.
        let number = self.header().departures.fetch_add(1, Release).wrapping_add(1);
        self.control(rank).life.departure.store(number, Relaxed);
        self.ring_all(if state == rank_state::DEAD { Bell::notify } else { Bell::ring });
        if let Some(turns) = Turns::of(self) {
            turns.leave(self.places[rank]);
        }
    }

    /// Publishes that `rank` matches no more messages, and tells everyone.
    pub(crate) fn announce_leaving(&self, rank: usize) {
        // SYNC leaving: the answers to all matches of this rank are in their rings before.
        self.control(rank).life.leaving.store(1, Release);
        self.tell_departure(Bell::ring);
    }

    /// Tells everyone that there is something new about ranks that leave.
    pub(crate) fn tell_departure(&self, tell: fn(&Bell, &Doorbell)) {
        self.header().departures.fetch_add(1, Release);
        self.ring_all(tell);
    }

    /// Wakes every rank of this world, after the store that they may wait for.
    pub(crate) fn ring_all(&self, tell: fn(&Bell, &Doorbell)) {
        (0..self.size()).for_each(|rank| tell(self.bell(rank), &self.control(rank).doorbell));
    }

    /// Publishes that `rank` leaves this world, which is number `world`, for one of the survivors, and tells everyone.
    pub(crate) fn announce_shrinking(&self, rank: usize, world: u32) {
        // SYNC shrinking: what the rank has sent in this world is in its rings before.
        self.control(rank).life.shrinking.store(world + 1, Release);
        self.tell_departure(Bell::ring);
    }

    /// Whether `rank` has left world number `world` for one of the survivors.
    pub(crate) fn is_shrinking(&self, rank: usize, world: u32) -> bool {
        // SYNC shrinking
        self.control(rank).life.shrinking.load(Acquire) > world
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
        self.state_at(self.places[rank])
    }

    /// The state of the rank at a place in the segment.
    pub(crate) fn state_at(&self, place: usize) -> u32 {
        // SYNC departure
        match self.control_at(place).life.state.load(Acquire) {
            known @ rank_state::EMPTY..=rank_state::DEAD => known,
            _ => rank_state::ATTACHED,
        }
    }

    /// Says by which word others make sure that they reach the memory of this process, which is to be `rank`, and which
    /// of its threads that is.
    pub(crate) fn introduce(&self, rank: usize) {
        let (life, probe) = (&self.control(rank).life, Probe::of_this_process());
        life.thread.store(rustix::thread::gettid().as_raw_nonzero().get() as u32, Relaxed);
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

    /// Whether the job goes on when a rank fails.
    pub(crate) fn survives(&self) -> bool {
        self.header().survives.load(Relaxed) != 0
    }

    /// Says whether it does, before any rank exists.
    pub(crate) fn set_survives(&self, survives: bool) {
        self.header().survives.store(survives.into(), Relaxed);
    }

    /// Says that the others have gone on without `rank`, which has failed.
    pub(crate) fn note_recovery(&self, rank: usize) {
        self.control(rank).life.recovered.store(1, Relaxed);
    }

    /// Claims the title of first failure for `rank`; false if another rank holds it.
    pub(crate) fn claim_first_failure(&self, rank: usize) -> bool {
        let mine = self.places[rank] as u32 + 1;
        self.header().first_failure.compare_exchange(0, mine, Relaxed, Relaxed).is_ok()
    }
}

/// What ranks say of themselves while somebody watches.
impl Job {
    /// Makes the ranks observe themselves, from the next time that they look at everything.
    ///
    /// # Errors
    ///
    /// There is no room for the tallies.
    pub(crate) fn begin_watching(&self) -> Result<(), SegmentError> {
        self.segment.reserve(self.geometry.tally(0).start..self.geometry.size())?;
        // SYNC watchers: the tallies are backed by memory.
        self.header().watchers.fetch_add(1, Release);
        Ok(())
    }

    /// Takes [`Job::begin_watching`] back.
    pub(crate) fn end_watching(&self) {
        // Never below 0, whatever others have written there.
        let fewer = |watchers: u32| watchers.checked_sub(1);
        let _ = self.header().watchers.fetch_update(Relaxed, Relaxed, fewer);
    }

    pub(crate) fn tally(&self, rank: usize) -> &Tally {
        self.segment.at(self.geometry.tally(self.places[rank]).start)
    }

    /// By place, not by number in this world.
    pub(crate) fn peer_tallies(&self, rank: usize) -> &[PeerTally] {
        self.segment.slice_at(self.geometry.peer_tallies(self.places[rank]), self.geometry.ranks)
    }

    pub(crate) fn site_tallies(&self, rank: usize) -> &[SiteTally] {
        self.segment.slice_at(self.geometry.site_tallies(self.places[rank]), SITE_TALLIES)
    }

    /// The timeline of `rank`: empty if the job has none, or its size is nonsense.
    pub(crate) fn timeline(&self, rank: usize) -> &[Event] {
        let events = self.header().timeline_events.load(Relaxed);
        if self.segment.size() != self.geometry.size_with(events) {
            return &[];
        }
        self.segment.slice_at(self.geometry.timeline(self.places[rank], events).start, events as usize)
    }
}

/// The lanes that lie in the segment, and where that is.
impl Job {
    pub(crate) fn ring_range(&self, sender: usize, receiver: usize) -> Range<usize> {
        self.geometry.ring(self.places[sender], self.places[receiver])
    }

    pub(crate) fn pool_range(&self, rank: usize) -> Range<usize> {
        self.geometry.pool(self.places[rank])
    }

    pub(crate) fn transfers_range(&self, rank: usize) -> Range<usize> {
        self.geometry.transfers(self.places[rank])
    }

    pub(crate) fn board_range(&self, rank: usize) -> Range<usize> {
        self.geometry.board(self.places[rank])
    }

    /// The part of a ring that its first rows lie in.
    pub(crate) fn first_rows_range(&self, sender: usize, receiver: usize) -> Range<usize> {
        self.geometry.first_rows(self.places[sender], self.places[receiver])
    }

    /// The ring from `sender` to `receiver`. What is used of its range has to be reserved before.
    pub(crate) fn ring(&self, sender: usize, receiver: usize) -> Ring<'_> {
        let start = self.ring_range(sender, receiver).start;
        let cells = self.segment.slice_at(start + size_of::<RingHeader>(), self.geometry.ring_cells);
        Ring::new(self.segment.at(start), cells)
    }

    /// The reading half of the ring from `sender` to `receiver`, which has been announced, and the receiver's side of the shuttle
    /// between both. It lies in the ring from the rank that has the place before: which of both is asked for only
    /// when both rings are there.
    pub(crate) fn consumer(&self, sender: usize, receiver: usize) -> Consumer<'_> {
        let is_first = self.places[receiver] < self.places[sender];
        let (side, shuttle) = match is_first {
            true => (Side::First, self.ring(receiver, sender).shuttle()),
            false => (Side::Second, self.ring(sender, receiver).shuttle()),
        };
        Consumer::with_shuttle(self.ring(sender, receiver), shuttle, side)
    }

    /// The pool of `rank`. Its range has to be reserved before it is used.
    pub(crate) fn pool(&self, rank: usize) -> Pool<'_> {
        let pool_chunks = self.geometry.pool_chunks;
        let range = self.pool_range(rank);
        let lines = pool_chunks * CHUNK_BYTES / LINE_BYTES;
        let bytes = self.segment.slice_at(range.end - pool_chunks * CHUNK_BYTES, lines);
        Pool::new(self.segment.slice_at(range.start, pool_chunks), SharedBytes::new(bytes))
    }

    /// The transfers of messages that `rank` sends directly. Their range has to be reserved before it is used.
    pub(crate) fn transfers(&self, rank: usize) -> &[Transfer] {
        self.segment.slice_at(self.transfers_range(rank).start, TRANSFERS)
    }

    /// The collective board as `rank` sees it when all have done with everything up to `round`.
    pub(crate) fn board(&self, rank: usize, round: u64) -> Board<'_> {
        let mut board = Board::after((0..self.size()).map(|rank| self.seat(rank)), rank, round);
        if self.ranks_per_processor() > 1 {
            board.share_all_shown(&self.header().all_shown);
        }
        board
    }

    /// The seat of `rank` at the collective board. What of its buffer is used has to be reserved before.
    pub(crate) fn seat(&self, rank: usize) -> Seat<'_> {
        let range = self.board_range(rank);
        let lines = self.segment.slice_at(range.start, range.len() / LINE_BYTES);
        Seat { place: &self.control(rank).collective, buffer: SharedBytes::new(lines) }
    }
}
