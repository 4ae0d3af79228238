//! The `shmrun` binary.

use std::process::ExitCode;

use shmrun::{arguments::Shmrun, job};

fn main() -> ExitCode {
    let arguments = Shmrun::parse_from(std::env::args_os()).map_err(job::usage);
    job::exit("shmrun", arguments.and_then(|arguments| job::run(arguments.into_plan())))
}
