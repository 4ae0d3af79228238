//! The ring: what a message costs on one core, between two cores, and in a stream.

mod common;

use std::hint::black_box;
use std::thread;

use common::{RingMemory, Stop, relax, warm_up, with_partner};
use divan::Bencher;
use divan::counter::ItemsCount;
use shm_core::ring::{CELL_WORDS, Consumer, Producer, Side};

const SIZES: [usize; 5] = [0, 8, 32, 256, 1024];
const KIND: u16 = 1;
const WORDS: [u64; CELL_WORDS] = [1, 2, 3];
const STREAM: usize = 1024;

fn main() {
    divan::main();
}

fn push(producer: &mut Producer<'_>, data: &[u8], mut give_up: impl FnMut() -> bool) {
    while producer.try_push(KIND, WORDS, data).is_err() {
        if give_up() {
            return;
        }
        relax();
    }
}

/// Takes the next message; false if `give_up` said so before there was one.
fn pop(consumer: &mut Consumer<'_>, buffer: &mut [u8], mut give_up: impl FnMut() -> bool) -> bool {
    loop {
        if let Some(body) = consumer.peek() {
            let body = body.expect("the producer keeps to the protocol");
            consumer.copy_payload(&body, &mut buffer[..body.payload_bytes()]);
            consumer.pop(&body);
            return true;
        }
        if give_up() {
            return false;
        }
        relax();
    }
}

/// A message written and read on the same core: all instructions, no cache line changes hands.
#[divan::bench(args = SIZES)]
fn push_and_pop(bencher: Bencher<'_, '_>, size: usize) {
    let memory = RingMemory::new();
    let (mut producer, mut consumer) = (Producer::new(memory.ring()), Consumer::new(memory.ring()));
    let (data, mut buffer) = (vec![1; size], vec![0; size]);
    bencher.bench_local(|| {
        push(&mut producer, black_box(&data), || false);
        pop(&mut consumer, black_box(&mut buffer), || false)
    });
}

/// A message to the other core and one back.
#[divan::bench(args = SIZES)]
fn round_trip(bencher: Bencher<'_, '_>, size: usize) {
    let (there, back, stop) = (RingMemory::new(), RingMemory::new(), Stop::default());
    let (mut producer, mut consumer) = (Producer::new(there.ring()), Consumer::new(back.ring()));
    let (data, mut buffer) = (vec![1; size], vec![0; size]);
    thread::scope(|scope| {
        let (mut requests, mut replies) = (Consumer::new(there.ring()), Producer::new(back.ring()));
        let (stop, mut copy) = (&stop, vec![0; size]);
        let _partner = with_partner(scope, stop, move || {
            if pop(&mut requests, &mut copy, || stop.is_set()) {
                push(&mut replies, &copy, || stop.is_set());
            }
        });
        let mut round_trip = || {
            push(&mut producer, black_box(&data), || false);
            pop(&mut consumer, black_box(&mut buffer), || false);
        };
        warm_up(&mut round_trip);
        bencher.bench_local(round_trip);
    });
}

/// A word to the other core and one back, in the shuttle.
#[divan::bench]
fn round_trip_of_the_shuttle(bencher: Bencher<'_, '_>) {
    let (there, back, stop) = (RingMemory::new(), RingMemory::new(), Stop::default());
    let shuttle = there.ring().shuttle();
    let mut near = Consumer::with_shuttle(back.ring(), shuttle, Side::First);
    thread::scope(|scope| {
        let mut far = Consumer::with_shuttle(there.ring(), shuttle, Side::Second);
        let (stop, mut copy) = (&stop, [0; 8]);
        let _partner = with_partner(scope, stop, move || {
            if pop(&mut far, &mut copy, || stop.is_set()) {
                far.send_in_shuttle(0, 0, [0; CELL_WORDS], &copy);
            }
        });
        let mut round_trip = || {
            near.send_in_shuttle(0, 0, [0; CELL_WORDS], black_box(&[1; 8]));
            pop(&mut near, black_box(&mut [0; 8]), || false);
        };
        warm_up(&mut round_trip);
        bencher.bench_local(round_trip);
    });
}

/// Messages to the other core, as fast as it reads them: the time of 1024, and how many that is per second.
#[divan::bench(args = SIZES)]
fn stream(bencher: Bencher<'_, '_>, size: usize) {
    let (memory, stop) = (RingMemory::new(), Stop::default());
    let mut producer = Producer::new(memory.ring());
    let data = vec![1; size];
    thread::scope(|scope| {
        let mut consumer = Consumer::new(memory.ring());
        let (stop, mut copy) = (&stop, vec![0; size]);
        let _partner = with_partner(scope, stop, move || {
            pop(&mut consumer, &mut copy, || stop.is_set());
        });
        let mut stream = || {
            for _ in 0..STREAM {
                push(&mut producer, black_box(&data), || false);
            }
        };
        warm_up(&mut stream);
        bencher.counter(ItemsCount::new(STREAM)).bench_local(stream);
    });
}
