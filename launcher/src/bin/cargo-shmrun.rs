//! `cargo shmrun`: builds in release mode and runs under the same code as `shmrun`.

use std::process::ExitCode;

use shmrun::arguments::CargoShmrun;
use shmrun::{build, job};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    let read = CargoShmrun::read(&arguments).map_err(anyhow::Error::from);
    job::exit("cargo shmrun", read.and_then(build::job).and_then(|job| job::run("cargo shmrun", job)))
}
