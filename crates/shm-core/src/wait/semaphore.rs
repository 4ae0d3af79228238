//! Sleeping by named semaphore: a token says "look at the word".

use std::io;
use std::time::{Duration, Instant};

use super::{BellError, Doorbell, PARKED};
use crate::sync::Ordering::Acquire;
use crate::sys::semaphore::Semaphore;

/// Sleeps of a timed wait: short at first, for the peer that is about to answer, ...
const FIRST_SLEEP: Duration = Duration::from_micros(50);
/// ... and bounded, so that a ring is noticed soon.
const LONGEST_SLEEP: Duration = Duration::from_millis(2);

/// The semaphore that stands for one doorbell.
#[derive(Debug)]
pub(super) struct Sleeper(Semaphore);

impl Sleeper {
    pub(super) fn create(name: &str) -> Result<Self, BellError> {
        Semaphore::create(name).map(Self).map_err(|source| failure("sem_open (create)", name, source))
    }

    pub(super) fn open(name: &str) -> Result<Self, BellError> {
        Semaphore::open(name).map(Self).map_err(|source| failure("sem_open", name, source))
    }

    pub(super) fn unlink(name: &str) -> Result<(), BellError> {
        match Semaphore::unlink(name) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(failure("sem_unlink", name, source))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn wake(&self, _doorbell: &Doorbell) {
        self.0.post();
    }

    /// Returns with or without a token: the caller looks at the word.
    pub(super) fn sleep(&self, doorbell: &Doorbell, timeout: Option<Duration>) {
        match timeout {
            None => self.0.wait(),
            Some(timeout) => self.poll(doorbell, timeout),
        }
    }

    fn poll(&self, doorbell: &Doorbell, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        let mut pause = FIRST_SLEEP;
        while !self.0.try_wait() && doorbell.state.load(Acquire) == PARKED {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(LONGEST_SLEEP);
        }
    }

    /// Takes tokens that nobody waited for, so that they do not pile up. A ringer that changed the word but
    /// has not posted yet leaves one more, which costs a look at the word later.
    pub(super) fn forget_stale_wakes(&self) {
        while self.0.try_wait() {}
    }
}

fn failure(operation: &'static str, name: &str, source: io::Error) -> BellError {
    BellError { operation, name: name.to_owned(), source }
}
