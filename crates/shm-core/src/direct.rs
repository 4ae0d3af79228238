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
//! 4. What a side got by closing it may copy later.
//! 5. A side alone writes its half of the word, and knows what it has written ([`Claimant`]): anything else there is
//!    damage. If both sides add up what they know and that is the whole message, each block was given out once.
//!
//! # Memory that is wanted back
//!
//! **The receiver's** is written to by the sender. Whether it may, and is, says the [`Gate`], which tells what something
//! wrote over it from its states; the claims have no say in that. A receiver that has got its message closes the gate
//! too, unless the sender has said that it is through: damaged claims may have given it blocks that are there.
//!
//! **The sender's** is read by the receiver, which says that it is copying ([`Copying`]) before it claims, until it has
//! copied what it claimed. A sender that has closed the transfer and then seen the receiver pause has its memory back:
//! whatever that had taken is copied, and it takes nothing more. (Something that writes over the words of that makes
//! the receiver read what is not the message, as if it had written over the message.)
//!
//! # Memory ordering
//!
//! `direct-claim`: all changes are read-modify-writes with Release and Acquire: who closes after the other has claimed
//! sees that it is copying. `direct-copying`: that it no longer is (Release by that side, Acquire by the other) says
//! that its copies are over. `direct-gate`: see [`gate`]. What was copied is told by the layer above, through a ring.
//!
//! # Permission
//!
//! The system may refuse one process the memory of another, and a number of a process may mean another one in
//! another container. So [`Remote::open`] first reads a word whose value it knows.

use std::io;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::sync::{AtomicU32, AtomicU64, Ordering};

pub mod gate;

pub use gate::{Gate, Ticket};

/// The most blocks of one transfer.
pub const MAX_BLOCKS: u32 = 1 << 29;

const CLOSED: u32 = 1 << 31;

/// The shared words of one message under way. Zeroed memory is an open transfer, whose gate was never opened.
#[repr(C, align(64))]
pub struct Transfer {
    claims: AtomicU64,
    /// Whether the sender may write to the receiver's memory.
    pub gate: Gate,
}

/// From which end a side takes blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The receiver's, from the front.
    Front,
    /// The sender's, from the back.
    Back,
}

/// One side of a message, which knows what it has asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claimant {
    side: Side,
    /// Its half of the claims.
    half: u32,
}

/// A word of a transfer that no side can have written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DamagedTransfer {
    /// The claims.
    #[error("a direct message has claims {found:#x} where {expected:#x} are this side's")]
    Claims {
        /// The half of them that is this side's.
        found: u32,
        /// What this side has written there.
        expected: u32,
    },
    /// The gate.
    #[error("a direct message has a gate {found:#x}, which neither of its sides can have written")]
    Gate {
        /// The word.
        found: u64,
    },
}

impl Transfer {
    /// An open transfer, for use on the heap.
    pub fn new() -> Self {
        Self { claims: AtomicU64::new(0), gate: Gate::new() }
    }

    /// Makes the claims ready for another message; the other side is then told, through a ring.
    pub fn open(&self) {
        self.claims.store(0, Ordering::Relaxed);
    }

    /// How many of `total` blocks nobody has taken, at the time of the call.
    pub fn left(&self, total: u32) -> u32 {
        left(self.claims.load(Ordering::Relaxed), total)
    }

    /// Takes up to `wanted` of `total` blocks; empty if none are left.
    ///
    /// # Errors
    ///
    /// Something has written over the claims of this side.
    ///
    /// # Panics
    ///
    /// If there are more than [`MAX_BLOCKS`].
    pub fn claim(&self, by: &mut Claimant, wanted: u32, total: u32) -> Result<Range<u32>, DamagedTransfer> {
        let wanted = wanted.min(total);
        // SYNC direct-claim
        let before = self.claims.fetch_add(u64::from(wanted) << by.side.shift(), Ordering::AcqRel);
        by.granted(before, by.half.wrapping_add(wanted), wanted, total)
    }

    /// Takes all of `total` blocks that are left, for good; empty if none are left.
    ///
    /// # Errors
    ///
    /// Something has written over the claims of this side.
    ///
    /// # Panics
    ///
    /// If there are more than [`MAX_BLOCKS`].
    pub fn close(&self, by: &mut Claimant, total: u32) -> Result<Range<u32>, DamagedTransfer> {
        // SYNC direct-claim
        let before = self.claims.fetch_or(u64::from(CLOSED) << by.side.shift(), Ordering::AcqRel);
        by.granted(before, by.half | CLOSED, total, total)
    }
}

impl Claimant {
    /// One that has asked for nothing of its message.
    pub const fn new(side: Side) -> Self {
        Self { side, half: 0 }
    }

    /// What it gets that has asked for `wanted` blocks, which makes its half of the claims `after`. Whatever these say,
    /// the range lies within the blocks.
    fn granted(
        &mut self,
        claims: u64,
        after: u32,
        wanted: u32,
        total: u32,
    ) -> Result<Range<u32>, DamagedTransfer> {
        assert!(total <= MAX_BLOCKS, "{total} blocks");
        let expected = std::mem::replace(&mut self.half, after);
        let found = (claims >> self.side.shift()) as u32;
        if found != expected {
            return Err(DamagedTransfer::Claims { found, expected });
        }
        let granted = wanted.min(left(claims, total));
        let start = match self.side {
            Side::Front => found.min(total - granted),
            Side::Back => (total - granted).saturating_sub(found),
        };
        Ok(start..start + granted)
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
crate::fixed_layout!(Transfer { claims, gate });
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
            let mut sides = [Side::Front, Side::Back].map(Claimant::new);
            let mut given = vec![0; total as usize];
            let rest = [(true, total), (false, total)];
            for (back, wanted) in asks.into_iter().chain(rest) {
                let left = transfer.left(total);
                let blocks = transfer.claim(&mut sides[usize::from(back)], wanted, total).unwrap();
                prop_assert_eq!(blocks.len() as u32, wanted.min(left));
                blocks.for_each(|block| given[block as usize] += 1);
            }
            prop_assert!(given.iter().all(|&times| times == 1), "{given:?}");
        }

        /// Closing gives the rest, once, to one side.
        #[test]
        fn closing_takes_the_rest(total in 0..50u32, front in 0..60u32, back in 0..60u32, first_back: bool) {
            let transfer = Transfer::new();
            let mut sides = [Side::Front, Side::Back].map(Claimant::new);
            let pulled = transfer.claim(&mut sides[0], front, total).unwrap().len();
            let pushed = transfer.claim(&mut sides[1], back, total).unwrap().len();
            if first_back {
                sides.reverse();
            }
            let [first, second] = &mut sides;
            let rest = transfer.close(first, total).unwrap();
            prop_assert_eq!(rest.len() + pulled + pushed, total as usize);
            prop_assert!(rest.is_empty() || rest.start == pulled as u32);
            prop_assert!(transfer.close(second, total).unwrap().is_empty() && transfer.left(total) == 0);
            prop_assert!(transfer.claim(first, total, total).unwrap().is_empty());
        }

        /// Nonsense in the shared word is an error, or gives blocks that exist.
        #[test]
        fn a_damaged_word_gives_no_stray_block(
            claims: u64, own: bool, total in 0..=MAX_BLOCKS, wanted: u32, back: bool,
        ) {
            let transfer = Transfer::new();
            let mut claimant = Claimant::new(if back { Side::Back } else { Side::Front });
            if own {
                claimant.half = (claims >> claimant.side.shift()) as u32;
            }
            transfer.claims.store(claims, Ordering::Relaxed);
            match transfer.claim(&mut claimant, wanted, total) {
                Ok(blocks) => prop_assert!(blocks.start <= blocks.end && blocks.end <= total),
                Err(_) => prop_assert!(!own),
            }
        }

        /// Each bit of a side's half counts, whichever way it asks.
        #[test]
        fn damage_to_the_own_claims_is_an_error(asked in 0..50u32, bit in 0..32u32, back: bool, close: bool) {
            let transfer = Transfer::new();
            let mut claimant = Claimant::new(if back { Side::Back } else { Side::Front });
            transfer.claim(&mut claimant, asked, 40).unwrap();
            transfer.claims.fetch_xor(1 << bit << claimant.side.shift(), Ordering::Relaxed);
            let outcome =
                if close { transfer.close(&mut claimant, 40) } else { transfer.claim(&mut claimant, 1, 40) };
            let (expected, found) = (asked.min(40), asked.min(40) ^ 1 << bit);
            prop_assert_eq!(outcome, Err(DamagedTransfer::Claims { found, expected }));
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
