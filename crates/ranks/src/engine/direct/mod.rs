//! Long messages that both sides copy straight from one process's memory to the other's (`shm_core::direct`).
//!
//! ```text
//! pull.rs   the receiver's side
//! push.rs   the sender's side
//!
//! sender                         receiver
//! OFFER address, transfer  ───►  matches it
//!                          ◄───  INVITE address            where there is something to share
//! pushes from the back           pulls from the front      a turn at a time, until nothing is left
//!                          ◄───  PULLED blocks             always, and once: it pulls no more
//! PUSHED blocks            ───►                            if it has pushed any
//! ```
//!
//! 1. The sender's buffer and its transfer belong to the message until PULLED; the receiver's buffer does until all
//!    blocks are there. Before PULLED the receiver may read the sender's memory at any time; it uses only what it has
//!    claimed after that.
//! 2. Either buffer can be taken back. The sender closes the transfer: what the receiver has not claimed it pushes from a
//!    copy, after PULLED. The receiver closes it and waits for a copy that the sender has begun; after PULLED, when the
//!    transfer is not its business any more, it waits for PUSHED.
//! 3. What one side has not pulled the other pushes, once it is invited: each knows from its own count and the other's
//!    cell when all is there. A receiver that invites does so before PULLED; if it does not, it wants no more.
//! 4. A receiver that does not reach the sender's memory answers MATCH: then the message goes through the pool.

mod pull;
mod push;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use std::{io, ptr, thread};

use shm_core::Backoff;
use shm_core::direct::{MAX_BLOCKS, MAX_PIECES, Piece, Transfer};

pub(crate) use self::pull::Pull;
pub(super) use self::push::Push;
use super::{Engine, OperationId};
use crate::error::Result;
use crate::job::Job;
use crate::layout::TRANSFERS;

/// What is claimed at once.
const BLOCK_BYTES: usize = 4 << 10;
/// The most blocks of one turn, 512 KiB: whatever else there is to do gets its turn in between.
const BLOCKS_PER_TURN: u32 = 128;
/// Messages of so many blocks are worth the sender's help.
const SHARED_BLOCKS: u32 = 5;
/// Looks and yields, and then the time between two looks, while the other side finishes a copy.
const SPINS: u32 = 1000;
const YIELDS: u32 = 10;
const PAUSE: Duration = Duration::from_micros(50);

/// What this rank copies directly.
pub(super) struct Direct {
    /// Messages of so many bytes or more.
    from: u64,
    /// Both sides have processors of their own: sharing the work saves time.
    share: bool,
    /// This rank's transfers that no message uses; `None` before its first offer.
    free: Option<Vec<u32>>,
    /// Messages that are pulled, by sender and number, in the order in which they were matched.
    pulls: VecDeque<(usize, u32)>,
    /// Sends that this rank is invited to push.
    pushes: Vec<OperationId>,
}

/// Where a message lies, as its sender says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) message: u32,
    transfer: u32,
    address: u64,
}

impl Offer {
    /// The payload of an OFFER cell.
    fn to_bytes(self, job: &Job) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..4].copy_from_slice(&self.message.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.transfer.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.address.to_le_bytes());
        bytes[16..].copy_from_slice(&seal(job, self.message, self.address).to_le_bytes());
        bytes
    }

    /// Reads such a payload; `None` if it is none.
    pub(super) fn from_bytes(bytes: &[u8], job: &Job) -> Option<Self> {
        let word = |range: Range<usize>| Some(u32::from_le_bytes(bytes.get(range)?.try_into().ok()?));
        let long = |range: Range<usize>| Some(u64::from_le_bytes(bytes.get(range)?.try_into().ok()?));
        let offer = Self { message: word(0..4)?, transfer: word(4..8)?, address: long(8..16)? };
        let genuine = long(16..24)? == seal(job, offer.message, offer.address);
        (genuine && (offer.transfer as usize) < TRANSFERS).then_some(offer)
    }
}

/// Tells an address that a rank wrote from one that something wrote over it by accident.
pub(super) fn seal(job: &Job, message: u32, address: u64) -> u64 {
    let key = job.header().job.load(Relaxed);
    (address ^ key).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) ^ u64::from(message)
}

impl Direct {
    pub(super) fn new(from: u64, share: bool) -> Self {
        Self { from, share, free: None, pulls: VecDeque::new(), pushes: Vec::new() }
    }

    /// Whether there is nothing to copy.
    #[inline]
    pub(super) fn is_idle(&self) -> bool {
        self.pulls.is_empty() && self.pushes.is_empty()
    }

    /// Whether this rank needs the memory of no sender any more.
    pub(super) fn has_pulled_everything(&self) -> bool {
        self.pulls.is_empty()
    }

    /// Gives back what a send had for being pushed.
    pub(super) fn release(&mut self, id: OperationId, push: &Push, transfers: &[Transfer]) {
        self.pushes.retain(|&other| other != id);
        transfers[push.transfer() as usize].open();
        self.free.get_or_insert_default().push(push.transfer());
    }

    /// Ends the turns of a message that is pulled; false if it is not.
    fn forget_pull(&mut self, source: usize, message: u32) -> bool {
        let at = self.pulls.iter().position(|&pull| pull == (source, message));
        at.and_then(|at| self.pulls.remove(at)).is_some()
    }

    /// The rank has left: nothing of it can be pulled.
    pub(super) fn forget(&mut self, rank: usize) {
        self.pulls.retain(|&(source, _)| source != rank);
    }
}

impl Engine {
    /// One turn of what is to be copied. What is to be received comes first: somebody else may push as well.
    #[cold]
    pub(super) fn copy_directly(&mut self) -> Result<()> {
        if self.direct.pulls.is_empty() { self.push() } else { self.pull() }
    }

    /// The end of a process is told by its departure; nothing else may happen to memory that has been reached once.
    fn copy_failed(&mut self, rank: usize, error: &io::Error) -> Result<()> {
        match error.raw_os_error() {
            Some(libc::ESRCH) => Ok(()),
            _ => Err(self.damaged(format!("the memory of rank {rank} cannot be reached any more: {error}"))),
        }
    }

    /// Blocks until `rank` has finished the copy that it was at, or has left.
    fn await_pause(&self, rank: usize) {
        let copying = &self.job.control(rank).copying;
        let earlier = copying.state();
        let mut backoff = Backoff::new(SPINS, YIELDS);
        while !copying.has_paused(earlier) && self.departure(rank).is_none() {
            if !backoff.snooze() {
                thread::sleep(PAUSE);
            }
        }
    }
}

/// What is copied of one message in one turn.
#[derive(Clone, Copy)]
struct Turn {
    message: u32,
    blocks: u32,
    /// Of length 0 if nobody wants it.
    piece: Piece,
}

/// Copies what there is to be copied, by one call.
fn copy_turns(turns: &[Option<Turn>], copy: impl FnOnce(&[Piece]) -> io::Result<()>) -> io::Result<()> {
    let mut pieces = [Piece { local: ptr::null_mut(), remote: 0, length: 0 }; MAX_PIECES];
    let wanted = turns.iter().flatten().filter(|turn| turn.piece.length > 0);
    let count = pieces.iter_mut().zip(wanted).map(|(piece, turn)| *piece = turn.piece).count();
    if count == 0 { Ok(()) } else { copy(&pieces[..count]) }
}

fn blocks_of(length: u64) -> Option<u32> {
    u32::try_from(length.div_ceil(BLOCK_BYTES as u64)).ok().filter(|&blocks| blocks <= MAX_BLOCKS)
}

/// The bytes of some blocks of a message.
fn bytes_of(blocks: &Range<u32>, length: u64) -> Range<usize> {
    let end = (blocks.end as usize * BLOCK_BYTES).min(length as usize);
    (blocks.start as usize * BLOCK_BYTES).min(end)..end
}

/// The most blocks of a message that its sender takes: the receiver takes all that is left.
fn senders_share(blocks: u32) -> u32 {
    blocks / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_a_message() {
        for length in [1, BLOCK_BYTES as u64, BLOCK_BYTES as u64 + 1, 10 * BLOCK_BYTES as u64 - 7] {
            let blocks = blocks_of(length).unwrap();
            assert_eq!(bytes_of(&(0..blocks), length), 0..length as usize);
            assert_eq!(bytes_of(&(0..1), length).end, bytes_of(&(1..blocks), length).start);
        }
        assert_eq!(blocks_of(u64::MAX), None);
    }

    #[test]
    fn an_offer_is_read_as_it_was_written_or_not_at_all() {
        let job = crate::launch::in_process(1).unwrap();
        let offer = Offer { message: 3, transfer: TRANSFERS as u32 - 1, address: 0x7fff_1234_5678_9abc };
        let bytes = offer.to_bytes(&job);
        assert_eq!(Offer::from_bytes(&bytes, &job), Some(offer));
        assert_eq!(Offer::from_bytes(&bytes[..23], &job), None);
        for at in [0, 9, 15, 20] {
            let mut damaged = bytes;
            damaged[at] ^= 1;
            assert_eq!(Offer::from_bytes(&damaged, &job), None, "byte {at}");
        }
        let stray = Offer { transfer: TRANSFERS as u32, ..offer };
        assert_eq!(Offer::from_bytes(&stray.to_bytes(&job), &job), None);
    }
}
