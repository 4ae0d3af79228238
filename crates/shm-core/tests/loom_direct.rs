//! The claims of the direct lane under every interleaving of two threads.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p shm-core --release --test loom_direct`
#![cfg(loom)]
#![allow(unsafe_code)]

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use shm_core::direct::{Copying, Side, Transfer};

const BLOCKS: u32 = 3;

/// The receiver's buffer: every block says how often it was copied.
struct Memory {
    transfer: Transfer,
    sender: Copying,
    blocks: Vec<UnsafeCell<u32>>,
}

impl Memory {
    fn new() -> Arc<Self> {
        let blocks = (0..BLOCKS).map(|_| UnsafeCell::new(0)).collect();
        Arc::new(Self { transfer: Transfer::new(), sender: Copying::new(), blocks })
    }

    /// Takes and copies one block, if there is one left.
    fn copy(&self, side: Side) -> u32 {
        let claim = self.transfer.claim(side, 1, BLOCKS);
        claim.clone().for_each(|block| self.touch(block));
        claim.len() as u32
    }

    fn touch(&self, block: u32) {
        // SAFETY: loom reports overlapping accesses.
        self.blocks[block as usize].with_mut(|count| unsafe { *count += 1 });
    }

    /// The receiver wants its memory back: the number of blocks that it has taken for that.
    fn take_back(&self) -> u32 {
        let rest = self.transfer.close(Side::Front, BLOCKS).len() as u32;
        let state = self.sender.state();
        while !self.sender.has_paused(state) {
            thread::yield_now();
        }
        rest
    }

    /// Copies until nothing is left; the number of blocks copied.
    fn copy_all(&self, side: Side) -> u32 {
        let mut mine = 0;
        while self.transfer.left(BLOCKS) > 0 {
            mine += match side {
                Side::Front => self.copy(side),
                Side::Back => self.sender.during(|| self.copy(side)),
            };
        }
        mine
    }

    fn count(&self, block: u32) -> u32 {
        // SAFETY: as above.
        self.blocks[block as usize].with(|count| unsafe { *count })
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

/// A side that has closed the transfer and waited until the other paused has the memory for itself.
#[test]
fn memory_can_be_taken_back() {
    loom::model(|| {
        let memory = Memory::new();
        let theirs = memory.clone();
        let sender = thread::spawn(move || theirs.copy_all(Side::Back));
        let rest = memory.take_back();
        let copied: u32 = (0..BLOCKS).map(|block| memory.count(block)).sum();
        assert_eq!(copied, BLOCKS - rest);
        assert_eq!(sender.join().unwrap(), copied);
    });
}

/// What a side got by closing it copies later only while the other has not closed too.
#[test]
fn memory_can_be_taken_back_from_a_side_that_has_closed() {
    loom::model(|| {
        let memory = Memory::new();
        let theirs = memory.clone();
        let sender = thread::spawn(move || {
            let rest = theirs.transfer.close(Side::Back, BLOCKS);
            theirs.sender.during(|| {
                if !theirs.transfer.is_closed(Side::Front) {
                    rest.for_each(|block| theirs.touch(block));
                }
            });
        });
        let rest = memory.take_back();
        let copied: u32 = (0..BLOCKS).map(|block| memory.count(block)).sum();
        assert!(copied == 0 || copied == BLOCKS - rest);
        sender.join().unwrap();
        assert_eq!(copied, (0..BLOCKS).map(|block| memory.count(block)).sum::<u32>());
    });
}

/// The sender has taken everything with its memory, which the receiver was told, and copies it from elsewhere; then the
/// transfer is another message's. The receiver takes its memory back at any moment of that.
#[test]
fn what_is_withdrawn_is_not_touched_and_the_next_message_is_not_withdrawn() {
    loom::model(|| {
        let memory = Memory::new();
        let all = memory.transfer.close(Side::Back, BLOCKS);
        let sender = {
            let memory = memory.clone();
            thread::spawn(move || {
                memory.sender.during(|| {
                    if !memory.transfer.is_withdrawn(1) {
                        all.for_each(|block| memory.touch(block));
                    }
                });
                memory.transfer.open();
                assert!(!memory.transfer.is_withdrawn(2));
                assert_eq!(memory.transfer.claim(Side::Front, BLOCKS, BLOCKS), 0..BLOCKS);
            })
        };
        memory.transfer.withdraw(1);
        let state = memory.sender.state();
        while !memory.sender.has_paused(state) {
            thread::yield_now();
        }
        (0..BLOCKS).for_each(|block| memory.touch(block));
        sender.join().unwrap();
    });
}
