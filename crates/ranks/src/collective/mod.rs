//! Operations of all ranks together, through the board in shared memory: each shows, the others look.
//!
//! ```text
//! barrier.rs     nobody goes on before everybody has come
//! broadcast.rs   one shows, all look
//! reduce.rs      all show, elements are combined in the order of the ranks
//! gather.rs      all show, one or all look
//! round.rs       one round: showing, hearing, comparing what the ranks believe it to be
//! teller.rs      what one rank does for all where ranks share processors
//! exchange.rs    scatter and all-to-all: all show, each looks at its part; long parts of a scatter as messages
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
mod round;
mod teller;

pub use gather::Varying;
pub(crate) use round::{End, operation_and_site};

use std::ops::Range;

pub(crate) use round::topic;
use shm_core::board::Topic;

use crate::engine::Caller;
use crate::error::{CallSite, Result};
use crate::p2p::type_hash;
use crate::status::operation_name;
use crate::world::World;

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
    #[inline]
    pub(crate) fn name(self) -> &'static str {
        operation_name(self as u32)
    }
}

/// What is read at once of a long payload that is to be combined, by cores that are near, or copied to two places: stays in a core's
/// nearest cache.
const BLOCK_BYTES: usize = 4 << 10;

/// A collective under way, on this rank.
pub(crate) struct Collective<'w> {
    world: &'w World,
    /// What this rank believes it to be, as the others compare it: see `round.rs`.
    topic: Topic,
    caller: Caller,
    /// When it began, while somebody watches; else 0.
    observed_since: u64,
}

impl Drop for Collective<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.observed_since != 0 {
            // By value: a collective that lies in registers need not move to memory for this.
            observe(self.world, self.observed_since, self.caller, self.topic[1]);
        }
    }
}

#[cold]
fn observe(world: &World, since: u64, caller: Caller, bytes: u64) {
    if let Ok(mut engine) = world.engine.try_borrow_mut() {
        engine.observe_collective(since, caller, bytes);
    }
}

impl<'w> Collective<'w> {
    /// `bytes` is what all ranks have to agree on, 0 where they may differ.
    // As a call of its own it gives its result in memory, written in parts and read back as a whole: that takes as long as
    // a third of a short collective.
    #[inline(always)]
    #[track_caller]
    pub(crate) fn new<T: 'static>(
        world: &'w World,
        kind: Kind,
        root: Option<usize>,
        bytes: usize,
    ) -> Result<Self> {
        world.next_turn();
        let at = CallSite::here();
        // Made anew for each use: as one value, which some take by reference, it would go through memory in parts.
        let caller = || Caller { operation: kind.name(), at };
        if let Some(root) = root {
            world.check_rank(root, caller())?;
        }
        let engine = world.engine.borrow();
        if let Some(end) = &engine.collectives_ended {
            return Err(engine.no_collective(caller(), end));
        }
        let call_site = engine.call_sites.intern(at);
        let observed_since = engine.observed_since();
        let topic = topic(kind, root, type_hash::<T>(), call_site, bytes);
        Ok(Self { world, topic, caller: caller(), observed_since })
    }

    pub(crate) fn caller(&self) -> Caller {
        self.caller
    }

    /// What a rank shows of a long payload in one round, where the others read one piece while it writes the next.
    #[inline]
    pub(crate) fn streamed_bytes(&self) -> usize {
        self.world.engine.borrow().streamed_bytes
    }

    /// What a rank shows of a long payload in one round in which all show before they read.
    #[inline]
    pub(crate) fn exchanged_bytes(&self) -> usize {
        self.world.engine.borrow().exchanged_bytes
    }

    /// How many ranks share each processor, rounded down, at least 1 if any do; 0 if there are enough for all.
    #[inline]
    pub(crate) fn ranks_per_processor(&self) -> usize {
        let engine = self.world.engine.borrow();
        if engine.shares_processors { engine.ranks_per_processor } else { 0 }
    }

    #[inline]
    pub(crate) fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let me = self.world.rank();
        (0..self.world.size()).filter(move |&rank| rank != me)
    }
}

/// The ranges of pieces of at most `capacity`; one empty piece if there is nothing, so that ranks still meet.
#[inline]
fn pieces(length: usize, capacity: usize) -> impl Iterator<Item = Range<usize>> {
    let mut next = Some(0);
    std::iter::from_fn(move || {
        let start = next?;
        let end = length.min(start + capacity);
        next = (end < length).then_some(end);
        Some(start..end)
    })
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
