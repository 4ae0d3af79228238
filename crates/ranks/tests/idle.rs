//! A rank that waits sleeps: being blocked uses next to no processor time.

#[path = "support/watchdog.rs"]
mod watchdog;

use std::time::Duration;

use ranks::{ANY_SOURCE, Source, World, spawn};
use rustix::time::{ClockId, clock_gettime};
use watchdog::{step, watch};

/// How long rank 0 is left waiting.
const WAIT: Duration = Duration::from_secs(1);
/// A rank that spins would use all of [`WAIT`]. It may spin for a moment, wake up now and then, and be counted in
/// whole ticks of the clock.
const MOST: Duration = Duration::from_millis(200);

/// Rank 0 calls `blocked`, which waits for what rank 1 does in `release` after [`WAIT`].
#[track_caller]
fn idles(blocked: fn(&World), release: fn(&World)) {
    spawn(2, |world| {
        watch(world);
        world.barrier().unwrap();
        if world.rank() == 1 {
            std::thread::sleep(WAIT);
            return release(world);
        }
        step("waits for rank 1");
        let before = processor_time();
        blocked(world);
        let used = processor_time() - before;
        assert!(used < MOST, "{used:?} of processor time while it waited for {WAIT:?}");
    })
    .unwrap();
}

/// Of all threads of this process, in user and in system mode.
fn processor_time() -> Duration {
    clock_gettime(ClockId::ProcessCPUTime).try_into().expect("processor time is not negative")
}

fn send(world: &World) {
    world.send(&[1u8], 0).unwrap();
}

fn receive(world: &World, source: impl Into<Source>) {
    world.recv(&mut [0u8], source).unwrap();
}

fn barrier(world: &World) {
    world.barrier().unwrap();
}

#[test]
fn in_a_receive_from_a_rank() {
    idles(|world| receive(world, 1), send);
}

#[test]
fn in_a_receive_from_any_source() {
    idles(|world| receive(world, ANY_SOURCE), send);
}

#[test]
fn in_a_barrier() {
    idles(barrier, barrier);
}
