//! The limits of the machine: no message is faster than a cache line's way from core to core, no copy than memcpy.

use std::hint::black_box;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};

use anyhow::{Context, Result, ensure};
use ranks::World;
use shm_core::{Segment, SegmentName};

use crate::arguments::Format;
use crate::bench::Buffer;
use crate::output::{Output, Unit, VALUES};
use crate::timing::{batches, now, summarize};

const LINE_BYTES: usize = 64;
/// The end of the segment's first page.
const SEGMENT_BYTES: usize = 4096;
const SEGMENT_FORMAT: shm_core::Format = shm_core::Format::of::<AtomicU64>(1);
/// In the line instead of a turn: there are no more of them.
const STOP: u64 = u64::MAX;

/// Measures both between exactly two ranks, `seconds` for the line and for each size.
pub(crate) fn run(world: &World, sizes: &[usize], format: Format, seconds: f64) -> Result<()> {
    let ranks = world.size();
    ensure!(ranks == 2, "floor needs exactly 2 ranks, this job has {ranks}: shmrun -n 2 ranks-bench floor");
    let mut output = Output::begin(world.rank(), format);
    let segment = share(world)?;
    hand_off(world, segment.at(Segment::DATA_OFFSET), seconds, &mut output)?;
    if world.rank() == 0 {
        copy(sizes, seconds, &mut output)?;
    }
    // Here waits rank 1, and leaves the memory to rank 0.
    world.barrier()?;
    output.end();
    Ok(())
}

/// A segment that both ranks have mapped, without a name.
fn share(world: &World) -> Result<Segment> {
    if world.rank() == 1 {
        let (name, _) = world.recv_vec::<u8>(0)?;
        let name = SegmentName::new(&String::from_utf8(name)?)?;
        let segment = Segment::open(&name, SEGMENT_FORMAT);
        world.send(&[1u8], 0)?;
        return Ok(segment?);
    }
    let name = SegmentName::random("ranks-bench")?;
    let segment = Segment::create(&name, SEGMENT_BYTES, SEGMENT_FORMAT)?;
    let opened = world.send(name.as_str().as_bytes(), 1).and_then(|()| world.recv(&mut [0u8], 1));
    Segment::unlink(&name)?;
    opened.context("rank 1 has not opened the segment")?;
    Ok(segment)
}

/// Half a round trip of one cache line: each rank waits until the other has written it.
fn hand_off(world: &World, line: &AtomicU64, seconds: f64, output: &mut Output) -> Result<()> {
    output.begin_test("hand-off", world.size(), Unit::Microseconds, VALUES);
    if world.rank() == 1 {
        answer(line);
    } else {
        let mut turn = 0;
        let values = batches(seconds, |iterations| {
            let start = now();
            for _ in 0..iterations {
                line.store(turn + 1, Release);
                turn += 2;
                while line.load(Acquire) != turn {}
            }
            Ok((now() - start) * 1e6 / (2 * iterations) as f64)
        })?;
        line.store(STOP, Release);
        output.row(LINE_BYTES, &summarize(values), None);
    }
    output.end_test();
    Ok(())
}

/// Takes every second turn until there are no more.
fn answer(line: &AtomicU64) {
    let mut turn = 1;
    loop {
        match line.load(Acquire) {
            STOP => return,
            found if found == turn => {
                line.store(turn + 1, Release);
                turn += 2;
            }
            _ => {}
        }
    }
}

/// Copies by one core between two buffers of its own: up to a quarter of the second-level cache they stay there.
fn copy(sizes: &[usize], seconds: f64, output: &mut Output) -> Result<()> {
    output.begin_test("memcpy", 1, Unit::MegabytesPerSecond, VALUES);
    let largest = sizes.iter().max().copied().unwrap_or(0);
    let (mut data, mut buffer) = (Buffer::new(largest), Buffer::new(largest));
    for &size in sizes {
        let (data, buffer) = (data.first(size), buffer.first(size));
        let values = batches(seconds, |iterations| {
            let start = now();
            for _ in 0..iterations {
                black_box(&mut *buffer).copy_from_slice(black_box(data));
            }
            Ok(iterations as f64 * size as f64 / (now() - start) / 1e6)
        })?;
        output.row(size, &summarize(values), None);
    }
    output.end_test();
    Ok(())
}
