//! How many processors the job may use, and which.

use std::fs;

use rustix::thread::{CpuSet, sched_getaffinity};

/// The number of processors that this process may use: those of its affinity mask, or fewer when a control
/// group's quota allows less processor time. At least 1.
pub fn available() -> usize {
    let allowed = allowed().len().max(1);
    quota().map_or(allowed, |quota| allowed.min(quota.max(1)))
}

/// The processors of the affinity mask of this process, by number; empty if the system does not tell.
pub fn allowed() -> Vec<usize> {
    let Ok(mask) = sched_getaffinity(None) else {
        return Vec::new();
    };
    (0..CpuSet::MAX_CPU).filter(|&cpu| mask.is_set(cpu)).collect()
}

/// A set of processors for the system; empty for an empty list.
pub(super) fn set(processors: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    processors.iter().filter(|&&cpu| cpu < CpuSet::MAX_CPU).for_each(|&cpu| set.set(cpu));
    set
}

/// Processors' worth of time that the control group may use, rounded up; `None` without a limit.
fn quota() -> Option<usize> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let limits = groups.lines().flat_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next().unwrap_or(""), fields.next().unwrap_or("/"));
        match controllers {
            "" => limits_above("/sys/fs/cgroup", path, quota_v2),
            list if list.split(',').any(|name| name == "cpu") => {
                limits_above("/sys/fs/cgroup/cpu", path, quota_v1)
            }
            _ => None,
        }
    });
    limits.min()
}

/// The smallest limit of the group at `path` and of all groups that contain it.
fn limits_above(root: &str, path: &str, read: impl Fn(&str) -> Option<usize>) -> Option<usize> {
    let mut path = path.trim_end_matches('/');
    let mut least = read(root);
    while !path.is_empty() {
        least = [least, read(&format!("{root}{path}"))].into_iter().flatten().min();
        path = &path[..path.rfind('/').unwrap_or(0)];
    }
    least
}

fn quota_v2(group: &str) -> Option<usize> {
    let text = fs::read_to_string(format!("{group}/cpu.max")).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    processors(quota.parse().ok()?, period.parse().ok()?)
}

fn quota_v1(group: &str) -> Option<usize> {
    let read = |name| fs::read_to_string(format!("{group}/{name}")).ok();
    let quota: i64 = read("cpu.cfs_quota_us")?.trim().parse().ok()?;
    let period = read("cpu.cfs_period_us")?.trim().parse().ok()?;
    processors(u64::try_from(quota).ok()?, period)
}

fn processors(quota: u64, period: u64) -> Option<usize> {
    (period > 0).then(|| quota.div_ceil(period) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_rounded_up() {
        assert_eq!(processors(150_000, 100_000), Some(2));
        assert_eq!(processors(1, 0), None);
        assert!(available() >= 1);
    }
}
