//! The system calls. Nothing else in this crate calls into libc.
//!
//! Rules: failures become `io::Error`; descriptors are `OwnedFd` or `File`; every call that a signal can
//! interrupt is either retried here or says that its caller loops.

#[cfg(not(loom))]
pub(crate) mod clock;
#[cfg(all(target_os = "linux", not(loom), not(feature = "named-semaphores")))]
pub(crate) mod futex;
#[cfg(all(target_os = "linux", not(loom)))]
pub(crate) mod lock;
#[cfg(target_os = "linux")]
pub(crate) mod memory;
#[cfg(not(loom))]
pub(crate) mod processors;
#[cfg(all(not(loom), feature = "named-semaphores"))]
pub(crate) mod semaphore;
pub(crate) mod shm;
