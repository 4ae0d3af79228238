//! Waiting across processes: spin, yield, park.
//!
//! # The problem
//!
//! A waiter sleeps until another process has published something. The publisher must not make a system call
//! when nobody sleeps, and a sleeper must not miss a publication that happens while it falls asleep. Data and
//! "somebody sleeps" are two words, so each side writes one and then reads the other.
//!
//! # States of a doorbell
//!
//! ```text
//! AWAKE (0)   the owner runs: nobody needs to wake it
//! PARKED (1)  the owner sleeps, or is about to
//!
//! owner    prepare   AWAKE  => PARKED     then checks its condition again
//!          cancel    PARKED => AWAKE      the condition held after all
//!          park      sleeps while PARKED; leaves AWAKE
//! others   ring      PARKED => AWAKE      and wakes; a load and a fence if AWAKE
//!          nudge     PARKED => AWAKE      and wakes; a load if AWAKE
//!          notify    any    => AWAKE      and always wakes
//! ```
//!
//! 1. Only the owner stores PARKED, and at most one thread is the owner at a time.
//! 2. Whoever changes PARKED to AWAKE in `ring` wakes the owner; no other ringer does.
//! 3. The owner checks its condition between `prepare` and `park`.
//! 4. `sleeps` is odd from the beginning of `park` to its end, and only the owner changes it.
//!
//! # No wake-up is lost
//!
//! The publisher stores its data (P1), fences (P2), reads the state (P3). The waiter stores PARKED (W1), fences
//! (W2), reads the data (W3). The fences are sequentially consistent, so one of P2 and W2 is first. If P2 is,
//! W3 sees the data, and the waiter does not sleep. If W2 is, P3 sees PARKED, and the publisher wakes: the futex
//! call compares the word under the kernel's lock, so a wake-up between W3 and the sleep finds the word changed
//! and the sleep does not begin. `tests/loom_wait.rs` runs this through every interleaving.
//!
//! # Ringing without a fence
//!
//! P2 makes the publisher wait until its data has reached the other core: about 80 ns on a 2-core Sapphire Rapids
//! machine, where a broadcast of 8 bytes took 0.15 µs with the fence and 0.12 without. `nudge` leaves it out. What
//! is lost with it: P3 may be done before P1 is visible, see AWAKE, and W3 misses the data at the same moment. A
//! store stays invisible only for as long as it sits in its core's store buffer, so a sleeper that looks once more
//! [`NAP`] after W1 sees it then. Owners whom others nudge therefore `nap` before they `park`. In a model there is
//! no time, so there `nudge` keeps its fence.
//!
//! # Seeing from outside that everybody sleeps
//!
//! [`Doorbell::asleep`] gives the number of the sleep that an owner is in if nobody has rung since: by 3 and 4 it
//! has then looked at everything that was published for it. One look at each of several doorbells proves nothing:
//! a publication may wander from one that was not looked at yet to one that was. Two looks at all of them do: if
//! every owner is in the same sleep both times, then at the moment between the two looks all of them were
//! asleep and none had been rung, since within one sleep the state goes from PARKED to AWAKE once at most.
//! Whoever sleeps publishes nothing, so what these owners are to each other cannot change any more.
//!
//! # Death
//!
//! A ringer may die between changing the word and the wake-up: the owner then sleeps on a word that says AWAKE,
//! and no later `ring` looks further. `notify` therefore changes the word and wakes in any state. Who watches
//! processes calls it after publishing the death; who has no watcher parks in slices.
//!
//! # Memory ordering
//!
//! `ring` and `notify` release what came before, and a `park` that they end acquires it (`SYNC ring-wake`). All
//! else comes from the caller's own publishing store and its acquiring check: a doorbell carries no data.
//! `asleep`: the number of a sleep (Release by its owner, Acquire by whoever looks) carries what the owner wrote
//! before it fell asleep, and the looks between two loads of it belong to that sleep.
//!
//! # Named semaphores
//!
//! With the feature `named-semaphores` a [`Bell`] is a named semaphore. The word stays the truth, a token only
//! says "look at the word". That build promises less:
//!
//! - A timed `park` polls (there is no `sem_timedwait` everywhere), with sleeps that double from 50 µs to 2 ms:
//!   it notices a ring up to 2 ms late and wakes up to 500 times a second. A `park` without timeout does not poll.
//! - A token can be stale, so `park` wakes for nothing now and then; it looks at the word and sleeps on.
//! - Names exist from `create` to `unlink`. A program killed in between leaves them behind.
//! - The system's library may use further names inside `sem_open`: glibc writes a new semaphore to
//!   `/dev/shm/sem.` and six random characters, links it to its name, and removes the first one. A process that
//!   is killed in between leaves that file of 32 bytes, and nobody can tell later whose it was. So this build
//!   does not promise that nothing is left after a kill; the futex build, which opens no semaphore, does.

use std::time::{Duration, Instant};

use crate::error::BellError;
use crate::sync::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::sync::{AtomicU32, fence, hint, thread};

/// How long after its announcement a sleeper looks again for what was published without a fence. A thousand times
/// what a store buffer takes to drain, and short beside the sleeps that a wake-up is worth.
pub const NAP: Duration = Duration::from_micros(50);

const AWAKE: u32 = 0;
const PARKED: u32 = 1;

/// The word that one waiter sleeps on, in shared memory. Zeroed memory is a valid doorbell.
///
/// It fills a cache line, so that ringers who look at it do not disturb the owner's other data.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Doorbell {
    state: AtomicU32,
    /// Odd while the owner is in [`Bell::park`]; grows by one as it enters and as it leaves.
    sleeps: AtomicU32,
    #[cfg(loom)]
    kernel: model::Kernel,
}

#[cfg(not(loom))]
crate::fixed_layout!(Doorbell { state, sleeps });

#[cfg(not(loom))]
const _: () = assert!(size_of::<Doorbell>() == 64);

impl Doorbell {
    /// A doorbell on the heap whose owner is awake.
    pub fn new() -> Self {
        Self {
            state: AtomicU32::new(AWAKE),
            sleeps: AtomicU32::new(0),
            #[cfg(loom)]
            kernel: model::Kernel::default(),
        }
    }

    /// The number of the sleep that the owner is in, unless it is awake or somebody has rung. Out of date as soon as
    /// it is returned: the module's documentation says what two looks prove. Never blocks.
    pub fn asleep(&self) -> Option<u32> {
        // SYNC asleep
        let number = self.sleeps.load(Acquire);
        let parked = self.state.load(Acquire) == PARKED;
        let same = self.sleeps.load(Acquire) == number;
        // The look that follows is a later one.
        fence(SeqCst);
        (number % 2 == 1 && parked && same).then_some(number)
    }

    /// Whether the owner has prepared to sleep and nobody has rung since. Out of date as soon as it is returned,
    /// unless the caller knows that nobody rings now.
    pub fn is_parked(&self) -> bool {
        self.state.load(Acquire) == PARKED
    }
}

impl Default for Doorbell {
    fn default() -> Self {
        Self::new()
    }
}

/// A process's handle of one doorbell: what its operations need beside the shared word.
///
/// With futexes that is nothing. With named semaphores it is the opened semaphore.
///
/// ```
/// use std::sync::atomic::{AtomicBool, Ordering};
/// use shm_core::{Bell, Doorbell};
///
/// # let name = format!("/bell-doc-{}", std::process::id());
/// let (bell, doorbell, ready) = (Bell::create(&name)?, Doorbell::new(), AtomicBool::new(false));
/// std::thread::scope(|scope| {
///     scope.spawn(|| {
///         ready.store(true, Ordering::Release);
///         bell.ring(&doorbell);
///     });
///     while !ready.load(Ordering::Acquire) {
///         bell.prepare(&doorbell);
///         if ready.load(Ordering::Acquire) {
///             bell.cancel(&doorbell);
///             break;
///         }
///         bell.park(&doorbell, None);
///     }
/// });
/// assert!(ready.load(Ordering::Acquire));
/// Bell::unlink(&name)?;
/// # Ok::<(), shm_core::BellError>(())
/// ```
#[derive(Debug)]
pub struct Bell {
    sleeper: sleeper::Sleeper,
}

impl Bell {
    /// Makes what the waiter behind `name` needs, for its owner only. The name follows the rules of
    /// [`crate::SegmentName`].
    ///
    /// # Errors
    ///
    /// In the named-semaphores build: the name exists or is not valid, or the system refused.
    pub fn create(name: &str) -> Result<Self, BellError> {
        Ok(Self { sleeper: sleeper::Sleeper::create(name)? })
    }

    /// Opens what [`Bell::create`] made under the same name.
    ///
    /// # Errors
    ///
    /// In the named-semaphores build: the name does not exist, or the system refused.
    pub fn open(name: &str) -> Result<Self, BellError> {
        Ok(Self { sleeper: sleeper::Sleeper::open(name)? })
    }

    /// Removes the name; opened bells keep working. A name that does not exist is no error.
    ///
    /// # Errors
    ///
    /// In the named-semaphores build: the system refused.
    pub fn unlink(name: &str) -> Result<(), BellError> {
        sleeper::Sleeper::unlink(name)
    }

    /// Wakes the owner if it sleeps. Call it after the store that the owner waits for; never blocks.
    #[inline]
    pub fn ring(&self, doorbell: &Doorbell) {
        // Pairs with the fence in `prepare`: see the module's proof.
        fence(SeqCst);
        if doorbell.state.load(Relaxed) == PARKED {
            self.wake_parked(doorbell);
        }
    }

    /// [`Bell::ring`] without its fence, for an owner that naps before it parks. Never blocks.
    #[inline]
    pub fn nudge(&self, doorbell: &Doorbell) {
        #[cfg(loom)]
        fence(SeqCst);
        if doorbell.state.load(Relaxed) == PARKED {
            self.wake_parked(doorbell);
        }
    }

    #[cold]
    fn wake_parked(&self, doorbell: &Doorbell) {
        // SYNC ring-wake
        if doorbell.state.swap(AWAKE, Release) == PARKED {
            self.sleeper.wake(doorbell);
        }
    }

    /// Wakes the owner whatever the state says. For the notice that a process died, after its publication: the
    /// dead process may have rung halfway. Never blocks.
    pub fn notify(&self, doorbell: &Doorbell) {
        // Pairs with the fence in `prepare`: see the module's proof.
        fence(SeqCst);
        // SYNC ring-wake
        doorbell.state.swap(AWAKE, Release);
        self.sleeper.wake(doorbell);
    }

    /// Announces that the owner is about to sleep. The caller checks its condition again before it parks.
    #[inline]
    pub fn prepare(&self, doorbell: &Doorbell) {
        self.sleeper.forget_stale_wakes();
        // A swap, though a store would do: a late ringer's swap and this one are then ordered by what they read,
        // which the model checker understands. It costs nothing next to the sleep that follows.
        doorbell.state.swap(PARKED, Relaxed);
        // Pairs with the fences in `ring` and `notify`: see the module's proof.
        fence(SeqCst);
    }

    /// Takes [`Bell::prepare`] back: the condition holds after all.
    #[inline]
    pub fn cancel(&self, doorbell: &Doorbell) {
        doorbell.state.store(AWAKE, Relaxed);
    }

    /// Sleeps until a ring or a notice since [`Bell::prepare`], at most for [`NAP`]; whether there was one. If not,
    /// the announcement still stands: the caller looks once more, then parks or cancels.
    #[cold]
    pub fn nap(&self, doorbell: &Doorbell) -> bool {
        self.sleep(doorbell, Some(NAP))
    }

    /// Sleeps until a ring or a notice since [`Bell::prepare`], at most for `timeout`; whether there was one. May
    /// return early for no reason: the caller checks its condition and deadline.
    #[cold]
    pub fn park(&self, doorbell: &Doorbell, timeout: Option<Duration>) -> bool {
        let number = doorbell.sleeps.load(Relaxed).wrapping_add(1);
        // SYNC asleep
        doorbell.sleeps.store(number, Release);
        let rung = self.sleep(doorbell, timeout);
        doorbell.state.store(AWAKE, Relaxed);
        // Whatever the owner publishes from now on is a release: who sees it sees that this sleep is over.
        doorbell.sleeps.store(number.wrapping_add(1), Relaxed);
        rung
    }

    fn sleep(&self, doorbell: &Doorbell, timeout: Option<Duration>) -> bool {
        // A model has no time: its runs must not depend on the clock.
        let timeout = timeout.filter(|_| !cfg!(loom));
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        // SYNC ring-wake
        while doorbell.state.load(Acquire) == PARKED {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return false;
            }
            self.sleeper.sleep(doorbell, left);
        }
        true
    }
}

/// Nanoseconds on a clock that all processes of this machine read alike, and that is never set. An
/// [`Instant`] cannot be put into shared memory.
///
/// ```
/// let before = shm_core::wait::monotonic_nanoseconds();
/// assert!(shm_core::wait::monotonic_nanoseconds() >= before);
/// ```
#[cfg(not(loom))]
pub fn monotonic_nanoseconds() -> u64 {
    crate::sys::clock::monotonic()
}

/// The processor that this thread runs on at this moment, by the system's number; `None` where that cannot be known. It may be
/// another one as soon as this returns.
///
/// ```
/// let processor = shm_core::wait::current_processor();
/// assert!(processor.is_some() || !cfg!(target_os = "linux"));
/// ```
#[cfg(not(loom))]
#[inline]
pub fn current_processor() -> Option<u32> {
    crate::sys::processors::current()
}

/// Waits until `condition` gives a value: bounded spinning and yielding, then parking.
///
/// Before each sleep `interrupt` says how long it may last (`None`: until a ring or a notice), or ends the wait
/// with an error (a peer that died, a deadline). A last look at the condition then still wins over the error.
///
/// # Errors
///
/// What `interrupt` returned.
///
/// ```
/// use std::time::{Duration, Instant};
/// use shm_core::{Backoff, Bell, Doorbell, wait::wait_until};
///
/// # let name = format!("/wait-doc-{}", std::process::id());
/// let (bell, doorbell) = (Bell::create(&name)?, Doorbell::new());
/// # Bell::unlink(&name)?;
/// let wait = |value: Option<u32>| {
///     let deadline = Instant::now() + Duration::from_millis(20);
///     let left = || match deadline.saturating_duration_since(Instant::now()) {
///         Duration::ZERO => Err("too late"),
///         left => Ok(Some(left)),
///     };
///     wait_until(&bell, &doorbell, Backoff::new(0, 1), || value, left)
/// };
/// assert_eq!(wait(Some(7)), Ok(7));
/// assert_eq!(wait(None), Err("too late"));
/// # Ok::<(), shm_core::BellError>(())
/// ```
pub fn wait_until<T, E>(
    bell: &Bell,
    doorbell: &Doorbell,
    mut backoff: Backoff,
    mut condition: impl FnMut() -> Option<T>,
    mut interrupt: impl FnMut() -> Result<Option<Duration>, E>,
) -> Result<T, E> {
    loop {
        if let Some(value) = condition() {
            return Ok(value);
        }
        if backoff.snooze() {
            continue;
        }
        bell.prepare(doorbell);
        if let Some(value) = condition() {
            bell.cancel(doorbell);
            return Ok(value);
        }
        match interrupt() {
            Ok(timeout) => drop(bell.park(doorbell, timeout)),
            Err(error) => {
                bell.cancel(doorbell);
                return condition().ok_or(error);
            }
        }
    }
}

/// So many yields are many: where two processes share a processor they take 50 µs (a switch takes 1.4 to 1.7), beside others much longer.
const OFTEN: u32 = 32;

/// How long a waiter stays on the processor before it parks: it spins, then yields, both bounded.
///
/// Spinning pays only while the peer runs on another core; yielding lets it run on this one. Measured for a
/// barrier on 2 cores with 2, 4 and 8 waiters: 2000 spins, 4 yields, then parking take 0.11, 4.4 and 9 µs,
/// parking at once 18 to 28 µs.
///
/// ```
/// let mut backoff = shm_core::Backoff::new(1, 1);
/// assert!(backoff.snooze()); // spun
/// assert!(backoff.snooze()); // yielded
/// assert!(!backoff.snooze()); // time to park
/// backoff.reset();
/// assert!(backoff.snooze());
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    spins: u32,
    yields: u32,
    shares: bool,
    /// Since the beginning; where processors are shared, since the last yield.
    spun: u32,
    yielded: u32,
    /// Since the back-off was made, whatever progress there was.
    ever_yielded: bool,
    crowded_out: bool,
}

/// In nanoseconds. Somebody else's busy process takes a time slice of several milliseconds.
#[cfg(not(loom))]
const LONG_YIELD: u64 = 500_000;

impl Backoff {
    /// A back-off of `spins` spins, then `yields` yields. The yields end when one has taken half a millisecond: then somebody else
    /// needs this processor and yields it to nobody. Who yields to that comes back when its time slice is over; who sleeps comes
    /// back when it is woken.
    pub const fn new(spins: u32, yields: u32) -> Self {
        Self { spins, yields, shares: false, spun: 0, yielded: 0, ever_yielded: false, crowded_out: false }
    }

    /// A back-off of `spins` spins before and after each of `yields` yields, of one of several waiters that share a processor:
    /// their turns may take as long as they will.
    pub const fn sharing(spins: u32, yields: u32) -> Self {
        Self { shares: true, ..Self::new(spins, yields) }
    }

    /// Passes a moment; false, at once, when it is time to park.
    #[inline]
    pub fn snooze(&mut self) -> bool {
        if self.spun < self.spins {
            self.spun += 1;
            hint::spin_loop();
        } else if self.yielded < self.yields {
            (self.yielded, self.ever_yielded) = (self.yielded + 1, true);
            if self.shares {
                self.spun = 0;
                thread::yield_now();
            } else if yields_for_long() {
                (self.yielded, self.crowded_out) = (self.yields, true);
            }
        } else {
            return false;
        }
        true
    }

    /// The next moment is a yield, whatever is left of the spins: what is waited for needs this processor.
    #[inline]
    pub fn skip_spins(&mut self) {
        self.spun = self.spins;
    }

    /// Whether it is of [`Backoff::sharing`].
    #[inline]
    pub fn is_sharing(&self) -> bool {
        self.shares
    }

    /// Whether others had a chance to run on this processor since the last progress.
    #[inline]
    pub fn has_yielded(&self) -> bool {
        self.yielded > 0
    }

    /// Whether others had many chances to run since the last progress: where they need long, this takes long.
    #[inline]
    pub fn has_yielded_often(&self) -> bool {
        self.yielded >= OFTEN
    }

    /// Whether there has been a yield since the back-off was made.
    #[inline]
    pub fn has_ever_yielded(&self) -> bool {
        self.ever_yielded
    }

    /// Whether somebody else has used this processor for long since the back-off was made.
    #[inline]
    pub fn was_crowded_out(&self) -> bool {
        self.crowded_out
    }

    /// Starts again, after progress; without yields, if somebody else uses this processor.
    #[inline]
    pub fn reset(&mut self) {
        (self.spun, self.yielded) = (0, if self.crowded_out { self.yields } else { 0 });
    }
}

/// Yields; whether that took long.
#[cfg(not(loom))]
#[inline]
fn yields_for_long() -> bool {
    let start = crate::sys::clock::monotonic();
    thread::yield_now();
    crate::sys::clock::monotonic() - start >= LONG_YIELD
}

/// A model has no time.
#[cfg(loom)]
fn yields_for_long() -> bool {
    thread::yield_now();
    false
}

#[cfg(all(target_os = "linux", not(loom), not(feature = "named-semaphores")))]
#[path = "wait/futex.rs"]
mod sleeper;

#[cfg(all(not(loom), feature = "named-semaphores"))]
#[path = "wait/semaphore.rs"]
mod sleeper;

#[cfg(loom)]
#[path = "wait/model.rs"]
mod sleeper;
#[cfg(loom)]
use sleeper as model;

#[cfg(not(any(target_os = "linux", loom, feature = "named-semaphores")))]
compile_error!("this system has no futex: build shm-core with the feature `named-semaphores`");
