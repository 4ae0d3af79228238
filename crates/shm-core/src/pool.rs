//! The bulk lane: chunks that one writer fills and lends, and readers give back.
//!
//! # The problem
//!
//! A long message moves through shared memory piece by piece while sender and receiver copy at the same time.
//! The pieces must come round slowly: a chunk that is refilled while its lines are still dirty in the other
//! core's L2 costs three times as much as one whose lines have moved on to the shared L3 (docs/decisions). So
//! chunks are taken in the order in which they came back, and the pool is as large as an L2 cache at least.
//!
//! # States of a chunk
//!
//! | state | who may touch its bytes | transition |
//! |---|---|---|
//! | FREE | the owner | `take` and filling, then [`Owner::lend`] => LENT |
//! | LENT | the reader that was told of it | [`Reader::give_back`] => FREE |
//!
//! The word stays as it is while the owner keeps the chunk in hand: only the owner would look.
//!
//! # Memory ordering
//!
//! That a chunk is lent is told through a ring, whose publication carries the bytes and the LENT word over.
//! `chunk-return`: FREE (Release by the reader, Acquire by the owner): the reader's copy is over.
//!
//! # Safety
//!
//! Trusted for saying that [`ChunkState`] is plain shared memory.
#![allow(unsafe_code)]

use std::collections::VecDeque;

use crate::bytes::SharedBytes;
use crate::distance::Distance;
use crate::sync::{AtomicU32, Ordering};

const FREE: u32 = 0;
const LENT: u32 = 1;

/// One chunk's state, on a cache line of its own: readers of different chunks do not disturb each other.
#[repr(C, align(64))]
pub struct ChunkState(AtomicU32);

impl ChunkState {
    /// A free chunk, for use on the heap. In a segment, zeroed memory is one.
    pub fn new() -> Self {
        Self(AtomicU32::new(FREE))
    }
}

impl Default for ChunkState {
    fn default() -> Self {
        Self::new()
    }
}

/// The memory of one pool: what the owner and all readers share.
#[derive(Clone, Copy)]
pub struct Pool<'a> {
    states: &'a [ChunkState],
    bytes: SharedBytes<'a>,
    chunk_bytes: usize,
}

impl<'a> Pool<'a> {
    /// A pool over memory that somebody else placed.
    ///
    /// # Panics
    ///
    /// If `bytes` is not as long as all chunks together.
    pub fn new(states: &'a [ChunkState], bytes: SharedBytes<'a>) -> Self {
        assert!(!states.is_empty() && bytes.len().is_multiple_of(states.len()));
        Self { states, bytes, chunk_bytes: bytes.len() / states.len() }
    }

    /// Bytes of one chunk.
    pub fn chunk_bytes(&self) -> usize {
        self.chunk_bytes
    }

    /// Number of chunks.
    pub fn chunks(&self) -> usize {
        self.states.len()
    }
}

/// The filling side.
pub struct Owner<'a> {
    pool: Pool<'a>,
    free: VecDeque<u32>,
    lent: VecDeque<u32>,
}

impl<'a> Owner<'a> {
    /// The owner of a pool that nobody has used yet.
    pub fn new(pool: Pool<'a>) -> Self {
        Self { pool, free: (0..pool.chunks() as u32).collect(), lent: VecDeque::new() }
    }

    /// Chunks that can be taken now, as far as is known without looking.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Takes a free chunk, puts `data` at `offset` in it, and marks it as lent; the caller then tells the reader, whose
    /// distance is `distance`.
    ///
    /// # Panics
    ///
    /// If `data` does not fit there.
    pub fn lend(&mut self, data: &[u8], offset: usize, distance: &Distance) -> Option<u32> {
        assert!(
            offset + data.len() <= self.pool.chunk_bytes,
            "{} bytes at {offset} in one chunk",
            data.len()
        );
        let chunk = self.free.pop_front()?;
        let start = chunk as usize * self.pool.chunk_bytes + offset;
        if distance.streams(data.len()) {
            self.pool.bytes.copy_in_streaming(start, data);
        } else {
            self.pool.bytes.copy_in(start, data);
        }
        // Relaxed: the ring's publication, which follows, carries it over.
        self.pool.states[chunk as usize].0.store(LENT, Ordering::Relaxed);
        self.lent.push_back(chunk);
        Some(chunk)
    }

    /// Collects the chunks that came back, and tells `returned` of each.
    ///
    /// Looks at all of them only if the oldest is not among them: mostly they come back in order.
    pub fn reclaim(&mut self, mut returned: impl FnMut(u32)) {
        let before = self.free.len();
        while let Some(&oldest) = self.lent.front() {
            if !self.is_back(oldest) {
                break;
            }
            self.lent.pop_front();
            self.free.push_back(oldest);
            returned(oldest);
        }
        if self.free.len() > before {
            return;
        }
        let (pool, free) = (self.pool, &mut self.free);
        self.lent.retain(|&chunk| {
            // SYNC chunk-return
            let back = pool.states[chunk as usize].0.load(Ordering::Acquire) == FREE;
            if back {
                free.push_back(chunk);
                returned(chunk);
            }
            !back
        });
    }

    /// Takes chunks back from readers that are gone: they read no more.
    pub fn take_back(&mut self, mut is_lost: impl FnMut(u32) -> bool) {
        let (pool, free) = (self.pool, &mut self.free);
        self.lent.retain(|&chunk| {
            let lost = is_lost(chunk);
            if lost {
                pool.states[chunk as usize].0.store(FREE, Ordering::Relaxed);
                free.push_back(chunk);
            }
            !lost
        });
    }

    /// The chunks that readers have, as far as is known without looking.
    pub fn lent(&self) -> impl Iterator<Item = u32> {
        self.lent.iter().copied()
    }

    fn is_back(&self, chunk: u32) -> bool {
        // SYNC chunk-return
        self.pool.states[chunk as usize].0.load(Ordering::Acquire) == FREE
    }
}

/// The emptying side; any number of readers may hold different chunks of a pool.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    pool: Pool<'a>,
}

/// A chunk number or length that this pool cannot have lent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "chunk {chunk} with {length} bytes does not exist in a pool of {chunks} chunks of {chunk_bytes} bytes"
)]
pub struct NoSuchChunk {
    /// The chunk asked for.
    pub chunk: u32,
    /// The bytes asked for.
    pub length: usize,
    /// Chunks of the pool.
    pub chunks: usize,
    /// Bytes of each.
    pub chunk_bytes: usize,
}

impl<'a> Reader<'a> {
    /// A reader of chunks of this pool.
    pub fn new(pool: Pool<'a>) -> Self {
        Self { pool }
    }

    /// Copies what lies at `offset` in a lent chunk to `buffer`.
    ///
    /// # Errors
    ///
    /// [`NoSuchChunk`]: all numbers come from shared memory.
    pub fn copy_out(&self, chunk: u32, offset: usize, buffer: &mut [u8]) -> Result<(), NoSuchChunk> {
        self.check(chunk, offset.saturating_add(buffer.len()))?;
        self.pool.bytes.copy_out(chunk as usize * self.pool.chunk_bytes + offset, buffer);
        Ok(())
    }

    /// Returns a chunk to its owner, who has to be woken if it waits for one.
    ///
    /// # Errors
    ///
    /// [`NoSuchChunk`]: the number comes from shared memory.
    pub fn give_back(&self, chunk: u32) -> Result<(), NoSuchChunk> {
        self.check(chunk, 0)?;
        // SYNC chunk-return
        self.pool.states[chunk as usize].0.store(FREE, Ordering::Release);
        Ok(())
    }

    /// Whether a chunk of this number can hold that many bytes.
    ///
    /// # Errors
    ///
    /// [`NoSuchChunk`] if not.
    pub fn check(&self, chunk: u32, length: usize) -> Result<(), NoSuchChunk> {
        let Pool { chunk_bytes, .. } = self.pool;
        let chunks = self.pool.chunks();
        if chunk as usize >= chunks || length > chunk_bytes {
            return Err(NoSuchChunk { chunk, length, chunks, chunk_bytes });
        }
        Ok(())
    }
}

#[cfg(not(loom))]
crate::fixed_layout!(ChunkState { 0 });

#[cfg(not(loom))]
// SAFETY: repr(C), plain bytes and atomics, any bytes are valid values.
unsafe impl crate::SharedLayout for ChunkState {}
