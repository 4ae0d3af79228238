//! What the launcher knows of one rank's processes.

use std::iter;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};

use super::report::Ended;
use super::{proc, process};

/// A process and how it ended.
#[derive(Debug)]
pub(super) struct Process {
    pid: u32,
    pidfd: Option<OwnedFd>,
    pub(super) ended: Option<Ended>,
}

/// The processes of one rank: the child, and the one that attached when the child is only a wrapper of it.
#[derive(Debug)]
pub(super) struct RankProcesses {
    pub(super) child: Process,
    pub(super) attached: Option<Process>,
}

/// How long the launcher waits for a wrapper to reap the program that it ran, to learn its exit status.
const REAP_PATIENCE: Duration = Duration::from_millis(50);

impl Process {
    pub(super) fn new(pid: Pid, pidfd: OwnedFd) -> Self {
        Self { pid: pid.as_raw_nonzero().get() as u32, pidfd: Some(pidfd), ended: None }
    }

    /// A process that is not a child: it can be watched, but not waited for. One that has already been reaped
    /// has ended in an unknown way.
    pub(super) fn watch(pid: u32, start_time: u64) -> Self {
        let id = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let pidfd = id.and_then(|id| pidfd_open(id, PidfdFlags::empty()).ok());
        // The pid could have been given to another process before the pidfd was opened.
        let pidfd = pidfd.filter(|_| proc::start_time(pid) == Some(start_time));
        let ended = if pidfd.is_some() { None } else { Some(Ended::Unknown) };
        Self { pid, pidfd, ended }
    }

    /// Whether this is process `pid`.
    pub(super) fn is(&self, pid: u32) -> bool {
        self.pid == pid
    }

    /// Becomes readable when the process ends; `None` if it was gone before it could be watched.
    pub(super) fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    pub(super) fn signal(&self, signal: Signal) {
        if let (None, Some(pidfd)) = (self.ended, &self.pidfd) {
            // Fails only when the process ended a moment ago, which its pidfd will tell.
            let _ = pidfd_send_signal(pidfd, signal);
        }
    }

    /// Reaps the child. Does not block; true when it has ended.
    pub(super) fn reap(&mut self) -> bool {
        self.wait_with(WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
    }

    /// Blocks until the child has ended, and reaps it.
    pub(super) fn wait(&mut self) {
        while !self.wait_with(WaitIdOptions::EXITED) {}
    }

    fn wait_with(&mut self, options: WaitIdOptions) -> bool {
        let Some(pidfd) = &self.pidfd else {
            return true;
        };
        match waitid(WaitId::PidFd(pidfd.as_fd()), options) {
            Ok(None) | Err(Errno::INTR) => {}
            Ok(Some(status)) => {
                let signal = status.terminating_signal().map(Ended::Signal);
                self.ended = signal.or(status.exit_status().map(Ended::Code)).or(Some(Ended::Unknown));
            }
            // Somebody else has reaped it: the program ignores SIGCHLD, or waits for all its children.
            Err(_) => {
                let status = process::exit_status(pidfd.as_fd());
                self.ended = Some(status.map_or(Ended::Unknown, Ended::from_wait_status));
            }
        }
        self.ended.is_some()
    }

    /// Finds out how a process that is not a child has ended.
    pub(super) fn inquire(&mut self) {
        let deadline = Instant::now() + REAP_PATIENCE;
        loop {
            let status =
                self.pidfd().and_then(process::exit_status).or_else(|| proc::zombie_status(self.pid));
            if status.is_some() || Instant::now() > deadline {
                self.ended = Some(status.map_or(Ended::Unknown, Ended::from_wait_status));
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl RankProcesses {
    /// Sends a signal to the child and to the program below it.
    pub(super) fn signal(&self, signal: Signal) {
        self.child.signal(signal);
        if let Some(attached) = &self.attached {
            attached.signal(signal);
        }
    }

    /// The process that matters and has not ended: the program, or what is to become it.
    pub(super) fn running(&self) -> Option<u32> {
        let process = self.attached.as_ref().unwrap_or(&self.child);
        process.ended.is_none().then_some(process.pid)
    }

    /// Whether neither process runs: each is stopped, or has ended.
    pub(super) fn is_halted(&self) -> bool {
        let mut processes = iter::once(&self.child).chain(&self.attached);
        processes.all(|process| process.ended.is_some() || proc::is_halted(process.pid))
    }

    /// How the program ended: what attached, or the child.
    pub(super) fn last_ended(&self) -> Option<Ended> {
        self.attached.as_ref().unwrap_or(&self.child).ended
    }

    pub(super) fn has_ended(&self) -> bool {
        self.child.ended.is_some() && self.attached.as_ref().is_none_or(|process| process.ended.is_some())
    }
}
