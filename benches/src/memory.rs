//! What a job takes of the machine's memory: at its start, once every collective has run, and at most.

use std::fs;

use anyhow::{Context, Result, ensure};
use ranks::{Sum, World};

use crate::arguments::Format;
use crate::output::{Output, Unit, VALUES};
use crate::timing::summarize;

/// The root of the collectives that have one.
const ROOT: usize = 0;
/// What `st_blocks` counts.
const BLOCK_BYTES: u64 = 512;

/// Bytes of the job's segment: all that its ranks share.
struct Segment {
    /// Backed by memory.
    backed: u64,
    /// Never more.
    most: u64,
}

pub(crate) fn run(world: &World, format: Format) -> Result<()> {
    let mut output = Output::begin(world.rank(), format);
    report("memory-start", world, Segment::of_job()?.backed, &mut output)?;
    every_collective(world)?;
    // The others may still be reserving what they need for the last one.
    world.barrier()?;
    report("memory-collectives", world, Segment::of_job()?.backed, &mut output)?;
    report("memory-most", world, Segment::of_job()?.most, &mut output)?;
    report("memory-private", world, private_bytes()?, &mut output)?;
    output.end();
    Ok(())
}

/// One value per rank. Of the segment they differ by what others have reserved since a rank began: the smallest one
/// is that of the start.
fn report(name: &str, world: &World, bytes: u64, output: &mut Output) -> Result<()> {
    let mut all = vec![0; world.size()];
    world.gather(&[bytes], &mut all, ROOT)?;
    output.begin_test(name, world.size(), Unit::Bytes, VALUES);
    output.row(0, &summarize(all.into_iter().map(|bytes| bytes as f64).collect()), None);
    output.end_test();
    Ok(())
}

impl Segment {
    fn of_job() -> Result<Self> {
        use std::os::unix::fs::MetadataExt;
        let number = std::env::var("SHMRUN_SEGMENT_FD").context("this needs a job: run it under shmrun")?;
        let file = fs::metadata(format!("/proc/self/fd/{number}"))?;
        Ok(Self { backed: file.blocks() * BLOCK_BYTES, most: file.size() })
    }
}

/// Memory of this process alone.
fn private_bytes() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let field = status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.strip_suffix("kB"));
    Ok(field.context("the system does not say RssAnon")?.trim().parse::<u64>()? << 10)
}

/// Runs every collective once, with a word per rank or per pair of ranks, and looks at what comes.
fn every_collective(world: &World) -> Result<()> {
    let (me, size) = (world.rank() as u64, world.size());
    let all: Vec<u64> = (0..size as u64).collect();
    let ones = vec![1; size];
    let is_root = world.rank() == ROOT;
    let sum = all.iter().sum::<u64>();
    let mut word = [0];
    let mut words = vec![0; size];

    world.barrier()?;
    let mut data = if is_root { [7] } else { [0] };
    world.broadcast(&mut data, ROOT)?;
    ensure!(data == [7], "broadcast gave {data:?}");
    let mut data = if is_root { all.clone() } else { Vec::new() };
    world.broadcast_vec(&mut data, ROOT)?;
    ensure!(data == all, "broadcast_vec gave {data:?}");

    world.reduce(&[me], &mut word, Sum, ROOT)?;
    ensure!(!is_root || word == [sum], "reduce gave {word:?}");
    world.all_reduce(&[me], &mut word, Sum)?;
    ensure!(word == [sum], "all_reduce gave {word:?}");
    world.scan(&[me], &mut word, Sum)?;
    ensure!(word == [me * (me + 1) / 2], "scan gave {word:?}");

    world.gather(&[me], &mut words, ROOT)?;
    ensure!(!is_root || words == all, "gather gave {words:?}");
    let gathered = world.gather_varying(&[me], ROOT)?;
    ensure!(gathered.is_none_or(|gathered| gathered.data == all), "gather_varying gave other words");
    world.all_gather(&[me], &mut words)?;
    ensure!(words == all, "all_gather gave {words:?}");
    ensure!(world.all_gather_varying(&[me])?.data == all, "all_gather_varying gave other words");

    world.scatter(&all, &mut word, ROOT)?;
    ensure!(word == [me], "scatter gave {word:?}");
    ensure!(world.scatter_varying(&all, &ones, ROOT)? == [me], "scatter_varying gave another word");
    world.all_to_all(&vec![me; size], &mut words)?;
    ensure!(words == all, "all_to_all gave {words:?}");
    let exchanged = world.all_to_all_varying(&vec![me; size], &ones)?;
    ensure!(exchanged.data == all, "all_to_all_varying gave other words");
    Ok(())
}
