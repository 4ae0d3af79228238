//! Whether the kernel has killed processes of this control group because memory ran out.

use std::fs;
use std::path::{Path, PathBuf};

use crate::diagnose::size;

/// Where control groups are mounted.
const MOUNT: &str = "/sys/fs/cgroup";
/// A limit of version 1 beyond this is none.
const NO_LIMIT: u64 = 1 << 60;

/// A counter of processes that were killed for lack of memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KillCount {
    file: PathBuf,
    /// What the counter is called in a message.
    name: &'static str,
    limit: Option<u64>,
    before: u64,
}

impl KillCount {
    /// The counter of the control group of this process, or of the whole system; `None` where there is neither.
    pub(super) fn read() -> Option<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let group = group(&groups, Path::new(MOUNT));
        let system = || {
            let file = PathBuf::from("/proc/vmstat");
            Some((file, "/proc/vmstat oom_kill", None))
        };
        let (file, name, limit) = group.or_else(system)?;
        let before = count(&fs::read_to_string(&file).ok()?)?;
        Some(Self { file, name, limit, before })
    }

    /// Why a process was killed, if it was for that: the counter has grown.
    pub(super) fn cause(&self) -> Option<String> {
        let Self { file, name, limit, before } = self;
        let now = count(&fs::read_to_string(file).ok()?)?;
        let limit = limit.map_or_else(String::new, |limit| format!(" (limit {})", size(limit)));
        let what = if limit.is_empty() { "the system ran out of memory" } else { "the memory limit" };
        (now > *before).then(|| format!("{what}: {name} {before} -> {now}{limit}"))
    }
}

/// The counter's file, its name and the memory limit, by the lines of /proc/self/cgroup.
fn group(groups: &str, mount: &Path) -> Option<(PathBuf, &'static str, Option<u64>)> {
    let paths = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (number, controllers) = (fields.next()?, fields.next()?);
        Some((number, controllers, fields.next()?.trim_start_matches('/')))
    });
    let mut found = None;
    for (number, controllers, path) in paths {
        if controllers.split(',').any(|controller| controller == "memory") {
            let root = mount.join("memory");
            found = files(
                &root,
                path,
                "memory.oom_control",
                "memory.limit_in_bytes",
                "memory.oom_control oom_kill",
            );
        } else if number == "0" && found.is_none() {
            found = files(mount, path, "memory.events", "memory.max", "memory.events oom_kill");
        }
    }
    found
}

/// Where the group is not visible by its path, in a container, the root of what is mounted is this group.
fn files(
    root: &Path,
    path: &str,
    counter: &str,
    limit: &str,
    name: &'static str,
) -> Option<(PathBuf, &'static str, Option<u64>)> {
    let directory =
        [root.join(path), root.to_owned()].into_iter().find(|path| path.join(counter).exists())?;
    let above = directory.ancestors().take_while(|above| above.starts_with(root));
    let limits = above.filter_map(|above| fs::read_to_string(above.join(limit)).ok()?.trim().parse().ok());
    Some((directory.join(counter), name, limits.filter(|&limit: &u64| limit < NO_LIMIT).min()))
}

/// The number behind the word `oom_kill`.
fn count(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that is removed in the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let directory = std::env::temp_dir().join(format!("ranks-memory-{name}-{}", std::process::id()));
            fs::create_dir_all(&directory).unwrap();
            Self(directory)
        }

        fn write(&self, file: &str, text: &str) {
            let file = self.0.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn watched(scratch: &Scratch, groups: &str) -> KillCount {
        let (file, name, limit) = group(groups, &scratch.0).unwrap();
        let before = count(&fs::read_to_string(&file).unwrap()).unwrap();
        KillCount { file, name, limit, before }
    }

    #[test]
    fn a_kill_in_a_group_of_version_2_is_seen() {
        let scratch = Scratch::new("v2");
        scratch.write("user/job/memory.events", "low 0\nhigh 3\nmax 9\noom 1\noom_kill 1\n");
        scratch.write("user/job/memory.max", "max\n");
        scratch.write("user/memory.max", "2147483648\n");
        let watched = watched(&scratch, "0::/user/job\n");
        assert_eq!(watched.cause(), None);
        scratch.write("user/job/memory.events", "oom_kill 2\n");
        let cause = watched.cause().unwrap();
        assert_eq!(cause, "the memory limit: memory.events oom_kill 1 -> 2 (limit 2.0 GiB)");
    }

    #[test]
    fn a_kill_in_a_group_of_version_1_is_seen_where_the_path_is_that_of_the_host() {
        let scratch = Scratch::new("v1");
        scratch.write("memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n");
        scratch.write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        let watched = watched(&scratch, "0::/\n5:cpu,memory:/docker/0123\n1:name=systemd:/\n");
        scratch.write("memory/memory.oom_control", "oom_kill 1\n");
        assert_eq!(
            watched.cause().unwrap(),
            "the system ran out of memory: memory.oom_control oom_kill 0 -> 1"
        );
    }

    #[test]
    fn nothing_is_seen_where_nothing_is() {
        assert_eq!(group("0::/\nnonsense\n", Path::new("/nonexistent")), None);
        assert_eq!(count("oom_kill_disable 0\nunder_oom 0\n"), None);
    }
}
