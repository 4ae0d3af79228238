//! What makes an unexpected end of this process visible, and ends it with its launcher.

use std::fmt::Write;
use std::os::fd::OwnedFd;
use std::panic::{PanicHookInfo, set_hook, take_hook};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, getpid, getppid, kill_process, pidfd_open};

use super::AttachError;
use super::claim::Attachment;
use crate::job::Job;
use crate::last_words;
use crate::launch::{proc, process};
use crate::layout::rank_state;

/// For the hooks, which have no argument of ours.
static ATTACHMENT: OnceLock<Attachment> = OnceLock::new();
/// See [`hush_consequences`].
static HUSH: AtomicBool = AtomicBool::new(false);
/// Threads that panic at the same time write their last words one after the other.
static WRITING: Mutex<()> = Mutex::new(());

/// Installs the panic hook and the exit handler.
pub(super) fn arm(attachment: Attachment) -> Result<(), AttachError> {
    if ATTACHMENT.set(attachment).is_err() {
        return Err(AttachError::Again);
    }
    let previous = take_hook();
    set_hook(Box::new(move |panic| {
        record_panic(panic);
        if !is_hushed() {
            previous(panic);
        }
    }));
    process::at_exit(note_exit).map_err(AttachError::system("install an exit handler"))
}

/// This process's way to its launcher, if it is a rank that has one.
pub(super) fn control() -> Option<&'static OwnedFd> {
    ATTACHMENT.get().filter(|attachment| is_this_process(attachment))?.control
}

/// Replaces this rank's last words.
pub(super) fn record(attachment: &Attachment, words: &str) {
    let _guard = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    last_words::write(attachment.job.control(attachment.rank), words);
}

/// Replaces the last words of this process, if it is a rank.
pub(crate) fn record_last_words(words: &str) {
    if let Some(attachment) = ATTACHMENT.get().filter(|attachment| is_this_process(attachment)) {
        record(attachment, words);
    }
}

/// Records and does nothing else: a panic that is caught does not end the job.
fn record_panic(panic: &PanicHookInfo<'_>) {
    record_last_words(&describe(panic));
}

/// From now on this process prints no panics that follow from the failure of another rank: their launcher reads
/// them in the last words, and tells the first failure apart from what it led to.
pub(crate) fn hush_consequences() {
    HUSH.store(true, Relaxed);
}

/// Whether the failure of this process is one that its launcher tells in fewer words.
pub(crate) fn is_hushed() -> bool {
    let follows = |attachment: &Attachment| {
        let first = attachment.job.header().first_failure.load(Relaxed);
        first != 0 && first != attachment.rank as u32 + 1
    };
    HUSH.load(Relaxed) && ATTACHMENT.get().is_some_and(follows)
}

fn describe(panic: &PanicHookInfo<'_>) -> String {
    let mut words = String::from("panicked");
    if let Some(location) = panic.location() {
        // Writing to a String cannot fail.
        let _ = write!(words, " at {location}");
    }
    let payload = panic.payload();
    let text =
        payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
    words + ": " + text.unwrap_or("(a value that is no text)")
}

/// A child that was forked without exec shares the hooks, but is not the rank.
fn is_this_process(attachment: &Attachment) -> bool {
    attachment.job.control(attachment.rank).life.pid.load(Relaxed) == std::process::id()
}

extern "C" fn note_exit(status: libc::c_int, _unused: *mut libc::c_void) {
    if let Some(attachment) = ATTACHMENT.get().filter(|attachment| is_this_process(attachment))
        && attachment.job.state(attachment.rank) == rank_state::ATTACHED
    {
        let life = &attachment.job.control(attachment.rank).life;
        // Below a wrapper the launcher may come too late to learn the status from the system.
        life.exit_code.store(status as u32 & 0xff, Relaxed);
        // SYNC exit-status
        life.exited.store(1, Release);
    }
}

/// Ends this process when its launcher ends, where the kernel does not: only a direct child of the launcher has
/// asked the kernel for that.
pub(super) fn follow_launcher(job: &Job) -> Result<(), AttachError> {
    let header = job.header();
    let pid = header.launcher_pid.load(Relaxed);
    if pid == std::process::id()
        || getppid().is_some_and(|parent| parent.as_raw_nonzero().get() as u32 == pid)
    {
        return Ok(());
    }
    let gone = AttachError::LauncherGone { pid };
    let Some(launcher) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Err(gone) };
    let Ok(launcher) = pidfd_open(launcher, PidfdFlags::empty()) else { return Err(gone) };
    if proc::start_time(pid) != Some(header.launcher_start.load(Relaxed)) {
        return Err(gone);
    }
    let watch = move || {
        process::block_signals();
        let mut descriptor = [PollFd::new(&launcher, PollFlags::IN)];
        while matches!(poll(&mut descriptor, None), Err(Errno::INTR)) {}
        // Only this way nothing of the process runs on, whatever its threads do.
        let _ = kill_process(getpid(), Signal::KILL);
    };
    let thread = thread::Builder::new().name("shmrun-watch".to_owned()).spawn(watch);
    thread.map(drop).map_err(AttachError::system("start the thread that watches the launcher"))
}
