//! Operations of all ranks together, through the board in shared memory: each shows, the others look.
//!
//! ```text
//! barrier.rs     nobody goes on before everybody has come
//! broadcast.rs   one shows, all look
//! reduce.rs      all show, elements are combined in the order of the ranks
//! gather.rs      all show, one or all look
//! exchange.rs    scatter and all-to-all: through the board if it fits, as messages if not
//! ```
//!
//! All ranks have to call the same collectives in the same order. Every rank says with each round what it believes
//! the operation to be, and compares what the others say: a disagreement is an error on the ranks that see it.
//! After one, collectives cannot be used any more, since the ranks are out of step.

mod barrier;
mod broadcast;
mod exchange;
mod gather;
mod reduce;

pub use gather::Varying;

use std::sync::atomic::Ordering::Relaxed;

use shm_core::board::Board;

use crate::engine::publish::Blocked;
use crate::engine::{Caller, Engine};
use crate::error::{CollectiveCall, Error, Result};
use crate::p2p::type_hash;
use crate::status::operation_name;
use crate::world::{COLLECTIVE, World};

/// The collectives, by their numbers among all operations (`status.rs`), which ranks compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Kind {
    Barrier = 15,
    Broadcast,
    BroadcastVec,
    Reduce,
    AllReduce,
    Scan,
    Gather,
    GatherVarying,
    AllGather,
    AllGatherVarying,
    Scatter,
    ScatterVarying,
    AllToAll,
    AllToAllVarying,
    BroadcastObject,
    GatherObject,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        operation_name(self as u32)
    }
}

/// "No root" in a signature.
const NO_ROOT: u32 = u32::MAX;

/// A collective under way, on this rank.
pub(crate) struct Collective<'w> {
    world: &'w World,
    kind: Kind,
    root: Option<usize>,
    bytes: u64,
    element_type: u32,
    caller: Caller,
}

impl<'w> Collective<'w> {
    /// `bytes` is what all ranks have to agree on, 0 where they may differ.
    #[track_caller]
    pub(crate) fn new<T: 'static>(
        world: &'w World,
        kind: Kind,
        root: Option<usize>,
        bytes: usize,
    ) -> Result<Self> {
        let caller = Caller::new(kind.name());
        if let Some(root) = root {
            world.check_rank(root, caller)?;
        }
        world.engine.borrow_mut().open_board()?;
        Ok(Self { world, kind, root, bytes: bytes as u64, element_type: type_hash::<T>(), caller })
    }

    pub(crate) fn caller(&self) -> Caller {
        self.caller
    }

    /// Bytes that a rank can show in one round.
    pub(crate) fn capacity(&self) -> usize {
        self.world.engine.borrow().job.geometry().board_bytes
    }

    pub(crate) fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let me = self.world.rank();
        (0..self.world.size()).filter(move |&rank| rank != me)
    }

    /// Enters the next round, showing `parts` at their offsets. Blocks while a rank has not entered the round
    /// before: it may still be reading.
    pub(crate) fn show(&self, parts: &[(usize, &[u8])]) -> Result<()> {
        let mut engine = self.world.engine.borrow_mut();
        loop {
            let Some(awaited) = engine.board()?.awaited() else { break };
            self.await_rank(&mut engine, awaited)?;
        }
        self.sign(&mut engine)?;
        let board = engine.board()?;
        for (offset, part) in parts {
            board.write(*offset, part);
        }
        board.enter();
        engine.wake_others();
        Ok(())
    }

    /// Blocks until `rank` has entered this round, and compares what it believes the operation to be.
    pub(crate) fn hear(&self, rank: usize) -> Result<()> {
        let mut engine = self.world.engine.borrow_mut();
        self.await_rank(&mut engine, rank)?;
        self.compare(&mut engine, rank)
    }

    /// [`Collective::hear`] for all other ranks.
    pub(crate) fn hear_all(&self) -> Result<()> {
        self.others().try_for_each(|rank| self.hear(rank))
    }

    /// Copies what `rank` shows in this round; it has to have been heard.
    pub(crate) fn read(&self, rank: usize, offset: usize, buffer: &mut [u8]) -> Result<()> {
        self.world.engine.borrow_mut().board()?.read(rank, offset, buffer);
        Ok(())
    }

    #[inline]
    fn await_rank(&self, engine: &mut Engine, rank: usize) -> Result<()> {
        if engine.board()?.has_entered(rank) {
            return Ok(());
        }
        let Self { caller, world, bytes, .. } = *self;
        let blocked = Blocked::in_collective(caller, rank, world.context + COLLECTIVE, bytes);
        engine.wait_until(blocked, |engine| match engine.board().map(|board| board.has_entered(rank)) {
            Ok(true) => Some(Ok(())),
            Ok(false) => engine.gone(caller, rank).map(Err),
            Err(error) => Some(Err(error)),
        })?
    }

    fn words(&self, call_site: u16) -> [u64; 3] {
        let root = self.root.map_or(NO_ROOT, |root| root as u32);
        let what = (self.kind as u64) << 32 | u64::from(root);
        [what, self.bytes, u64::from(self.element_type) << 32 | u64::from(call_site)]
    }

    /// Says in this rank's line what the next round is, before it is entered.
    fn sign(&self, engine: &mut Engine) -> Result<()> {
        let call_site = engine.call_sites.intern(self.caller.at);
        let round = engine.board()?.round() + 1;
        let line = &engine.job.control(engine.rank).collective.signatures[round as usize % 2];
        let [what, bytes, element_type] = self.words(call_site);
        // Relaxed: entering the round (board-enter) carries them over.
        line.operation_and_root.store(what, Relaxed);
        line.bytes.store(bytes, Relaxed);
        line.type_and_site.store(element_type, Relaxed);
        Ok(())
    }

    #[inline]
    fn compare(&self, engine: &mut Engine, rank: usize) -> Result<()> {
        let round = engine.board()?.round();
        let line = &engine.job.control(rank).collective.signatures[round as usize % 2];
        let what = line.operation_and_root.load(Relaxed);
        let bytes = line.bytes.load(Relaxed);
        let element_type = line.type_and_site.load(Relaxed);
        let mine = self.words(0);
        if [what, bytes, element_type >> 32] == [mine[0], mine[1], mine[2] >> 32] {
            return Ok(());
        }
        Err(self.disagreement(engine, rank, [what, bytes, element_type]))
    }

    #[cold]
    fn disagreement(&self, engine: &mut Engine, other: usize, [what, bytes, site]: [u64; 3]) -> Error {
        let root = Some(what as u32).filter(|&root| root != NO_ROOT).map(|root| root as usize);
        let operation = operation_name((what >> 32) as u32);
        let same_shape = [what, bytes] == self.words(0)[..2];
        let theirs = CollectiveCall {
            operation: if same_shape { format!("{operation} of another type") } else { operation.into() },
            root,
            bytes,
            at: engine.call_sites.describe(site as u16),
        };
        let mine = CollectiveCall {
            operation: self.kind.name().into(),
            root: self.root,
            bytes: self.bytes,
            at: self.caller.at.to_string(),
        };
        let error = Disagreement { rank: engine.rank, mine, other, theirs };
        engine.disagreement = Some(Box::new(error.clone()));
        error.into()
    }
}

/// Two ranks' views of one collective.
#[derive(Debug, Clone)]
pub(crate) struct Disagreement {
    rank: usize,
    mine: CollectiveCall,
    other: usize,
    theirs: CollectiveCall,
}

impl From<Disagreement> for Error {
    fn from(Disagreement { rank, mine, other, theirs }: Disagreement) -> Self {
        Self::CollectiveMismatch { rank, mine: Box::new(mine), other, theirs: Box::new(theirs) }
    }
}

impl Engine {
    /// Makes this rank's part of the board usable.
    fn open_board(&mut self) -> Result<()> {
        if let Some(disagreement) = &self.disagreement {
            return Err((**disagreement).clone().into());
        }
        if self.board.is_none() {
            self.job.segment().reserve(self.job.geometry().board(self.rank))?;
            let seats = (0..self.size).map(|rank| self.job.seat(rank)).collect();
            self.board = Some(Board::new(seats, self.rank));
        }
        Ok(())
    }

    fn board(&mut self) -> Result<&mut Board<'static>> {
        match &mut self.board {
            Some(board) => Ok(board),
            None => Err(Error::Damaged { what: "a collective runs without its board".into() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Kind;

    #[test]
    fn kinds_are_numbered_like_operations() {
        assert_eq!((Kind::Barrier.name(), Kind::AllReduce.name()), ("barrier", "all_reduce"));
        assert_eq!(
            (Kind::AllToAllVarying.name(), Kind::GatherObject.name()),
            ("all_to_all_varying", "gather_object")
        );
    }
}
