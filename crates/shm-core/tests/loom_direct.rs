//! The claims of the direct lane under every interleaving of two threads.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p shm-core --release --test loom_direct`
#![cfg(loom)]
#![allow(unsafe_code)]

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
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

/// A receiver copies before it claims. Nothing that it reads after the sender has taken its memory back is left in the
/// end: the sender writes over it when the receiver has said that it reads no more.
#[test]
fn what_is_read_too_late_is_not_used() {
    const RIGHT: u32 = 1;
    const WRONG: u32 = 2;
    const BLOCKS: u32 = 2;
    struct Memory {
        transfer: Transfer,
        source: Vec<AtomicU32>,
        target: Vec<AtomicU32>,
        told: [AtomicU32; 2],
    }
    let wait = |told: &AtomicU32| {
        while told.load(Ordering::Acquire) == 0 {
            thread::yield_now();
        }
    };
    loom::model(move || {
        let blocks = |value| (0..BLOCKS).map(|_| AtomicU32::new(value)).collect();
        let (source, target) = (blocks(RIGHT), blocks(WRONG));
        let memory = Memory {
            transfer: Transfer::new(),
            source,
            target,
            told: [AtomicU32::new(0), AtomicU32::new(0)],
        };
        let memory = Arc::new(memory);
        let theirs = memory.clone();
        let sender = thread::spawn(move || {
            let Memory { transfer, source, target, told: [pulled, pushed] } = &*theirs;
            let rest = transfer.close(Side::Back, BLOCKS);
            source.iter().for_each(|block| block.store(WRONG, Ordering::Relaxed));
            wait(pulled);
            rest.for_each(|block| target[block as usize].store(RIGHT, Ordering::Relaxed));
            pushed.store(1, Ordering::Release);
        });
        let Memory { transfer, source, target, told: [pulled, pushed] } = &*memory;
        let mut mine = 0;
        while transfer.left(BLOCKS) > 0 {
            let found = source[mine].load(Ordering::Relaxed);
            target[mine].store(found, Ordering::Relaxed);
            mine += transfer.claim(Side::Front, 1, BLOCKS).len();
        }
        pulled.store(1, Ordering::Release);
        wait(pushed);
        assert!(target.iter().all(|block| block.load(Ordering::Relaxed) == RIGHT));
        sender.join().unwrap();
    });
}
