//! The claims and the gate of the direct lane under every interleaving of two or three threads.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p shm-core --release --test loom_direct`
#![cfg(loom)]
#![allow(unsafe_code)]

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use shm_core::direct::{Claimant, Copying, Side, Ticket, Transfer};

const BLOCKS: u32 = 3;

/// The first message, and the next one that uses the same transfer.
const FIRST: Ticket = Ticket::new(5, 1);
const SECOND: Ticket = Ticket::new(5, 2);
/// What its gate never says.
const DAMAGE: Ticket = Ticket::new(6, 1);

/// Memory that is copied: every block says how often it was.
struct Memory {
    transfer: Transfer,
    receiver: Copying,
    blocks: Vec<UnsafeCell<u32>>,
}

impl Memory {
    fn new() -> Arc<Self> {
        let blocks = (0..BLOCKS).map(|_| UnsafeCell::new(0)).collect();
        let memory = Self { transfer: Transfer::new(), receiver: Copying::new(), blocks };
        memory.transfer.gate.open(FIRST);
        Arc::new(memory)
    }

    /// Takes and copies one block, if there is one left.
    fn copy(&self, claimant: &mut Claimant) -> u32 {
        let claim = self.transfer.claim(claimant, 1, BLOCKS).unwrap();
        claim.clone().for_each(|block| self.touch(block));
        claim.len() as u32
    }

    fn touch(&self, block: u32) {
        // SAFETY: loom reports overlapping accesses.
        self.blocks[block as usize].with_mut(|count| unsafe { *count += 1 });
    }

    fn touch_all(&self) {
        (0..BLOCKS).for_each(|block| self.touch(block));
    }

    /// The sender wants its memory back: the number of blocks that it has taken for that.
    fn take_back(&self, sender: &mut Claimant) -> u32 {
        let rest = self.transfer.close(sender, BLOCKS).unwrap().len() as u32;
        let state = self.receiver.state();
        while !self.receiver.has_paused(state) {
            thread::yield_now();
        }
        rest
    }

    /// The receiver wants its memory back; whether it has got it, or else the gate is damaged.
    fn close_gate(&self) -> bool {
        loop {
            match self.transfer.gate.close(FIRST) {
                Ok(true) => return true,
                Ok(false) => thread::yield_now(),
                Err(_) => return false,
            }
        }
    }

    /// Copies until nothing is left; the number of blocks copied.
    fn copy_all(&self, side: Side) -> u32 {
        let mut claimant = Claimant::new(side);
        let mut mine = 0;
        while self.transfer.left(BLOCKS) > 0 {
            mine += match side {
                Side::Front => self.receiver.during(|| self.copy(&mut claimant)),
                Side::Back => self.transfer.gate.during(FIRST, || self.copy(&mut claimant)).unwrap().unwrap(),
            };
        }
        mine
    }

    fn count(&self, block: u32) -> u32 {
        // SAFETY: as above.
        self.blocks[block as usize].with(|count| unsafe { *count })
    }

    fn total(&self) -> u32 {
        (0..BLOCKS).map(|block| self.count(block)).sum()
    }
}

/// Two sides that copy until nothing is left have copied every block once, and never the same at the same time.
#[test]
fn every_block_is_copied_once() {
    loom::model(|| {
        let memory = Memory::new();
        let theirs = memory.clone();
        let sender = thread::spawn(move || theirs.copy_all(Side::Back));
        let pulled = memory.copy_all(Side::Front);
        let pushed = sender.join().unwrap();
        assert_eq!(pulled + pushed, BLOCKS);
        assert!((0..BLOCKS).all(|block| memory.count(block) == 1));
    });
}

/// A sender that has closed the transfer and waited until the receiver paused has its memory for itself.
#[test]
fn a_payload_can_be_taken_back() {
    loom::model(|| {
        let memory = Memory::new();
        let theirs = memory.clone();
        let receiver = thread::spawn(move || theirs.copy_all(Side::Front));
        let rest = memory.take_back(&mut Claimant::new(Side::Back));
        let copied = memory.total();
        assert_eq!(copied, BLOCKS - rest);
        assert_eq!(receiver.join().unwrap(), copied);
    });
}

/// A receiver that has closed the gate has its memory for itself, while the sender goes on taking blocks.
#[test]
fn a_buffer_can_be_taken_back() {
    loom::model(|| {
        let memory = Memory::new();
        let theirs = memory.clone();
        let sender = thread::spawn(move || {
            let turns = (0..2).map(|block| theirs.transfer.gate.during(FIRST, || theirs.touch(block)));
            turns.filter(|turn| turn.unwrap().is_some()).count() as u32
        });
        assert!(memory.close_gate());
        let copied = memory.total();
        assert_eq!(sender.join().unwrap(), copied);
        assert_eq!(memory.total(), copied);
    });
}

/// The sender is through with the message when its receiver closes the gate, and uses it for another one.
#[test]
fn a_gate_of_a_later_message_stays_open() {
    loom::model(|| {
        let memory = Memory::new();
        let theirs = memory.clone();
        let sender = thread::spawn(move || {
            // The receiver of the second message gave another buffer: nothing is touched in that turn.
            theirs.transfer.gate.during(FIRST, || theirs.touch(0)).unwrap();
            theirs.transfer.gate.open(SECOND);
            assert!(theirs.transfer.gate.during(SECOND, || ()).unwrap().is_some());
        });
        assert!(memory.close_gate());
        memory.touch_all();
        sender.join().unwrap();
    });
}

/// Something writes over the gate at any moment. Whatever comes of it for the sender, the receiver does not believe that
/// it has its memory back while the sender is at it.
#[test]
fn damage_gives_no_memory_back() {
    loom::model(|| {
        let memory = Memory::new();
        let [theirs, damaged] = [memory.clone(), memory.clone()];
        let sender = thread::spawn(move || {
            let turn = |block| theirs.transfer.gate.during(FIRST, || theirs.touch(block));
            // Not again after an error: that is what the message's sender promises.
            let _ = turn(0).is_ok() && turn(1).is_ok();
        });
        let vandal = thread::spawn(move || damaged.transfer.gate.open(DAMAGE));
        if memory.close_gate() {
            memory.touch_all();
        }
        sender.join().unwrap();
        vandal.join().unwrap();
    });
}

/// Something writes over the claims, so that both sides get the same blocks: the gate stands between them.
#[test]
fn damaged_claims_do_not_open_the_gate() {
    loom::model(|| {
        let memory = Memory::new();
        let theirs = memory.clone();
        let sender = thread::spawn(move || {
            let mut claimant = Claimant::new(Side::Back);
            theirs.transfer.open();
            if let Ok(blocks) = theirs.transfer.claim(&mut claimant, BLOCKS, BLOCKS) {
                theirs.transfer.gate.during(FIRST, || blocks.for_each(|block| theirs.touch(block))).unwrap();
            }
        });
        let mut claimant = Claimant::new(Side::Front);
        let all = memory.transfer.claim(&mut claimant, BLOCKS, BLOCKS).unwrap();
        assert!(memory.close_gate());
        all.for_each(|block| memory.touch(block));
        sender.join().unwrap();
    });
}
