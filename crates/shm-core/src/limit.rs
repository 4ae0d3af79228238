//! How much memory the control group of this process leaves.
//!
//! Reserving a range of shared memory does not ask the memory controller for permission in a way that fails:
//! beyond the limit the kernel kills somebody. So large reservations look at the limit first.

use std::fs;
use std::path::{Path, PathBuf};

/// The two file layouts of the memory controller.
struct Version {
    root: &'static str,
    limit: &'static str,
    usage: &'static str,
    inactive: &'static str,
    active: &'static str,
}

const V2: Version = Version {
    root: "/sys/fs/cgroup",
    limit: "memory.max",
    usage: "memory.current",
    inactive: "inactive_file",
    active: "active_file",
};

const V1: Version = Version {
    root: "/sys/fs/cgroup/memory",
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    inactive: "total_inactive_file",
    active: "total_active_file",
};

/// Bytes that this process's control groups still allow; `None` without a limit or without control groups.
pub fn free_bytes() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    groups.lines().filter_map(memory_group).filter_map(|(version, path)| free_in(version, path)).min()
}

/// The version and path of a line of `/proc/self/cgroup`, if it is about memory.
fn memory_group(line: &str) -> Option<(&'static Version, &str)> {
    let mut fields = line.splitn(3, ':');
    let (_number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    if controllers.is_empty() {
        return Some((&V2, path));
    }
    controllers.split(',').any(|controller| controller == "memory").then_some((&V1, path))
}

/// The tightest of the group and its ancestors. Inside a container the path may be the host's: then only the
/// root of the visible tree is found, which is the container's own group.
fn free_in(version: &Version, path: &str) -> Option<u64> {
    let relative = Path::new(path.trim_start_matches('/'));
    relative
        .ancestors()
        .map(|group| PathBuf::from(version.root).join(group))
        .filter_map(|group| free_of(version, &group))
        .min()
}

fn free_of(version: &Version, group: &Path) -> Option<u64> {
    let limit = fs::read_to_string(group.join(version.limit)).ok()?;
    let usage = fs::read_to_string(group.join(version.usage)).ok()?;
    let statistics = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    free_from(version, &limit, &usage, &statistics)
}

/// Page cache of files counts as used, but the kernel gives it up before it kills.
fn free_from(version: &Version, limit: &str, usage: &str, statistics: &str) -> Option<u64> {
    let limit: u64 = limit.trim().parse().ok()?;
    let usage: u64 = usage.trim().parse().ok()?;
    let cache = field(statistics, version.inactive) + field(statistics, version.active);
    Some(limit.saturating_sub(usage.saturating_sub(cache)))
}

fn field(statistics: &str, name: &str) -> u64 {
    let value = statistics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_memory_group_of_both_versions() {
        let path = |line| memory_group(line).map(|(version, path)| (version.root, path));
        assert_eq!(path("0::/user.slice/a"), Some((V2.root, "/user.slice/a")));
        assert_eq!(path("4:cpu,memory:/docker/x:y"), Some((V1.root, "/docker/x:y")));
        assert_eq!(path("5:cpuset:/docker"), None);
    }

    #[test]
    fn page_cache_counts_as_free_and_no_limit_is_none() {
        let statistics = "anon 10\ninactive_file 300\nactive_file 200\n";
        assert_eq!(free_from(&V2, "1000\n", "900\n", statistics), Some(600));
        assert_eq!(free_from(&V2, "1000\n", "900\n", ""), Some(100));
        assert_eq!(free_from(&V2, "100\n", "900\n", ""), Some(0));
        assert_eq!(free_from(&V2, "max\n", "900\n", statistics), None);
    }
}
