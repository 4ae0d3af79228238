//! Collectives of all ranks. Sizes are bytes per rank or, where every rank has a part for each, per pair of ranks.

use std::time::Duration;

use anyhow::{Result, ensure};
use bytemuck::{cast_slice, cast_slice_mut};
use ranks::{Max, Sum};

use crate::bench::{Bench, ROOT};
use crate::pattern::{fill, fill_floats, verify, verify_sums};
use crate::timing::now;

pub(crate) fn barrier(bench: &mut Bench<'_>) -> Result<()> {
    Ok(bench.world.barrier()?)
}

pub(crate) fn bcast(bench: &mut Bench<'_>) -> Result<()> {
    Ok(bench.world.broadcast(bench.buffer, ROOT)?)
}

pub(crate) fn reduce(bench: &mut Bench<'_>) -> Result<()> {
    let (data, buffer) = (cast_slice::<u8, f32>(bench.data), cast_slice_mut::<u8, f32>(bench.buffer));
    Ok(bench.world.reduce(data, buffer, Sum, ROOT)?)
}

pub(crate) fn allreduce(bench: &mut Bench<'_>) -> Result<()> {
    let (data, buffer) = (cast_slice::<u8, f32>(bench.data), cast_slice_mut::<u8, f32>(bench.buffer));
    Ok(bench.world.all_reduce(data, buffer, Sum)?)
}

pub(crate) fn allgather(bench: &mut Bench<'_>) -> Result<()> {
    Ok(bench.world.all_gather(bench.data, bench.buffer)?)
}

pub(crate) fn alltoall(bench: &mut Bench<'_>) -> Result<()> {
    Ok(bench.world.all_to_all(bench.data, bench.buffer)?)
}

pub(crate) fn gather(bench: &mut Bench<'_>) -> Result<()> {
    Ok(bench.world.gather(bench.data, bench.buffer, ROOT)?)
}

pub(crate) fn scatter(bench: &mut Bench<'_>) -> Result<()> {
    Ok(bench.world.scatter(bench.data, bench.buffer, ROOT)?)
}

/// How late the rank is that all wait for where the barrier is verified.
const LATE: Duration = Duration::from_millis(2);

/// One rank is late; the others must not leave before it has entered.
pub(crate) fn prepare_barrier(bench: &mut Bench<'_>, call: usize) {
    if bench.world.rank() == call % bench.participants {
        std::thread::sleep(LATE);
    }
    bench.entered = now();
}

pub(crate) fn confirm_barrier(bench: &Bench<'_>, call: usize) -> Result<()> {
    let left = now();
    let mut last = [0.0];
    bench.world.all_reduce(&[bench.entered], &mut last, Max)?;
    ensure!(left >= last[0], "call {call}: left the barrier {} s too early", last[0] - left);
    Ok(())
}

pub(crate) fn prepare_bcast(bench: &mut Bench<'_>, call: usize) {
    bench.buffer.fill(0);
    if bench.world.rank() == ROOT {
        fill(bench.buffer, ROOT, call);
    }
}

pub(crate) fn confirm_bcast(bench: &Bench<'_>, call: usize) -> Result<()> {
    verify(bench.buffer, ROOT, call)
}

pub(crate) fn prepare_reduce(bench: &mut Bench<'_>, call: usize) {
    fill_floats(cast_slice_mut(bench.data), bench.world.rank(), call);
    bench.buffer.fill(0);
}

pub(crate) fn confirm_allreduce(bench: &Bench<'_>, call: usize) -> Result<()> {
    verify_sums(cast_slice(bench.buffer), bench.participants, call)
}

pub(crate) fn confirm_reduce(bench: &Bench<'_>, call: usize) -> Result<()> {
    if bench.world.rank() == ROOT { confirm_allreduce(bench, call) } else { Ok(()) }
}

pub(crate) fn confirm_allgather(bench: &Bench<'_>, call: usize) -> Result<()> {
    for rank in 0..bench.participants {
        verify(&bench.buffer[rank * bench.size..][..bench.size], rank, call)?;
    }
    Ok(())
}

pub(crate) fn confirm_gather(bench: &Bench<'_>, call: usize) -> Result<()> {
    if bench.world.rank() == ROOT { confirm_allgather(bench, call) } else { Ok(()) }
}

/// What rank `from` sends to rank `to` has a pattern of its own.
fn between(bench: &Bench<'_>, from: usize, to: usize) -> usize {
    from * bench.participants + to
}

pub(crate) fn prepare_alltoall(bench: &mut Bench<'_>, call: usize) {
    for rank in 0..bench.participants {
        let sender = between(bench, bench.world.rank(), rank);
        fill(&mut bench.data[rank * bench.size..][..bench.size], sender, call);
    }
    bench.buffer.fill(0);
}

pub(crate) fn confirm_alltoall(bench: &Bench<'_>, call: usize) -> Result<()> {
    for rank in 0..bench.participants {
        let sender = between(bench, rank, bench.world.rank());
        verify(&bench.buffer[rank * bench.size..][..bench.size], sender, call)?;
    }
    Ok(())
}

pub(crate) fn confirm_scatter(bench: &Bench<'_>, call: usize) -> Result<()> {
    verify(bench.buffer, between(bench, ROOT, bench.world.rank()), call)
}
