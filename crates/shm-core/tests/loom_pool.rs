//! The pool, with a ring beside it, under every interleaving of two threads.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p shm-core --release --test loom_pool`
#![cfg(loom)]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use shm_core::bytes::{Line, SharedBytes};
use shm_core::distance::Distance;
use shm_core::pool::{Owner, Pool, Reader, Returns};

/// Stands for the ring that tells the reader of a chunk: 1 + the chunk's number, for each message.
struct Memory {
    returns: Vec<Returns>,
    lines: Vec<Line>,
    told: Vec<AtomicU32>,
}

/// A chunk is not filled again before its reader has given it back.
#[test]
fn a_lent_chunk_is_left_alone_until_it_is_back() {
    const MESSAGES: usize = 2;
    loom::model(|| {
        let memory = Arc::new(Memory {
            returns: vec![Returns::new()],
            lines: vec![Line::new()],
            told: (0..MESSAGES).map(|_| AtomicU32::new(0)).collect(),
        });
        let theirs = memory.clone();
        let reader = thread::spawn(move || {
            let reader = Reader::new(Pool::new(&theirs.returns, SharedBytes::new(&theirs.lines)));
            for (message, told) in theirs.told.iter().enumerate() {
                while told.load(Ordering::Acquire) == 0 {
                    thread::yield_now();
                }
                let chunk = told.load(Ordering::Acquire) - 1;
                let mut bytes = [0; 2];
                reader.copy_out(chunk, 0, &mut bytes).unwrap();
                assert_eq!(bytes, [message as u8 + 1; 2]);
                reader.give_back(chunk).unwrap();
            }
        });
        let mut owner = Owner::new(Pool::new(&memory.returns, SharedBytes::new(&memory.lines)));
        for (message, told) in memory.told.iter().enumerate() {
            let chunk = loop {
                if let Some(chunk) = owner.lend(&[message as u8 + 1; 2], 0, &Distance::new()) {
                    break chunk;
                }
                owner.reclaim(|_| {});
                thread::yield_now();
            };
            told.store(chunk + 1, Ordering::Release);
        }
        reader.join().unwrap();
    });
}

/// The rest of a chunk is filled while its beginning is read, and both are read before it is filled again.
#[test]
fn a_chunk_is_filled_while_its_beginning_is_read() {
    const PARTS: usize = 2;
    const LINE: usize = 64;
    loom::model(|| {
        let memory = Arc::new(Memory {
            returns: vec![Returns::new()],
            lines: (0..PARTS).map(|_| Line::new()).collect(),
            told: (0..PARTS).map(|_| AtomicU32::new(0)).collect(),
        });
        let theirs = memory.clone();
        let reader = thread::spawn(move || {
            let reader = Reader::new(Pool::new(&theirs.returns, SharedBytes::new(&theirs.lines)));
            for (part, told) in theirs.told.iter().enumerate() {
                while told.load(Ordering::Acquire) == 0 {
                    thread::yield_now();
                }
                let mut bytes = [0; 2];
                reader.copy_out_fresh(0, part * LINE, &mut bytes).unwrap();
                assert_eq!(bytes, [part as u8 + 1; 2]);
            }
            reader.give_back(0).unwrap();
        });
        let mut owner = Owner::new(Pool::new(&memory.returns, SharedBytes::new(&memory.lines)));
        let chunk = owner.lend(&[1; 2], 0, &Distance::new()).unwrap();
        memory.told[0].store(1, Ordering::Release);
        owner.fill(chunk, &[2; 2], LINE, &Distance::new());
        memory.told[1].store(1, Ordering::Release);
        while owner.free() == 0 {
            owner.reclaim(|_| {});
            thread::yield_now();
        }
        owner.lend(&[3; 2], 0, &Distance::new()).unwrap();
        reader.join().unwrap();
    });
}
