//! One round of a collective: this rank shows something or passes, hears those it needs, and reads.
//!
//! With each round goes its topic, what the rank believes the operation to be: kind, root, element type, call site
//! and length, packed into two words. Who hears a rank compares everything but the call site.

use shm_core::board::{Board, INLINE_WORDS, Late, Nonsense, SLOT_LIMIT, SLOTS_BYTES, Topic};
use shm_core::bytes::copy_private;

use super::{BLOCK_BYTES, Collective, Kind};
use crate::engine::publish::Blocked;
use crate::engine::{Caller, Engine};
use crate::error::{CollectiveCall, Error, Result};
use crate::layout::{CALL_SITES, MAX_RANKS};
use crate::status::operation_name;
use crate::world::COLLECTIVE;

/// "No root" in a topic.
const NO_ROOT: u64 = 0xfff;
/// The second round of a reduction in which all show what they have combined, and needs all as the first one does ...
pub(super) const SLICES: u64 = 0xffe;
/// ... and one that its rank has not come to, since something went wrong while it combined.
pub(super) const BROKEN_OFF: u64 = 0xffd;
const ROOT_SHIFT: u32 = 8;
const SITE_SHIFT: u32 = 20;
const SITE_MASK: u64 = 0xfff << SITE_SHIFT;
const TYPE_SHIFT: u32 = 32;
const _: () = assert!(MAX_RANKS <= BROKEN_OFF as usize && CALL_SITES <= 0xfff);

/// What is said of a rank that has gone on to other rounds.
const UNKNOWN: Topic = [NO_ROOT << ROOT_SHIFT, 0];

/// What is shown and kept is read once for both from this length on, in blocks that stay in a core's nearest cache: the others
/// see it later by the time that keeping it takes. all_gather by 2 ranks on near cores of a Zen 4 machine, µs, one after the
/// other and so: 8 KiB 0.68 and 0.75, 16 KiB 1.14 and 1.19, 32 KiB 2.38 and 2.26, 128 KiB 8.9 and 8.0, 512 KiB 35.0 and 33.2.
const KEPT_AT_ONCE_BYTES: usize = 32 << 10;
/// By how much the used part of a rank's buffer grows when it has been used up once.
const ROOM_GROWTH: usize = 4;

#[inline]
pub(crate) fn topic(
    kind: Kind,
    root: Option<usize>,
    element_type: u32,
    call_site: u16,
    bytes: usize,
) -> Topic {
    let root = root.map_or(NO_ROOT, |root| root as u64);
    let what = kind as u64 | root << ROOT_SHIFT | u64::from(call_site) << SITE_SHIFT;
    [what | u64::from(element_type) << TYPE_SHIFT, bytes as u64]
}

fn same(left: Topic, right: Topic) -> bool {
    (left[0] ^ right[0]) & !SITE_MASK == 0 && left[1] == right[1]
}

impl Collective<'_> {
    /// Begins the next round by showing `payload`. Blocks while a rank may still be reading what lies there, and under
    /// `--strict` until all ranks have begun the round.
    #[inline]
    pub(crate) fn show(&self, payload: &[u8]) -> Result<()> {
        self.show_both(payload, &[])
    }

    /// [`Collective::show`] of two parts, one after the other.
    #[inline]
    pub(crate) fn show_both(&self, first: &[u8], second: &[u8]) -> Result<()> {
        let mut engine = self.world.engine.borrow_mut();
        let length = first.len() + second.len();
        if !engine.board.may_show_soon(length) {
            self.await_turn(&mut engine, length)?;
        }
        engine.board.show(self.topic, [first, second]);
        engine.wake_waiting();
        if engine.strict {
            drop(engine);
            return self.hear_all_strictly();
        }
        Ok(())
    }

    /// A whole round of two ranks: shows `mine`, and puts `own` and as much of the other one's into `both`, in the order of the
    /// ranks.
    pub(super) fn swap(&self, mine: &[u8], own: &[u8], both: &mut [u8]) -> Result<()> {
        self.show(mine)?;
        let (first, second) = both.split_at_mut(own.len());
        let (other, kept, taken) =
            if self.world.rank() == 0 { (1, first, second) } else { (0, second, first) };
        // While the other one writes.
        copy_private(own, kept);
        self.hear(other)?;
        self.read(other, 0, taken)?;
        self.leave()
    }

    /// [`Collective::show`] of what this rank puts into `kept` as well.
    pub(crate) fn show_and_keep(&self, payload: &[u8], kept: &mut [u8]) -> Result<()> {
        let together = payload.len() >= KEPT_AT_ONCE_BYTES
            && self.world.engine.borrow_mut().board.may_write_ahead(payload.len());
        if !together {
            self.show(payload)?;
            copy_private(payload, kept);
            return Ok(());
        }
        let blocks = payload.chunks(BLOCK_BYTES).zip(kept.chunks_mut(BLOCK_BYTES));
        for (index, (block, kept)) in blocks.enumerate() {
            self.world.engine.borrow_mut().board.write_ahead(payload.len(), index * BLOCK_BYTES, block);
            copy_private(block, kept);
        }
        self.show(payload)
    }

    /// [`Collective::hear_all`] out of the way of those who are not strict.
    #[cold]
    fn hear_all_strictly(&self) -> Result<()> {
        self.hear_all()
    }

    /// Begins the next round without showing anything; under `--strict` all ranks show something.
    #[inline]
    pub(crate) fn pass(&self) -> Result<()> {
        let mut engine = self.world.engine.borrow_mut();
        if engine.strict {
            drop(engine);
            return self.show(&[]);
        }
        engine.board.pass(self.topic);
        Ok(())
    }

    /// Ends the round: this rank reads no more in it.
    #[inline]
    pub(crate) fn leave(&self) -> Result<()> {
        self.world.engine.borrow_mut().leave_round()
    }

    /// [`Collective::leave`] of a barrier, from which neighbours go on first if that has shown to be of use.
    #[inline]
    pub(crate) fn leave_barrier(&self) -> Result<()> {
        let mut engine = self.world.engine.borrow_mut();
        engine.leave_round()?;
        if engine.shares_processors {
            engine.leave_barrier();
        }
        Ok(())
    }

    /// Blocks until `rank` shows something in this round, and compares what it believes the operation to be.
    #[inline]
    pub(crate) fn hear(&self, rank: usize) -> Result<()> {
        let engine = &mut *self.world.engine.borrow_mut();
        for _ in 0..engine.board.pauses() {
            std::hint::spin_loop();
        }
        if !engine.board.has_shown(rank) && !engine.look_for_shown(rank) {
            self.await_shown(engine, rank)?;
        }
        self.compare(engine, rank)
    }

    /// Compares what `rank`, which has shown something, believes the operation to be.
    #[inline]
    pub(super) fn compare(&self, engine: &mut Engine, rank: usize) -> Result<()> {
        let theirs = engine.board.topic(rank);
        if same(self.topic, theirs) { Ok(()) } else { Err(self.disagreement(engine, rank, theirs)) }
    }

    /// [`Collective::hear`] for all other ranks, in a round in which this one has shown something, too: one of them may tell the rest.
    #[inline(always)]
    pub(crate) fn hear_all(&self) -> Result<()> {
        if self.is_told() {
            self.hear_teller().map(drop)
        } else {
            self.others().try_for_each(|rank| self.hear(rank))
        }
    }

    /// Copies what `rank` shows in this round; it has to have been heard.
    #[inline]
    pub(crate) fn read(&self, rank: usize, offset: usize, buffer: &mut [u8]) -> Result<()> {
        let mut engine = self.world.engine.borrow_mut();
        match engine.board.read(rank, offset, buffer) {
            Ok(()) => Ok(()),
            Err(Nonsense) => Err(self.nonsense(&mut engine, rank, offset, buffer.len())),
        }
    }

    /// [`Collective::read`], while some of `next` is written already, which has to be what this rank shows in the next
    /// round; nothing, if it shows nothing.
    #[inline]
    pub(crate) fn read_and_write(
        &self,
        rank: usize,
        offset: usize,
        buffer: &mut [u8],
        next: &[u8],
    ) -> Result<()> {
        let mut engine = self.world.engine.borrow_mut();
        match engine.board.read_and_write(rank, offset, buffer, next) {
            Ok(()) => Ok(()),
            Err(Nonsense) => Err(self.nonsense(&mut engine, rank, offset, buffer.len())),
        }
    }

    /// Copies the first `length` bytes that `rank` shows in this round, which fit into a cell.
    #[inline]
    pub(crate) fn read_short(
        &self,
        rank: usize,
        words: &mut [u64; INLINE_WORDS],
        length: usize,
    ) -> Result<()> {
        let mut engine = self.world.engine.borrow_mut();
        match engine.board.read_short(rank, words, length) {
            Ok(()) => Ok(()),
            Err(Nonsense) => Err(self.nonsense(&mut engine, rank, 0, length)),
        }
    }

    #[cold]
    fn nonsense(&self, engine: &mut Engine, rank: usize, offset: usize, length: usize) -> Error {
        let operation = self.caller.operation;
        engine.damaged(format!("rank {rank} does not show {length} bytes at {offset} in {operation}"))
    }

    /// Waits until the next round may be begun with `length` bytes.
    #[inline(never)]
    fn await_turn(&self, engine: &mut Engine, length: usize) -> Result<()> {
        if engine.board.is_short_of_room(length) {
            engine.enlarge_board(length)?;
        }
        let looks = engine.looks();
        while let Some(Late { other, wanted }) = engine.board.awaited(length) {
            let board = &mut engine.board;
            if !look_for(looks, board, |board| board.has_done(other, wanted)) {
                let blocked = self.blocked_by(other);
                self.wait(engine, other, blocked, |engine| Ok(engine.board.has_done(other, wanted)))?;
            }
        }
        Ok(())
    }

    #[cold]
    pub(super) fn await_shown(&self, engine: &mut Engine, rank: usize) -> Result<()> {
        let root = self.topic[0] >> ROOT_SHIFT & NO_ROOT;
        let needs_all = matches!(root, NO_ROOT | SLICES) || root == self.world.rank() as u64;
        let blocked = self.blocked_by(rank);
        let blocked = if needs_all { blocked.and_all_others() } else { blocked };
        self.wait(engine, rank, blocked, |engine| {
            let board = &mut engine.board;
            if board.has_shown(rank) {
                return Ok(true);
            }
            if board.has_passed(rank) {
                let theirs = board.passed_topic(rank);
                return Err(self.disagreement(engine, rank, theirs.unwrap_or(UNKNOWN)));
            }
            Ok(false)
        })?;
        engine.learn_of_order(needs_all);
        Ok(())
    }

    fn blocked_by(&self, rank: usize) -> Blocked<'static> {
        let context = self.world.context + COLLECTIVE;
        Blocked::in_collective(self.caller, rank, context, self.topic[1])
    }

    /// Waits for `rank`, progressing everything else.
    #[cold]
    fn wait(
        &self,
        engine: &mut Engine,
        rank: usize,
        blocked: Blocked<'static>,
        mut done: impl FnMut(&mut Engine) -> Result<bool>,
    ) -> Result<()> {
        let caller = self.caller;
        engine.wait_until(blocked, |engine| match done(engine) {
            Ok(true) => Some(Ok(())),
            Ok(false) => engine.gone(caller, rank).map(Err),
            Err(error) => Some(Err(error)),
        })?
    }

    #[cold]
    fn disagreement(&self, engine: &mut Engine, other: usize, theirs: Topic) -> Error {
        let mut theirs = describe(engine, theirs);
        let mine = describe(engine, self.topic);
        if (&mine.operation, mine.root, mine.bytes) == (&theirs.operation, theirs.root, theirs.bytes) {
            theirs.operation.push_str(" of another type");
        }
        let error = Disagreement { rank: engine.rank, mine, other, theirs };
        engine.collectives_ended = Some(Box::new(End::Disagreement(error.clone())));
        error.into()
    }
}

/// The operation and the call site that a topic speaks of, by their numbers.
pub(crate) fn operation_and_site([what, _]: Topic) -> (u32, u16) {
    ((what & 0xff) as u32, ((what & SITE_MASK) >> SITE_SHIFT) as u16)
}

/// The same topic, of a round with another root, or with what stands in its place.
#[inline]
pub(super) fn with_root([what, bytes]: Topic, root: u64) -> Topic {
    [what & !(NO_ROOT << ROOT_SHIFT) | root << ROOT_SHIFT, bytes]
}

fn describe(engine: &Engine, [what, bytes]: Topic) -> CollectiveCall {
    let root = what >> ROOT_SHIFT & NO_ROOT;
    let name = operation_name((what & 0xff) as u32);
    let (operation, root) = match root {
        NO_ROOT => (name.into(), None),
        BROKEN_OFF => (format!("{name} [broken off: its operation panicked]"), None),
        SLICES => (format!("{name} [second round]"), None),
        _ if what & 0xff == Kind::AllReduce as u64 => (format!("{name} [second round]"), None),
        root => (name.into(), Some(root as usize)),
    };
    CollectiveCall {
        operation,
        root,
        bytes,
        at: engine.call_sites.describe(((what & SITE_MASK) >> SITE_SHIFT) as u16),
    }
}

/// Looks at nothing but `done` while there is hope that it is about to come; whether it came.
#[inline]
fn look_for<'b>(looks: u32, board: &mut Board<'b>, done: impl Fn(&mut Board<'b>) -> bool) -> bool {
    (0..looks).any(|_| {
        board.prepare();
        std::hint::spin_loop();
        done(board)
    })
}

/// Two ranks' views of one collective.
#[derive(Debug, Clone)]
pub(crate) struct Disagreement {
    rank: usize,
    mine: CollectiveCall,
    other: usize,
    theirs: CollectiveCall,
}

/// Why there are no more collectives in a world.
pub(crate) enum End {
    /// The first disagreement: none can be trusted after it.
    Disagreement(Disagreement),
    /// This rank has failed, and the others go on.
    Failure(usize),
}

impl From<Disagreement> for Error {
    fn from(Disagreement { rank, mine, other, theirs }: Disagreement) -> Self {
        Self::CollectiveMismatch { rank, mine: Box::new(mine), other, theirs: Box::new(theirs) }
    }
}

impl Engine {
    #[inline]
    fn leave_round(&mut self) -> Result<()> {
        self.board.leave();
        self.wake_waiting();
        self.progress_after_round()
    }

    /// Looks for what `rank` shows while there is hope that it is about to come; whether it came.
    #[inline(never)]
    pub(super) fn look_for_shown(&mut self, rank: usize) -> bool {
        look_for(self.looks(), &mut self.board, |board| board.has_shown(rank))
    }

    /// Why there are no collectives any more.
    #[cold]
    pub(super) fn no_collective(&self, caller: Caller, end: &End) -> Error {
        match end {
            End::Disagreement(disagreement) => disagreement.clone().into(),
            End::Failure(rank) => self.peer_gone(caller, *rank),
        }
    }

    /// Reserves more of this rank's buffer, if there is more.
    #[cold]
    fn enlarge_board(&mut self, length: usize) -> Result<()> {
        let (job, range) = (self.job, self.job.board_range(self.rank));
        let board = &mut self.board;
        let room = board.room();
        let needed = if length > SLOT_LIMIT { SLOTS_BYTES + length } else { SLOTS_BYTES };
        // Where there is not as much memory, what is needed will do: it only turns around sooner.
        for larger in [(room * ROOM_GROWTH).max(needed).min(range.len()), needed] {
            if larger <= room {
                return Ok(());
            }
            match job.segment().reserve(range.start + room..range.start + larger) {
                Ok(()) => {
                    board.set_room(larger);
                    return Ok(());
                }
                Err(error) if larger == needed => return Err(error.into()),
                Err(_) => {}
            }
        }
        Ok(())
    }
}
