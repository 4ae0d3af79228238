//! Named POSIX semaphores, by the six calls that every system has: `sem_open`, `sem_wait`, `sem_trywait`,
//! `sem_post`, `sem_close`, `sem_unlink`.
//!
//! # Safety
//!
//! Trusted for using a semaphore only between its `sem_open` and its `sem_close`: the handle owns it.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::ptr::NonNull;

/// An open semaphore; closed, not unlinked, when dropped.
#[derive(Debug)]
pub(crate) struct Semaphore(NonNull<libc::sem_t>);

// SAFETY: POSIX lets any thread of the process use an open semaphore, also several at once.
unsafe impl Send for Semaphore {}
// SAFETY: as above; the handle itself never changes.
unsafe impl Sync for Semaphore {}

impl Semaphore {
    /// Creates the semaphore with the value 0, for its owner only; fails if the name exists.
    pub(crate) fn create(name: &str) -> io::Result<Self> {
        let name = CString::new(name)?;
        let flags = libc::O_CREAT | libc::O_EXCL;
        // SAFETY: the name is NUL-terminated and outlives the call; mode and value are passed as ints.
        let opened = unsafe { libc::sem_open(name.as_ptr(), flags, 0o600, 0) };
        Self::from_open(opened)
    }

    /// Opens an existing semaphore.
    pub(crate) fn open(name: &str) -> io::Result<Self> {
        let name = CString::new(name)?;
        // SAFETY: the name is NUL-terminated and outlives the call.
        let opened = unsafe { libc::sem_open(name.as_ptr(), 0) };
        Self::from_open(opened)
    }

    fn from_open(opened: *mut libc::sem_t) -> io::Result<Self> {
        if opened == libc::SEM_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(opened).map(Self).ok_or_else(io::Error::last_os_error)
    }

    /// Removes the name; those who have the semaphore open keep it.
    pub(crate) fn unlink(name: &str) -> io::Result<()> {
        let name = CString::new(name)?;
        // SAFETY: the name is NUL-terminated and outlives the call.
        match unsafe { libc::sem_unlink(name.as_ptr()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Adds a token. A full counter is no error here: then there are tokens enough.
    pub(crate) fn post(&self) {
        // SAFETY: open until drop.
        unsafe { libc::sem_post(self.0.as_ptr()) };
    }

    /// Sleeps until there is a token and takes it; returns without one on signals: callers loop.
    pub(crate) fn wait(&self) {
        // SAFETY: open until drop.
        unsafe { libc::sem_wait(self.0.as_ptr()) };
    }

    /// Takes a token if there is one.
    pub(crate) fn try_wait(&self) -> bool {
        // SAFETY: open until drop.
        unsafe { libc::sem_trywait(self.0.as_ptr()) == 0 }
    }
}

impl Drop for Semaphore {
    fn drop(&mut self) {
        // SAFETY: open until here, and never used again.
        unsafe { libc::sem_close(self.0.as_ptr()) };
    }
}
