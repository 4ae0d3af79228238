//! The direct lane: a long message is copied once, from one process's memory to the other's, by both processes at
//! the same time.
//!
//! # The problem
//!
//! Through shared memory every byte is copied twice, and its lines change from core to core in between. The kernel
//! copies from process to process at once, but page by page and by one core. So both sides take parts of the message
//! until nothing is left: the one that receives pulls, from the front; the one that sends pushes, from the back. A
//! side that is busy elsewhere is not waited for.
//!
//! # The claims of a transfer
//!
//! A message is a number of blocks. One word counts those that each side has taken:
//!
//! ```text
//! bits  0..31  front: blocks taken by the receiver      0 .. front              are its
//! bit      31  closed by the receiver                   what was left then      is its too
//! bits 32..63  back:  blocks taken by the sender        total - back .. total   are its
//! bit      63  closed by the sender                     what was left then      is its too
//! ```
//!
//! 1. Taking is one read-modify-write, so every block is given out once: while `front + back < total` and nothing is
//!    closed. A side that asks when nothing is left makes its count too large, and both see that nothing is left.
//! 2. A side that has seen that nothing is left asks no more. So counts stay below `2 * MAX_BLOCKS`: no overflow.
//! 3. The sender opens a transfer for another message only after the receiver has said that it asks no more.
//! 4. A side says that it is copying ([`Copying`]) before it claims, until it has copied what it claimed. What it got
//!    by closing it may copy later, if the other side has not closed too: it looks after it has said that it is copying.
//! 5. So a side has its memory back once it has closed the transfer and then seen the other side pause: whatever
//!    that had taken is copied, and it takes nothing more.
//!
//! # Withdrawing
//!
//! A receiver that has said that it asks no more leaves the word of the claims alone: the sender may open it for another
//! message at any moment. What the sender has taken by closing may still be on its way then, and the receiver may want
//! its memory back. It says so in a second word, by the number of the message among all that this sender offers. Numbers
//! only grow there, so what comes too late for its message means nothing to the next one. The sender looks at that word
//! as at the other one, after it has said that it is copying: 5 holds for it as well.
//!
//! # Memory ordering
//!
//! `direct-claim`: all changes and the look of 4 are read-modify-writes with Release and Acquire: who closes after the
//! other has claimed or looked sees that it is copying. `direct-copying`: that it no longer is (Release by that side,
//! Acquire by the other) says that its copies are over. What was copied is told by the layer above, through a ring.
//!
//! # Permission
//!
//! The system may refuse one process the memory of another, and a number of a process may mean another one in
//! another container. So [`Remote::open`] first reads a word whose value it knows.

use std::io;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// The most blocks of one transfer.
pub const MAX_BLOCKS: u32 = 1 << 29;

const CLOSED: u32 = 1 << 31;

/// The shared words of one message under way. Zeroed memory is an open transfer.
#[repr(C, align(64))]
pub struct Transfer {
    claims: AtomicU64,
    /// The last message whose receiver wants nothing of it any more, by its number.
    withdrawn: AtomicU64,
}

/// From which end a side takes blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The receiver's, from the front.
    Front,
    /// The sender's, from the back.
    Back,
}

impl Transfer {
    /// An open transfer, for use on the heap.
    pub fn new() -> Self {
        Self { claims: AtomicU64::new(0), withdrawn: AtomicU64::new(0) }
    }

    /// Makes the transfer ready for another message; the other side is then told, through a ring.
    pub fn open(&self) {
        self.claims.store(0, Ordering::Relaxed);
    }

    /// How many of `total` blocks nobody has taken, at the time of the call.
    pub fn left(&self, total: u32) -> u32 {
        left(self.claims.load(Ordering::Relaxed), total)
    }

    /// Takes up to `wanted` of `total` blocks for `side`; empty if none are left.
    ///
    /// # Panics
    ///
    /// If there are more than [`MAX_BLOCKS`].
    pub fn claim(&self, side: Side, wanted: u32, total: u32) -> Range<u32> {
        let wanted = wanted.min(total);
        // SYNC direct-claim
        let before = self.claims.fetch_add(u64::from(wanted) << side.shift(), Ordering::AcqRel);
        granted(before, side, wanted, total)
    }

    /// Takes all of `total` blocks that are left for `side`, for good; empty if none are left.
    ///
    /// # Panics
    ///
    /// If there are more than [`MAX_BLOCKS`].
    pub fn close(&self, side: Side, total: u32) -> Range<u32> {
        // SYNC direct-claim
        let before = self.claims.fetch_or(u64::from(CLOSED) << side.shift(), Ordering::AcqRel);
        granted(before, side, total, total)
    }

    /// Whether `side` has closed the transfer, asked while [`Copying`].
    pub fn is_closed(&self, side: Side) -> bool {
        // SYNC direct-claim: a load could be early.
        let claims = self.claims.fetch_or(0, Ordering::AcqRel);
        (claims >> side.shift()) as u32 & CLOSED != 0
    }

    /// The receiver of message `number`, which asks for no more blocks, wants none of the sender's either.
    pub fn withdraw(&self, number: u64) {
        // SYNC direct-claim
        self.withdrawn.fetch_max(number, Ordering::AcqRel);
    }

    /// Whether message `number`, which uses the transfer, is withdrawn, asked while [`Copying`].
    pub fn is_withdrawn(&self, number: u64) -> bool {
        // SYNC direct-claim: a load could be early.
        self.withdrawn.fetch_max(0, Ordering::AcqRel) >= number
    }
}

impl Side {
    fn shift(self) -> u32 {
        match self {
            Self::Front => 0,
            Self::Back => 32,
        }
    }
}

fn left(claims: u64, total: u32) -> u32 {
    let (front, back) = (claims as u32, (claims >> 32) as u32);
    let closed = (front | back) & CLOSED != 0;
    if closed { 0 } else { u64::from(total).saturating_sub(u64::from(front) + u64::from(back)) as u32 }
}

/// What a side gets that asks for `wanted` blocks. The claims come from shared memory: whatever they say, the range
/// lies within the blocks.
fn granted(claims: u64, side: Side, wanted: u32, total: u32) -> Range<u32> {
    assert!(total <= MAX_BLOCKS, "{total} blocks");
    let granted = wanted.min(left(claims, total));
    let taken = (claims >> side.shift()) as u32;
    let start = match side {
        Side::Front => taken.min(total - granted),
        Side::Back => (total - granted).saturating_sub(taken),
    };
    start..start + granted
}

impl Default for Transfer {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether a process is copying: odd while it is. Zeroed memory says that it is not. Written by that process alone,
/// which has one thread that copies.
#[repr(C, align(64))]
pub struct Copying(AtomicU32);

impl Copying {
    /// A process that is not copying, for use on the heap.
    pub fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Runs `copy`, which claims blocks and copies them.
    pub fn during<R>(&self, copy: impl FnOnce() -> R) -> R {
        // Even, whatever something has written over it: else it would say the opposite from then on.
        let before = self.0.load(Ordering::Relaxed) & !1;
        // SYNC direct-copying: who sees the next copy begin knows that the one before is over.
        self.0.store(before.wrapping_add(1), Ordering::Release);
        let result = copy();
        // SYNC direct-copying
        self.0.store(before.wrapping_add(2), Ordering::Release);
        result
    }

    /// Says once more that this process is not copying: others wait until it does, and may have read something that
    /// something else has written.
    pub fn rest(&self) {
        let state = self.0.load(Ordering::Relaxed);
        if !state.is_multiple_of(2) {
            self.0.store(state.wrapping_add(1), Ordering::Release);
        }
    }

    /// The present state, to be compared with later ones.
    pub fn state(&self) -> u32 {
        // SYNC direct-copying
        self.0.load(Ordering::Acquire)
    }

    /// Whether the process has not been copying for a moment since its state was `earlier`.
    pub fn has_paused(&self, earlier: u32) -> bool {
        earlier.is_multiple_of(2) || self.state() != earlier
    }
}

impl Default for Copying {
    fn default() -> Self {
        Self::new()
    }
}

/// A word of this process by which others make sure that they reach it: where it is, and what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Its address in this process.
    pub address: u64,
    /// Its value: random, the same for the life of the process.
    pub value: u64,
}

impl Probe {
    /// The word of this process.
    pub fn of_this_process() -> Self {
        use std::hash::{BuildHasher, Hasher, RandomState};
        use std::sync::OnceLock;

        static WORD: OnceLock<Box<u64>> = OnceLock::new();
        let word = WORD.get_or_init(|| Box::new(RandomState::new().build_hasher().finish()));
        Self { address: std::ptr::from_ref(&**word).addr() as u64, value: **word }
    }
}

/// How long the system takes to copy `bytes` from process to process while they stay in a core's caches: the shortest
/// of a few tries, within this process. `None` where it cannot. Blocks for the tries, which is microseconds for tens
/// of KiB.
///
/// ```
/// let [short, long] = [1, 1 << 20].map(|bytes| shm_core::direct::time_to_copy(bytes));
/// assert!(short <= long);
/// ```
pub fn time_to_copy(bytes: usize) -> Option<Duration> {
    const TRIES: usize = 5;
    let (data, mut buffer) = (vec![1u8; bytes], vec![0u8; bytes]);
    let itself = Remote::open(std::process::id(), Probe::of_this_process())?;
    let address = data.as_ptr().expose_provenance() as u64;
    let mut shortest = None;
    for _ in 0..TRIES {
        let start = Instant::now();
        itself.read(address, &mut buffer).ok()?;
        shortest = Some(shortest.unwrap_or(Duration::MAX).min(start.elapsed()));
    }
    shortest
}

/// The memory of another process.
#[derive(Debug, Clone, Copy)]
pub struct Remote {
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "never made there"))]
    pid: i32,
}

/// Lets process `pid` and its descendants at this process's memory, where the system asks for that. Where it does
/// not, or refuses, nothing happens.
pub fn admit(pid: u32) {
    #[cfg(target_os = "linux")]
    // Without that restriction the call is unknown; with a stronger one, the others will find no access.
    let _ = crate::sys::memory::admit(pid);
    #[cfg(not(target_os = "linux"))]
    let _ = pid;
}

#[cfg(target_os = "linux")]
impl Remote {
    /// The memory of process `pid`, if the system lets this process at it and it holds `probe`.
    pub fn open(pid: u32, probe: Probe) -> Option<Self> {
        let remote = Self { pid: i32::try_from(pid).ok().filter(|&pid| pid > 0)? };
        let mut word = [0; size_of::<u64>()];
        remote.read(probe.address, &mut word).ok()?;
        (u64::from_ne_bytes(word) == probe.value).then_some(remote)
    }

    /// Fills `buffer` with what lies at `address` in the other process.
    ///
    /// # Errors
    ///
    /// The process is gone (`ESRCH`), or its memory is not there or not open to this one.
    pub fn read(&self, mut address: u64, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            let length = crate::sys::memory::read(self.pid, address, buffer)?;
            buffer = &mut buffer[advance(length)?..];
            address += length as u64;
        }
        Ok(())
    }

    /// Copies `data` to `address` in the other process.
    ///
    /// # Errors
    ///
    /// As [`Remote::read`].
    ///
    /// # Safety
    ///
    /// The other process has offered the whole range to be written to, and does nothing else with it until it is told
    /// that this is over.
    #[allow(unsafe_code)]
    pub unsafe fn write(&self, mut address: u64, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            // SAFETY: the caller's promise.
            let length = unsafe { crate::sys::memory::write(self.pid, address, data)? };
            data = &data[advance(length)?..];
            address += length as u64;
        }
        Ok(())
    }
}

/// The bytes of one call, which must not be none: it would be repeated for ever.
#[cfg(target_os = "linux")]
fn advance(length: usize) -> io::Result<usize> {
    if length > 0 { Ok(length) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(not(target_os = "linux"))]
impl Remote {
    /// There is no such access on this system.
    pub fn open(_pid: u32, _probe: Probe) -> Option<Self> {
        None
    }

    /// Never called: there is no value of this type.
    ///
    /// # Errors
    ///
    /// Always.
    pub fn read(&self, _address: u64, _buffer: &mut [u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Never called: there is no value of this type.
    ///
    /// # Errors
    ///
    /// Always.
    ///
    /// # Safety
    ///
    /// Touches nothing.
    #[allow(unsafe_code)]
    pub unsafe fn write(&self, _address: u64, _data: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(not(loom))]
crate::fixed_layout!(Transfer { claims, withdrawn });
#[cfg(not(loom))]
crate::fixed_layout!(Copying { 0 });

#[cfg(not(loom))]
#[allow(unsafe_code)]
// SAFETY: repr(C), an atomic and padding, any bytes are valid values.
unsafe impl crate::SharedLayout for Transfer {}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever both sides ask for in whatever order, every block is given out once.
        #[test]
        fn every_block_is_given_out_once(
            total in 0..200u32,
            asks in prop::collection::vec((any::<bool>(), 1..50u32), 0..100),
        ) {
            let transfer = Transfer::new();
            let mut given = vec![0; total as usize];
            let rest = [(true, total), (false, total)];
            for (back, wanted) in asks.into_iter().chain(rest) {
                let side = if back { Side::Back } else { Side::Front };
                let left = transfer.left(total);
                let blocks = transfer.claim(side, wanted, total);
                prop_assert_eq!(blocks.len() as u32, wanted.min(left));
                blocks.for_each(|block| given[block as usize] += 1);
            }
            prop_assert!(given.iter().all(|&times| times == 1), "{given:?}");
        }

        /// Closing gives the rest, once, to one side.
        #[test]
        fn closing_takes_the_rest(total in 0..50u32, front in 0..60u32, back in 0..60u32, first_back: bool) {
            let transfer = Transfer::new();
            let pulled = transfer.claim(Side::Front, front, total).len();
            let pushed = transfer.claim(Side::Back, back, total).len();
            let (first, second) = if first_back { (Side::Back, Side::Front) } else { (Side::Front, Side::Back) };
            prop_assert!(!transfer.is_closed(first));
            let rest = transfer.close(first, total);
            prop_assert_eq!(rest.len() + pulled + pushed, total as usize);
            prop_assert!(rest.is_empty() || rest.start == pulled as u32);
            prop_assert!(transfer.is_closed(first) && !transfer.is_closed(second));
            prop_assert!(transfer.close(second, total).is_empty() && transfer.left(total) == 0);
            prop_assert!(transfer.claim(first, total, total).is_empty());
        }

        /// Nonsense in the shared word gives blocks that exist.
        #[test]
        fn a_damaged_word_gives_no_stray_block(claims: u64, total in 0..=MAX_BLOCKS, wanted: u32, back: bool) {
            let transfer = Transfer::new();
            transfer.claims.store(claims, Ordering::Relaxed);
            let side = if back { Side::Back } else { Side::Front };
            let blocks = transfer.claim(side, wanted, total);
            prop_assert!(blocks.start <= blocks.end && blocks.end <= total);
        }
    }

    #[test]
    fn who_copies_says_so_whatever_was_written_over_that() {
        for damage in [0, 1, 7, u32::MAX] {
            let copying = Copying::new();
            copying.0.store(damage, Ordering::Relaxed);
            let before = copying.state();
            copying.during(|| assert!(!copying.has_paused(copying.state())));
            assert!(copying.has_paused(before) && copying.has_paused(copying.state()));
            copying.0.store(damage, Ordering::Relaxed);
            copying.rest();
            assert!(copying.has_paused(before) && copying.has_paused(copying.state()));
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    #[allow(unsafe_code)]
    fn the_own_process_can_be_reached() {
        let remote = Remote::open(std::process::id(), Probe::of_this_process()).unwrap();
        let (mut cells, data) = (vec![0u8; 10_000], vec![7u8; 5_000]);
        let address = cells.as_mut_ptr().expose_provenance() as u64;
        // SAFETY: the vector is left alone meanwhile.
        unsafe { remote.write(address + 2_000, &data).unwrap() };
        let mut back = vec![1u8; 10_000];
        remote.read(address, &mut back).unwrap();
        assert!(
            back.iter()
                .enumerate()
                .all(|(at, &byte)| byte == if (2_000..7_000).contains(&at) { 7 } else { 0 })
        );
    }

    #[test]
    fn a_wrong_word_is_not_reached() {
        let mut probe = Probe::of_this_process();
        probe.value ^= 1;
        assert!(Remote::open(std::process::id(), probe).is_none());
        assert!(Remote::open(0, Probe::of_this_process()).is_none());
        assert!(Remote::open(u32::MAX, Probe::of_this_process()).is_none());
        probe.address = 8;
        assert!(Remote::open(std::process::id(), probe).is_none());
    }
}
