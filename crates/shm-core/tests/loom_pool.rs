//! The pool, with a ring beside it, under every interleaving of two threads.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p shm-core --release --test loom_pool`
#![cfg(loom)]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use shm_core::bytes::{Line, SharedBytes};
use shm_core::pool::{Holder, Owner, Pool, Returns};

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
            let holder = Holder::new(Pool::new(&theirs.returns, SharedBytes::new(&theirs.lines)));
            for (message, told) in theirs.told.iter().enumerate() {
                while told.load(Ordering::Acquire) == 0 {
                    thread::yield_now();
                }
                let chunk = told.load(Ordering::Acquire) - 1;
                let mut bytes = [0; 2];
                holder.copy_out(chunk, 0, &mut bytes).unwrap();
                assert_eq!(bytes, [message as u8 + 1; 2]);
                holder.give_back(chunk).unwrap();
            }
        });
        let pool = Pool::new(&memory.returns, SharedBytes::new(&memory.lines));
        let (mut owner, holder) = (Owner::new(pool), Holder::new(pool));
        for (message, told) in memory.told.iter().enumerate() {
            let chunk = loop {
                if let Some(chunk) = owner.lend() {
                    break chunk;
                }
                owner.reclaim(|_| {});
                thread::yield_now();
            };
            holder.fill(chunk, 0, &[message as u8 + 1; 2], false).unwrap();
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
            let holder = Holder::new(Pool::new(&theirs.returns, SharedBytes::new(&theirs.lines)));
            for (part, told) in theirs.told.iter().enumerate() {
                while told.load(Ordering::Acquire) == 0 {
                    thread::yield_now();
                }
                let mut bytes = [0; 2];
                holder.copy_out_fresh(0, part * LINE, &mut bytes).unwrap();
                assert_eq!(bytes, [part as u8 + 1; 2]);
            }
            holder.give_back(0).unwrap();
        });
        let pool = Pool::new(&memory.returns, SharedBytes::new(&memory.lines));
        let (mut owner, holder) = (Owner::new(pool), Holder::new(pool));
        let chunk = owner.lend().unwrap();
        holder.fill(chunk, 0, &[1; 2], false).unwrap();
        memory.told[0].store(1, Ordering::Release);
        holder.fill(chunk, LINE, &[2; 2], false).unwrap();
        memory.told[1].store(1, Ordering::Release);
        while owner.free() == 0 {
            owner.reclaim(|_| {});
            thread::yield_now();
        }
        let chunk = owner.lend().unwrap();
        holder.fill(chunk, 0, &[3; 2], false).unwrap();
        reader.join().unwrap();
    });
}

/// A chunk that comes home with an answer is read before it goes out again or is given back, whoever does that.
#[test]
fn a_chunk_comes_home_with_the_answer() {
    loom::model(|| {
        let memory = Arc::new(Memory {
            returns: vec![Returns::new()],
            lines: vec![Line::new()],
            told: (0..3).map(|_| AtomicU32::new(0)).collect(),
        });
        let pass_on = |holder: &Holder<'_>, told: &AtomicU32, content: u8| {
            holder.fill(0, 0, &[content; 2], false).unwrap();
            told.store(1, Ordering::Release);
        };
        let take = |holder: &Holder<'_>, told: &AtomicU32, content: u8| {
            while told.load(Ordering::Acquire) == 0 {
                thread::yield_now();
            }
            let mut bytes = [0; 2];
            holder.copy_out(0, 0, &mut bytes).unwrap();
            assert_eq!(bytes, [content; 2]);
        };
        let theirs = memory.clone();
        let other = thread::spawn(move || {
            let holder = Holder::new(Pool::new(&theirs.returns, SharedBytes::new(&theirs.lines)));
            take(&holder, &theirs.told[0], 1);
            pass_on(&holder, &theirs.told[1], 2);
            take(&holder, &theirs.told[2], 3);
            holder.give_back(0).unwrap();
        });
        let pool = Pool::new(&memory.returns, SharedBytes::new(&memory.lines));
        let (mut owner, holder) = (Owner::new(pool), Holder::new(pool));
        assert_eq!(owner.lend(), Some(0));
        pass_on(&holder, &memory.told[0], 1);
        take(&holder, &memory.told[1], 2);
        owner.reclaim(|_| {});
        assert_eq!(owner.free(), 0, "it is held here");
        pass_on(&holder, &memory.told[2], 3);
        while owner.free() == 0 {
            owner.reclaim(|_| {});
            thread::yield_now();
        }
        assert_eq!(owner.lend(), Some(0));
        holder.fill(0, 0, &[4; 2], false).unwrap();
        other.join().unwrap();
    });
}
