//! The memory of other processes.
//!
//! # Safety
//!
//! Trusted for giving the kernel pointers to live slices only. What a write does to the other process is its
//! caller's promise.
#![allow(unsafe_code)]

use std::io;

/// Copies from another process's memory (`process_vm_readv(2)`); returns how many bytes came.
pub(crate) fn read(pid: i32, address: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: buffer.len() };
    // SAFETY: `local` is an exclusively borrowed slice; `remote` means nothing in this process.
    copied(unsafe { libc::process_vm_readv(pid, &local, 1, &remote, 1, 0) })
}

/// Copies to another process's memory (`process_vm_writev(2)`); returns how many bytes went.
///
/// # Safety
///
/// Process `pid` expects the range to change.
pub(crate) unsafe fn write(pid: i32, address: u64, data: &[u8]) -> io::Result<usize> {
    let local = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: data.len() };
    // SAFETY: `local` is a borrowed slice that is only read; for `remote` the caller vouches.
    copied(unsafe { libc::process_vm_writev(pid, &local, 1, &remote, 1, 0) })
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
