//! Whole jobs that initialize and finalize: from the start of `shmrun` to its end.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::arguments::Format;
use crate::output::{Output, Unit, VALUES};
use crate::timing::{now, summarize};

/// Runs one job of each number of ranks per round: neighbours in time meet the machine in the same state.
pub(crate) fn run(ranks: &[usize], rounds: usize, format: Format) -> Result<()> {
    let shmrun = shmrun()?;
    ranks.iter().try_for_each(|&ranks| milliseconds(&shmrun, ranks).map(drop))?;
    let mut values = vec![Vec::new(); ranks.len()];
    for _ in 0..rounds {
        for (values, &ranks) in values.iter_mut().zip(ranks) {
            values.push(milliseconds(&shmrun, ranks)?);
        }
    }
    let mut output = Output::begin(0, format);
    for (values, &ranks) in values.into_iter().zip(ranks) {
        output.begin_test("startup", ranks, Unit::Milliseconds, VALUES);
        output.row(0, &summarize(values), None);
        output.end_test();
    }
    output.end();
    Ok(())
}

/// How long one job takes.
fn milliseconds(shmrun: &PathBuf, ranks: usize) -> Result<f64> {
    let mut job = Command::new(shmrun);
    job.arg("-n").arg(ranks.to_string()).arg(std::env::current_exe()?).arg("init").stdin(Stdio::null());
    let start = now();
    let status = job.status().with_context(|| format!("{} cannot be started", shmrun.display()))?;
    let milliseconds = (now() - start) * 1e3;
    ensure!(status.success(), "{job:?}: {status}");
    Ok(milliseconds)
}

/// The launcher that was built together with this program, or else the one in PATH.
fn shmrun() -> Result<PathBuf> {
    let beside = std::env::current_exe()?.with_file_name("shmrun");
    Ok(if beside.exists() { beside } else { PathBuf::from("shmrun") })
}
