//! The processors of this machine and what they have in common, as /sys tells it.

use std::fs;
use std::path::Path;

/// What processors can have in common, from small to large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// A processor as the system counts them.
    Hwthread,
    /// A core: one processor, or several hardware threads.
    Core,
    /// Cores that share a third-level cache.
    L3cache,
    /// A memory node.
    Numa,
    /// A socket.
    Package,
}

/// A processor and the numbers of what it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Processor {
    pub(crate) number: usize,
    /// The lowest processor of its core, cache, node and package: names the group.
    groups: [usize; 4],
    pub(crate) node: usize,
}

/// The processors that a job may use, near ones beside each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Topology {
    pub(crate) processors: Vec<Processor>,
}

impl Topology {
    /// Reads what is known of `allowed`. What /sys does not tell, counts as one core per processor and all else
    /// in common.
    pub(crate) fn read(sys: &Path, allowed: &[usize]) -> Self {
        let cpu =
            |number: usize, file: &str| list(&sys.join(format!("devices/system/cpu/cpu{number}")).join(file));
        let cores = groups(allowed, |number| cpu(number, "topology/thread_siblings_list"));
        let caches = groups_or_one(allowed, |number| cpu(number, "cache/index3/shared_cpu_list"));
        let packages = groups_or_one(allowed, |number| cpu(number, "topology/core_siblings_list"));
        let nodes = nodes(sys);
        let of = |groups: &[Vec<usize>], number: usize| {
            groups.iter().find(|group| group.contains(&number)).map_or(number, |group| group[0])
        };
        let processor = |&number: &usize| {
            let node = nodes.iter().find(|(_, members)| members.contains(&number));
            let (node, first) = node.map_or((0, 0), |(node, members)| (*node, members[0]));
            let groups = [of(&cores, number), of(&caches, number), first, of(&packages, number)];
            Processor { number, groups, node }
        };
        let mut processors: Vec<_> = allowed.iter().map(processor).collect();
        processors.sort_by_key(|processor| {
            let [core, cache, node, package] = processor.groups;
            [package, node, cache, core, processor.number]
        });
        Self { processors }
    }

    /// The processors in groups of those that share a `level`, in order.
    pub(crate) fn by(&self, level: Level) -> Vec<Vec<Processor>> {
        let mut groups: Vec<Vec<Processor>> = Vec::new();
        for &processor in &self.processors {
            match groups.iter_mut().find(|group| group[0].group(level) == processor.group(level)) {
                Some(group) => group.push(processor),
                None => groups.push(vec![processor]),
            }
        }
        groups
    }
}

impl Processor {
    /// What names the group that it belongs to.
    pub(crate) fn group(&self, level: Level) -> usize {
        match level {
            Level::Hwthread => self.number,
            Level::Core => self.groups[0],
            Level::L3cache => self.groups[1],
            Level::Numa => self.groups[2],
            Level::Package => self.groups[3],
        }
    }
}

/// Each list is read once per group: a machine may have hundreds of processors.
fn groups(allowed: &[usize], read: impl Fn(usize) -> Option<Vec<usize>>) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for &number in allowed {
        if !groups.iter().any(|group| group.contains(&number)) {
            let group = read(number).filter(|group| group.contains(&number));
            groups.push(group.unwrap_or_else(|| vec![number]));
        }
    }
    groups
}

/// The same, where what is not known is in common.
fn groups_or_one(allowed: &[usize], read: impl Fn(usize) -> Option<Vec<usize>>) -> Vec<Vec<usize>> {
    groups(allowed, |number| read(number).or_else(|| Some(allowed.to_vec())))
}

/// The memory nodes that have processors.
fn nodes(sys: &Path) -> Vec<(usize, Vec<usize>)> {
    let directory = sys.join("devices/system/node");
    let online = list(&directory.join("online")).unwrap_or_default();
    let members = |node: usize| list(&directory.join(format!("node{node}/cpulist")));
    online.into_iter().filter_map(|node| Some((node, members(node)?))).collect()
}

/// The nodes that have memory; one where /sys does not tell.
pub(super) fn memory_nodes(sys: &Path) -> Vec<usize> {
    let directory = sys.join("devices/system/node");
    let nodes = list(&directory.join("has_memory")).or_else(|| list(&directory.join("online")));
    nodes.unwrap_or_else(|| vec![0])
}

/// A list that the kernel wrote into a file; `None` if there is none.
fn list(path: &Path) -> Option<Vec<usize>> {
    parse_list(fs::read_to_string(path).ok()?.trim()).filter(|list| !list.is_empty())
}

/// The largest number that may stand in a list: more would only be a mistake.
const LARGEST: usize = 1 << 20;

/// Parses a list such as `0-3,8`, in the order in which it is written.
pub(crate) fn parse_list(text: &str) -> Option<Vec<usize>> {
    let mut list = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<usize>().ok()?, last.trim().parse().ok()?);
        if first > last || last > LARGEST {
            return None;
        }
        list.extend(first..=last);
    }
    Some(list)
}

/// A list as the kernel writes it: `0-3,8`.
pub(crate) fn write_list(numbers: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let range = |(first, last): (usize, usize)| match last - first {
        0 => first.to_string(),
        _ => format!("{first}-{last}"),
    };
    ranges.into_iter().map(range).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A made-up /sys of `packages` x `cores` with two threads each, numbered as the kernel does: all first
    /// threads, then all second ones. Every package is a memory node.
    pub(in crate::placement) fn machine(packages: usize, cores: usize) -> tempdir::Dir {
        let directory = tempdir::Dir::new();
        let total = packages * cores;
        for number in 0..2 * total {
            let package = number % total / cores;
            let all = format!(
                "{}-{},{}-{}",
                package * cores,
                (package + 1) * cores - 1,
                total + package * cores,
                total + (package + 1) * cores - 1
            );
            let cpu = format!("devices/system/cpu/cpu{number}");
            let threads = format!("{},{}", number % total, number % total + total);
            directory.write(&format!("{cpu}/topology/thread_siblings_list"), &threads);
            directory.write(&format!("{cpu}/topology/core_siblings_list"), &all);
            directory.write(&format!("{cpu}/cache/index3/shared_cpu_list"), &all);
            directory.write(&format!("devices/system/node/node{package}/cpulist"), &all);
        }
        directory.write("devices/system/node/online", &format!("0-{}", packages - 1));
        directory
    }

    pub(in crate::placement) mod tempdir {
        use std::path::{Path, PathBuf};
        use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

        /// A directory that is removed when it is dropped.
        pub(in crate::placement) struct Dir(PathBuf);

        impl Dir {
            pub(super) fn new() -> Self {
                static NUMBER: AtomicU32 = AtomicU32::new(0);
                let number = NUMBER.fetch_add(1, Relaxed);
                let name = format!("shmrun-topology-{}-{number}", std::process::id());
                Self(std::env::temp_dir().join(name))
            }

            pub(super) fn write(&self, path: &str, text: &str) {
                let path = self.0.join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, format!("{text}\n")).unwrap();
            }

            pub(in crate::placement) fn path(&self) -> &Path {
                &self.0
            }
        }

        impl Drop for Dir {
            fn drop(&mut self) {
                let _ = std::fs::remove_dir_all(&self.0);
            }
        }
    }

    fn numbers(groups: Vec<Vec<Processor>>) -> Vec<Vec<usize>> {
        groups.iter().map(|group| group.iter().map(|processor| processor.number).collect()).collect()
    }

    #[test]
    fn threads_of_a_core_and_cores_of_a_package_stand_together() {
        let sys = machine(2, 2);
        let topology = Topology::read(sys.path(), &[0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(numbers(topology.by(Level::Core)), [[0, 4], [1, 5], [2, 6], [3, 7]]);
        assert_eq!(numbers(topology.by(Level::Package)), [[0, 4, 1, 5], [2, 6, 3, 7]]);
        assert_eq!(topology.by(Level::Numa)[1][0].node, 1);
        assert_eq!(topology.by(Level::Hwthread).len(), 8);
    }

    #[test]
    fn only_allowed_processors_are_counted() {
        let sys = machine(2, 2);
        let topology = Topology::read(sys.path(), &[1, 3, 5]);
        assert_eq!(numbers(topology.by(Level::Core)), [vec![1, 5], vec![3]]);
        assert_eq!(numbers(topology.by(Level::L3cache)), [vec![1, 5], vec![3]]);
    }

    #[test]
    fn without_sys_every_processor_is_a_core_of_one_package() {
        let topology = Topology::read(Path::new("/no/such/directory"), &[2, 5]);
        assert_eq!(numbers(topology.by(Level::Core)), [[2], [5]]);
        assert_eq!(numbers(topology.by(Level::Package)), [[2, 5]]);
        assert_eq!(numbers(topology.by(Level::Numa)), [[2, 5]]);
    }

    #[test]
    fn this_machine_is_read() {
        let allowed = ranks::launch::allowed_cores();
        let topology = Topology::read(Path::new("/sys"), &allowed);
        assert_eq!(topology.processors.len(), allowed.len());
    }

    #[test]
    fn lists_are_read_and_written_as_the_kernel_writes_them() {
        assert_eq!(parse_list("0-2,8"), Some(vec![0, 1, 2, 8]));
        assert_eq!(parse_list("3,1"), Some(vec![3, 1]));
        for wrong in ["", "x", "3-1", "0-99999999999", "1,,2", "-1"] {
            assert_eq!(parse_list(wrong), None, "{wrong}");
        }
        assert_eq!(write_list(&[0, 1, 2, 8, 10, 11]), "0-2,8,10-11");
        assert_eq!(write_list(&[]), "");
    }
}
