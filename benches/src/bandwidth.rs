//! Windows of non-blocking sends and receives, one way or both ways.

use anyhow::Result;
use ranks::{Overlap, Tag};

use crate::bench::Bench;
use crate::latency::{DATA, confirm_peer};

const ACKNOWLEDGEMENT: Tag = 3;
const ACKNOWLEDGEMENT_BYTES: usize = 4;

fn send_window(bench: &mut Bench<'_>, peer: usize) -> Result<()> {
    let data = &*bench.data;
    bench.world.scope(|scope| {
        for index in 0..bench.window {
            scope.isend(&data[index * bench.stride..][..bench.size], (peer, DATA))?;
        }
        Ok(())
    })?;
    Ok(())
}

fn receive_window(bench: &mut Bench<'_>, peer: usize) -> Result<()> {
    let buffer = Overlap::new(bench.buffer);
    bench.world.scope(|scope| {
        for index in 0..bench.window {
            let start = index * bench.stride;
            scope.irecv_overlapping(buffer.part(start..start + bench.size), (peer, DATA))?;
        }
        Ok(())
    })?;
    Ok(())
}

/// One window from the first rank of each pair to the second, which answers when it has all of it.
pub(crate) fn one_way(bench: &mut Bench<'_>) -> Result<()> {
    let peer = bench.peer();
    if bench.is_sender() {
        send_window(bench, peer)?;
        bench.world.recv(&mut [0u8; ACKNOWLEDGEMENT_BYTES], (peer, ACKNOWLEDGEMENT))?;
    } else {
        receive_window(bench, peer)?;
        bench.world.send(&[0u8; ACKNOWLEDGEMENT_BYTES], (peer, ACKNOWLEDGEMENT))?;
    }
    Ok(())
}

/// One window in each direction at once.
pub(crate) fn both_ways(bench: &mut Bench<'_>) -> Result<()> {
    let peer = bench.peer();
    let data = &*bench.data;
    let buffer = Overlap::new(bench.buffer);
    bench.world.scope(|scope| {
        for index in 0..bench.window {
            let start = index * bench.stride;
            scope.irecv_overlapping(buffer.part(start..start + bench.size), (peer, DATA))?;
        }
        for index in 0..bench.window {
            scope.isend(&data[index * bench.stride..][..bench.size], (peer, DATA))?;
        }
        Ok(())
    })?;
    Ok(())
}

pub(crate) fn confirm_one_way(bench: &Bench<'_>, call: usize) -> Result<()> {
    if bench.is_sender() { Ok(()) } else { confirm_peer(bench, call) }
}
