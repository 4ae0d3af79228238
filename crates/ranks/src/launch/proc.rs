//! Facts about processes that only /proc tells.

use std::fs;

/// The start time of a process in clock ticks since boot: with it a pid names one process for good.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    stat_field(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?, 22)
}

/// Whether the process that had this pid and start time runs; one that has ended and was not waited for does not.
pub(super) fn is_running(pid: u32, start_time: u64) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat_field(&stat, 22) == Some(start_time) && !matches!(state(&stat), None | Some('Z' | 'X'))
}

/// The parent of a process.
pub(super) fn parent(pid: u32) -> Option<u32> {
    let parent = stat_field(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?, 4)?;
    u32::try_from(parent).ok()
}

/// All processes, by number.
pub(super) fn all() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The wait status that a process left behind, while it is a zombie of the same user.
pub(super) fn zombie_status(pid: u32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let zombie = state(&stat)? == 'Z';
    zombie.then(|| stat_field(&stat, 52)).flatten().map(|status| status as i32)
}

/// What a process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Activity {
    /// Its state by proc_pid_stat(5): R, S, D, T, t, Z ...
    pub(super) state: char,
    /// Processor time that all its threads have used, in clock ticks.
    pub(super) ticks: u64,
}

/// What a process is doing, if it exists: one thread of it, if that does.
pub(super) fn activity(pid: u32, thread: u32) -> Option<Activity> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks = stat_field(&stat, 14)? + stat_field(&stat, 15)?;
    // The process's own line is that of its first thread, which may only wait for the others.
    let own = fs::read_to_string(format!("/proc/{pid}/task/{thread}/stat"));
    Some(Activity { state: own.ok().and_then(|own| state(&own)).or_else(|| state(&stat))?, ticks })
}

/// What a thread of a process sleeps in, as `reading its standard input`; `None` where the system does not say.
pub(super) fn asleep_in(pid: u32, thread: u32) -> Option<String> {
    let of_thread = fs::read_to_string(format!("/proc/{pid}/task/{thread}/syscall"));
    let call = of_thread.or_else(|_| fs::read_to_string(format!("/proc/{pid}/syscall"))).ok()?;
    sleep(&call, |descriptor| {
        let target = fs::read_link(format!("/proc/{pid}/fd/{descriptor}")).ok()?;
        Some(target.to_string_lossy().replace(char::is_control, "?"))
    })
}

/// The same from the text of /proc/PID/syscall: the number of the call and its arguments.
fn sleep(call: &str, file: impl Fn(u64) -> Option<String>) -> Option<String> {
    let mut words = call.split_ascii_whitespace();
    let number: i64 = words.next()?.parse().ok()?;
    let argument = words.next().and_then(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok());
    let named = |verb: &str| match argument {
        Some(0) if verb == "reading" => "reading its standard input".to_owned(),
        Some(descriptor) => format!("{verb} {}", file(descriptor).unwrap_or_else(|| "a file".to_owned())),
        None => format!("{verb} a file"),
    };
    Some(match number {
        libc::SYS_read | libc::SYS_readv | libc::SYS_pread64 => named("reading"),
        libc::SYS_write | libc::SYS_writev | libc::SYS_pwrite64 => named("writing"),
        libc::SYS_nanosleep | libc::SYS_clock_nanosleep => "sleeping for a time".to_owned(),
        // What a sleep becomes, and any wait with a time limit, when the process was stopped and goes on.
        libc::SYS_restart_syscall => "sleeping or waiting for a time".to_owned(),
        libc::SYS_wait4 | libc::SYS_waitid => "waiting for a child process".to_owned(),
        libc::SYS_futex => "waiting for another thread".to_owned(),
        libc::SYS_ppoll | libc::SYS_pselect6 | libc::SYS_epoll_pwait => "waiting in poll".to_owned(),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_poll | libc::SYS_select | libc::SYS_epoll_wait => "waiting in poll".to_owned(),
        libc::SYS_recvfrom | libc::SYS_recvmsg | libc::SYS_accept | libc::SYS_accept4 | libc::SYS_connect => {
            "waiting for a socket".to_owned()
        }
        libc::SYS_flock => "waiting for a file lock".to_owned(),
        number if number >= 0 => format!("asleep in system call {number}"),
        _ => return None,
    })
}

/// Whether a process is stopped (Ctrl-Z, SIGSTOP, a debugger) or has ended.
pub(super) fn is_halted(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state(&stat).is_none_or(|state| matches!(state, 'T' | 't' | 'Z' | 'X'))
}

fn state(stat: &str) -> Option<char> {
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// Field `number` of a stat line, counted from 1 as in proc_pid_stat(5).
///
/// The second field is the program's name in brackets, which may itself hold blanks and brackets.
fn stat_field(stat: &str, number: usize) -> Option<u64> {
    let after_name = stat.rsplit_once(')')?.1;
    after_name.split_ascii_whitespace().nth(number - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zombie_does_not_run() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let start = start_time(child.id()).unwrap();
        while zombie_status(child.id()).is_none() {
            std::thread::yield_now();
        }
        assert!(!is_running(child.id(), start));
        child.wait().unwrap();
        let own = std::process::id();
        let start = start_time(own).unwrap();
        assert!(is_running(own, start) && !is_running(own, start + 1));
        assert_eq!(parent(own), Some(std::os::unix::process::parent_id()));
    }

    #[test]
    fn fields_are_counted_behind_the_name() {
        let stat = "7 (a) b) S 1 2 3";
        assert_eq!(state(stat), Some('S'));
        assert_eq!(stat_field(stat, 4), Some(1));
        assert_eq!(stat_field(stat, 6), Some(3));
        assert_eq!(stat_field(stat, 7), None);
        assert!(start_time(std::process::id()).is_some_and(|time| time > 0));
        assert_eq!(zombie_status(std::process::id()), None);
        assert!(!is_halted(std::process::id()));
    }

    #[test]
    fn system_calls_are_put_into_words() {
        let file = |descriptor: u64| Some(format!("file {descriptor}"));
        let read = libc::SYS_read;
        let told = |text: &str| sleep(text, file);
        assert_eq!(
            told(&format!("{read} 0x0 0x7f00 0x1000 0x0 0x7ffe 0x7f01")).unwrap(),
            "reading its standard input"
        );
        assert_eq!(told(&format!("{read} 0x5 0x7f00")).unwrap(), "reading file 5");
        // A sleep that was stopped and continued.
        let restarted = format!("{} 0x0 0x7ffe", libc::SYS_restart_syscall);
        assert_eq!(told(&restarted).unwrap(), "sleeping or waiting for a time");
        assert_eq!(told("-1 0x7ffe 0x7f01"), None);
        assert_eq!(told("running"), None);
    }

    #[test]
    fn a_process_that_computes_uses_time() {
        let used = || activity(std::process::id(), 0).unwrap().ticks;
        let begin = (used(), std::time::Instant::now());
        while used() == begin.0 {
            assert!(begin.1.elapsed().as_secs() < 10);
        }
        // This thread runs; the first one waits for it.
        let this = rustix::thread::gettid().as_raw_nonzero().get() as u32;
        assert_eq!(activity(std::process::id(), this).unwrap().state, 'R');
        assert_eq!(activity(u32::MAX, this), None);
    }
}
