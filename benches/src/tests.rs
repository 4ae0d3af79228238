//! The table of tests, and how one runs.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ranks::World;

use crate::arguments::Arguments;
use crate::bench::{Bench, Buffer, participants};
use crate::output::{CHECKED, Output, Unit, VALUES, VALUES_AND_RATE};
use crate::timing::{Batch, all_calls, each_call, measure};
use crate::{bandwidth, collectives, latency};

const MIB: usize = 1 << 20;
const CHECKED_CALLS: usize = 3;

/// Which ranks take part.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ranks {
    /// 0 and 1; the others are parked in a barrier.
    Pair,
    /// Each of the first half with one of the second half.
    Pairs,
    All,
}

/// How long a buffer is, in sizes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parts {
    /// There is none: what is sent lies where the others receive.
    Nothing,
    One,
    OnePerRank,
}

pub(crate) struct Test {
    pub(crate) name: &'static str,
    pub(crate) ranks: Ranks,
    pub(crate) unit: Unit,
    /// Halves of a round trip, or windows, in one call.
    pub(crate) steps: usize,
    /// Whether messages per second are printed too.
    pub(crate) has_rate: bool,
    /// Every size is a multiple of it.
    pub(crate) element: usize,
    pub(crate) smallest: usize,
    pub(crate) largest: usize,
    pub(crate) data: Parts,
    pub(crate) buffer: Parts,
    /// What is timed.
    pub(crate) call: fn(&mut Bench<'_>) -> Result<()>,
    /// How it is timed.
    pub(crate) batch: Batch,
    /// Fills the buffers before a call that is verified.
    pub(crate) prepare: fn(&mut Bench<'_>, usize),
    /// Verifies what the call has transferred.
    pub(crate) confirm: fn(&Bench<'_>, usize) -> Result<()>,
}

const LATENCY: Test = Test {
    name: "latency",
    ranks: Ranks::Pair,
    unit: Unit::Microseconds,
    steps: 2,
    has_rate: false,
    element: 1,
    smallest: 0,
    largest: 4 * MIB,
    data: Parts::One,
    buffer: Parts::One,
    call: latency::round_trip,
    batch: all_calls,
    prepare: latency::prepare,
    confirm: latency::confirm_peer,
};

const BW: Test = Test {
    name: "bw",
    unit: Unit::MegabytesPerSecond,
    steps: 1,
    smallest: 1,
    call: bandwidth::one_way,
    confirm: bandwidth::confirm_one_way,
    ..LATENCY
};

const BARRIER: Test = Test {
    name: "barrier",
    ranks: Ranks::All,
    unit: Unit::Microseconds,
    steps: 1,
    has_rate: false,
    element: 1,
    smallest: 0,
    largest: 0,
    data: Parts::Nothing,
    buffer: Parts::One,
    call: collectives::barrier,
    batch: all_calls,
    prepare: collectives::prepare_barrier,
    confirm: collectives::confirm_barrier,
};

const BCAST: Test = Test {
    name: "bcast",
    smallest: 1,
    largest: 4 * MIB,
    call: collectives::bcast,
    batch: each_call,
    prepare: collectives::prepare_bcast,
    confirm: collectives::confirm_bcast,
    ..BARRIER
};

const REDUCE: Test = Test {
    name: "reduce",
    element: 4,
    smallest: 4,
    largest: MIB,
    data: Parts::One,
    call: collectives::reduce,
    prepare: collectives::prepare_reduce,
    confirm: collectives::confirm_reduce,
    ..BCAST
};

const ALLGATHER: Test = Test {
    name: "allgather",
    largest: MIB,
    data: Parts::One,
    buffer: Parts::OnePerRank,
    call: collectives::allgather,
    prepare: latency::prepare,
    confirm: collectives::confirm_allgather,
    ..BCAST
};

const ALLTOALL: Test = Test {
    name: "alltoall",
    data: Parts::OnePerRank,
    call: collectives::alltoall,
    prepare: collectives::prepare_alltoall,
    confirm: collectives::confirm_alltoall,
    ..ALLGATHER
};

pub(crate) static TESTS: [Test; 13] = [
    LATENCY,
    Test { name: "any-latency", call: latency::any_round_trip, ..LATENCY },
    BW,
    Test { name: "bibw", steps: 2, call: bandwidth::both_ways, confirm: latency::confirm_peer, ..BW },
    Test { name: "mbw-mr", ranks: Ranks::Pairs, has_rate: true, ..BW },
    BARRIER,
    BCAST,
    REDUCE,
    Test {
        name: "allreduce",
        largest: 4 * MIB,
        call: collectives::allreduce,
        confirm: collectives::confirm_allreduce,
        ..REDUCE
    },
    ALLGATHER,
    ALLTOALL,
    Test { name: "gather", call: collectives::gather, confirm: collectives::confirm_gather, ..ALLGATHER },
    Test {
        name: "scatter",
        buffer: Parts::One,
        call: collectives::scatter,
        confirm: collectives::confirm_scatter,
        ..ALLTOALL
    },
];

fn times(parts: Parts, world: &World) -> usize {
    match parts {
        Parts::Nothing => 0,
        Parts::One => 1,
        Parts::OnePerRank => world.size(),
    }
}

/// The same calls as are measured, each with other content, all of which is looked at.
fn check(bench: &mut Bench<'_>) -> Result<()> {
    for call in 0..CHECKED_CALLS {
        (bench.test.prepare)(bench, call);
        (bench.test.call)(bench)?;
        (bench.test.confirm)(bench, call)?;
    }
    Ok(())
}

fn run_sizes(world: &World, test: &'static Test, arguments: &Arguments, output: &mut Output) -> Result<()> {
    let (sizes, participants) = (arguments.sizes_of(test), participants(test, world.size())?);
    let is_apart = (arguments.check || arguments.in_use) && test.unit == Unit::MegabytesPerSecond;
    let messages = if is_apart { arguments.window } else { 1 };
    let largest = sizes.iter().map(|size| size * messages).max().unwrap_or(0);
    let mut data = Buffer::new(largest * times(test.data, world));
    let mut buffer = Buffer::new(largest * times(test.buffer, world));
    for size in sizes {
        let mut bench = Bench {
            world,
            test,
            participants,
            pairs: participants / 2,
            window: arguments.window,
            size,
            stride: if messages > 1 { size } else { 0 },
            data: data.first(size * messages * times(test.data, world)),
            buffer: buffer.first(size * messages * times(test.buffer, world)),
            in_use: arguments.in_use,
            entered: 0.0,
        };
        if arguments.check {
            check(&mut bench).with_context(|| format!("rank {}, {size} bytes", world.rank()))?;
            output.checked(size, CHECKED_CALLS);
        } else {
            let summary = measure(&mut bench, arguments.milliseconds / 1e3)?;
            output.row(size, &summary, bench.rate(summary.median));
        }
    }
    Ok(())
}

/// What the others get until they have come to rest.
const SETTLING: Duration = Duration::from_millis(100);

fn run_test(world: &World, test: &'static Test, arguments: &Arguments, output: &mut Output) -> Result<()> {
    let participants = participants(test, world.size())?;
    for size in arguments.sizes_of(test) {
        let (smallest, element) = (test.smallest, test.element);
        let fits = size >= smallest && size.is_multiple_of(element);
        ensure!(fits, "{size} bytes: at least {smallest}, in steps of {element}");
    }
    let measured = if test.has_rate { VALUES_AND_RATE } else { VALUES };
    let columns = if arguments.check { CHECKED } else { measured };
    let name = if arguments.in_use { format!("{}-in-use", test.name) } else { test.name.to_owned() };
    output.begin_test(&name, world.size(), test.unit, columns);
    world.barrier()?;
    if world.rank() < participants {
        // Those who take no part are to be parked, which they need processors for.
        if participants < world.size() {
            sleep(SETTLING);
        }
        run_sizes(world, test, arguments, output)?;
    }
    // Here wait those who take no part.
    world.barrier()?;
    output.end_test();
    Ok(())
}

/// Runs the tests of the command line one after the other.
pub(crate) fn run(world: &World, arguments: &Arguments) -> Result<()> {
    let mut output = Output::begin(world.rank(), arguments.format);
    for test in &arguments.tests {
        run_test(world, test, arguments, &mut output).with_context(|| test.name)?;
    }
    output.end();
    Ok(())
}
