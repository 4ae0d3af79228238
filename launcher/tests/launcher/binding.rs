//! Which processors the ranks get, as the system sees it.

use crate::harness::{Finished, shmrun};

/// The processors of each rank, by rank, as `0: 0-3`.
fn processors(options: &str) -> Vec<String> {
    let script = "echo $SHMRUN_RANK: $(sed -n 's/^Cpus_allowed_list:.//p' /proc/self/status)";
    let run = shmrun(options.split_whitespace().chain(["sh", "-c", script])).run().code(0);
    run.sorted_lines().iter().map(|line| line.split(' ').nth(1).unwrap_or_default().to_owned()).collect()
}

fn refused(options: &str) -> Finished {
    shmrun(options.split_whitespace().chain(["true"])).run().code(125)
}

/// All that may be used, as the system writes it.
fn all() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t")).unwrap().to_owned()
}

/// The first two processors that may be used, if there are two.
fn two() -> Option<[usize; 2]> {
    let allowed = ranks::launch::allowed_cores();
    if allowed.len() < 2 {
        eprintln!("SKIPPED: this machine has one processor");
        return None;
    }
    Some([allowed[0], allowed[1]])
}

#[test]
fn unbound_ranks_may_run_anywhere() {
    assert_eq!(processors("-n 2 --bind-to none"), [all(), all()]);
    assert_eq!(processors("-n 2 --cpu-bind=none"), [all(), all()]);
    assert_eq!(processors("-n 1"), [all()]);
    let many = 3 * ranks::launch::allowed_cores().len();
    assert_eq!(processors(&format!("-n {many}")), vec![all(); many]);
}

#[test]
fn shares_are_disjoint() {
    if two().is_none() {
        return;
    }
    let [first, second] = processors("-n 2").try_into().unwrap();
    assert_ne!(first, second);
    assert_eq!(processors("-n 2 --bind-to share"), [first, second]);
}

#[test]
fn single_processors_are_given_in_turn() {
    let Some([a, b]) = two() else { return };
    let (a, b) = (a.to_string(), b.to_string());
    for options in [
        format!("--cpu-set {a},{b} --bind-to hwthread"),
        format!("--cpu-list {a},{b} -bind-to hwthread:overload-allowed"),
        format!("--cpu-set {a},{b} --cpu-bind=threads"),
        format!("--cpu-set {a},{b} --cpus-per-rank 1"),
        format!("--cpu-set {a},{b} --cpus-per-task=1"),
        format!("--cpu-set {a},{b} --map-by hwthread"),
    ] {
        assert_eq!(processors(&format!("-n 3 {options}")), [&*a, &*b, &*a], "{options}");
    }
    assert_eq!(processors(&format!("-n 3 --cpu-bind=map_cpu:{b},{a}")), [&*b, &*a, &*b]);
    assert_eq!(processors(&format!("-n 2 -bind-to user:{b}")), [&*b, &*b]);
}

#[test]
fn cores_and_what_is_larger_are_read_from_the_system() {
    for level in ["core", "l3cache", "numa", "socket", "package", "none"] {
        assert_eq!(processors(&format!("-n 3 --bind-to {level}")).len(), 3, "{level}");
    }
    for map in ["core", "numa", "socket", "slot", "slot:PE=1", "core:PE=1:OVERSUBSCRIBE"] {
        assert_eq!(processors(&format!("-n 3 --map-by {map}")).len(), 3, "{map}");
    }
}

#[test]
fn a_subset_holds_for_unbound_ranks_too() {
    let Some([a, _]) = two() else { return };
    assert_eq!(processors(&format!("-n 2 --cpu-set {a} --bind-to none")), [a.to_string(), a.to_string()]);
    assert_eq!(processors(&format!("--cpu-set {a}")), [a.to_string()]);
}

#[test]
fn wishes_that_cannot_be_met_are_refused() {
    refused("-n 1 --cpu-set 99999").says("99999").says("may use");
    refused("-n 1 --cpu-set x").says("'x'");
    refused("-n 1 --bind-to hat").says("'hat'").says("socket");
    refused("-n 1 --cpu-bind=hats").says("map_cpu");
    refused("-n 1 --cpus-per-rank 60000").says("60000 processors");
    refused("-n 1 --cpus-per-rank 0").says("'0'");
    refused("-n 1 --map-by core:PE=x").says("PE");
    refused("-n 500 --nooversubscribe").says("500 ranks").says("--nooversubscribe");
    refused("-n 500 --map-by :NOOVERSUBSCRIBE").says("500 ranks");
    shmrun(["-n", "1", "--map-by", "ppr:1:socket", "true"]).run().code(0).says("ppr:1:socket");
}

#[test]
fn bindings_are_reported_as_a_table() {
    for option in
        ["--report-bindings", "-report-bindings", "--display-map", "--display map", "--cpu-bind=verbose"]
    {
        let words = option.split(' ');
        let run = shmrun(["-n", "2"].into_iter().chain(words).chain(["true"])).run().code(0).stdout("");
        run.says("rank  processors").says("memory node");
    }
    let run = shmrun(["-n", "2", "--bind-to", "none", "--report-bindings", "true"]).run();
    run.code(0).says("  0-1  any (not bound)");
}

#[test]
fn the_default_number_of_ranks_follows_the_processors_of_each() {
    let available = ranks::launch::available_cores();
    assert_eq!(processors(&format!("--cpus-per-rank {available}")), [all()]);
}

#[test]
fn memory_is_placed_as_wished() {
    let policies = |option: &str| {
        let words = ["-n", "1"].into_iter().chain(option.split_whitespace());
        let run = shmrun(words.chain(["cat", "/proc/self/numa_maps"])).run();
        let policies = run.stdout.lines().filter_map(|line| line.split(' ').nth(1).map(str::to_owned));
        let policies: std::collections::BTreeSet<String> = policies.collect();
        (policies.into_iter().collect::<Vec<_>>(), run)
    };
    let (default, run) = policies("");
    if run.code != Some(0) {
        return eprintln!("SKIPPED: a kernel without memory nodes: {}", run.stderr);
    }
    assert_eq!(default, ["default"]);
    let (interleaved, run) = policies("--mem-bind interleave");
    if run.code == Some(125) {
        run.says("--mem-bind");
        return eprintln!("SKIPPED: this user may not place memory");
    }
    assert!(interleaved.iter().all(|policy| policy.starts_with("interleave:0")), "{interleaved:?}");
    assert_eq!(policies("-membind local").0, ["local"]);
    assert_eq!(policies("--mem-bind none").0, ["default"]);
    refused("-n 1 --mem-bind hat").says("'hat'").says("interleave");
}
