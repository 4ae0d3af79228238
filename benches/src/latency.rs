//! Half round trip of blocking sends and receives.

use anyhow::Result;
use ranks::{ANY_SOURCE, Source, Tag};

use crate::bench::Bench;
use crate::pattern::{fill, verify};

pub(crate) const DATA: Tag = 1;

fn round_trip_from(bench: &mut Bench<'_>, source: Source) -> Result<()> {
    let to = (bench.peer(), DATA);
    if bench.is_sender() {
        bench.world.send(bench.data, to)?;
        bench.world.recv(bench.buffer, source)?;
    } else {
        bench.world.recv(bench.buffer, source)?;
        bench.world.send(bench.data, to)?;
    }
    Ok(())
}

pub(crate) fn round_trip(bench: &mut Bench<'_>) -> Result<()> {
    let source = (bench.peer(), DATA);
    round_trip_from(bench, source.into())
}

pub(crate) fn any_round_trip(bench: &mut Bench<'_>) -> Result<()> {
    round_trip_from(bench, (ANY_SOURCE, DATA).into())
}

/// Fills what is sent with this rank's pattern and clears what is received.
pub(crate) fn prepare(bench: &mut Bench<'_>, call: usize) {
    fill(bench.data, bench.world.rank(), call);
    bench.buffer.fill(0);
}

pub(crate) fn confirm_peer(bench: &Bench<'_>, call: usize) -> Result<()> {
    verify(bench.buffer, bench.peer(), call)
}
