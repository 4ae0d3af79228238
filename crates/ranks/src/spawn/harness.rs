//! Recognising Rust's test harness, and the name of the running test in it.

use std::ffi::OsString;
use std::path::Path;

/// Whether this program is a test binary with Rust's harness: Cargo puts those into `deps` and appends 16
/// hexadecimal digits to their names.
pub(super) fn is_test(program: &Path, arguments: &[OsString]) -> bool {
    let in_deps = program.parent().is_some_and(|directory| directory.ends_with("deps"));
    let stem = program.file_stem().and_then(|stem| stem.to_str()).unwrap_or("");
    let hashed = stem.rsplit_once('-').is_some_and(|(_, hash)| is_hash(hash));
    in_deps && hashed || arguments.iter().any(|argument| argument == "--exact")
}

fn is_hash(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The name of the running test: that of the thread, which the harness names so; else the only name after
/// `--exact`; else the function that the closure type `F` was written in.
pub(super) fn test_name<F>(arguments: &[OsString]) -> String {
    let thread = std::thread::current().name().filter(|name| *name != "main").map(str::to_owned);
    thread.or_else(|| exact_name(arguments)).unwrap_or_else(|| function_name(std::any::type_name::<F>()))
}

fn exact_name(arguments: &[OsString]) -> Option<String> {
    arguments.iter().find(|argument| *argument == "--exact")?;
    let names: Vec<_> = arguments.iter().filter_map(|argument| argument.to_str()).collect();
    let mut names = names.into_iter().filter(|argument| !argument.starts_with('-'));
    match (names.next(), names.next()) {
        (Some(name), None) => Some(name.to_owned()),
        _ => None,
    }
}

/// `crate::module::test::{{closure}}` is `module::test` to the harness.
fn function_name(closure: &str) -> String {
    let function = closure.split("::{{closure}}").next().unwrap_or(closure);
    function.split_once("::").map_or(function, |(_, path)| path).to_owned()
}

/// Arguments for running one test in a process, and nothing else.
pub(super) fn arguments_for(test: &str) -> Vec<OsString> {
    ["--exact", test, "--nocapture", "--test-threads=1", "--include-ignored"].map(OsString::from).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn test_binaries_are_told_by_place_and_name() {
        let is_test = |path: &str, line: &str| is_test(Path::new(path), &words(line));
        assert!(is_test("/x/target/debug/deps/p2p-0123456789abcdef", ""));
        assert!(!is_test("/x/target/debug/p2p-0123456789abcdef", ""));
        assert!(!is_test("/x/target/debug/deps/app", ""));
        assert!(is_test("/x/renamed", "name --exact"));
    }

    #[test]
    fn names_come_from_thread_arguments_or_closure() {
        assert_eq!(
            test_name::<()>(&[]),
            "spawn::harness::tests::names_come_from_thread_arguments_or_closure"
        );
        assert_eq!(exact_name(&words("--exact a::b --nocapture")), Some("a::b".to_owned()));
        assert_eq!(exact_name(&words("a b --exact")), None);
        assert_eq!(function_name("crate_x::a::b::{{closure}}::{{closure}}"), "a::b");
    }
}
