//! What a participant says to the others, word by word, in shared memory.

use super::{CELLS, INLINE_WORDS, TOPICS, Topic, slot};
use crate::sync::{AtomicU64, Ordering};

/// What a participant shows in one round, in one cache line. The line beside it stays empty: who looks at a line gets both of
/// a pair from its processor, and would take the next cell away from its owner. All-to-all of 64 bytes on 2 near cores of a
/// Zen 4 machine takes 0.138 µs side by side, and 0.119 so; of 1 KiB between distant ones 0.446 and 0.424.
#[derive(Debug)]
#[repr(C, align(128))]
pub(super) struct Cell {
    pub(super) round: AtomicU64,
    pub(super) topic: [AtomicU64; 2],
    /// Length of the payload, and in the upper half where in the buffer it begins, if it is not in `payload`.
    pub(super) extent: AtomicU64,
    pub(super) payload: [AtomicU64; INLINE_WORDS],
}

/// How far a participant has come. Others look at it only if they wait for somebody who has not shown anything.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Progress {
    pub(super) done: AtomicU64,
    pub(super) topics: [[AtomicU64; 2]; TOPICS as usize],
}

/// One participant's words, in shared memory. Zeroed memory is their initial state.
#[derive(Debug)]
#[repr(C)]
pub struct Place {
    pub(super) progress: Progress,
    pub(super) cells: [Cell; CELLS],
}

#[cfg(not(loom))]
crate::fixed_layout!(Cell { round, topic, extent, payload });
#[cfg(not(loom))]
crate::fixed_layout!(Progress { done, topics });
#[cfg(not(loom))]
crate::fixed_layout!(Place { progress, cells });

#[cfg(not(loom))]
const _: () = assert!(size_of::<Place>() == 128 * (1 + CELLS));

impl Place {
    /// A place on the heap before the first round.
    pub fn new() -> Self {
        let pair = || [AtomicU64::new(0), AtomicU64::new(0)];
        let cell = || Cell {
            round: AtomicU64::new(0),
            topic: pair(),
            extent: AtomicU64::new(0),
            payload: [(); INLINE_WORDS].map(|()| AtomicU64::new(0)),
        };
        let progress = Progress { done: AtomicU64::new(0), topics: [pair(), pair(), pair()] };
        Self { progress, cells: [(); CELLS].map(|()| cell()) }
    }

    #[inline]
    pub(super) fn cell(&self, round: u64) -> &Cell {
        &self.cells[slot(round)]
    }
}

/// What a participant has said of itself, for a look from outside. Out of date as soon as it is returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The last round that it has done with.
    pub done: u64,
    /// The last round in which it has shown something, 0 for none.
    pub shown: u64,
    /// What it believed that round to be.
    pub topic: Topic,
}

impl Place {
    /// How far the participant has come.
    pub fn look(&self) -> Seen {
        // SYNC board-done
        let done = self.progress.done.load(Ordering::Acquire);
        // SYNC board-show
        let rounds = self.cells.iter().map(|cell| (cell.round.load(Ordering::Acquire), cell));
        let last = rounds.max_by_key(|(round, _)| *round);
        let (shown, topic) = last.map_or((0, [0; 2]), |(round, cell)| {
            (round, [0, 1].map(|word| cell.topic[word].load(Ordering::Relaxed)))
        });
        Seen { done, shown, topic }
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}
