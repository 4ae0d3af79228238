//! Processes: starting a rank so that it dies with its launcher, forking the guard, asking how one ended.
//!
//! # Safety
//!
//! Trusted for four things: what runs between fork and exec makes system calls only; `fork` is called while the
//! process has one thread; descriptor numbers from the environment are checked by the kernel before they are
//! owned; the argument of `PIDFD_GET_INFO` has the layout and size that its request number states.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, getpid, getppid, kill_process, pidfd_open,
    set_parent_process_death_signal, setrlimit,
};
use rustix::thread::{CpuSet, sched_setaffinity};

/// What a rank gets from its launcher besides the environment.
pub(super) struct Inheritance {
    /// Descriptors that stay open through exec.
    pub(super) descriptors: Arc<Vec<OwnedFd>>,
    /// One more that only this rank gets.
    pub(super) extra: Option<OwnedFd>,
    /// The processors that it may use, `None` for all.
    pub(super) processors: Option<CpuSet>,
    /// The limit of open files that the launcher itself was started with.
    pub(super) open_files: Rlimit,
}

/// Starts `command` as a child that the kernel kills when the calling thread ends.
pub(super) fn start(mut command: Command, inheritance: Inheritance) -> io::Result<(Pid, OwnedFd)> {
    let launcher = getpid();
    let prepare = move || become_rank(launcher, &inheritance);
    // SAFETY: `become_rank` makes system calls only: it neither allocates nor takes a lock nor touches statics.
    unsafe { command.pre_exec(prepare) };
    let child = command.spawn()?;
    let pid = Pid::from_child(&child);
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => Ok((pid, pidfd)),
        Err(error) => {
            // The child is not yet waited for, so the pid is still its own.
            let _ = kill_process(pid, Signal::KILL);
            Err(error.into())
        }
    }
}

fn become_rank(launcher: Pid, inheritance: &Inheritance) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != Some(launcher) {
        // The launcher ended before the line above took effect: no signal will come.
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    for descriptor in inheritance.descriptors.iter().chain(&inheritance.extra) {
        fcntl_setfd(descriptor, FdFlags::empty())?;
    }
    if let Some(processors) = &inheritance.processors {
        sched_setaffinity(None, processors)?;
    }
    setrlimit(Resource::Nofile, inheritance.open_files)?;
    unblock_signals()
}

/// The launcher blocks the signals that it reads from a signalfd; its ranks must not inherit that.
fn unblock_signals() -> io::Result<()> {
    let mut none = std::mem::MaybeUninit::uninit();
    // SAFETY: the pointer is valid for one signal set.
    unsafe { libc::sigemptyset(none.as_mut_ptr()) };
    // SAFETY: sigemptyset has initialised the set; a null pointer means that the old one is not wanted.
    let result = unsafe { libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

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
