//! The ring under every interleaving of two threads.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p shm-core --release --test loom_ring`
#![cfg(loom)]

use loom::sync::Arc;
use loom::thread;
use shm_core::ring::{
    Cell, Consumer, FEWEST_ROWS, Full, PAYLOAD_BYTES, Producer, ROW_CELLS, Ring, RingHeader, Side,
};

struct Memory {
    header: RingHeader,
    cells: Vec<Cell>,
}

impl Memory {
    fn new(rows: usize) -> Arc<Self> {
        let cells = (0..rows * ROW_CELLS).map(|_| Cell::new()).collect();
        Arc::new(Self { header: RingHeader::new(), cells })
    }

    fn ring(&self) -> Ring<'_> {
        Ring::new(&self.header, &self.cells)
    }
}

fn push(producer: &mut Producer<'_>, number: u32, payload: &[u8]) {
    while producer.try_push(1, [number.into(); 3], payload) == Err(Full) {
        thread::yield_now();
    }
}

fn pop(consumer: &mut Consumer<'_>, number: u32, payload: &[u8]) {
    let body = loop {
        match consumer.peek() {
            Some(body) => break body.unwrap(),
            None => thread::yield_now(),
        }
    };
    assert_eq!((body.kind, body.words), (1, [number.into(); 3]));
    let mut buffer = vec![0; body.payload_bytes()];
    consumer.copy_payload(&body, &mut buffer);
    assert_eq!(buffer, payload);
    consumer.pop(&body);
}

/// One thread sends so many messages, from this number on with a look ahead before each, and the other one receives them.
fn converse(messages: u32, looks_from: u32, payload: fn(u32) -> Vec<u8>) {
    loom::model(move || {
        let memory = Memory::new(FEWEST_ROWS);
        let theirs = memory.clone();
        let sender = thread::spawn(move || {
            let mut producer = Producer::new(theirs.ring());
            for number in 1..=messages {
                if number >= looks_from {
                    producer.prepare();
                    producer.prepare_payload(300, false);
                }
                push(&mut producer, number, &payload(number));
            }
        });
        let mut consumer = Consumer::new(memory.ring());
        for number in 1..=messages {
            pop(&mut consumer, number, &payload(number));
        }
        sender.join().unwrap();
    });
}

/// What is popped is what was pushed, in order, from one row to the next.
#[test]
fn messages_arrive_whole_and_in_order() {
    converse(3, u32::MAX, |number| vec![number as u8]);
}

/// A row is not written again before it has been read: three laps find room, the next one waits for the
/// first, and the one after that lies where it lay.
#[test]
fn a_full_ring_waits_for_its_reader() {
    const MESSAGES: u32 = (FEWEST_ROWS * ROW_CELLS) as u32 + 1;
    converse(MESSAGES, u32::MAX, |number| vec![number as u8; PAYLOAD_BYTES]);
}

/// A producer that looks while it waits gives a row that has been read to the next lap but one.
#[test]
fn a_look_ahead_frees_what_has_been_read() {
    converse(5, 1, |number| vec![number as u8]);
}

/// What a consumer writes over payload that it has read it has written before its row can be given to another lap: the last
/// cell that it had read when it said so lies in the row of the last messages here.
#[test]
fn what_was_read_is_written_over_before_its_row_comes_round() {
    converse(10, 5, |number| vec![number as u8]);
}

/// The counter for the layer above is seen with everything that came before it.
#[test]
fn released_carries_what_came_before() {
    loom::model(|| {
        let memory = Memory::new(FEWEST_ROWS);
        let theirs = memory.clone();
        let reader = thread::spawn(move || {
            let mut consumer = Consumer::new(theirs.ring());
            pop(&mut consumer, 1, &[1]);
            consumer.release(1);
        });
        let mut producer = Producer::new(memory.ring());
        push(&mut producer, 1, &[1]);
        while producer.released() == 0 {
            thread::yield_now();
        }
        assert_eq!(producer.pushed(), 1);
        reader.join().unwrap();
    });
}

/// Whoever sees a later message can read those before it, and it stays when they are taken.
#[test]
fn what_is_seen_ahead_comes_after_the_others() {
    loom::model(|| {
        let memory = Memory::new(FEWEST_ROWS + 2);
        let theirs = memory.clone();
        let sender = thread::spawn(move || {
            let mut producer = Producer::new(theirs.ring());
            assert!(producer.has_room_for(3));
            for number in 1..=3 {
                push(&mut producer, number, &[number as u8]);
            }
        });
        let mut consumer = Consumer::new(memory.ring());
        // It lies in the next row.
        if let Some(body) = consumer.peek_ahead(ROW_CELLS) {
            assert_eq!(body.unwrap().words, [3; 3]);
            let first = consumer.peek().expect("what comes before").unwrap();
            assert_eq!(first.words, [1; 3]);
            // All at once.
            let mut ahead = consumer.next();
            for number in 1..=3 {
                let body = consumer.peek_at(ahead).expect("seen before").unwrap();
                assert_eq!(body.words, [number; 3]);
                ahead = consumer.after(ahead, &body);
            }
            consumer.pop_to(ahead);
            assert!(!consumer.is_ready());
        } else {
            for number in 1..=3 {
                pop(&mut consumer, number, &[number as u8]);
            }
        }
        sender.join().unwrap();
    });
}

/// Sends a message in the shuttle.
fn answer(consumer: &mut Consumer<'_>, pushed: u64, number: u32) {
    assert!(consumer.shuttle_takes(1));
    consumer.send_in_shuttle(pushed, 1, [number.into(); 3], &[number as u8]);
}

/// Messages are received in the order in which they were sent, in the ring or in the shuttle.
#[test]
fn the_ring_and_the_shuttle_are_one_queue() {
    loom::model(|| {
        let (there, back) = (Memory::new(FEWEST_ROWS), Memory::new(FEWEST_ROWS));
        let (theirs, theirs_back) = (there.clone(), back.clone());
        let sender = thread::spawn(move || {
            let mut producer = Producer::new(theirs.ring());
            let shuttle = theirs.ring().shuttle();
            let mut consumer = Consumer::with_shuttle(theirs_back.ring(), shuttle, Side::First);
            push(&mut producer, 1, &[1]);
            answer(&mut consumer, producer.pushed(), 2);
            push(&mut producer, 3, &[3]);
        });
        let mut consumer = Consumer::with_shuttle(there.ring(), there.ring().shuttle(), Side::Second);
        for number in 1..=3 {
            pop(&mut consumer, number, &[number as u8]);
        }
        sender.join().unwrap();
    });
}

/// The shuttle is not written before what came in it was read, and what is in it is seen.
#[test]
fn the_shuttle_goes_to_and_fro() {
    loom::model(|| {
        let (there, back) = (Memory::new(FEWEST_ROWS), Memory::new(FEWEST_ROWS));
        let (theirs, theirs_back) = (there.clone(), back.clone());
        let other = thread::spawn(move || {
            let shuttle = theirs.ring().shuttle();
            let mut consumer = Consumer::with_shuttle(theirs_back.ring(), shuttle, Side::First);
            answer(&mut consumer, 0, 1);
            assert!(!consumer.shuttle_takes(0));
            pop(&mut consumer, 2, &[2]);
            answer(&mut consumer, 0, 3);
        });
        let mut consumer = Consumer::with_shuttle(there.ring(), there.ring().shuttle(), Side::Second);
        pop(&mut consumer, 1, &[1]);
        answer(&mut consumer, 0, 2);
        pop(&mut consumer, 3, &[3]);
        other.join().unwrap();
    });
}
