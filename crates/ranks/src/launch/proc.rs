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
}
