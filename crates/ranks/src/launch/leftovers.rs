//! Names in /dev/shm that jobs left behind.
//!
//! Builds with named semaphores have a name per rank while a job runs. A segment has none; systems other than Linux and
//! earlier versions give it one from its creation to the next system call of its launcher, and a launcher that is killed in
//! between leaves it.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{major, minor};

use super::proc;
use crate::layout::NAME_PREFIX;

/// A name that is younger may be that of a job which is just starting.
const MINIMUM_AGE: Duration = Duration::from_secs(60);

/// What tells an object from all others: the file system's device, and the inode.
type Identity = (u32, u32, u64);

/// The files in `directory`, which is /dev/shm, that are named as jobs name theirs, belong to this user, are a minute
/// old and are held by no process that this user may look at.
///
/// # Errors
///
/// The directory cannot be read. One that does not exist holds nothing.
pub fn leftover_names(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let names = entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(is_ours));
    let files = names.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)));
    let old: Vec<_> = files.filter(|(_, facts)| is_old(facts) && is_own(facts)).collect();
    if old.is_empty() {
        return Ok(Vec::new());
    }
    let held = held();
    let mut left: Vec<_> =
        old.into_iter().filter(|(_, facts)| !held.contains(&identity(facts))).map(|(path, _)| path).collect();
    left.sort();
    Ok(left)
}

/// Whether a job could have named an object so: `shmrun.` and 12 hexadecimal digits for a segment,
/// `sem.shmrun-`, 16 of them and a rank for a semaphore.
fn is_ours(name: &str) -> bool {
    let hexadecimal = |text: &str, digits: usize| {
        text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let segment = name.strip_prefix(NAME_PREFIX).and_then(|rest| rest.strip_prefix('.'));
    let semaphore =
        name.strip_prefix("sem.").and_then(|rest| rest.strip_prefix(NAME_PREFIX)?.strip_prefix('-'));
    segment.is_some_and(|random| hexadecimal(random, 12))
        || semaphore.and_then(|rest| rest.split_once('-')).is_some_and(|(job, rank)| {
            hexadecimal(job, 16) && !rank.is_empty() && rank.bytes().all(|byte| byte.is_ascii_digit())
        })
}

fn is_old(facts: &Metadata) -> bool {
    // A time in the future is no age.
    facts.is_file()
        && facts.modified().ok().and_then(|time| time.elapsed().ok()).is_some_and(|age| age >= MINIMUM_AGE)
}

fn is_own(facts: &Metadata) -> bool {
    facts.uid() == rustix::process::geteuid().as_raw()
}

fn identity(facts: &Metadata) -> Identity {
    (major(facts.dev()), minor(facts.dev()), facts.ino())
}

/// All objects that some process has open or mapped.
fn held() -> BTreeSet<Identity> {
    let mut held = BTreeSet::new();
    for pid in proc::all() {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        held.extend(descriptors.filter_map(|entry| Some(identity(&fs::metadata(entry.path()).ok()?))));
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        held.extend(maps.lines().filter_map(mapped));
    }
    held
}

/// The object of a line of /proc/PID/maps: address, permissions, offset, device, inode, path.
fn mapped(line: &str) -> Option<Identity> {
    let mut fields = line.split_ascii_whitespace().skip(3);
    let (major, minor) = fields.next()?.split_once(':')?;
    let number = |text| u32::from_str_radix(text, 16).ok();
    Some((number(major)?, number(minor)?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::fs::{File, FileTimes};
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn names_of_others_are_not_ours() {
        for name in
            ["shmrun.0123456789ab", "sem.shmrun-0123456789abcdef-0", "sem.shmrun-0123456789abcdef-511"]
        {
            assert!(is_ours(name), "{name}");
        }
        for name in [
            "shmrun",
            "shmrun.",
            "shmrun.0123456789abc",
            "shmrun.0123456789aX",
            "shmrun.0123456789AB",
            "shmrun.config.toml",
            "shmrun-0123456789abcdef-0",
            "sem.shmrun-0123456789abcdef-",
            "sem.shmrun-0123456789abcdef-x",
            "sem.other-0123456789abcdef-0",
            "other.0123456789ab",
        ] {
            assert!(!is_ours(name), "{name}");
        }
    }

    #[test]
    fn a_mapping_names_its_object() {
        let line =
            "7f0000000000-7f0000001000 rw-s 00000000 00:1a 4711   /dev/shm/shmrun.0123456789ab (deleted)";
        assert_eq!(mapped(line), Some((0, 0x1a, 4711)));
        assert_eq!(mapped("7f0000000000-7f0000001000 rw-p 00000000 00:00 0 "), Some((0, 0, 0)));
        assert_eq!(mapped("nonsense"), None);
    }

    #[test]
    fn only_old_files_that_nobody_holds_are_left_over() {
        let directory = std::env::temp_dir().join(format!("leftovers-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let hour_ago = FileTimes::new().set_modified(SystemTime::now() - 60 * MINIMUM_AGE);
        let create = |name: &str, old: bool| {
            let file = File::create(directory.join(name)).unwrap();
            if old {
                file.set_times(hour_ago).unwrap();
            }
            file
        };
        drop(create("shmrun.00000000000a", true));
        drop(create("shmrun.00000000000b", false));
        drop(create("somebody else's", true));
        let held = create("shmrun.00000000000c", true);
        // What another test of this process forks holds every open file until it executes something.
        let await_names = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| directory.join(name)).collect();
            let mut found = Vec::new();
            for _ in 0..1000 {
                found = leftover_names(&directory).unwrap();
                found.sort();
                if found == names {
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            assert_eq!(found, names);
        };
        await_names(&["shmrun.00000000000a"]);
        drop(held);
        await_names(&["shmrun.00000000000a", "shmrun.00000000000c"]);
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(leftover_names(&directory).unwrap(), Vec::<PathBuf>::new());
    }
}
