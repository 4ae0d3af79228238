//! The pool: long messages, chunk by chunk, from one core to the other.

mod common;

use std::hint::black_box;
use std::thread;

use common::{CHUNK_BYTES, PoolMemory, RingMemory, Stop, relax, warm_up, with_partner};
use divan::Bencher;
use divan::counter::BytesCount;
use shm_core::pool::{Holder, Owner};
use shm_core::ring::{CELL_WORDS, Consumer, Producer, Ring};

const SIZES: [usize; 4] = [16 << 10, 64 << 10, 1 << 20, 4 << 20];

fn main() {
    divan::main();
}

/// A full chunk lent, read and given back on the same core.
#[divan::bench]
fn lend_and_give_back(bencher: Bencher<'_, '_>) {
    let memory = PoolMemory::new();
    let (mut owner, holder) = (Owner::new(memory.pool()), Holder::new(memory.pool()));
    let (data, mut buffer) = (vec![1; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
    bencher.counter(BytesCount::new(CHUNK_BYTES)).bench_local(|| {
        let chunk = owner.lend().expect("all other chunks are free");
        holder.fill(chunk, 0, black_box(&data), false).expect("it is as long as the data");
        holder.copy_out(chunk, 0, black_box(&mut buffer)).expect("the owner named it");
        holder.give_back(chunk).expect("the owner named it");
        owner.reclaim(|_| ());
    });
}

/// The reading side of a transfer: chunks come by the ring, bytes from the pool.
struct Receiving<'a> {
    chunks: Consumer<'a>,
    holder: Holder<'a>,
    copy: Vec<u8>,
    received: usize,
}

impl<'a> Receiving<'a> {
    fn new(ring: Ring<'a>, holder: Holder<'a>, size: usize) -> Self {
        Self { chunks: Consumer::new(ring), holder, copy: vec![0; size], received: 0 }
    }

    /// Copies the next chunk, if there is one; true at the end of a message.
    fn step(&mut self) -> bool {
        let Some(body) = self.chunks.peek() else {
            relax();
            return false;
        };
        let body = body.expect("the producer keeps to the protocol");
        let [chunk, length, _] = body.words.map(|word| word as usize);
        let place = &mut self.copy[self.received..self.received + length];
        self.holder.copy_out(chunk as u32, 0, place).expect("the owner named it");
        self.holder.give_back(chunk as u32).expect("the owner named it");
        self.chunks.pop(&body);
        self.received = (self.received + length) % self.copy.len();
        self.received == 0
    }
}

/// One message to the other core and a word back when all of it was copied out there.
#[divan::bench(args = SIZES)]
fn transfer(bencher: Bencher<'_, '_>, size: usize) {
    let (there, back, stop) = (RingMemory::new(), RingMemory::new(), Stop::default());
    let memory = PoolMemory::new();
    let (mut owner, filling) = (Owner::new(memory.pool()), Holder::new(memory.pool()));
    let (mut chunks, mut ends) = (Producer::new(there.ring()), Consumer::new(back.ring()));
    let data = vec![1; size];
    thread::scope(|scope| {
        let mut receiving = Receiving::new(there.ring(), Holder::new(memory.pool()), size);
        let mut end = Producer::new(back.ring());
        let _partner = with_partner(scope, &stop, move || {
            if receiving.step() {
                end.try_push(0, [0; CELL_WORDS], &[]).expect("one message is on its way at a time");
            }
        });
        let mut transfer = || {
            for piece in black_box(&data).chunks(CHUNK_BYTES) {
                let chunk = loop {
                    match owner.lend() {
                        Some(chunk) => break chunk,
                        None => owner.reclaim(|_| ()),
                    }
                };
                let streamed = chunks.distance().streams(piece.len());
                filling.fill(chunk, 0, piece, streamed).expect("it is as long as a piece");
                let words = [chunk.into(), piece.len() as u64, 0];
                while chunks.try_push(0, words, &[]).is_err() {
                    relax();
                }
            }
            let body = loop {
                match ends.peek() {
                    Some(body) => break body.expect("the producer keeps to the protocol"),
                    None => relax(),
                }
            };
            ends.pop(&body);
        };
        warm_up(&mut transfer);
        bencher.counter(BytesCount::new(size)).bench_local(transfer);
    });
}
