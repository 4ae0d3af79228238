//! `cargo shmrun`: builds in release mode and runs under the same code as `shmrun`.

use std::process::ExitCode;

use clap::Parser;
use shmrun::arguments::{CargoShmrun, without_subcommand};
use shmrun::{build, job};

fn main() -> ExitCode {
    let arguments = CargoShmrun::try_parse_from(without_subcommand(std::env::args_os()));
    job::exit(
        "cargo shmrun",
        arguments.map_err(job::usage).and_then(|arguments| job::run(build::plan(arguments)?)),
    )
}
