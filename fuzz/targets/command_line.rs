//! Command lines of `shmrun`, up to the decision what to run.
#![no_main]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// Words that mean something.
const WORDS: [&str; 48] = [
    "-n", "-np", "--np=4", "-n4", "--ntasks", "-x", "A=1", "-genv", "-env", "--env-clear", "--export=ALL", "-C", "--wdir",
    "-l", "--tag-output", "--tag", "%r %t %T", "-prepend-pattern", "--timestamp", "--output", "out.%r", "--tee", "--only",
    "0,3-5", "--stdin", "all", "-u", "--merge-stderr", "--bind-to", "core", "user:0,1", "--map-by", "slot:PE=2",
    "ppr:2:core", "--cpu-set", "0-3", "-c", "--cpus-per-rank", "-H", "localhost:4", "--mca", "-q", "-v", "--dry-run", ":",
    "--", "18446744073709551616", "-1",
];

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let words = bytes.split(|&byte| byte == b'\n').map(|word| match word {
        [index] if usize::from(*index) < WORDS.len() + 32 && *index >= 32 => WORDS[usize::from(index - 32)].into(),
        // A file that is named would be read, and may be endless.
        word => OsString::from_vec(word.iter().map(|&byte| if byte == b'/' { b'.' } else { byte }).collect()),
    });
    let words: Vec<OsString> = [OsString::from("shmrun")].into_iter().chain(words).collect();
    drop(shmrun::arguments::Shmrun::read(&words));
});
