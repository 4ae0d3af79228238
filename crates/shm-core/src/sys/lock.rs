//! Advisory locks that belong to an open file description (`fcntl(2)`, `F_OFD_SETLK`).
//!
//! The kernel releases them when the description is closed, which includes every way that a process can die.
//! Unlike process-owned locks they also keep two handles within one process apart, and closing another
//! descriptor of the same object does not drop them.
//!
//! # Safety
//!
//! Trusted for passing `fcntl` a live, fully initialised `flock`.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::AsRawFd;

/// Whether others may hold the same byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any number of holders.
    Shared,
    /// One holder.
    Exclusive,
}

/// Takes the lock on `bytes` if nobody else's is in the way; never blocks.
pub(crate) fn try_lock(file: &File, bytes: RangeInclusive<u16>, kind: Kind) -> io::Result<bool> {
    let mut request = request(bytes, code(kind));
    match control(file, libc::F_OFD_SETLK, &mut request) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Gives up this description's locks on `bytes`.
pub(crate) fn unlock(file: &File, bytes: RangeInclusive<u16>) -> io::Result<()> {
    control(file, libc::F_OFD_SETLK, &mut request(bytes, libc::F_UNLCK as libc::c_short))
}

/// Whether another description holds any lock, shared or not, on any of `bytes`.
pub(crate) fn held_by_other(file: &File, bytes: RangeInclusive<u16>) -> io::Result<bool> {
    let mut request = request(bytes, code(Kind::Exclusive));
    control(file, libc::F_OFD_GETLK, &mut request)?;
    Ok(request.l_type != libc::F_UNLCK as libc::c_short)
}

fn code(kind: Kind) -> libc::c_short {
    match kind {
        Kind::Shared => libc::F_RDLCK as libc::c_short,
        Kind::Exclusive => libc::F_WRLCK as libc::c_short,
    }
}

fn request(bytes: RangeInclusive<u16>, kind: libc::c_short) -> libc::flock {
    libc::flock {
        l_type: kind,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: (*bytes.start()).into(),
        l_len: (bytes.end() - bytes.start() + 1).into(),
        // The kernel demands 0 here for locks of a description.
        l_pid: 0,
    }
}

fn control(file: &File, command: libc::c_int, request: &mut libc::flock) -> io::Result<()> {
    // SAFETY: the request is a borrowed, initialised structure of the type that these commands take.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, std::ptr::from_mut(request)) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
