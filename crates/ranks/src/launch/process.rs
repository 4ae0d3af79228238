//! Processes: forking the guard, asking how one ended, inherited descriptors.
//!
//! # Safety
//!
//! Trusted for four things: `fork` is called while the process has one thread; descriptor numbers from the
//! environment are checked by the kernel before they are owned; the argument of `PIDFD_GET_INFO` has the layout
//! and size that its request number states; the set of memory nodes has the length that is stated with it.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::process::Pid;

use super::plan::Memory;

/// Blocks all signals in the calling thread: it must not get those that are meant for the program's own.
pub(crate) fn block_signals() {
    let mut all = std::mem::MaybeUninit::uninit();
    // SAFETY: the pointer is valid for one signal set.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: sigfillset has initialised the set; a null pointer means that the old one is not wanted.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), std::ptr::null_mut()) };
}

/// Forks a child that runs `body` and never returns. The calling process must have a single thread.
pub(super) fn fork(body: impl FnOnce()) -> io::Result<Pid> {
    // SAFETY: the caller promises a single thread, so no lock is held by a thread that the child lacks.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            body();
            // SAFETY: ends the child without running the exit handlers that belong to its parent.
            unsafe { libc::_exit(0) }
        }
        child => Pid::from_raw(child).ok_or_else(io::Error::last_os_error),
    }
}

/// Ignores all signals that can be ignored, and allows them to arrive.
pub(super) fn ignore_signals() {
    for signal in 1..=31 {
        // SAFETY: ignoring a signal installs no code; the kernel refuses SIGKILL and SIGSTOP.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Closes every descriptor but `kept`, the standard ones included: who reads their other ends must see them end.
pub(super) fn close_all_but(kept: BorrowedFd<'_>) {
    let kept = kept.as_raw_fd() as u32;
    for (first, last) in [(0, kept.wrapping_sub(1)), (kept + 1, u32::MAX)] {
        if first <= last && last.wrapping_add(1) != first {
            // SAFETY: the caller is a forked child that runs only code which uses `kept`.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    }
}

/// How the process behind a pidfd ended, as a wait status, for a process that is not a child of this one.
///
/// Known to Linux 6.15 and later, once the process has been reaped.
pub(super) fn exit_status(pidfd: BorrowedFd<'_>) -> Option<i32> {
    let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: `info` has the size that the request number states, and lives until the call returns.
    let result = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO, &mut info) };
    (result == 0 && info.mask & PIDFD_INFO_EXIT != 0).then_some(info.exit_code)
}

/// `struct pidfd_info` of linux/pidfd.h in its first version.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    control_group: u64,
    process_and_credentials: [u32; 11],
    exit_code: i32,
}

const PIDFD_INFO_EXIT: u64 = 1 << 3;
/// `_IOWR(0xff, 11, struct pidfd_info)`.
const PIDFD_GET_INFO: libc::Ioctl = (3 << 30 | 64 << 16 | 0xff << 8 | 11) as libc::Ioctl;
const _: () = assert!(size_of::<PidfdInfo>() == 64);

/// Sets where memory lies that this thread touches first; its children inherit that.
///
/// # Errors
///
/// The system refuses: without NUMA support, or in a container whose seccomp profile forbids it.
pub(super) fn set_memory_policy(memory: &Memory) -> io::Result<()> {
    // From linux/mempolicy.h; libc has no function.
    const INTERLEAVE: libc::c_long = 3;
    const LOCAL: libc::c_long = 4;
    const BITS: usize = 1024;
    let mut set = [0_u64; BITS / 64];
    let mode = match memory {
        Memory::Inherited => return Ok(()),
        Memory::Local => LOCAL,
        Memory::Interleaved(nodes) => {
            for node in nodes.iter().filter(|&&node| node < BITS) {
                set[node / 64] |= 1 << (node % 64);
            }
            INTERLEAVE
        }
    };
    // The kernel takes one bit less than it is told.
    let (set, bits) = if mode == LOCAL { (std::ptr::null(), 0) } else { (set.as_ptr(), BITS + 1) };
    // SAFETY: the set has the bits that are stated, or is not there.
    match unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, set, bits) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A duplicate, close-on-exec, of a descriptor whose number came through the environment.
pub(crate) fn duplicate_inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl checks the number; a bad one gives EBADF.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 0) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just returned this number as a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Makes sure that an inherited descriptor does not reach programs that this process executes.
pub(crate) fn close_on_exec(number: RawFd) -> io::Result<()> {
    // SAFETY: fcntl checks the number and changes nothing but one flag of it.
    match unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Closes an inherited descriptor that has been duplicated.
pub(crate) fn close(number: RawFd) {
    // SAFETY: the number is that of a descriptor which this process inherited for this purpose and nobody owns.
    unsafe { libc::close(number) };
}

/// Calls `handler` when the process calls `exit` or returns from `main`.
pub(crate) fn at_exit(
    handler: extern "C" fn(status: libc::c_int, unused: *mut libc::c_void),
) -> io::Result<()> {
    // SAFETY: the handler is a function without captured state, valid for the life of the process.
    match unsafe { on_exit(handler, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::other("on_exit has no room for another handler")),
    }
}

// Like atexit, with the exit status: <https://man7.org/linux/man-pages/man3/on_exit.3.html>
unsafe extern "C" {
    fn on_exit(
        handler: extern "C" fn(status: libc::c_int, unused: *mut libc::c_void),
        argument: *mut libc::c_void,
    ) -> libc::c_int;
}

/// Inherited descriptors get numbers from here on: shell scripts use those below 10 for themselves, and shells
/// keep their own in the tens.
pub(crate) const FIRST_INHERITED: RawFd = 64;
