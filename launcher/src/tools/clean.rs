//! `shmrun clean`: what dead jobs have left.

use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use anyhow::{Context, Result, anyhow, bail};
use ranks::launch::{self, Member, RunningJob};

/// How long killed processes have for being gone.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(10);

/// What was done, and whether it had the wished effect.
pub(super) struct Report {
    pub(super) text: String,
    pub(super) done: Result<()>,
}

/// Ends processes of jobs whose launchers are gone and removes names that jobs left in /dev/shm.
///
/// # Errors
///
/// /dev/shm cannot be read.
pub(super) fn clean(dry_run: bool) -> Result<Report> {
    let shared_memory = Path::new("/dev/shm");
    let mut text = String::new();
    let jobs: Vec<RunningJob> = launch::running().into_iter().filter(|job| !job.watched).collect();
    for job in &jobs {
        for member in &job.members {
            text +=
                &format!("{} {}\n", if dry_run { "would kill" } else { "killing" }, described(job, member));
            if !dry_run {
                member.kill();
            }
        }
    }
    let names = launch::leftover_names(shared_memory).context("cannot read /dev/shm")?;
    let mut failed = Vec::new();
    for name in &names {
        text += &format!("{} {}\n", if dry_run { "would remove" } else { "removing" }, name.display());
        if !dry_run && let Err(error) = fs::remove_file(name) {
            // One that is gone is as it should be.
            failed.extend(
                (error.kind() != io::ErrorKind::NotFound).then(|| format!("{}: {error}", name.display())),
            );
        }
    }
    if text.is_empty() {
        text = "nothing to clean\n".to_owned();
    }
    let done = match failed.is_empty() {
        _ if dry_run => Ok(()),
        true => await_end(&jobs),
        false => Err(anyhow!("cannot remove {}", failed.join(", "))),
    };
    Ok(Report { text, done })
}

fn described(job: &RunningJob, member: &Member) -> String {
    let Member { pid, rank, command, .. } = member;
    format!("process {pid} of rank {rank} of job {}, whose launcher is gone: {command}", job.id)
}

/// Waits for the end of what was killed.
fn await_end(killed: &[RunningJob]) -> Result<()> {
    let begin = Instant::now();
    loop {
        let there = launch::running();
        let there: Vec<&Member> = there.iter().flat_map(|job| &job.members).collect();
        let left = killed.iter().flat_map(|job| &job.members).filter(|member| there.contains(member));
        let left: Vec<u32> = left.map(|member| member.pid).collect();
        if left.is_empty() {
            return Ok(());
        }
        if begin.elapsed() > PATIENCE {
            bail!(
                "processes {left:?} are still there\n  help: this command runs below them, they wait for the system, or they are another user's"
            );
        }
        thread::sleep(PAUSE);
    }
}
