//! Any command line is a job or an error that says why, soon and without a panic. What is decided is never run here.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use proptest::prelude::*;
use rustix::time::{ClockId, clock_gettime};
use shmrun::arguments::Shmrun;

/// What stands behind options, in their own words and in hostile ones.
const VALUES: &[&str] = &[
    "0",
    "1",
    "4",
    "-1",
    "512",
    "513",
    "4294967296",
    "18446744073709551615",
    "99999999999999999999",
    "1e9",
    "",
    " ",
    "=",
    "A",
    "A=1",
    "=1",
    "A=%r",
    "all",
    "none",
    "auto",
    "core",
    "socket",
    "numa:overload",
    "slot:PE=2",
    "slot:PE=99999999999",
    "ppr:0:core",
    "ppr:1000000:socket",
    "user:0-1048576",
    "map_cpu:0,0,0",
    "0-3,8",
    "3-0",
    "0-99999999",
    "0,,1",
    "-",
    "%r",
    "%999999999999r",
    "%",
    "%T",
    "out.%r",
    "localhost",
    "localhost:4",
    "other,localhost",
    "1:1",
    "10ms",
    "0s",
    "-5s",
    "1e400s",
    "\u{202e}",
    "ä",
];

fn option() -> impl Strategy<Value = OsString> {
    // The names that help prints, which are those that exist.
    let help = match Shmrun::read(&["shmrun", "--help"].map(OsString::from)) {
        Err(help) => help.to_string(),
        Ok(_) => unreachable!("a request for help is no job"),
    };
    let mut names: Vec<String> = help
        .split(|letter: char| letter.is_whitespace() || "[],=".contains(letter))
        .filter(|word| word.starts_with('-') && word.len() > 1)
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    assert!(names.len() > 20, "{names:?}");
    prop::sample::select(names).prop_map(OsString::from)
}

fn word() -> impl Strategy<Value = OsString> {
    let bytes =
        prop::collection::vec((1..=255u8).prop_filter("a file would be read", |&byte| byte != b'/'), 0..8);
    prop_oneof![
        6 => option(),
        6 => prop::sample::select(VALUES).prop_map(OsString::from),
        2 => (option(), prop::sample::select(VALUES)).prop_map(|(mut option, value)| {
            option.push("=");
            option.push(value);
            option
        }),
        1 => bytes.prop_map(OsString::from_vec),
        1 => Just(OsString::from(":")),
        1 => Just(OsString::from("--")),
        1 => Just(OsString::from("program")),
    ]
}

/// Of this thread: what else runs on the machine does not count.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_command_line_is_a_job_or_an_error(words in prop::collection::vec(word(), 0..10)) {
        let words: Vec<OsString> = [OsString::from("shmrun")].into_iter().chain(words).collect();
        let begin = processor_time();
        if let Err(error) = Shmrun::read(&words) {
            prop_assert!(!error.to_string().trim().is_empty());
        }
        // A long list or a large number must not be taken at its word.
        let used = processor_time() - begin;
        prop_assert!(used < Duration::from_secs(10), "{used:?}");
    }
}
