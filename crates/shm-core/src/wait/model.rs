//! The futex as the model checker sees it: comparing and falling asleep under the kernel's lock.
//!
//! There is no time in a model: a timeout never comes, so that a lost wake-up shows as a deadlock.

use std::time::Duration;

use loom::sync::{Condvar, Mutex};

use super::{BellError, Doorbell, PARKED};
use crate::sync::Ordering::Relaxed;

/// What the kernel keeps for one word.
#[derive(Debug, Default)]
pub(super) struct Kernel {
    lock: Mutex<()>,
    sleepers: Condvar,
}

/// Nothing, as with real futexes.
#[derive(Debug)]
pub(super) struct Sleeper;

impl Sleeper {
    pub(super) fn create(_name: &str) -> Result<Self, BellError> {
        Ok(Self)
    }

    pub(super) fn open(_name: &str) -> Result<Self, BellError> {
        Ok(Self)
    }

    pub(super) fn unlink(_name: &str) -> Result<(), BellError> {
        Ok(())
    }

    pub(super) fn wake(&self, doorbell: &Doorbell) {
        let _kernel = doorbell.kernel.lock.lock().expect("no thread of the model panics here");
        doorbell.kernel.sleepers.notify_all();
    }

    pub(super) fn sleep(&self, doorbell: &Doorbell, _timeout: Option<Duration>) {
        let kernel = doorbell.kernel.lock.lock().expect("no thread of the model panics here");
        if doorbell.state.load(Relaxed) == PARKED {
            drop(doorbell.kernel.sleepers.wait(kernel).expect("no thread of the model panics here"));
        }
    }

    pub(super) fn forget_stale_wakes(&self) {}
}
