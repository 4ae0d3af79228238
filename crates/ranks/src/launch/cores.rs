//! How many processors the job may use, and which of them each rank gets.

use std::fs;

use rustix::thread::{CpuSet, sched_getaffinity};

use super::plan::Binding;

/// The number of processors that this process may use: those of its affinity mask, or fewer when a control
/// group's quota allows less processor time. At least 1.
pub fn available() -> usize {
    let allowed = allowed().len().max(1);
    quota().map_or(allowed, |quota| allowed.min(quota.max(1)))
}

/// The processors that `rank` of `ranks` may use, or `None` for all.
pub(super) fn share(binding: Binding, rank: usize, ranks: usize) -> Option<CpuSet> {
    let allowed = allowed();
    match binding {
        Binding::None => None,
        _ if allowed.is_empty() => None,
        Binding::Share => even_share(&allowed, rank, ranks).map(set),
        Binding::Core => {
            let cores = by_core(&allowed, siblings);
            Some(set(&cores[rank % cores.len()]))
        }
    }
}

fn allowed() -> Vec<usize> {
    let Ok(mask) = sched_getaffinity(None) else {
        return Vec::new();
    };
    (0..CpuSet::MAX_CPU).filter(|&cpu| mask.is_set(cpu)).collect()
}

fn set(processors: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    processors.iter().for_each(|&cpu| set.set(cpu));
    set
}

fn even_share(allowed: &[usize], rank: usize, ranks: usize) -> Option<&[usize]> {
    let bound = |rank: usize| rank * allowed.len() / ranks;
    (ranks <= allowed.len()).then(|| &allowed[bound(rank)..bound(rank + 1)])
}

/// The allowed processors grouped by the core that they are hardware threads of, in order.
fn by_core(allowed: &[usize], siblings: impl Fn(usize) -> Option<Vec<usize>>) -> Vec<Vec<usize>> {
    let mut cores: Vec<Vec<usize>> = Vec::new();
    for &cpu in allowed {
        let together = siblings(cpu).unwrap_or_default();
        match cores.iter_mut().find(|core| together.contains(&core[0])) {
            Some(core) => core.push(cpu),
            None => cores.push(vec![cpu]),
        }
    }
    cores
}

fn siblings(cpu: usize) -> Option<Vec<usize>> {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    parse_list(fs::read_to_string(path).ok()?.trim())
}

/// Parses a kernel list such as `0-3,8`.
fn parse_list(text: &str) -> Option<Vec<usize>> {
    let mut list = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        list.extend(first.parse::<usize>().ok()?..=last.parse().ok()?);
    }
    Some(list)
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
    fn shares_are_disjoint_and_cover_everything() {
        let allowed = [1, 2, 5, 6, 7];
        let shares: Vec<usize> =
            (0..3).flat_map(|rank| even_share(&allowed, rank, 3).unwrap().to_vec()).collect();
        assert_eq!(shares, allowed);
        assert_eq!(even_share(&allowed, 0, 6), None);
    }

    #[test]
    fn hardware_threads_of_a_core_stay_together() {
        let siblings = |cpu: usize| Some(vec![cpu % 2, cpu % 2 + 2]);
        assert_eq!(by_core(&[0, 1, 2, 3], siblings), [vec![0, 2], vec![1, 3]]);
        assert_eq!(by_core(&[0, 1], |_| None), [vec![0], vec![1]]);
    }

    #[test]
    fn lists_and_quotas_are_read_as_the_kernel_writes_them() {
        assert_eq!(parse_list("0-2,8"), Some(vec![0, 1, 2, 8]));
        assert_eq!(parse_list("x"), None);
        assert_eq!(processors(150_000, 100_000), Some(2));
        assert_eq!(processors(1, 0), None);
        assert!(available() >= 1);
    }
}
