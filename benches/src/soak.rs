//! Transfers too large for the tests: more than 4 GiB in one message, gigabytes between all ranks at once.
//!
//! Every word is looked at. A transfer that hangs is ended by a watchdog that says on which rank and in which step.

use std::io::Write;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ranks::World;

const GIB: usize = 1 << 30;
const MIB: usize = 1 << 20;
const WORD: usize = size_of::<u64>();
/// No step moves more than a few gigabytes, which takes seconds.
const LONGEST_STEP: Duration = Duration::from_secs(180);

static STEP: Mutex<Option<(Instant, &'static str)>> = Mutex::new(None);

fn step(name: &'static str) {
    if let Ok(mut step) = STEP.lock() {
        *step = Some((Instant::now(), name));
    }
}

/// Ends this rank when a step does not end. Watches until the process has gone, finalize included.
fn watch(rank: usize) {
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let step = STEP.lock().ok().and_then(|step| *step);
            if let Some((since, name)) = step
                && since.elapsed() > LONGEST_STEP
            {
                let _ = writeln!(std::io::stderr(), "rank {rank} hangs: {name} for {LONGEST_STEP:?}");
                std::process::abort();
            }
        }
    });
}

/// What the message `id` carries at `index`: no part of it occurs elsewhere.
fn word(id: usize, index: usize) -> u64 {
    (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (id as u64) << 48
}

fn fill(data: &mut [u64], id: usize) {
    data.iter_mut().enumerate().for_each(|(index, found)| *found = word(id, index));
}

fn check(data: &[u64], id: usize) -> Result<()> {
    let wrong = data.iter().enumerate().position(|(index, &found)| found != word(id, index));
    ensure!(wrong.is_none(), "message {id}: word {} of {} arrived changed", wrong.unwrap_or(0), data.len());
    Ok(())
}

/// One message of `gib` GiB from rank 0 to rank 1.
pub(crate) fn long_message(world: &World, gib: usize) -> Result<()> {
    ensure!(world.size() == 2, "long-message needs exactly 2 ranks, this job has {}", world.size());
    watch(world.rank());
    step("allocates and fills");
    let mut data = vec![0; gib * GIB / WORD];
    if world.rank() == 0 {
        fill(&mut data, 1);
        step("sends");
        world.send(&data, (1, 1))?;
    } else {
        step("receives");
        let status = world.recv(&mut data, (0, 1))?;
        ensure!(status.bytes == (gib * GIB) as u64, "the status says {} bytes", status.bytes);
        step("checks");
        check(&data, 1)?;
        println!("{gib} GiB in one message: intact");
    }
    step("finalizes");
    Ok(())
}

/// Broadcasts `gib` GiB, and gathers as many on both ranks, half from each.
pub(crate) fn long_collectives(world: &World, gib: usize) -> Result<()> {
    ensure!(world.size() == 2, "long-collectives needs exactly 2 ranks, this job has {}", world.size());
    let me = world.rank();
    watch(me);
    step("allocates and fills");
    let mut data = vec![0; gib * GIB / WORD];
    if me == 0 {
        fill(&mut data, 1);
    }
    step("is in broadcast");
    world.broadcast(&mut data, 0)?;
    step("checks");
    check(&data, 1)?;
    step("allocates and fills for all_gather");
    let mut part = vec![0; data.len() / 2];
    fill(&mut part, 2 + me);
    data.truncate(2 * part.len());
    step("is in all_gather");
    world.all_gather(&part, &mut data)?;
    step("checks what was gathered");
    for (from, part) in data.chunks(part.len()).enumerate() {
        check(part, 2 + from)?;
    }
    step("waits for the other's checks");
    world.barrier()?;
    if me == 0 {
        println!("{gib} GiB in a broadcast and in an all-gather: intact");
    }
    step("finalizes");
    Ok(())
}

/// `mib` MiB from every rank to every rank in one all-to-all.
pub(crate) fn all_to_all(world: &World, mib: usize) -> Result<()> {
    let (me, size, words) = (world.rank(), world.size(), mib * MIB / WORD);
    watch(me);
    step("allocates and fills");
    let mut data = vec![0; size * words];
    let mut result = vec![0; size * words];
    data.chunks_mut(words.max(1)).enumerate().for_each(|(to, part)| fill(part, me * size + to));
    step("is in all_to_all");
    world.all_to_all(&data, &mut result)?;
    step("checks");
    for (from, part) in result.chunks(words.max(1)).enumerate() {
        check(part, from * size + me)?;
    }
    step("waits for the others' checks");
    world.barrier()?;
    if me == 0 {
        println!("all-to-all of {mib} MiB per pair on {size} ranks: intact");
    }
    step("finalizes");
    Ok(())
}
