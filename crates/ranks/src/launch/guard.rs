//! The guard: a small process that ends the job when its launcher was killed.
//!
//! It is forked before anything else exists and holds the read end of a pipe whose write end only the launcher
//! has. A byte on the pipe means that all is well; the end of the file without one means that the launcher is
//! gone. It sits in a session of its own, out of reach of the terminal's signals.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::io::{Errno, read, write};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, setsid, waitpid};

use super::{cleanup, create, environment, process};

/// How long the guard goes on killing when processes do not go away, say in uninterruptible sleep.
const PATIENCE: Duration = Duration::from_secs(10);

/// The launcher's handle of its guard; dropping it sends the guard away.
pub(super) struct Guard {
    pid: Pid,
    pipe: OwnedFd,
}

impl Guard {
    /// Forks the guard. The calling process must have a single thread.
    pub(super) fn fork(job: u64, ranks: usize) -> io::Result<Self> {
        let (read_end, write_end) = pipe_with(PipeFlags::CLOEXEC)?;
        let pid = process::fork(|| {
            // Above all the copy of the write end: while the guard itself held it, the end would never show.
            process::close_all_but(read_end.as_fd());
            watch(&read_end, job, ranks);
        })?;
        Ok(Self { pid, pipe: write_end })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = write(&self.pipe, b".");
        // Reaped, so that nothing of the job is left when the launcher ends.
        let _ = waitpid(Some(self.pid), WaitOptions::empty());
    }
}

fn watch(launcher: &OwnedFd, job: u64, ranks: usize) {
    process::ignore_signals();
    // Fails only for the leader of a process group, which a forked child never is.
    let _ = setsid();
    let mut byte = [0];
    loop {
        match read(launcher, &mut byte) {
            Ok(0) => break,
            Ok(_) => return,
            Err(Errno::INTR) => {}
            Err(_) => break,
        }
    }
    cleanup::kill_all(&environment::job_text(job), PATIENCE);
    create::unlink_bells(job, ranks);
}
