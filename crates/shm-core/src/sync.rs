//! The one switch between real atomics and those of the model checker.
//!
//! Protocol code (`wait`, `channel::lane`, rings, pools, boards) takes its atomics from here, so that the same
//! lines run in a segment and, with `--cfg loom`, under every interleaving. What touches the system itself
//! (`segment`, `sys`) uses the standard atomics directly.

#[cfg(not(loom))]
pub use std::{
    hint,
    sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence},
    thread,
};

#[cfg(loom)]
pub use loom::{
    hint,
    sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence},
    thread,
};

#[cfg(loom)]
pub use loom::cell::UnsafeCell;

/// Memory that a protocol, not the compiler, hands from one side to the other.
///
/// The same two methods as the model checker's cell, which reports overlapping accesses.
#[cfg(not(loom))]
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    /// Wraps `value`.
    pub const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    /// Runs `access` with a pointer that may be read.
    #[inline(always)]
    pub fn with<R>(&self, access: impl FnOnce(*const T) -> R) -> R {
        access(self.0.get())
    }

    /// Runs `access` with a pointer that may be read and written.
    #[inline(always)]
    pub fn with_mut<R>(&self, access: impl FnOnce(*mut T) -> R) -> R {
        access(self.0.get())
    }
}
