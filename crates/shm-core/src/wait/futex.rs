//! Sleeping by futex: the kernel compares the word and falls asleep in one step.

use std::time::Duration;

use super::{BellError, Doorbell, PARKED};
use crate::sys::futex;

/// Nothing: the word is all that a futex needs.
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
        futex::wake(&doorbell.state);
    }

    pub(super) fn sleep(&self, doorbell: &Doorbell, timeout: Option<Duration>) {
        futex::wait(&doorbell.state, PARKED, timeout);
    }

    #[inline(always)]
    pub(super) fn forget_stale_wakes(&self) {}
}
