//! The user's memory while an operation is under way: owned by the engine, or borrowed from a caller who waits.
//!
//! # Safety
//!
//! Trusted for pointers to borrowed buffers. Who creates one ([`Outgoing::borrowed`], [`Incoming::borrowed`], [`BorrowedBuffer::new`],
//! [`BorrowedBuffer::overlapping`]) promises to drop it before the borrow ends, or to withdraw it from the engine that it was given to:
//! `p2p.rs` does so before it returns, `scope.rs` before the scope ends.
#![allow(unsafe_code)]

use std::any::Any;
use std::ops::Range;
use std::ptr::NonNull;

use bytemuck::{AnyBitPattern, NoUninit};

/// A payload to be sent.
pub(crate) enum Outgoing {
    /// The engine has it until the request is completed.
    Owned(Box<dyn OwnedPayload>),
    /// A caller waits, or a scope is open.
    Borrowed(BorrowedPayload),
    /// Handed back, or never there.
    Gone,
}

/// A `Vec` of plain elements whose type the engine does not know.
pub(crate) trait OwnedPayload: Send {
    fn bytes(&self) -> &[u8];
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

impl<T: NoUninit + Send> OwnedPayload for Vec<T> {
    fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(self)
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// A slice of somebody else's memory.
pub(crate) struct BorrowedPayload {
    start: *const u8,
    length: usize,
}

// SAFETY: the memory is plain bytes behind a shared borrow, readable from any thread.
unsafe impl Send for BorrowedPayload {}

impl Outgoing {
    /// # Safety
    ///
    /// The engine must drop the result before the borrow of `bytes` ends.
    pub(crate) unsafe fn borrowed(bytes: &[u8]) -> Self {
        Self::Borrowed(BorrowedPayload { start: bytes.as_ptr(), length: bytes.len() })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Owned(payload) => payload.bytes(),
            // SAFETY: by the contract of `borrowed` the slice is still borrowed.
            Self::Borrowed(payload) => unsafe { std::slice::from_raw_parts(payload.start, payload.length) },
            Self::Gone => &[],
        }
    }

    /// A private copy of the payload.
    pub(crate) fn copy(&self) -> Self {
        Self::Owned(Box::new(self.bytes().to_vec()))
    }

    /// Takes a private copy, so that the borrow may end.
    pub(crate) fn detach(&mut self) {
        if let Self::Borrowed(_) = self {
            *self = self.copy();
        }
    }
}

/// A place for a message that comes in.
pub(crate) enum Incoming {
    /// The engine has it until the request is completed.
    Owned(Box<dyn OwnedBuffer>),
    /// A caller waits, or a scope is open.
    Borrowed(BorrowedBuffer),
    /// Nobody wants the message any more.
    Discard,
}

/// A `Vec` to be filled whose element type the engine does not know.
pub(crate) trait OwnedBuffer: Send {
    /// Makes room for a message of `length` bytes.
    fn prepare(&mut self, length: u64) -> Result<(), Unfit>;
    fn bytes_mut(&mut self) -> &mut [u8];
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

/// Why a message does not go into a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// The buffer has only this many bytes.
    TooShort(u64),
    /// No memory, or no whole number of elements.
    NoMemory,
}

/// A vector that grows to the length of the message.
pub(crate) struct Growing<T>(pub(crate) Vec<T>);

impl<T: AnyBitPattern + NoUninit + Send> OwnedBuffer for Growing<T> {
    fn prepare(&mut self, length: u64) -> Result<(), Unfit> {
        let bytes = usize::try_from(length).map_err(|_| Unfit::NoMemory)?;
        let elements = bytes.div_ceil(size_of::<T>().max(1));
        self.0 = bytemuck::allocation::try_zeroed_vec(elements).map_err(|()| Unfit::NoMemory)?;
        Ok(())
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.0)
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        Box::new(self.0)
    }
}

/// A vector that keeps its length.
pub(crate) struct Fixed<T>(pub(crate) Vec<T>);

impl<T: AnyBitPattern + NoUninit + Send> OwnedBuffer for Fixed<T> {
    fn prepare(&mut self, length: u64) -> Result<(), Unfit> {
        let room = self.bytes_mut().len() as u64;
        if length > room { Err(Unfit::TooShort(room)) } else { Ok(()) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.0)
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        Box::new(self.0)
    }
}

/// A mutable slice of somebody else's memory.
pub(crate) struct BorrowedBuffer {
    start: *mut u8,
    length: usize,
}

// SAFETY: the memory is plain bytes that nobody else looks at, writable from any one thread.
unsafe impl Send for BorrowedBuffer {}

impl BorrowedBuffer {
    /// # Safety
    ///
    /// The result, and whatever is made of it, must be dropped before the borrow of `bytes` ends.
    #[inline]
    pub(crate) unsafe fn new(bytes: &mut [u8]) -> Self {
        Self { start: bytes.as_mut_ptr(), length: bytes.len() }
    }

    /// Memory that several receives fill.
    ///
    /// # Safety
    ///
    /// `length` bytes from `start` on may be written until the result, and whatever is made of it, has been dropped, and nobody but the engine
    /// looks at them.
    #[inline]
    pub(crate) unsafe fn overlapping(start: NonNull<u8>, length: usize) -> Self {
        Self { start: start.as_ptr(), length }
    }

    /// The memory to fill.
    #[inline]
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: by the contract of `new` the slice is still exclusively borrowed; in memory that receives share, by that of `overlapping`, the
        // engine, which is one thread, is at one of them at a time, and what another process fills meanwhile is not part of the result.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.length) }
    }
}

#[cfg(test)]
impl BorrowedBuffer {
    /// Of nobody who would want it back.
    pub(crate) fn leaked(length: usize) -> Self {
        let bytes = vec![0; length].leak();
        Self { start: bytes.as_mut_ptr(), length }
    }
}

impl Incoming {
    /// # Safety
    ///
    /// As [`BorrowedBuffer::new`].
    pub(crate) unsafe fn borrowed(bytes: &mut [u8]) -> Self {
        // SAFETY: the caller's promise.
        Self::Borrowed(unsafe { BorrowedBuffer::new(bytes) })
    }

    pub(crate) fn prepare(&mut self, length: u64) -> Result<(), Unfit> {
        match self {
            Self::Owned(buffer) => buffer.prepare(length),
            Self::Borrowed(buffer) if length > buffer.length as u64 => {
                Err(Unfit::TooShort(buffer.length as u64))
            }
            Self::Borrowed(_) | Self::Discard => Ok(()),
        }
    }

    /// Where the memory begins, for another process that fills it; `None` if what comes is to be thrown away.
    pub(crate) fn address(&mut self) -> Option<u64> {
        let start = match self {
            Self::Owned(buffer) => buffer.bytes_mut().as_mut_ptr(),
            Self::Borrowed(buffer) => buffer.start,
            Self::Discard => return None,
        };
        Some(start.expose_provenance() as u64)
    }

    /// A part of the memory to fill, while another process may fill others; `None` if what comes is to be thrown away.
    ///
    /// # Panics
    ///
    /// If the range is not within the memory.
    pub(crate) fn piece(&mut self, range: Range<usize>) -> Option<&mut [u8]> {
        match self {
            Self::Owned(buffer) => Some(&mut buffer.bytes_mut()[range]),
            Self::Borrowed(buffer) => {
                assert!(range.start <= range.end && range.end <= buffer.length);
                // SAFETY: the range is within the slice, as just checked, which by the contract of `borrowed` is still
                // exclusively borrowed; what another process fills meanwhile is not part of the result.
                Some(unsafe { std::slice::from_raw_parts_mut(buffer.start.add(range.start), range.len()) })
            }
            Self::Discard => None,
        }
    }

    /// The memory to fill; `None` if what comes is to be thrown away.
    #[inline]
    pub(crate) fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        match self {
            Self::Owned(buffer) => Some(buffer.bytes_mut()),
            Self::Borrowed(buffer) => Some(buffer.bytes_mut()),
            Self::Discard => None,
        }
    }
}
