//! A clock that all processes of the machine read alike (`clock_gettime(2)`).
//!
//! # Safety
//!
//! Trusted for giving the C library a pointer to a live local.
#![allow(unsafe_code)]

/// Nanoseconds of CLOCK_MONOTONIC.
///
/// By the C library, which knows where that clock is: what looks for it in the process itself finds an address that is not
/// there under valgrind.
pub(crate) fn monotonic() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a local that outlives the call; with this clock it cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
