//! The gate of a message: whether its sender may write to the receiver's memory, and whether it is doing so.
//!
//! # The problem
//!
//! A receiver may want its memory back while the sender copies into it. The word that says who has it lies in shared
//! memory, where something else may write over it. Then an answer that is not sure is worse than none: the sender
//! would write to what the receiver uses for something else by now.
//!
//! # The protocol
//!
//! ```text
//!                the sender begins     and ends a turn
//!   open, idle  ───►  open, writing  ───►  open, idle
//!       │  the receiver closes │
//!       ▼                      ▼
//! closed, idle  ◄───  closed, writing
//!                the sender ends its turn
//! ```
//!
//! 1. The sender opens the gate for a message before the receiver hears of that. Messages that use the same gate have
//!    numbers that grow, and a state belongs to one of them.
//! 2. Each step is a compare-and-swap of the whole word, from a state that its side expects. So the steps of both are
//!    in one order, in which each sees all of the other's before it.
//! 3. The sender writes only between two steps of its own. If the first finds the gate closed, it does not write.
//! 4. The receiver has its memory back once it has seen *closed, idle*: no step leads from there to writing. Or a state
//!    of a later message: only the sender opens, and it is not writing then. It will not write for this message again,
//!    as the first step of a turn expects this message's state.
//! 5. A side that finds anything else does nothing more. So after the gate was written over the sender begins no
//!    turn. It may be in one, and nobody can tell: the receiver must not go on with its memory.
//!
//! # What was written over
//!
//! A state has 32 bits of the message's number and a seal of 32 bits, made from that number and from what only the two
//! sides' transfer has. The states of one message differ in half of the seal's bits, in 4 of every 8 bits: no write that
//! is narrower than the seal makes one of another. A stray word is taken for a state of this message or of a later one
//! (half of the numbers) once in 2^31 times.
//!
//! # Memory ordering
//!
//! `direct-gate`: the sender's step out of its turn, and its opening for a later message, release what it has copied;
//! the receiver acquires it.

use super::DamagedTransfer;
use crate::mix::mix;
use crate::sync::{AtomicU64, Ordering};

/// What the seal of a message's first state, *open and idle*, is combined with in its other states.
const OPEN_WRITING: u64 = 0x5555_5555;
const CLOSED_IDLE: u64 = 0xaaaa_aaaa;
const CLOSED_WRITING: u64 = 0xffff_ffff;

/// The gate of the messages that use a transfer, one after the other. Zeroed memory is one that was never opened.
///
/// A line of its own: a sender whose memory is not wanted back has it for itself.
#[repr(C, align(64))]
pub struct Gate(AtomicU64);

/// Which message a gate is asked about: both sides make it from what they know of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// What the seals of all messages of the gate are made from.
    base: u64,
    /// The state *open and idle*.
    idle: u64,
}

impl Ticket {
    /// For message number `serial` of the gate; only the lower half of the number counts. `base` is the same for all
    /// messages of the gate, and another one for other gates.
    pub const fn new(base: u64, serial: u64) -> Self {
        let serial = serial & 0xffff_ffff;
        Self { base, idle: serial << 32 | mix(base, serial) & 0xffff_ffff }
    }

    /// Whether `word` is a state of a later message.
    fn is_before(self, word: u64) -> bool {
        let serial = word >> 32;
        let ahead = (serial as u32).wrapping_sub((self.idle >> 32) as u32);
        let state = word ^ Self::new(self.base, serial).idle;
        (1..1 << 31).contains(&ahead) && matches!(state, 0 | OPEN_WRITING | CLOSED_IDLE | CLOSED_WRITING)
    }
}

impl Gate {
    /// A gate that was never opened, for use on the heap.
    pub fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// The sender, which has written all that it writes for messages before: opens the gate for another one.
    pub fn open(&self, ticket: Ticket) {
        // SYNC direct-gate
        #[cfg(not(loom))]
        self.0.store(ticket.idle, Ordering::Release);
        // The model takes a store and a swap of what was there before it for being in any order.
        #[cfg(loom)]
        self.0.swap(ticket.idle, Ordering::Release);
    }

    /// The sender's turn: runs `write`, unless the receiver has closed the gate, which is `None`.
    ///
    /// # Errors
    ///
    /// Something has written over the gate. Then this has run `write` or not; it must not be called for this message
    /// again.
    pub fn during<R>(&self, ticket: Ticket, write: impl FnOnce() -> R) -> Result<Option<R>, DamagedTransfer> {
        let damaged = |found| DamagedTransfer::Gate { found };
        match self.step(ticket.idle, ticket.idle ^ OPEN_WRITING) {
            Ok(()) => {}
            Err(found) if found == ticket.idle ^ CLOSED_IDLE => return Ok(None),
            Err(found) => return Err(damaged(found)),
        }
        let result = write();
        match self.step(ticket.idle ^ OPEN_WRITING, ticket.idle) {
            Err(found) if found == ticket.idle ^ CLOSED_WRITING => {
                self.step(found, ticket.idle ^ CLOSED_IDLE).map_err(damaged)?;
            }
            outcome => outcome.map_err(damaged)?,
        }
        Ok(Some(result))
    }

    /// The receiver wants its memory back; whether it has it. If not, it asks again: the sender is in a turn.
    ///
    /// # Errors
    ///
    /// Something has written over the gate: nobody knows whether the sender is in a turn.
    pub fn close(&self, ticket: Ticket) -> Result<bool, DamagedTransfer> {
        // SYNC direct-gate
        let found = self.0.load(Ordering::Acquire);
        match found ^ ticket.idle {
            CLOSED_IDLE => Ok(true),
            CLOSED_WRITING => Ok(false),
            0 => Ok(self.step(found, ticket.idle ^ CLOSED_IDLE).is_ok()),
            OPEN_WRITING => {
                // Whatever came of it, the next look sees.
                let _ = self.step(found, ticket.idle ^ CLOSED_WRITING);
                Ok(false)
            }
            _ if ticket.is_before(found) => Ok(true),
            _ => Err(DamagedTransfer::Gate { found }),
        }
    }

    /// Goes from one state to another; what else there is if it is not the first.
    fn step(&self, from: u64, to: u64) -> Result<(), u64> {
        // SYNC direct-gate
        self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).map(drop)
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(not(loom))]
crate::fixed_layout!(Gate { 0 });

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STATES: [u64; 4] = [0, OPEN_WRITING, CLOSED_IDLE, CLOSED_WRITING];

    /// What the receiver of the message makes of a gate that says `word`, and what the sender does.
    fn read(
        word: u64,
        ticket: Ticket,
    ) -> (Result<bool, DamagedTransfer>, Result<Option<()>, DamagedTransfer>) {
        let gate = |word| Gate(AtomicU64::new(word));
        (gate(word).close(ticket), gate(word).during(ticket, || ()))
    }

    #[test]
    fn who_has_the_memory() {
        let ticket = Ticket::new(3, 5);
        let gate = Gate::new();
        assert!(gate.close(ticket).is_err() && gate.during(ticket, || ()).is_err());
        gate.open(ticket);
        assert_eq!(gate.during(ticket, || 7), Ok(Some(7)));
        assert_eq!(
            gate.during(ticket, || [gate.close(ticket), gate.close(ticket)]),
            Ok(Some([Ok(false); 2]))
        );
        assert_eq!(gate.during(ticket, || 7), Ok(None));
        assert_eq!(gate.close(ticket), Ok(true));
    }

    #[test]
    fn one_message_after_the_other() {
        let (ticket, later) = (Ticket::new(3, 5), Ticket::new(3, 7));
        let gate = Gate::new();
        gate.open(later);
        assert_eq!((gate.close(ticket), gate.during(later, || 7)), (Ok(true), Ok(Some(7))));
        assert_eq!(gate.during(later, || gate.close(ticket)), Ok(Some(Ok(true))));
        assert!(gate.during(ticket, || ()).is_err());
        gate.open(ticket);
        assert!(gate.close(later).is_err());
    }

    #[test]
    fn damage_within_a_turn_stays() {
        let ticket = Ticket::new(3, 5);
        let gate = Gate::new();
        gate.open(ticket);
        assert!(gate.during(ticket, || gate.open(Ticket::new(4, 5))).is_err());
        assert!(gate.during(ticket, || ()).is_err() && gate.close(ticket).is_err());
    }

    #[test]
    fn states_differ_in_each_byte_of_the_seal() {
        let pairs = STATES.iter().flat_map(|one| STATES.map(|other| one ^ other)).filter(|&pair| pair != 0);
        for byte in pairs.flat_map(|pair| (pair as u32).to_le_bytes()) {
            assert!(byte.count_ones() >= 4, "{byte:#x}");
        }
    }

    proptest! {
        #[test]
        fn a_word_with_some_bits_of_another_is_no_state(
            base: u64, serial: u64, at in 0..4usize, ahead in 0..3u64,
            bit in 0..64u32, noise: u64, width in 1..32u32, place: u32,
        ) {
            let ticket = Ticket::new(base, serial);
            let genuine = Ticket::new(base, serial.wrapping_add(ahead)).idle ^ STATES[at];
            prop_assert!(read(genuine, ticket).0.is_ok());
            let flipped = genuine ^ 1 << bit;
            // Narrower than the seal, at any place of it.
            let stray = (noise & ((1 << width) - 1)) << (place % (33 - width));
            for word in [flipped, genuine ^ stray].into_iter().filter(|&word| word != genuine) {
                let (receiver, sender) = read(word, ticket);
                prop_assert!(receiver.is_err() && sender.is_err(), "{word:#x} {receiver:?} {sender:?}");
            }
        }

        #[test]
        fn a_random_word_is_no_state(base: u64, serial: u64, word: u64, half: bool) {
            let ticket = Ticket::new(base, serial);
            let word = if half { ticket.idle & !0xffff_ffff | word & 0xffff_ffff } else { word };
            let (receiver, sender) = read(word, ticket);
            prop_assert!(receiver.is_err() && sender.is_err(), "{word:#x} {receiver:?} {sender:?}");
        }

        #[test]
        fn a_gate_of_another_transfer_is_none_of_this_one(base: u64, other: u64, serial: u64, ahead in 0..9u64, at in 0..4usize) {
            prop_assume!(base != other);
            let word = Ticket::new(other, serial.wrapping_add(ahead)).idle ^ STATES[at];
            let (receiver, sender) = read(word, Ticket::new(base, serial));
            prop_assert!(receiver.is_err() && sender.is_err());
        }
    }
}
