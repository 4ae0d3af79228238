//! The bulk lane: chunks that their owner lends, and that come back.
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
//! | state | its count is | who may touch its bytes | transition |
//! |---|---|---|---|
//! | free | what the owner expects | the owner | [`Owner::lend`], which expects one more => lent |
//! | lent | one less | its holder: who was told of it last | [`Holder::give_back`], which counts => free |
//!
//! The owner is the first holder of what it lends: it fills the chunk and tells a reader. Who holds a chunk may read it, fill it again and
//! tell another one, or give it back; the owner may come to hold it like anybody else.
//!
//! Only holders write counts, and the owner reads them only when it runs out of chunks: while chunks are lent and come
//! back, no line goes to and fro for them. What the owner expects is its own business.
//!
//! # Memory ordering
//!
//! That a chunk is held is told through a ring, whose publication carries the bytes over, and the count of whoever held it
//! before. `chunk-return`: the count (Release by the holder, Acquire by the owner): the holder's copy is over.
//!
//! # Safety
//!
//! Trusted for saying that [`Returns`] is plain shared memory.
#![allow(unsafe_code)]

use std::collections::VecDeque;

use crate::bytes::SharedBytes;
use crate::sync::{AtomicU32, Ordering};

/// How often one chunk has been given back, since the pool was new; goes round.
#[repr(transparent)]
pub struct Returns(AtomicU32);

impl Returns {
    /// Of a chunk that was never lent, for use on the heap. In a segment, zeroed memory is one.
    pub fn new() -> Self {
        Self(AtomicU32::new(0))
    }
}

impl Default for Returns {
    fn default() -> Self {
        Self::new()
    }
}

/// The memory of one pool: what the owner and all holders share.
#[derive(Clone, Copy)]
pub struct Pool<'a> {
    returns: &'a [Returns],
    bytes: SharedBytes<'a>,
    chunk_bytes: usize,
}

impl<'a> Pool<'a> {
    /// A pool over memory that somebody else placed.
    ///
    /// # Panics
    ///
    /// If `bytes` is not as long as all chunks together.
    pub fn new(returns: &'a [Returns], bytes: SharedBytes<'a>) -> Self {
        assert!(!returns.is_empty() && bytes.len().is_multiple_of(returns.len()));
        Self { returns, bytes, chunk_bytes: bytes.len() / returns.len() }
    }

    /// Number of chunks.
    pub fn chunks(&self) -> usize {
        self.returns.len()
    }

    /// How often a chunk has been given back.
    fn returns(&self, chunk: u32) -> u32 {
        // SYNC chunk-return
        self.returns[chunk as usize].0.load(Ordering::Acquire)
    }
}

/// Whose pool it is.
pub struct Owner<'a> {
    pool: Pool<'a>,
    free: VecDeque<u32>,
    lent: VecDeque<u32>,
    /// The counts that say that the chunks are back.
    expected: Vec<u32>,
}

impl<'a> Owner<'a> {
    /// The owner of a pool that nobody has used yet.
    pub fn new(pool: Pool<'a>) -> Self {
        let chunks = pool.chunks();
        Self { pool, free: (0..chunks as u32).collect(), lent: VecDeque::new(), expected: vec![0; chunks] }
    }

    /// Chunks that can be taken now, as far as is known without looking.
    #[inline]
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Takes a free chunk, which the caller holds then.
    #[inline]
    pub fn lend(&mut self) -> Option<u32> {
        let chunk = self.free.pop_front()?;
        let expected = &mut self.expected[chunk as usize];
        *expected = expected.wrapping_add(1);
        self.lent.push_back(chunk);
        Some(chunk)
    }

    /// The chunk that is lent next, if there is one.
    pub fn next(&self) -> Option<u32> {
        self.free.front().copied()
    }

    /// Collects the chunks that came back, and tells `returned` of each.
    ///
    /// Looks at all of them only if the oldest is not among them: mostly they come back in order.
    pub fn reclaim(&mut self, mut returned: impl FnMut(u32)) {
        let before = self.free.len();
        self.reclaim_in_order(&mut returned);
        if self.free.len() > before {
            return;
        }
        let (pool, free, expected) = (self.pool, &mut self.free, &self.expected);
        self.lent.retain(|&chunk| {
            let back = pool.returns(chunk) == expected[chunk as usize];
            if back {
                free.push_back(chunk);
                returned(chunk);
            }
            !back
        });
    }

    /// Collects the chunks that came back before the oldest that did not, and tells `returned` of each.
    pub fn reclaim_in_order(&mut self, mut returned: impl FnMut(u32)) {
        while let Some(&oldest) = self.lent.front() {
            if !self.is_back(oldest) {
                break;
            }
            self.lent.pop_front();
            self.free.push_back(oldest);
            returned(oldest);
        }
    }

    /// Takes chunks back from holders that are gone: they touch nothing any more.
    pub fn take_back(&mut self, mut is_lost: impl FnMut(u32) -> bool) {
        let (pool, free, expected) = (self.pool, &mut self.free, &mut self.expected);
        self.lent.retain(|&chunk| {
            let lost = is_lost(chunk);
            if lost {
                // Its holder may have come to give it back, or not.
                expected[chunk as usize] = pool.returns(chunk);
                free.push_back(chunk);
            }
            !lost
        });
    }

    fn is_back(&self, chunk: u32) -> bool {
        self.pool.returns(chunk) == self.expected[chunk as usize]
    }
}

/// Whoever holds chunks of a pool; any number of holders may have different ones.
#[derive(Clone, Copy)]
pub struct Holder<'a> {
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

impl<'a> Holder<'a> {
    /// A holder of chunks of this pool, of none so far.
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

    /// Copies what lies in lent chunks, one behind the other from this one on, to `buffer`: in less time if it is `fresh`, put there just now by
    /// a near owner.
    ///
    /// # Errors
    ///
    /// As [`Holder::copy_out`].
    pub fn copy_out_run(&self, chunk: u32, buffer: &mut [u8], fresh: bool) -> Result<(), NoSuchChunk> {
        self.check_run(chunk, buffer.len())?;
        let start = chunk as usize * self.pool.chunk_bytes;
        match fresh {
            true => self.pool.bytes.copy_out_fresh(start, buffer),
            false => self.pool.bytes.copy_out_upwards(start, buffer),
        }
        Ok(())
    }

    /// Puts `data` into chunks that the caller holds, one behind the other from this one on; past the caches if it is `streamed`.
    ///
    /// # Errors
    ///
    /// As [`Holder::fill`].
    pub fn fill_run(&self, chunk: u32, data: &[u8], streamed: bool) -> Result<(), NoSuchChunk> {
        self.check_run(chunk, data.len())?;
        let start = chunk as usize * self.pool.chunk_bytes;
        match streamed {
            true => self.pool.bytes.copy_in_streaming(start, data),
            false => self.pool.bytes.copy_in(start, data),
        }
        Ok(())
    }

    /// Whether chunks from this number on can hold that many bytes, one behind the other.
    ///
    /// # Errors
    ///
    /// [`NoSuchChunk`] if not.
    pub fn check_run(&self, chunk: u32, length: usize) -> Result<(), NoSuchChunk> {
        let Pool { chunk_bytes, .. } = self.pool;
        let chunks = self.pool.chunks();
        if chunk as usize >= chunks || length > (chunks - chunk as usize) * chunk_bytes {
            return Err(NoSuchChunk { chunk, length, chunks, chunk_bytes });
        }
        Ok(())
    }

    /// How many chunks there are.
    pub fn count(&self) -> usize {
        self.pool.chunks()
    }

    /// Like [`Holder::copy_out`], of what a near owner has put there just now: in less time.
    ///
    /// # Errors
    ///
    /// As [`Holder::copy_out`].
    #[inline]
    pub fn copy_out_fresh(&self, chunk: u32, offset: usize, buffer: &mut [u8]) -> Result<(), NoSuchChunk> {
        self.check(chunk, offset.saturating_add(buffer.len()))?;
        self.pool.bytes.copy_out_fresh(chunk as usize * self.pool.chunk_bytes + offset, buffer);
        Ok(())
    }

    /// Puts `data` at `offset` in a chunk that the caller holds, before it tells the next holder of it; past the caches if it is
    /// `streamed`.
    ///
    /// # Errors
    ///
    /// [`NoSuchChunk`]: the number may come from shared memory.
    #[inline]
    pub fn fill(&self, chunk: u32, offset: usize, data: &[u8], streamed: bool) -> Result<(), NoSuchChunk> {
        self.check(chunk, offset.saturating_add(data.len()))?;
        let start = chunk as usize * self.pool.chunk_bytes + offset;
        if streamed {
            self.pool.bytes.copy_in_streaming(start, data);
        } else {
            self.pool.bytes.copy_in(start, data);
        }
        Ok(())
    }

    /// Returns a chunk to its owner, who has to be woken if it waits for one.
    ///
    /// # Errors
    ///
    /// [`NoSuchChunk`]: the number comes from shared memory.
    #[inline]
    pub fn give_back(&self, chunk: u32) -> Result<(), NoSuchChunk> {
        self.check(chunk, 0)?;
        let Returns(count) = &self.pool.returns[chunk as usize];
        // Nobody else writes it while the chunk is lent: no need for a read-modify-write.
        let returned = count.load(Ordering::Relaxed).wrapping_add(1);
        // SYNC chunk-return
        count.store(returned, Ordering::Release);
        Ok(())
    }

    /// Whether a chunk of this number can hold that many bytes.
    ///
    /// # Errors
    ///
    /// [`NoSuchChunk`] if not.
    #[inline]
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
crate::fixed_layout!(Returns { 0 });

#[cfg(not(loom))]
// SAFETY: repr(transparent) around an atomic integer, for which any bytes are valid.
unsafe impl crate::SharedLayout for Returns {}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::bytes::{LINE_BYTES, Line};

    const CHUNK: usize = 16 << 10;

    /// What lies in chunks one behind the other comes out as it was put there, whichever way it went.
    #[test]
    fn runs_carry_every_byte() {
        let returns: [Returns; 4] = Default::default();
        let lines: Vec<Line> = (0..4 * CHUNK / LINE_BYTES).map(|_| Line::new()).collect();
        let holder = Holder::new(Pool::new(&returns, SharedBytes::new(&lines)));
        for (streamed, fresh) in [(false, false), (false, true), (true, false)] {
            for (chunk, length) in [(0, 4 * CHUNK), (1, 3 * CHUNK - 5), (2, CHUNK + 1), (3, 1)] {
                let data: Vec<u8> = (0..length).map(|at| (at * 7 + at / 256 + length) as u8).collect();
                holder.fill_run(chunk, &data, streamed).unwrap();
                let mut out = vec![0; length];
                holder.copy_out_run(chunk, &mut out, fresh).unwrap();
                assert!(out == data, "{length} bytes from chunk {chunk} on");
            }
        }
        assert!(holder.fill_run(2, &vec![0; 2 * CHUNK + 1], false).is_err());
        assert!(holder.copy_out_run(4, &mut [0], true).is_err());
    }
}
