//! Sleeping on a 32-bit word that several processes share (`futex(2)`).
//!
//! # Safety
//!
//! Trusted for passing the kernel pointers that are valid during the call: all come from references.
#![allow(unsafe_code)]

use std::ptr;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// Sleeps while `word` holds `expected`, at most for `timeout`.
///
/// Returns after a wake-up, at once if the word differs, after the time, and on signals: callers loop.
/// The words are shared between processes, so the private flag is never set.
pub(crate) fn wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) {
    let time = timeout.map(|timeout| libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    });
    let time = time.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the word is borrowed and `time` is null or points to a local; both outlive the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, expected, time) };
}

/// Wakes every sleeper on `word`: one at most, since a doorbell has one waiter.
pub(crate) fn wake(word: &AtomicU32) {
    // SAFETY: the word is borrowed for the call; waking reads no memory through it.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}
