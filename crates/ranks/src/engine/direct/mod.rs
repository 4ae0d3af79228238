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
//! PUSHED blocks            ───►                            if it has pushed any: it pushes no more
//! ```
//!
//! 1. The sender's buffer and its transfer belong to the message until PULLED; the receiver's buffer does until all
//!    blocks are there. Either can be taken back before: then its owner claims the rest, and waits for the copies that
//!    the other side has begun.
//! 2. What one side has not pulled the other pushes, once it is invited: each knows from its own count and the other's
//!    cell when all is there. A receiver that invites does so before PULLED; if it does not, it wants no more.
//! 3. A receiver that does not reach the sender's memory answers MATCH: then the message goes through the pool.
//! 4. A receiver that has invited lets go of its buffer, on whatever path, only after PUSHED, or after it has closed the
//!    gate (`close_gate`): words of shared memory that something may have written over decide nothing about it. Where
//!    even the gate is damaged, the process ends with its buffer.

#[cfg(test)]
mod given_back;
mod pull;
mod push;

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use shm_core::direct::{DamagedTransfer, MAX_BLOCKS, Ticket, Transfer};
use shm_core::mix;

pub(crate) use self::pull::Pull;
pub(super) use self::push::Push;
use super::{Engine, OperationId};
use crate::envelope::OFFER;
use crate::error::Result;
use crate::job::Job;
use crate::layout::TRANSFERS;

/// What is claimed at once.
pub(crate) const BLOCK_BYTES: usize = 16 << 10;
/// The most blocks of one turn: whatever else there is to do gets its turn in between.
const BLOCKS_PER_TURN: u32 = 32;
/// Messages of so many blocks are worth the sender's help.
const SHARED_BLOCKS: u32 = 2;
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
    /// The job's number, read once: what happens to the segment later changes no seal.
    job: u64,
    /// This rank's transfers that no message uses; `None` before its first offer.
    free: Option<Vec<u32>>,
    /// Messages that are pulled, by sender and number, in the order in which they were matched.
    pulls: VecDeque<(usize, u32)>,
    /// Sends that this rank is invited to push.
    pushes: Vec<OperationId>,
    /// Offers made so far.
    offers: u64,
}

/// What came of one turn of a message.
type Turn = std::result::Result<io::Result<()>, DamagedTransfer>;

/// Where a message lies, as its sender says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) message: u32,
    transfer: u32,
    address: u64,
    /// Grows by one with each offer of the sender: numbers of messages and transfers are used again.
    serial: u64,
}

/// Bytes of the payload of an OFFER cell.
pub(super) const OFFER_BYTES: usize = 32;

impl Offer {
    /// The payload of an OFFER cell.
    fn to_bytes(self, key: Key) -> [u8; OFFER_BYTES] {
        let mut bytes = [0; OFFER_BYTES];
        bytes[..4].copy_from_slice(&self.message.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.transfer.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.address.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.serial.to_le_bytes());
        bytes[24..].copy_from_slice(&key.seal(OFFER, self.message, self.address).to_le_bytes());
        bytes
    }

    /// Reads the payload of an OFFER cell of the sender with this [`Direct::origin`], of a message of `length` bytes;
    /// `None` if it is none.
    pub(super) fn from_bytes(bytes: &[u8], origin: u64, length: u64) -> Option<(Self, Key)> {
        let word = |range: Range<usize>| Some(u32::from_le_bytes(bytes.get(range)?.try_into().ok()?));
        let long = |range: Range<usize>| Some(u64::from_le_bytes(bytes.get(range)?.try_into().ok()?));
        let (message, transfer) = (word(0..4)?, word(4..8)?);
        let offer = Self { message, transfer, address: long(8..16)?, serial: long(16..24)? };
        let key = offer.key(origin, length);
        let genuine = long(24..OFFER_BYTES)? == key.seal(OFFER, message, offer.address);
        (genuine && (transfer as usize) < TRANSFERS).then_some((offer, key))
    }

    /// What the cells of this message are sealed with.
    fn key(&self, origin: u64, length: u64) -> Key {
        Key([self.serial, self.transfer.into(), length].into_iter().fold(origin, mix))
    }

    /// What the gate of this message knows it by.
    fn ticket(&self, origin: u64) -> Ticket {
        Ticket::new(origin ^ u64::from(self.transfer) << 32, self.serial)
    }
}

/// What both sides of one message know of it, as a number. All cells of direct messages are sealed with it: an address
/// or a count that something wrote over by accident, or that belongs to an earlier message, is told from one that the
/// other side wrote for this one. Else the sender would write where the receiver has other things by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key(u64);

impl Key {
    /// The seal of a cell of this kind that says `value`.
    pub(super) fn seal(self, kind: u16, message: u32, value: u64) -> u64 {
        mix(mix(self.0, u64::from(kind) << 32 | u64::from(message)), value)
    }

    /// Whether `source` can have written a cell of this kind that says `value`.
    fn check(
        self,
        seal: u64,
        kind: u16,
        source: usize,
        message: u32,
        value: u64,
    ) -> std::result::Result<(), String> {
        let genuine = seal == self.seal(kind, message, value);
        genuine.then_some(()).ok_or_else(|| {
            format!(
                "a cell of kind {kind} from rank {source} on message {message} that it cannot have written"
            )
        })
    }
}

impl Direct {
    pub(super) fn new(job: &Job, share: bool) -> Self {
        let (from, free, pulls, pushes) = (job.direct_from(), None, VecDeque::new(), Vec::new());
        let job = job.header().job.load(Relaxed);
        Self { from, share, job, free, pulls, pushes, offers: 0 }
    }

    /// Whether a message of `length` bytes is copied directly.
    pub(super) fn serves(&self, length: u64) -> bool {
        length >= self.from
    }

    /// What the sender at `place` makes keys and tickets from.
    pub(super) fn origin(&self, place: usize) -> u64 {
        self.job ^ (place as u64) << 48
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

    /// Goes on with the transfers that `before` had, when no message uses one any more.
    pub(super) fn take_over(&mut self, before: &mut Self) {
        self.free = before.free.take();
        self.offers = before.offers;
        self.job = before.job;
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
        match self.direct.pulls.front() {
            Some(&(source, message)) => self.pull(source, message),
            None => self.push(),
        }
    }

    /// A turn with `rank` has not come to its end. That of a process is told by its departure; nothing else may happen to
    /// memory that has been reached once.
    fn turn_failed(&mut self, rank: usize, turn: Turn) -> Result<()> {
        match turn {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            Ok(Err(error)) => {
                Err(self.damaged(format!("the memory of rank {rank} cannot be reached any more: {error}")))
            }
            Err(damage) => Err(self.damaged(format!("{damage} (with rank {rank})"))),
        }
    }
}

fn blocks_of(length: u64) -> Option<u32> {
    u32::try_from(length.div_ceil(BLOCK_BYTES as u64)).ok().filter(|&blocks| blocks <= MAX_BLOCKS)
}

/// The bytes of some blocks of a message.
fn bytes_of(blocks: &Range<u32>, length: u64) -> Range<usize> {
    let end = (blocks.end as usize * BLOCK_BYTES).min(length as usize);
    (blocks.start as usize * BLOCK_BYTES).min(end)..end
}

/// How much to take of a message that both sides copy: each a half, then halves of what is left, so that both end at
/// about the same time.
fn fair_share(mine: u32, blocks: u32, transfer: &Transfer) -> u32 {
    let half = blocks.div_ceil(2);
    let share = if mine < half { half - mine } else { transfer.left(blocks).div_ceil(2) };
    share.clamp(1, BLOCKS_PER_TURN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{INVITE, PULLED};

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
    fn a_seal_belongs_to_one_cell_of_one_message() {
        let offer = Offer { message: 3, transfer: 5, address: 0x7fff_0000, serial: 7 };
        let key = offer.key(1, 100_000);
        let seal = key.seal(INVITE, 3, 0x1234_5000);
        let check = |key: Key, kind, message, value| key.check(seal, kind, 1, message, value);
        assert_eq!(check(key, INVITE, 3, 0x1234_5000), Ok(()));
        assert!(check(key, PULLED, 3, 0x1234_5000).is_err());
        assert!(check(key, INVITE, 4, 0x1234_5000).is_err());
        assert!(check(key, INVITE, 3, 0x1234_6000).is_err());
        // The same numbers come again with later messages.
        let others = [
            Offer { serial: 8, ..offer }.key(1, 100_000),
            Offer { transfer: 6, ..offer }.key(1, 100_000),
            offer.key(2, 100_000),
            offer.key(1, 100_001),
        ];
        others.into_iter().for_each(|other| assert!(check(other, INVITE, 3, 0x1234_5000).is_err()));
    }

    #[test]
    fn an_offer_is_read_as_it_was_written_or_not_at_all() {
        let (origin, length) = (2, 100_000);
        let read = |bytes: &[u8]| Offer::from_bytes(bytes, origin, length);
        let transfer = TRANSFERS as u32 - 1;
        let offer = Offer { message: 3, transfer, address: 0x7fff_1234_5678_9abc, serial: 7 };
        let key = offer.key(origin, length);
        let bytes = offer.to_bytes(key);
        assert_eq!(read(&bytes), Some((offer, key)));
        assert_eq!(read(&bytes[..OFFER_BYTES - 1]), None);
        for bit in 0..8 * OFFER_BYTES {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&damaged), None, "bit {bit}");
        }
        assert_eq!(Offer::from_bytes(&bytes, origin, length - 1), None);
        assert_eq!(Offer::from_bytes(&bytes, origin + 1, length), None);
        let stray = Offer { transfer: TRANSFERS as u32, ..offer };
        assert_eq!(read(&stray.to_bytes(stray.key(origin, length))), None);
    }
}
