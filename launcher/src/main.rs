//! The `shmrun` binary.

use std::process::ExitCode;

use shmrun::{arguments::Shmrun, job};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    job::exit("shmrun", Shmrun::read(&arguments).and_then(|request| job::answer("shmrun", request)))
}
