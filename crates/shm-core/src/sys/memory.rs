//! The memory of other processes.
//!
//! # Safety
//!
//! Trusted for nothing but passing on what its callers promise of the pieces.
#![allow(unsafe_code)]

use std::io;
use std::ptr;

use crate::direct::{MAX_PIECES, Piece};

/// Copies pieces from another process's memory (`process_vm_readv(2)`); returns how many bytes came.
///
/// # Safety
///
/// The local ends of all pieces are valid for writes.
pub(crate) unsafe fn read(pid: i32, pieces: &[Piece]) -> io::Result<usize> {
    let (count, local, remote) = vectors(pieces);
    // SAFETY: for the local vectors the caller vouches; the remote ones mean nothing in this process.
    copied(unsafe { libc::process_vm_readv(pid, local.as_ptr(), count, remote.as_ptr(), count, 0) })
}

/// Copies pieces to another process's memory (`process_vm_writev(2)`); returns how many bytes went.
///
/// # Safety
///
/// The local ends of all pieces are valid for reads, and process `pid` expects the remote ends to change.
pub(crate) unsafe fn write(pid: i32, pieces: &[Piece]) -> io::Result<usize> {
    let (count, local, remote) = vectors(pieces);
    // SAFETY: the caller's promise.
    copied(unsafe { libc::process_vm_writev(pid, local.as_ptr(), count, remote.as_ptr(), count, 0) })
}

type Vectors = [libc::iovec; MAX_PIECES];

fn vectors(pieces: &[Piece]) -> (libc::c_ulong, Vectors, Vectors) {
    const NONE: libc::iovec = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
    let (mut local, mut remote) = ([NONE; MAX_PIECES], [NONE; MAX_PIECES]);
    for ((piece, local), remote) in pieces.iter().zip(&mut local).zip(&mut remote) {
        *local = libc::iovec { iov_base: piece.local.cast(), iov_len: piece.length };
        *remote = libc::iovec { iov_base: piece.remote as *mut libc::c_void, iov_len: piece.length };
    }
    (pieces.len().min(MAX_PIECES) as libc::c_ulong, local, remote)
}

/// Lets process `pid` and its descendants at this process's memory, where the system restricts that to
/// descendants of this one (Yama, `prctl(2)` PR_SET_PTRACER). Fails where it does not.
pub(crate) fn admit(pid: u32) -> io::Result<()> {
    // SAFETY: plain integers.
    match unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::c_ulong::from(pid), 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn copied(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
