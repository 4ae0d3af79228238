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
//! 4. The receiver may copy before it claims: what it is not given the sender copies as well. It uses nothing that it
//!    has not claimed, so a sender that wants its memory back closes the transfer, and is done.
//! 5. The sender says that it is copying ([`Copying`]) before it claims, until it has copied what it claimed. What it got
//!    by closing it may copy later, if the receiver has not closed too: it looks after it has said that it is copying.
//!    So a receiver has its memory back once it has closed the transfer and then seen the sender pause.
//!
//! # Memory ordering
//!
//! `direct-claim`: all changes and the look of 5 are read-modify-writes with Release and Acquire: a receiver that closes
//! after the sender has claimed or looked sees that it is copying. `direct-copying`: that it no longer is (Release by
//! the sender, Acquire by the receiver) says that its copies are over. What was copied is told by the layer above,
//! through a ring.
//!
//! # Permission
//!
//! The system may refuse one process the memory of another, and a number of a process may mean another one in
//! another container. So [`Remote::open`] first reads a word whose value it knows.
//!
//! # Safety
//!
//! Trusted for cutting off of a piece what is copied, and for saying that a [`Transfer`] is plain shared memory.
#![allow(unsafe_code)]

use std::io;
use std::ops::Range;

use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// The most blocks of one transfer.
pub const MAX_BLOCKS: u32 = 1 << 29;

const CLOSED: u32 = 1 << 31;

/// The shared word of one message under way. Zeroed memory is an open transfer.
#[repr(C, align(64))]
pub struct Transfer(AtomicU64);

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
        Self(AtomicU64::new(0))
    }

    /// Makes the transfer ready for another message; the other side is then told, through a ring.
    pub fn open(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// How many of `total` blocks nobody has taken, at the time of the call.
    pub fn left(&self, total: u32) -> u32 {
        left(self.0.load(Ordering::Relaxed), total)
    }

    /// Takes up to `wanted` of `total` blocks for `side`; empty if none are left.
    ///
    /// # Panics
    ///
    /// If there are more than [`MAX_BLOCKS`].
    pub fn claim(&self, side: Side, wanted: u32, total: u32) -> Range<u32> {
        let wanted = wanted.min(total);
        // SYNC direct-claim
        let before = self.0.fetch_add(u64::from(wanted) << side.shift(), Ordering::AcqRel);
        granted(before, side, wanted, total)
    }

    /// Takes all of `total` blocks that are left for `side`, for good; empty if none are left.
    ///
    /// # Panics
    ///
    /// If there are more than [`MAX_BLOCKS`].
    pub fn close(&self, side: Side, total: u32) -> Range<u32> {
        // SYNC direct-claim
        let before = self.0.fetch_or(u64::from(CLOSED) << side.shift(), Ordering::AcqRel);
        granted(before, side, total, total)
    }

    /// Whether `side` has closed the transfer, asked while [`Copying`].
    pub fn is_closed(&self, side: Side) -> bool {
        // SYNC direct-claim: a load could be early.
        let claims = self.0.fetch_or(0, Ordering::AcqRel);
        (claims >> side.shift()) as u32 & CLOSED != 0
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
        let before = self.0.load(Ordering::Relaxed);
        // SYNC direct-copying: who sees the next copy begin knows that the one before is over.
        self.0.store(before.wrapping_add(1), Ordering::Release);
        let result = copy();
        // SYNC direct-copying
        self.0.store(before.wrapping_add(2), Ordering::Release);
        result
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

/// The most pieces of one call.
pub const MAX_PIECES: usize = 8;

/// Memory of this process and memory of another that is copied from or to it.
#[derive(Debug, Clone, Copy)]
pub struct Piece {
    /// Where it lies in this process.
    pub local: *mut u8,
    /// Its address in the other process.
    pub remote: u64,
    /// Bytes.
    pub length: usize,
}

impl Piece {
    /// What is left of it after its first bytes.
    #[cfg(target_os = "linux")]
    fn after(self, bytes: usize) -> Self {
        let Self { local, remote, length } = self;
        let bytes = bytes.min(length);
        Self {
            local: local.wrapping_add(bytes),
            remote: remote.wrapping_add(bytes as u64),
            length: length - bytes,
        }
    }
}

#[cfg(target_os = "linux")]
impl Remote {
    /// The memory of process `pid`, if the system lets this process at it and it holds `probe`.
    pub fn open(pid: u32, probe: Probe) -> Option<Self> {
        let remote = Self { pid: i32::try_from(pid).ok().filter(|&pid| pid > 0)? };
        let mut word = [0; size_of::<u64>()];
        let piece = Piece { local: word.as_mut_ptr(), remote: probe.address, length: word.len() };
        // SAFETY: `word` is a local.
        unsafe { remote.read(&[piece]).ok()? };
        (u64::from_ne_bytes(word) == probe.value).then_some(remote)
    }

    /// Copies pieces, [`MAX_PIECES`] at most, from the other process.
    ///
    /// # Errors
    ///
    /// The process is gone (`ESRCH`), or its memory is not there or not open to this one. Some may be copied then.
    ///
    /// # Safety
    ///
    /// The local end of every piece is valid for writes, and nothing else is done with it meanwhile.
    pub unsafe fn read(&self, pieces: &[Piece]) -> io::Result<()> {
        // SAFETY: the caller's promise, of which `copy_all` passes on nothing but parts.
        copy_all(pieces, |pieces| unsafe { crate::sys::memory::read(self.pid, pieces) })
    }

    /// Copies pieces, [`MAX_PIECES`] at most, to the other process.
    ///
    /// # Errors
    ///
    /// As [`Remote::read`].
    ///
    /// # Safety
    ///
    /// The local end of every piece is valid for reads. The other process has offered the remote end to be written
    /// to, and does nothing else with it until it is told that this is over.
    pub unsafe fn write(&self, pieces: &[Piece]) -> io::Result<()> {
        // SAFETY: the caller's promise, of which `copy_all` passes on nothing but parts.
        copy_all(pieces, |pieces| unsafe { crate::sys::memory::write(self.pid, pieces) })
    }
}

/// Calls `copy` until everything is copied. The system may stop after any byte; mostly it does not.
#[cfg(target_os = "linux")]
fn copy_all(pieces: &[Piece], copy: impl Fn(&[Piece]) -> io::Result<usize>) -> io::Result<()> {
    assert!(pieces.len() <= MAX_PIECES, "{} pieces", pieces.len());
    let mut copied = copy(pieces)?;
    for &piece in pieces {
        let mut rest = piece.after(copied);
        copied -= piece.length - rest.length;
        while rest.length > 0 {
            match copy(&[rest])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                bytes => rest = rest.after(bytes),
            }
        }
    }
    Ok(())
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
    ///
    /// # Safety
    ///
    /// Touches nothing.
    pub unsafe fn read(&self, _pieces: &[Piece]) -> io::Result<()> {
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
    pub unsafe fn write(&self, _pieces: &[Piece]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(not(loom))]
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
            transfer.0.store(claims, Ordering::Relaxed);
            let side = if back { Side::Back } else { Side::Front };
            let blocks = transfer.claim(side, wanted, total);
            prop_assert!(blocks.start <= blocks.end && blocks.end <= total);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_own_process_can_be_reached() {
        let remote = Remote::open(std::process::id(), Probe::of_this_process()).unwrap();
        let (mut there, mut data, mut back) = (vec![0u8; 10_000], vec![7u8; 5_000], vec![1u8; 10_000]);
        let there = there.as_mut_ptr().expose_provenance() as u64;
        let piece =
            |local: &mut [u8], remote| Piece { local: local.as_mut_ptr(), remote, length: local.len() };
        let (first, second) = data.split_at_mut(2_000);
        let pieces = [piece(first, there + 3_000), piece(second, there)];
        // SAFETY: the vectors are left alone meanwhile.
        unsafe {
            remote.write(&pieces).unwrap();
            remote.read(&[piece(&mut back, there)]).unwrap();
        }
        assert!(back.iter().enumerate().all(|(at, &byte)| byte == if at < 5_000 { 7 } else { 0 }));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn copies_that_stop_early_go_on() {
        let mut bytes: Vec<u8> = (0..100).collect();
        let local = bytes.as_mut_ptr();
        let piece =
            |start: usize, length| Piece { local: local.wrapping_add(start), remote: start as u64, length };
        let (log, pieces) =
            (std::cell::RefCell::new(Vec::new()), [piece(0, 10), piece(10, 30), piece(40, 5)]);
        let seven = |pieces: &[Piece]| {
            let (mut left, total) = (7, pieces.iter().map(|piece| piece.length).sum::<usize>().min(7));
            for piece in pieces {
                let length = piece.length.min(left);
                assert_eq!(local.wrapping_add(piece.remote as usize), piece.local);
                log.borrow_mut().extend(piece.remote..piece.remote + length as u64);
                left -= length;
            }
            Ok(total)
        };
        copy_all(&pieces, seven).unwrap();
        assert!(log.into_inner().into_iter().eq(0..45));
        assert!(copy_all(&pieces, |_| Ok(0)).is_err());
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
