//! What the micro-benchmarks share: two cores, lanes on the heap, and a partner on the other core.
#![allow(dead_code, reason = "each benchmark uses a part of it")]

use std::hint;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use shm_core::bytes::{LINE_BYTES, Line, SharedBytes};
use shm_core::pool::{Pool, Returns};
use shm_core::ring::{Cell, ROW_CELLS, Ring, RingHeader};

/// The core on which times are taken, and the one of its partner: not the first, which serves interrupts, if there
/// are more than two.
#[derive(Clone, Copy)]
pub(crate) enum Core {
    Measured,
    Partner,
}

/// The processors that this process was started with, before any thread was pinned.
fn processors() -> &'static [usize] {
    static ALL: std::sync::OnceLock<Vec<usize>> = std::sync::OnceLock::new();
    ALL.get_or_init(|| {
        let allowed = sched_getaffinity(None).expect("this thread has an affinity");
        (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).collect()
    })
}

/// Pins this thread, and with it the threads and processes that it starts.
pub(crate) fn pin(core: Core) {
    let all = processors();
    let mut set = CpuSet::new();
    set.set(match core {
        Core::Measured => all[all.len() - 1],
        Core::Partner => all[all.len().saturating_sub(2)],
    });
    sched_setaffinity(None, &set).expect("an allowed processor can be chosen");
}

/// Waits a moment for the other core; gives the processor away where there is only one.
#[inline]
pub(crate) fn relax() {
    if processors().len() > 1 { hint::spin_loop() } else { thread::yield_now() }
}

/// Calls `body` until both sides run at their speed: how often a sample repeats it is decided by its first run.
pub(crate) fn warm_up(mut body: impl FnMut()) {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(20) {
        body();
    }
}

/// Tells a partner to end.
#[derive(Default)]
pub(crate) struct Stop(AtomicBool);

impl Stop {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Acquire)
    }
}

/// Set at the end of a measurement, also if that panicked: the scope waits for the partner.
pub(crate) struct StopOnDrop<'a>(&'a Stop);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, Release);
    }
}

/// Runs `partner` again and again on the other core until what is returned is dropped; pins this thread too.
pub(crate) fn with_partner<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    stop: &'env Stop,
    mut partner: impl FnMut() + Send + 'scope,
) -> StopOnDrop<'env> {
    pin(Core::Measured);
    scope.spawn(move || {
        pin(Core::Partner);
        while !stop.is_set() {
            partner();
        }
    });
    StopOnDrop(stop)
}

/// A ring of the size that a job of two ranks has.
pub(crate) struct RingMemory {
    header: RingHeader,
    cells: Vec<Cell>,
}

impl RingMemory {
    pub(crate) fn new() -> Self {
        Self { header: RingHeader::new(), cells: fill(23 * ROW_CELLS) }
    }

    pub(crate) fn ring(&self) -> Ring<'_> {
        Ring::new(&self.header, &self.cells)
    }
}

/// A pool of 2 MiB.
pub(crate) struct PoolMemory {
    returns: Vec<Returns>,
    lines: Vec<Line>,
}

pub(crate) const CHUNK_BYTES: usize = 16 << 10;
const CHUNKS: usize = 128;

impl PoolMemory {
    pub(crate) fn new() -> Self {
        Self { returns: fill(CHUNKS), lines: fill(CHUNKS * CHUNK_BYTES / LINE_BYTES) }
    }

    pub(crate) fn pool(&self) -> Pool<'_> {
        Pool::new(&self.returns, SharedBytes::new(&self.lines))
    }
}

fn fill<T: Default>(count: usize) -> Vec<T> {
    std::iter::repeat_with(T::default).take(count).collect()
}
