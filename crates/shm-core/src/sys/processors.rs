//! The processors that a thread may use (`sched_getaffinity(2)`), and the one that it runs on (`getcpu(2)`).
//!
//! # Safety
//!
//! Trusted for giving the kernel a set that lives until the call returns.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::thread::available_parallelism;

/// One bit for each processor that this thread may use, those from 64 on wrapped around. Only one of them where a
/// control group's quota leaves no more than one processor's time.
pub(crate) fn mask() -> u64 {
    let allowed = allowed();
    let parallel = available_parallelism().is_ok_and(|count| count.get() > 1);
    if parallel { allowed } else { allowed & allowed.wrapping_neg() }
}

#[cfg(target_os = "linux")]
fn allowed() -> u64 {
    let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: the set is valid for writes of the size that is stated; 0 is the calling thread.
    if unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), set.as_mut_ptr()) } != 0 {
        // A machine with more processors than the set holds.
        return u64::MAX;
    }
    // SAFETY: any bytes are a valid set.
    let set = unsafe { set.assume_init() };
    let numbers = 0..libc::CPU_SETSIZE as usize;
    // SAFETY: the number is within the set.
    numbers.filter(|&number| unsafe { libc::CPU_ISSET(number, &set) }).fold(0, |mask, n| mask | 1 << (n % 64))
}

/// The processor that this thread runs on at this moment, by the system's number, where that can be known. A few nanoseconds,
/// but a system call where the C library has no cheaper way (some architectures, programs under valgrind).
#[cfg(target_os = "linux")]
pub(crate) fn current() -> Option<u32> {
    // SAFETY: it takes nothing and gives a number.
    u32::try_from(unsafe { libc::sched_getcpu() }).ok()
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn current() -> Option<u32> {
    None
}

/// Threads cannot be bound to processors here.
#[cfg(not(target_os = "linux"))]
fn allowed() -> u64 {
    u64::MAX
}

#[cfg(test)]
mod tests {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    #[test]
    fn a_bound_thread_has_its_processor_only() {
        let allowed = sched_getaffinity(None).unwrap();
        let last = (0..CpuSet::MAX_CPU).rfind(|&number| allowed.is_set(number)).unwrap();
        let mask = std::thread::spawn(move || {
            let mut one = CpuSet::new();
            one.set(last);
            sched_setaffinity(None, &one).unwrap();
            (super::mask(), super::current())
        });
        assert_eq!(mask.join().unwrap(), (1 << (last % 64), Some(last as u32)));
        assert_ne!(super::mask(), 0);
    }
}
