//! `shmrun doctor`: what of this machine matters, and what shmrun makes of it.

use std::path::Path;
use std::{env, fs};

use ranks::launch::{self, Event};
use rustix::fs::statvfs;
use rustix::process::{Resource, getrlimit};

use super::columns;
use crate::placement;

/// The numbers of ranks that jobs are tried with.
const TRIED: [usize; 3] = [4, 64, 512];
/// Open files of a launcher per rank: three pipes and two pidfds.
const FILES_PER_RANK: u64 = 5;
/// The capability by which a process may reach the memory of any other of its user.
const CAP_SYS_PTRACE: u32 = 19;

/// A line per fact; what needs attention has an exclamation mark and a line of help.
pub(super) fn report() -> String {
    let subjects = [
        ("processors", processors()),
        ("memory", memory()),
        ("/dev/shm", shared_memory()),
        ("segments", segments()),
        ("direct copies", direct_copies()),
        ("huge pages", huge_pages()),
        ("limits", limits()),
        ("terminals", terminals()),
        ("kernel", vec![kernel()]),
        ("debuggers", vec![debuggers()]),
    ];
    let mut rows = Vec::new();
    for (subject, facts) in subjects {
        for (number, fact) in facts.into_iter().enumerate() {
            let title = if number == 0 { subject } else { "" };
            rows.push(vec![title.to_owned(), fact]);
        }
    }
    columns(&rows)
}

fn processors() -> Vec<String> {
    let allowed = launch::allowed_cores();
    let available = launch::available_cores();
    let mut facts =
        vec![format!("{}, of which this user may use {}", machine(), placement::write_list(&allowed))];
    if available < allowed.len() {
        facts.push(format!("the control group's quota is processor time for {available}"));
    }
    facts.push(format!(
        "`shmrun ./app` starts {available} ranks; of more than {available}, those that wait give their processor up instead of spinning"
    ));
    facts
}

/// The first line of the table that --report-bindings prints.
fn machine() -> String {
    let summary = placement::Machine::read(None).map(|machine| placement::summary(&machine));
    summary.unwrap_or_else(|error| format!("unknown ({error})"))
}

fn memory() -> Vec<String> {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
    };
    let amount = |name| field(name).map_or("?".to_owned(), size);
    let mut facts =
        vec![format!("{}, of which {} are available", amount("MemTotal"), amount("MemAvailable"))];
    // The first version of control groups writes "no limit" as a number of pages that nobody has.
    facts.push(match launch::free_memory().filter(|&free| free < 1 << 50) {
        Some(free) => {
            format!("the control group allows {} more; shared memory counts, of either kind", size(free))
        }
        None => "no limit by a control group".to_owned(),
    });
    facts
}

fn shared_memory() -> Vec<String> {
    match statvfs("/dev/shm") {
        Err(error) => vec![format!("not there ({error}): jobs use anonymous memory instead")],
        Ok(facts) => {
            let (total, free) = (facts.f_blocks * facts.f_frsize, facts.f_bavail * facts.f_frsize);
            vec![format!("{}, of which {} are free", size(total), size(free))]
        }
    }
}

/// What jobs of some sizes get, by trying.
fn segments() -> Vec<String> {
    let tried = TRIED.map(|ranks| match launch::try_segment(ranks) {
        Ok(Event::Segment { bytes, anonymous }) => {
            let place =
                if anonymous { "anonymous memory (/dev/shm has no room)" } else { "/dev/shm, without name" };
            format!("{ranks} ranks: up to {} in {place}", size(bytes as u64))
        }
        Ok(_) => format!("{ranks} ranks: ?"),
        Err(error) => format!("! {ranks} ranks: {error}").replace('\n', " "),
    });
    tried.to_vec()
}

fn direct_copies() -> Vec<String> {
    let instead = "long messages go through the segment, in two copies";
    let scope = read_number("/proc/sys/kernel/yama/ptrace_scope").unwrap_or(0);
    vec![match (launch::copies_directly(), scope) {
        (false, _) => {
            format!("no: a filter of system calls, as containers have, or the kernel forbids them; {instead}")
        }
        (true, 0) => "yes: long messages are copied once, from process to process".to_owned(),
        (true, 1) => "yes: ptrace_scope is 1, and ranks admit each other".to_owned(),
        (true, 2) if has_capability(CAP_SYS_PTRACE) => {
            "yes: ptrace_scope is 2, with the capability SYS_PTRACE".to_owned()
        }
        (true, _) => format!("no: ptrace_scope is {scope}; {instead}"),
    }]
}

fn huge_pages() -> Vec<String> {
    let chosen = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/shmem_enabled").unwrap_or_default();
    let chosen =
        chosen.split_once('[').and_then(|(_, rest)| Some(rest.split_once(']')?.0)).unwrap_or("unknown");
    vec![format!("of shared memory: {chosen} (shmem_enabled); jobs take what the system gives and need none")]
}

fn limits() -> Vec<String> {
    let files = getrlimit(Resource::Nofile);
    let most = files.maximum.map_or(512, |most| (most.saturating_sub(128) / FILES_PER_RANK).min(512));
    let mark = if most < 512 { "! " } else { "" };
    let text = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |limit| limit.to_string());
    vec![
        format!(
            "{mark}open files: {}, which shmrun may raise to {}: enough for {most} ranks",
            text(files.current),
            text(files.maximum)
        ),
        format!("processes of this user: {}", text(getrlimit(Resource::Nproc).current)),
    ]
}

fn terminals() -> Vec<String> {
    match Path::new("/dev/pts/ptmx").exists() || Path::new("/dev/ptmx").exists() {
        true => vec!["there: -u can give ranks pseudo-terminals".to_owned()],
        false => vec!["! /dev/ptmx is not there: -u cannot give ranks pseudo-terminals".to_owned()],
    }
}

fn kernel() -> String {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map(|number| number.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    match version >= (5, 9) {
        true => format!("{} {release}", name.sysname().to_string_lossy()),
        false => format!("! {} {release}: 5.9 or newer is needed", name.sysname().to_string_lossy()),
    }
}

fn debuggers() -> String {
    let path = env::var_os("PATH").unwrap_or_default();
    let is_there = |name: &&&str| env::split_paths(&path).any(|directory| directory.join(name).is_file());
    let found: Vec<&str> = ["gdb", "lldb", "valgrind", "strace"].iter().filter(is_there).copied().collect();
    match found.is_empty() {
        true => "none of gdb, lldb, valgrind, strace".to_owned(),
        false => format!("{}: see --debug and --wrap", found.join(", ")),
    }
}

fn has_capability(number: u32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective
        .and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        .is_some_and(|set| set >> number & 1 == 1)
}

fn read_number(file: &str) -> Option<u32> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// A number of bytes with a unit that leaves it a few digits.
fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("bytes", 1)];
    let (unit, factor) = UNITS.into_iter().find(|&(_, factor)| bytes >= factor).unwrap_or(("bytes", 1));
    match bytes.is_multiple_of(factor) || bytes / factor >= 10 {
        true => format!("{} {unit}", bytes / factor),
        false => format!("{:.1} {unit}", bytes as f64 / factor as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1536, "1.5 KiB"),
            (64 << 20, "64 MiB"),
            ((10 << 30) + 5, "10 GiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
