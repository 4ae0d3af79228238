use std::collections::VecDeque;

use proptest::prelude::*;

use super::consumer::MOST_UNPUBLISHED;
use super::shuttle::SHUTTLE_BYTES;
use super::*;
use crate::sync::Ordering;

fn cells(rows: usize) -> Vec<Cell> {
    (0..rows * ROW_CELLS).map(|_| Cell::new()).collect()
}

fn push(producer: &mut Producer<'_>, number: u64, length: usize) -> Result<(), Full> {
    producer.try_push(number as u16, [number; CELL_WORDS], &payload(number, length))
}

fn payload(number: u64, length: usize) -> Vec<u8> {
    (0..length).map(|at| (number as usize * 31 + at + at / 256) as u8).collect()
}

/// Takes the next message, which has to be this one; whether its producer has to be woken.
fn pop(consumer: &mut Consumer<'_>, (number, length): (u64, usize)) -> bool {
    let body = consumer.peek().expect("a message").expect("a sound one");
    assert_eq!((body.kind, body.words, body.payload_bytes()), (number as u16, [number; CELL_WORDS], length));
    let word = <[u8; 8]>::try_from(payload(number, length)).ok().map(u64::from_ne_bytes);
    assert_eq!(consumer.payload_word(&body), word);
    // Into buffers that are longer, shorter and just as long.
    for room in [length + 7, length / 2, length] {
        let mut buffer = vec![0xAA; room];
        consumer.copy_payload(&body, &mut buffer);
        let mut expected = payload(number, length);
        expected.resize(room, 0xAA);
        assert_eq!(buffer, expected, "{length} bytes into {room}");
    }
    consumer.pop(&body)
}

/// Looks at so many of the next messages, which have to be the first ones of `queue`, and takes them at once; whether their producer
/// has to be woken.
fn pop_several(consumer: &mut Consumer<'_>, queue: &mut VecDeque<(u64, usize)>, most: usize) -> bool {
    let mut ahead = consumer.next();
    for (number, length) in queue.drain(..most.min(queue.len())) {
        let body = consumer.peek_at(ahead).expect("a message").expect("a sound one");
        assert_eq!((body.words, body.payload_bytes()), ([number; CELL_WORDS], length));
        ahead = consumer.after(ahead, &body);
    }
    consumer.pop_to(ahead)
}

/// What two ends of a ring do.
#[derive(Debug, Clone)]
enum Step {
    Push(usize),
    Pop,
    PopSeveral(usize),
    PeekAhead(usize),
    LookForNothing,
    Prepare(usize),
    AskForRoom(usize),
    UseAll,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop_oneof![0..=SHORT_BYTES + 1, 0..=PAYLOAD_BYTES].prop_map(Step::Push),
        5 => Just(Step::Pop),
        1 => (0..10usize).prop_map(Step::PopSeveral),
        1 => (0..12usize).prop_map(Step::PeekAhead),
        1 => Just(Step::LookForNothing),
        1 => (0..=PAYLOAD_BYTES + 1).prop_map(Step::Prepare),
        1 => (0..=8usize).prop_map(Step::AskForRoom),
        1 => Just(Step::UseAll),
    ]
}

proptest! {
    /// Whatever both ends do, messages come whole and in order, and room that was found is there.
    #[test]
    fn a_ring_is_a_queue(steps in prop::collection::vec(step(), 0..400), rows in 7..=MOST_ROWS) {
        let (header, cells) = (RingHeader::new(), cells(rows));
        let ring = Ring::new(&header, &cells);
        let (mut producer, mut consumer) = (Producer::beginning_with(ring, 7), Consumer::new(ring));
        let (mut queue, mut number) = (VecDeque::new(), 0);
        for step in steps {
            match step {
                Step::Push(length) => {
                    if push(&mut producer, number, length).is_ok() {
                        queue.push_back((number, length));
                        number += 1;
                    } else {
                        let published = number - ring.read_cells();
                        prop_assert!(published > 2 * ROW_CELLS as u64, "full with {published} messages");
                    }
                }
                Step::Pop => match queue.pop_front() {
                    Some(expected) => _ = pop(&mut consumer, expected),
                    None => prop_assert!(consumer.peek().is_none()),
                },
                Step::PopSeveral(messages) => {
                    pop_several(&mut consumer, &mut queue, messages);
                    prop_assert_eq!(consumer.peek_at(consumer.next()).is_some(), !queue.is_empty());
                }
                Step::PeekAhead(messages) => {
                    let seen = consumer.peek_ahead(messages).map(|body| body.unwrap().words[0]);
                    prop_assert_eq!(seen, queue.get(messages).map(|&(number, _)| number));
                }
                Step::LookForNothing if queue.is_empty() => {
                    prop_assert!(consumer.peek().is_none());
                    prop_assert!(producer.has_room_for(8), "no room in an empty ring");
                }
                Step::LookForNothing => {}
                Step::Prepare(length) => {
                    producer.prepare();
                    producer.prepare_payload(length, false);
                }
                Step::AskForRoom(messages) => {
                    if producer.has_room_for(messages) {
                        for _ in 0..messages {
                            prop_assert_eq!(push(&mut producer, number, 16), Ok(()));
                            queue.push_back((number, 16));
                            number += 1;
                        }
                    }
                }
                Step::UseAll => producer.use_all(),
            }
            prop_assert_eq!(producer.pushed(), number);
        }
    }

    /// Whoever finds no room and waits is woken before its receiver has nothing left to take, whatever that found before.
    #[test]
    fn who_waits_for_room_is_woken(
        turns in prop::collection::vec((1..60usize, 0..60usize, any::<bool>()), 0..20),
        wanted in 1..=8usize,
        length in prop_oneof![Just(8), Just(PAYLOAD_BYTES)],
        rows in 7..12usize,
        at_once in 1..10usize,
    ) {
        let (header, cells) = (RingHeader::new(), cells(rows));
        let ring = Ring::new(&header, &cells);
        let (mut producer, mut consumer) = (Producer::new(ring), Consumer::new(ring));
        let mut queue = VecDeque::new();
        for (number, (pushes, pops, looks)) in turns.into_iter().enumerate() {
            for _ in 0..pushes {
                if push(&mut producer, number as u64, length).is_ok() {
                    queue.push_back((number as u64, length));
                }
            }
            for _ in 0..pops {
                if let Some(expected) = queue.pop_front() {
                    pop(&mut consumer, expected);
                }
            }
            if looks && queue.is_empty() {
                assert!(consumer.peek().is_none());
            }
        }
        while push(&mut producer, 7, length).is_ok() {
            queue.push_back((7, length));
            if !producer.has_room_for(wanted) {
                break;
            }
        }
        let mut woken = false;
        while let Some(&expected) = queue.front() {
            woken |= match at_once {
                1 => queue.pop_front().is_some() && pop(&mut consumer, expected),
                several => pop_several(&mut consumer, &mut queue, several),
            };
        }
        prop_assert!(woken);
        // After the last time that it was woken there is room.
        prop_assert!(producer.has_room_for(wanted) && push(&mut producer, 8, length).is_ok());
    }
}

#[test]
fn ranks_that_answer_each_other_go_round_through_few_rows() {
    // The producer looks before its last message has been read, or after that.
    for (early, rows) in [(true, 3), (false, 2)] {
        let (header, cells) = (RingHeader::new(), cells(23));
        let ring = Ring::new(&header, &cells);
        let (mut producer, mut consumer) = (Producer::new(ring), Consumer::new(ring));
        let mut used = [false; 23];
        for number in 0..100 {
            used[producer.place as usize / ROW_CELLS] = true;
            push(&mut producer, number, 8).unwrap();
            if early {
                producer.prepare();
            }
            pop(&mut consumer, (number, 8));
            assert!(consumer.peek().is_none());
            producer.prepare();
        }
        assert_eq!(used.iter().filter(|&&used| used).count(), rows);
    }
}

#[test]
fn a_late_receiver_leaves_room_for_many_short_messages_and_a_few_long_ones() {
    let room = |length| {
        let (header, cells) = (RingHeader::new(), cells(23));
        let mut producer = Producer::beginning_with(Ring::new(&header, &cells), 7);
        let count = |producer: &mut Producer<'_>| {
            (0..).take_while(|&number| push(producer, number, length).is_ok()).count()
        };
        let first = count(&mut producer);
        let lacks = producer.lacks_rows_for(8);
        producer.use_all();
        (first, lacks, count(&mut producer))
    };
    assert_eq!(room(8), (6 * ROW_CELLS, true, 16 * ROW_CELLS));
    assert_eq!(room(PAYLOAD_BYTES), (4 * ROW_CELLS, true, 0));
}

/// Both ends of a ring through which all messages before `lap` have gone, the last of them in row 0.
fn at_lap(ring: Ring<'_>, lap: u64) -> (Producer<'_>, Consumer<'_>) {
    let (mut producer, mut consumer) = (Producer::new(ring), Consumer::new(ring));
    let position = lap * ROW_CELLS as u64;
    (producer.tail, producer.head_seen, producer.laps_read) = (position, position, lap);
    (consumer.head, consumer.head_published, consumer.next_lap) =
        (position, position, position + ROW_CELLS as u64);
    ring.header.head.store(position, Ordering::Relaxed);
    // Its first row was chosen before.
    producer.invalidate(0, lap);
    (producer, consumer)
}

#[test]
fn stamps_of_rows_that_nobody_has_used_for_long_are_not_taken_for_messages() {
    // The second one needs the sequence that memory never written has.
    for lap in [(1 << 31) / ROW_CELLS as u64 + 1, (1 << 32) / ROW_CELLS as u64 - 1] {
        for written in [true, false] {
            let (header, cells) = (RingHeader::new(), cells(7));
            let ring = Ring::new(&header, &cells);
            let (mut producer, mut consumer) = at_lap(ring, lap);
            // As if all other rows had been used all sequences ago.
            for (at, cell) in cells.iter().enumerate().skip(ROW_CELLS).filter(|_| written) {
                let position = (lap + 1) * ROW_CELLS as u64 + (ROW_CELLS - 1 - at % ROW_CELLS) as u64;
                cell.stamp.store(stamp(position, 1, 1), Ordering::Relaxed);
            }
            for number in 0..40 {
                assert!(consumer.peek().is_none(), "at {number}");
                push(&mut producer, number, 8).unwrap();
                pop(&mut consumer, (number, 8));
            }
        }
    }
}

#[test]
fn a_damaged_cell_is_an_error() {
    for (told, claimed, next) in
        [(PAYLOAD_BYTES as u16 + 1, PAYLOAD_BYTES + 1, 0), (7 << LENGTH_BITS | 5, 5, 7)]
    {
        let (header, cells) = (RingHeader::new(), cells(7));
        let mut consumer = Consumer::new(Ring::new(&header, &cells));
        cells[ROW_CELLS - 1].stamp.store(stamp(0, told, 1), Ordering::Release);
        let damaged = Damaged { claimed, next, most: PAYLOAD_BYTES, rows: 7 };
        assert_eq!(consumer.peek(), Some(Err(damaged)));
        assert_eq!(consumer.peek_ahead(ROW_CELLS), Some(Err(damaged)));
        assert_eq!(consumer.peek_at(consumer.next()), Some(Err(damaged)));
    }
}

#[test]
fn nonsense_in_the_header_frees_nothing() {
    let (header, cells) = (RingHeader::new(), cells(7));
    let mut producer = Producer::new(Ring::new(&header, &cells));
    while push(&mut producer, 1, 8).is_ok() {}
    let seen = 3 * ROW_CELLS as u64;
    header.head.store(seen, Ordering::Relaxed);
    while push(&mut producer, 1, 8).is_ok() {}
    for head in [u64::MAX, producer.tail + 1, seen - 1, 0] {
        header.head.store(head, Ordering::Relaxed);
        assert_eq!(push(&mut producer, 1, 8), Err(Full));
    }
}

/// Messages that come between a look in vain and what is published then: their producer may sleep without room.
#[test]
fn a_quiet_publication_that_comes_too_late_is_followed_by_a_wake() {
    let (header, cells) = (RingHeader::new(), cells(7));
    let ring = Ring::new(&header, &cells);
    let (mut producer, mut consumer) = (Producer::new(ring), Consumer::new(ring));
    for round in 0..2 {
        for _ in 0..5 {
            push(&mut producer, 1, PAYLOAD_BYTES).unwrap();
            assert!(!pop(&mut consumer, (1, PAYLOAD_BYTES)));
        }
        if round == 0 {
            assert!(consumer.peek().is_none());
        }
    }
    // Here the consumer has looked again, and stopped before it publishes.
    let mut messages = 0;
    while push(&mut producer, 2, PAYLOAD_BYTES).is_ok() {
        messages += 1;
    }
    assert!(messages < MOST_UNPUBLISHED);
    consumer.publish_quietly();
    assert!(pop(&mut consumer, (2, PAYLOAD_BYTES)));
    push(&mut producer, 3, PAYLOAD_BYTES).unwrap();
}

/// What one of two sides does that talk to each other.
#[derive(Debug, Clone)]
enum Talk {
    Send { length: usize, in_shuttle: bool },
    Receive,
}

proptest! {
    /// Whatever both sides send in rings and shuttle, all messages come whole and in order.
    #[test]
    fn rings_and_shuttle_are_a_queue_each_way(
        steps in prop::collection::vec(
            (0..2usize, prop_oneof![
                (0..=SHUTTLE_BYTES + 1, any::<bool>()).prop_map(|(length, in_shuttle)| Talk::Send { length, in_shuttle }),
                Just(Talk::Receive),
            ]),
            0..400,
        ),
    ) {
        let (headers, cells) = ([RingHeader::new(), RingHeader::new()], [cells(7), cells(7)]);
        let ring = |from: usize| Ring::new(&headers[from], &cells[from]);
        let mut producers = [0, 1].map(|me| Producer::new(ring(me)));
        let mut consumers = [(0, Side::First), (1, Side::Second)]
            .map(|(me, side)| Consumer::with_shuttle(ring(1 - me), ring(0).shuttle(), side));
        let (mut queues, mut number, mut answers) = ([VecDeque::new(), VecDeque::new()], 0, 0);
        for (me, step) in steps {
            match step {
                Talk::Send { length, in_shuttle } => {
                    let sent = if in_shuttle && consumers[me].shuttle_takes(length) {
                        let pushed = producers[me].pushed();
                        consumers[me].send_in_shuttle(pushed, number as u16, [number; CELL_WORDS], &payload(number, length));
                        answers += 1;
                        true
                    } else {
                        push(&mut producers[me], number, length).is_ok()
                    };
                    if sent {
                        queues[me].push_back((number, length));
                        number += 1;
                    }
                }
                Talk::Receive => match queues[1 - me].pop_front() {
                    Some(expected) => {
                        prop_assert!(consumers[me].is_ready());
                        pop(&mut consumers[me], expected);
                    }
                    None => prop_assert!(!consumers[me].is_ready() && consumers[me].peek().is_none()),
                },
            }
        }
        prop_assert_eq!(ring(0).shuttle().messages(), answers);
    }
}

/// Nothing changes where the numbers of messages in the shuttle and of those before them come round.
#[test]
fn numbers_of_the_shuttle_come_round() {
    const BEFORE: u32 = u32::MAX - 5;
    let (headers, cells) = ([RingHeader::new(), RingHeader::new()], [cells(7), cells(7)]);
    let shuttle = Shuttle::after(BEFORE);
    let ring = |from: usize| Ring::new(&headers[from], &cells[from]);
    let mut producers = [0, 1].map(|me| Producer::new(ring(me)));
    let mut consumers = [(0, Side::First), (1, Side::Second)].map(|(me, side)| {
        let mut consumer = Consumer::with_shuttle(ring(1 - me), &shuttle, side);
        consumer.shuttle.begin_after(BEFORE);
        consumer
    });
    // More of them than the bits that tell how many came before can count.
    for number in 0..3000u64 {
        let me = number as usize % 2;
        assert!(consumers[1 - me].peek().is_none());
        push(&mut producers[me], number, 40).unwrap();
        assert!(consumers[me].send_in_shuttle(number / 2 + 1, 0, [0; CELL_WORDS], &[]));
        for in_shuttle in [false, true] {
            let body = consumers[1 - me].peek().expect("a message").unwrap();
            assert_eq!(
                (body.is_in_shuttle(), body.words[0]),
                (in_shuttle, if in_shuttle { 0 } else { number })
            );
            consumers[1 - me].pop(&body);
        }
    }
    assert_eq!(shuttle.messages(), BEFORE.wrapping_add(3000));
}

#[test]
fn a_shuttle_that_claims_too_much_is_damaged() {
    let (headers, cells) = ([RingHeader::new(), RingHeader::new()], [cells(7), cells(7)]);
    let ring = |from: usize| Ring::new(&headers[from], &cells[from]);
    let mut consumer = Consumer::with_shuttle(ring(0), ring(0).shuttle(), Side::Second);
    ring(0).shuttle().damage(1 | (SHUTTLE_BYTES as u64 + 1) << 32);
    let damaged = consumer.peek().expect("a message").expect_err("too long");
    assert_eq!((damaged.claimed, damaged.most), (SHUTTLE_BYTES + 1, SHUTTLE_BYTES));
}
