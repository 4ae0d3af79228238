//! Receiving signals through a descriptor instead of handlers.
//!
//! # Safety
//!
//! Trusted for passing initialised signal sets and an owned descriptor between three system calls.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};

/// The signals that a launcher forwards to its ranks or acts on.
const FORWARDED: [libc::c_int; 8] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGTSTP,
    libc::SIGCONT,
];

/// Blocks the forwarded signals in this thread and returns a descriptor from which they are read.
///
/// A signal that was ignored when this program started (`nohup`, a script's `&`) stays ignored: for the ranks too, which
/// inherit that.
pub(crate) fn redirect() -> io::Result<OwnedFd> {
    // A parent that ignores SIGCHLD hands that down: the exit codes of the ranks would be lost.
    // SAFETY: the default action installs no code.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    let set = forwarded()?;
    // SAFETY: the set is initialised; a null pointer means that the old one is not wanted.
    if unsafe { libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the set is initialised, and -1 asks for a new descriptor.
    let descriptor = unsafe { libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just returned this number as a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// The numbers of the signals that have come, from a descriptor of [`redirect`].
pub(crate) fn arrived(signals: &OwnedFd) -> Vec<i32> {
    const RECORD_BYTES: usize = size_of::<libc::signalfd_siginfo>();
    let mut records = [0; 8 * RECORD_BYTES];
    let count = rustix::io::read(signals, &mut records).unwrap_or(0);
    let records = records[..count].chunks_exact(RECORD_BYTES);
    // A record begins with the signal's number.
    records.map(|record| i32::from_ne_bytes([record[0], record[1], record[2], record[3]])).collect()
}

fn is_ignored(signal: libc::c_int) -> io::Result<bool> {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: a null pointer changes nothing, the other one is valid for one action.
    if unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has succeeded and so has written the action.
    Ok(unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN)
}

fn forwarded() -> io::Result<libc::sigset_t> {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the pointer is valid for one signal set.
    if unsafe { libc::sigemptyset(set.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: sigemptyset has initialised it.
    let mut set = unsafe { set.assume_init() };
    for signal in FORWARDED {
        // The kernel would keep a blocked signal for the descriptor although it is ignored.
        if is_ignored(signal)? {
            continue;
        }
        // SAFETY: the set is initialised and the signal number is a valid one.
        if unsafe { libc::sigaddset(&mut set, signal) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(set)
}
