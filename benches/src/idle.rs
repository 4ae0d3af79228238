//! What waiting costs: processor time of blocked ranks, and of the launcher that watches them.

use std::fs;
use std::os::unix::process::parent_id;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ranks::{ANY_SOURCE, Tag, World};
use rustix::time::{ClockId, clock_gettime};

use crate::arguments::Format;
use crate::output::{Output, Unit, VALUES};
use crate::timing::{now, summarize};

const RELEASE: Tag = 1;

/// What a rank calls to wait for rank 0, or rank 0 to end that.
type Call = fn(&World) -> ranks::Result<()>;

/// Rank 0 lets all others wait for `seconds`, in one way after the other.
pub(crate) fn run(world: &World, seconds: f64, format: Format) -> Result<()> {
    let ranks = world.size();
    ensure!(ranks > 1, "idle needs at least 2 ranks: shmrun -n 2 ranks-bench idle");
    let mut output = Output::begin(world.rank(), format);
    let (start, before) = (now(), launcher_seconds()?);
    one_way(world, "idle-recv", [receive, release], seconds, &mut output)?;
    one_way(world, "idle-any-source", [receive_from_any, release], seconds, &mut output)?;
    one_way(world, "idle-barrier", [barrier, barrier], seconds, &mut output)?;
    let used = launcher_seconds()? - before;
    report("idle-launcher", ranks, vec![100.0 * used / (now() - start)], &mut output);
    output.end();
    Ok(())
}

fn one_way(
    world: &World,
    name: &str,
    [wait, end]: [Call; 2],
    seconds: f64,
    output: &mut Output,
) -> Result<()> {
    world.barrier()?;
    let (start, before) = (now(), own_seconds());
    if world.rank() == 0 {
        sleep(Duration::from_secs_f64(seconds));
        end(world)?;
    } else {
        wait(world)?;
    }
    let percent = 100.0 * (own_seconds() - before) / (now() - start);
    let mut all = vec![0.0; world.size()];
    world.gather(&[percent], &mut all, 0)?;
    report(name, world.size(), all.split_off(1), output);
    Ok(())
}

fn report(name: &str, ranks: usize, percent: Vec<f64>, output: &mut Output) {
    output.begin_test(name, ranks, Unit::Percent, VALUES);
    output.row(0, &summarize(percent), None);
    output.end_test();
}

fn receive(world: &World) -> ranks::Result<()> {
    world.recv(&mut [0u8], (0, RELEASE)).map(drop)
}

fn receive_from_any(world: &World) -> ranks::Result<()> {
    world.recv(&mut [0u8], (ANY_SOURCE, RELEASE)).map(drop)
}

fn barrier(world: &World) -> ranks::Result<()> {
    world.barrier()
}

fn release(world: &World) -> ranks::Result<()> {
    (1..world.size()).try_for_each(|rank| world.send(&[1u8], (rank, RELEASE)))
}

/// Processor time of this process, all threads, in user and in system mode.
fn own_seconds() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}

/// The same of the launcher, which is the parent of all ranks; not in clock ticks, as in its `stat`.
fn launcher_seconds() -> Result<f64> {
    let tasks = format!("/proc/{}/task", parent_id());
    let mut nanoseconds = 0.0;
    for task in fs::read_dir(&tasks).context(tasks)? {
        let schedstat = fs::read_to_string(task?.path().join("schedstat"))?;
        let on_processor = schedstat.split(' ').next().unwrap_or_default();
        nanoseconds += on_processor.parse::<f64>().with_context(|| format!("schedstat says {schedstat}"))?;
    }
    Ok(nanoseconds / 1e9)
}
