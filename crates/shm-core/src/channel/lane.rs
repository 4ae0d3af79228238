//! One direction of a channel: a buffer that is either the producer's or the consumer's, in strict alternation.
//!
//! It takes references to its header and its bytes, so that the same code runs in a segment and, under the model
//! checker, on the heap. Waiting is not its business: the sides ask, and ring each other's doorbells.
//!
//! The state table and the proof are in the documentation of [`crate::channel`].
//!
//! # Safety
//!
//! Trusted for accessing the bytes only while the state word says that they belong to this side, and for staying
//! within them.
#![allow(unsafe_code)]

use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{AtomicU32, AtomicU64, UnsafeCell};

const EMPTY: u32 = 0;
const FULL: u32 = 1;

/// The words that the two sides share. Zeroed memory is an empty lane.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct LaneHeader {
    state: AtomicU32,
    reserved: AtomicU32,
    message: AtomicU64,
    total: AtomicU64,
    offset: AtomicU64,
    answers: AtomicU64,
}

impl LaneHeader {
    /// An empty lane on the heap.
    pub fn new() -> Self {
        Self {
            state: AtomicU32::new(EMPTY),
            reserved: AtomicU32::new(0),
            message: AtomicU64::new(0),
            total: AtomicU64::new(0),
            offset: AtomicU64::new(0),
            answers: AtomicU64::new(0),
        }
    }
}

#[cfg(not(loom))]
crate::fixed_layout!(LaneHeader { state, reserved, message, total, offset, answers });

impl Default for LaneHeader {
    fn default() -> Self {
        Self::new()
    }
}

/// What a chunk is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    /// Number of the message in this lane, from 1 on.
    pub message: u64,
    /// Length of the whole message in bytes.
    pub total: u64,
    /// Where in the message the chunk begins, in bytes.
    pub offset: u64,
    /// In a reply: the number of the message that it answers. Else 0.
    pub answers: u64,
}

impl Envelope {
    /// Length of the chunk in bytes: the rest of the message or as much as fits. `None` if the fields contradict
    /// each other.
    fn chunk(&self, capacity: usize) -> Option<usize> {
        let left = self.total.checked_sub(self.offset)?;
        Some(usize::try_from(left).unwrap_or(usize::MAX).min(capacity))
    }
}

/// The side that fills the buffer.
#[derive(Debug)]
pub struct Producer<'a> {
    header: &'a LaneHeader,
    buffer: &'a [UnsafeCell<u8>],
}

impl<'a> Producer<'a> {
    /// The producing side of a lane.
    ///
    /// # Safety
    ///
    /// - There is at most one producer of a lane at a time, in all processes.
    /// - `buffer` is used by this lane only.
    pub unsafe fn new(header: &'a LaneHeader, buffer: &'a [UnsafeCell<u8>]) -> Self {
        Self { header, buffer }
    }

    /// Number of the last message that this lane has carried, by whichever producer.
    pub fn last_message(&self) -> u64 {
        self.header.message.load(Relaxed)
    }

    /// Whether the last chunk has been taken, so that the next can be put.
    #[inline]
    pub fn is_empty(&self) -> bool {
        // SYNC lane-empty: what the consumer read before, it does not read any more.
        self.header.state.load(Acquire) == EMPTY
    }

    /// Puts the chunk of `message` that `envelope` describes if the buffer is empty; false if not. The caller
    /// rings the consumer afterwards.
    ///
    /// # Panics
    ///
    /// If the envelope does not fit the message.
    #[inline]
    pub fn try_put(&mut self, envelope: Envelope, message: &[u8]) -> bool {
        assert_eq!(envelope.total, message.len() as u64, "an envelope describes its message");
        let length = envelope.chunk(self.buffer.len()).expect("a chunk lies in its message");
        if !self.is_empty() {
            return false;
        }
        let start = envelope.offset as usize;
        copy_in(self.buffer, &message[start..start + length]);
        self.header.message.store(envelope.message, Relaxed);
        self.header.total.store(envelope.total, Relaxed);
        self.header.offset.store(envelope.offset, Relaxed);
        self.header.answers.store(envelope.answers, Relaxed);
        // SYNC lane-full: the consumer sees envelope and bytes. They are the consumer's from here on.
        self.header.state.store(FULL, Release);
        true
    }
}

/// The side that empties the buffer.
#[derive(Debug)]
pub struct Consumer<'a> {
    header: &'a LaneHeader,
    buffer: &'a [UnsafeCell<u8>],
}

impl<'a> Consumer<'a> {
    /// The consuming side of a lane.
    ///
    /// # Safety
    ///
    /// - There is at most one consumer of a lane at a time, in all processes.
    /// - `buffer` is used by this lane only.
    pub unsafe fn new(header: &'a LaneHeader, buffer: &'a [UnsafeCell<u8>]) -> Self {
        Self { header, buffer }
    }

    /// The envelope of the chunk that waits in the buffer, if there is one.
    #[inline]
    pub fn peek(&self) -> Option<Envelope> {
        // SYNC lane-full: envelope and bytes of the chunk are visible.
        if self.header.state.load(Acquire) != FULL {
            return None;
        }
        Some(Envelope {
            message: self.header.message.load(Relaxed),
            total: self.header.total.load(Relaxed),
            offset: self.header.offset.load(Relaxed),
            answers: self.header.answers.load(Relaxed),
        })
    }

    /// Appends the bytes of the chunk that waits to `sink` and empties the buffer. `envelope` is what
    /// [`Consumer::peek`] returned. The caller rings the producer afterwards.
    ///
    /// False, and nothing happens, if there is no chunk or the envelope is not possible.
    #[inline]
    pub fn take(&mut self, envelope: Envelope, sink: &mut Vec<u8>) -> bool {
        let Some(length) = envelope.chunk(self.buffer.len()) else {
            return false;
        };
        // SYNC lane-full
        if self.header.state.load(Acquire) != FULL {
            return false;
        }
        copy_out(&self.buffer[..length], sink);
        self.release();
        true
    }

    /// Empties the buffer without looking at its bytes. The caller rings the producer afterwards.
    pub fn discard(&mut self) {
        // SYNC lane-full
        if self.header.state.load(Acquire) == FULL {
            self.release();
        }
    }

    fn release(&mut self) {
        // SYNC lane-empty: all reads are done. The buffer is the producer's from here on.
        self.header.state.store(EMPTY, Release);
    }
}

#[cfg(not(loom))]
fn copy_in(buffer: &[UnsafeCell<u8>], chunk: &[u8]) {
    let Some(first) = buffer[..chunk.len()].first() else {
        return;
    };
    // SAFETY: in bounds by the slicing above; the bytes are the producer's while the state is EMPTY
    // (Invariant 2), and private memory does not overlap them.
    first.with_mut(|first| unsafe { crate::copy::copy(chunk.as_ptr(), first, chunk.len()) });
}

#[cfg(not(loom))]
fn copy_out(chunk: &[UnsafeCell<u8>], sink: &mut Vec<u8>) {
    let Some(first) = chunk.first() else { return };
    sink.reserve(chunk.len());
    let target = sink.spare_capacity_mut().as_mut_ptr().cast();
    // SAFETY: `chunk` is one slice and the room behind `sink` was just reserved; the bytes are the consumer's
    // while the state is FULL (Invariant 2), and private memory does not overlap them.
    first.with(|first| unsafe { crate::copy::copy(first, target, chunk.len()) });
    // SAFETY: the copy has initialised that many bytes behind the old length.
    unsafe { sink.set_len(sink.len() + chunk.len()) };
}

#[cfg(loom)]
fn copy_in(buffer: &[UnsafeCell<u8>], chunk: &[u8]) {
    for (cell, byte) in buffer.iter().zip(chunk) {
        // SAFETY: the model checker's pointer is valid inside the closure; overlaps are what it reports.
        cell.with_mut(|cell| unsafe { *cell = *byte });
    }
}

#[cfg(loom)]
fn copy_out(chunk: &[UnsafeCell<u8>], sink: &mut Vec<u8>) {
    for cell in chunk {
        // SAFETY: the model checker's pointer is valid inside the closure; overlaps are what it reports.
        sink.push(cell.with(|cell| unsafe { *cell }));
    }
}
