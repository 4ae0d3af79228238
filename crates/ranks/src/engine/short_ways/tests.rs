//! Messages in chunks and in parts, where both ends are at hand.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::attach::Attachment;
use crate::engine::Engine;
use crate::engine::buffer::BorrowedBuffer;
use crate::engine::chunks::part_behind;
use crate::engine::short_ways::Lending;
use crate::envelope::{Envelope, LENT, Lent, PART, chunk_flags, part_words};
use crate::error::{CallSite, Error};
use crate::job::Job;
use crate::launch::in_process;
use crate::layout::{
    CHUNK_BYTES, EAGER_BYTES, LESS_EAGER_BYTES, MOST_PARTS, PART_BYTES, part_bytes, rank_state,
};
use crate::p2p::{Content, Mode, expected, type_hash};
use crate::world::World;
use crate::{ANY_SOURCE, Source, Tag};

const TAG: Tag = 5;
/// One part, two, and three.
const LENGTHS: [usize; 3] = [PART_BYTES - 1, PART_BYTES + 1, 2 * PART_BYTES + 1];

/// In 19 parts, and read one of them behind.
const READ_BEHIND: usize = 300_000;

/// Runs `body` with both ranks of a job, in one thread.
fn with_ranks(body: impl FnOnce(&World, &World)) {
    with_processors(2, 2, |worlds| body(&worlds[0], &worlds[1]));
}

/// Runs `body` with all ranks of a job, in one thread, as if there were so many processors.
fn with_processors(ranks: usize, cores: u32, body: impl FnOnce(&[World])) {
    let job: &'static Job = Box::leak(Box::new(in_process(ranks).unwrap()));
    job.header().cores.store(cores, Relaxed);
    // What is copied directly waits for a receive that is behind it.
    job.header().direct_from.store(u64::MAX, Relaxed);
    let attached = |rank| World::attached(Attachment::of_thread(job, rank));
    let worlds: Vec<_> = (0..ranks).map(attached).collect();
    body(&worlds);
    // There is nobody to wait for.
    worlds.into_iter().for_each(|world| drop(world.fail("the test is over".to_owned())));
}

/// Lets both know of the ring to them, without which there is no shuttle.
fn meet(one: &World, other: &World) {
    for world in [one, other] {
        world.send(&[0u8], (1 - world.rank(), TAG)).unwrap();
    }
    for world in [one, other] {
        world.recv(&mut [9u8], (1 - world.rank(), TAG)).unwrap();
    }
}

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at + at / 256) as u8).collect()
}

/// Opens the lanes to rank 1 for a message of so many bytes, and makes its envelope.
fn prepare_send(world: &World, engine: &mut Engine, length: usize) -> Envelope {
    engine.open_lanes(1, length as u64).unwrap();
    let site = engine.call_sites.intern(CallSite::here());
    let element = Content::Elements(type_hash::<u8>());
    world.envelope(world.context, length, element, TAG, Mode::Standard, site)
}

/// Sends the first parts of a message, and nothing more.
fn send_parts(world: &World, length: usize, count: usize) {
    let mut engine = world.engine.borrow_mut();
    let envelope = prepare_send(world, &mut engine, length);
    let engine = &mut *engine;
    let (lender, link) = (engine.lender.as_mut().unwrap(), &mut engine.links[1]);
    let (whole, bytes) = (content(length), part_bytes(length as u64, false));
    let mut last = None;
    for (index, part) in whole.chunks(bytes).take(count).enumerate() {
        let behind = last.and_then(|last| part_behind(last, bytes));
        let place = behind.unwrap_or_else(|| lender.lend_eager(1).unwrap());
        link.chunks.fill(place, part, false).unwrap();
        let (flags, lent) = (chunk_flags(false, part_behind(place, bytes).is_some()), place.for_the_other());
        let producer = link.producer.as_mut().unwrap();
        match index {
            0 => producer.try_push(LENT | flags, envelope.words(), &lent.to_bytes()).unwrap(),
            _ => producer.try_push(PART | flags, part_words(index, lent), &[]).unwrap(),
        }
        last = Some(place);
    }
}

/// Whether all chunks of a rank's pool are free.
fn all_chunks_are_free(world: &World) -> bool {
    let mut engine = world.engine.borrow_mut();
    let chunks = engine.job.geometry().pool_chunks;
    // As many as eager messages may have.
    engine.lender.as_mut().unwrap().may_lend(chunks - chunks / 8 - 2)
}

/// [`all_chunks_are_free`] when no rank holds on to any.
fn all_chunks_come_back(world: &World, other: &World) -> bool {
    [world, other].into_iter().for_each(|world| world.engine.borrow_mut().give_back_held().unwrap());
    all_chunks_are_free(world)
}

#[test]
fn parts_arrive_expected_and_unexpected() {
    with_ranks(|sender, receiver| {
        for length in
            [PART_BYTES, PART_BYTES + 1, 32 << 10, (32 << 10) + 1, 50_000, LESS_EAGER_BYTES as usize]
        {
            let sent = content(length);
            for from in [Source::from((0, TAG)), (ANY_SOURCE, TAG).into()] {
                let mut buffer = vec![0; length];
                sender.send(&sent, (1, TAG)).unwrap();
                receiver.recv(&mut buffer, from).unwrap();
                assert_eq!(buffer, sent, "at once");
                // Another one before it: it is kept until it is asked for.
                sender.send(&[1u8], (1, TAG + 1)).unwrap();
                sender.send(&sent, (1, TAG)).unwrap();
                buffer.fill(0);
                receiver.recv(&mut buffer, from).unwrap();
                assert_eq!(buffer, sent, "unexpected");
                receiver.recv(&mut [0u8], (0, TAG + 1)).unwrap();
                let posted = receiver.irecv::<u8>(from).unwrap();
                sender.send(&sent, (1, TAG)).unwrap();
                assert_eq!(posted.wait().unwrap().0, sent, "expected");
            }
        }
        assert!(all_chunks_come_back(sender, receiver));
    });
}

/// The longest message to a near core is held by who has read it, and kept in its chunks by who has not.
#[test]
fn the_longest_eager_message_is_held_and_kept() {
    with_ranks(|sender, receiver| {
        let whole = content(EAGER_BYTES as usize);
        let lend = || {
            let mut engine = sender.engine.borrow_mut();
            let envelope = prepare_send(sender, &mut engine, whole.len());
            assert!(matches!(engine.lend_parts(1, &envelope, &whole, false), Lending::Done));
        };
        let receive = || {
            let mut buffer = vec![0; whole.len()];
            receiver.recv(&mut buffer, (0, TAG)).unwrap();
            assert!(buffer == whole);
            assert_eq!(receiver.engine.borrow().links[0].chunks.held(), MOST_PARTS);
        };
        lend();
        receive();
        lend();
        assert!(receiver.try_probe((0, TAG + 1)).unwrap().is_none());
        assert_eq!(receiver.engine.borrow().links[0].kept_chunks(), MOST_PARTS);
        receive();
        assert!(all_chunks_come_back(sender, receiver));
    });
}

/// Parts for a distant core are whole chunks, however short the message, and lie in none that this rank holds on to.
#[test]
fn streamed_parts_are_whole_chunks() {
    with_ranks(|sender, receiver| {
        let stream = |payload: &[u8]| {
            let mut engine = sender.engine.borrow_mut();
            let envelope = prepare_send(sender, &mut engine, payload.len());
            let cells = engine.links[1].producer.as_ref().unwrap().pushed();
            assert!(matches!(engine.lend_parts(1, &envelope, payload, true), Lending::Done));
            let cells = engine.links[1].producer.as_ref().unwrap().pushed() - cells;
            assert_eq!(cells, payload.len().div_ceil(CHUNK_BYTES) as u64);
            cells as usize
        };
        receiver.send(&content(40_000), (0, TAG)).unwrap();
        sender.recv(&mut vec![0u8; 40_000], (1, TAG)).unwrap();
        let held = sender.engine.borrow().links[1].chunks.held();
        assert_eq!(held, 3);
        for length in
            [PART_BYTES + 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 100_000, EAGER_BYTES as usize]
        {
            let whole = content(length);
            stream(&whole);
            let mut buffer = vec![0; length];
            receiver.recv(&mut buffer, (0, TAG)).unwrap();
            assert!(buffer == whole, "{length} bytes at once");
            // It comes before its receive, and is kept, in its chunks if there are many of them.
            let parts = stream(&whole);
            assert!(receiver.try_probe((0, TAG + 1)).unwrap().is_none());
            let kept = receiver.engine.borrow().links[0].kept_chunks();
            assert_eq!(kept, if parts >= 7 { parts } else { 0 });
            assert!(receiver.recv_vec::<u8>((0, TAG)).unwrap().0 == whole, "{length} bytes, unexpected");
        }
        assert_eq!(sender.engine.borrow().links[1].chunks.held(), held);
        assert!(all_chunks_come_back(sender, receiver));
    });
}

#[test]
fn parts_that_do_not_fit_are_taken_all_the_same() {
    with_ranks(|sender, receiver| {
        for length in LENGTHS {
            sender.send(&content(length), (1, TAG)).unwrap();
            let error = receiver.recv(&mut vec![0u8; length - 1], (0, TAG)).unwrap_err();
            assert!(matches!(error, Error::Truncated { .. }), "{error}");
            sender.send(&[3u8], (1, TAG)).unwrap();
            let mut next = [0u8];
            receiver.recv(&mut next, (0, TAG)).unwrap();
            assert_eq!(next, [3]);
        }
        assert!(all_chunks_come_back(sender, receiver));
    });
}

#[test]
fn a_message_whose_sender_dies_between_its_parts_was_never_sent() {
    for (length, parts) in [(LENGTHS[2], 1), (READ_BEHIND, 1), (READ_BEHIND, 7)] {
        for from in [Source::from((0, TAG)), (ANY_SOURCE, TAG).into()] {
            with_ranks(|sender, receiver| {
                let whole = content(length);
                sender.send(&whole, (1, TAG)).unwrap();
                send_parts(sender, length, parts);
                let mut buffer = vec![0; length];
                receiver.recv(&mut buffer, from).unwrap();
                assert!(buffer == whole);
                assert!(receiver.try_probe(from).unwrap().is_none());
                receiver.engine.borrow().job.depart(0, rank_state::DEAD);
                let error = receiver.recv(&mut buffer, from).unwrap_err();
                let gone = matches!(error, Error::PeerGone { rank: 0, .. } | Error::NobodyLeft { .. });
                assert!(gone, "{error}");
            });
        }
    }
}

/// What is wrong with a later part is found before anything is given back.
#[test]
fn a_damaged_part_is_an_error() {
    let damage = [(LENGTHS[1], 1, 2, 0), (LENGTHS[1], 1, 1, u32::MAX)];
    let read_behind = [(READ_BEHIND, 18, 17, 0), (READ_BEHIND, 18, 18, u32::MAX)];
    for (length, parts, index, chunk) in damage.into_iter().chain(read_behind) {
        for from in [Source::from((0, TAG)), (ANY_SOURCE, TAG).into()] {
            with_ranks(|sender, receiver| {
                send_parts(sender, length, parts);
                let words = part_words(index, Lent::theirs(chunk));
                let mut engine = sender.engine.borrow_mut();
                engine.links[1].producer.as_mut().unwrap().try_push(PART, words, &[]).unwrap();
                drop(engine);
                let error = receiver.recv(&mut vec![0u8; length], from).unwrap_err();
                assert!(matches!(error, Error::Damaged { .. }), "{error}");
                assert!(!all_chunks_are_free(sender));
            });
        }
    }
}

#[test]
fn what_is_thrown_away_gives_its_chunks_back() {
    with_ranks(|sender, receiver| {
        for length in LENGTHS {
            sender.send(&content(length), (1, TAG)).unwrap();
        }
        assert!(!all_chunks_are_free(sender));
        let mut engine = receiver.engine.borrow_mut();
        engine.notice_rings();
        let consumer = engine.links[0].consumer.take().unwrap();
        let consumer = engine.empty_ring(0, consumer).unwrap();
        engine.links[0].consumer = Some(consumer);
        assert!(all_chunks_are_free(sender));
        let charged = sender.engine.borrow().links[1].charged;
        assert_eq!(engine.links[0].released, charged);
    });
}

/// Room in the ring comes back when the receiver looks, whatever it receives: an eager message waits for that, and not for
/// its match, however few cells are left.
#[test]
fn parts_wait_for_room_in_the_ring_and_not_for_a_match() {
    with_ranks(|sender, receiver| {
        // An odd number of cells: at the end one is left, where two are needed.
        sender.send(&[1u8], (1, TAG + 1)).unwrap();
        let whole = content(LENGTHS[1]);
        let sends: Vec<_> = (0..40).map(|_| sender.isend(whole.clone(), (1, TAG)).unwrap()).collect();
        assert!(receiver.try_probe((0, TAG + 2)).unwrap().is_none());
        // None of them has been received.
        sends.into_iter().for_each(|send| drop(send.wait().unwrap()));
        for _ in 0..40 {
            assert_eq!(receiver.recv_vec::<u8>((0, TAG)).unwrap().0, whole);
        }
        receiver.recv(&mut [0u8], (0, TAG + 1)).unwrap();
        assert!(all_chunks_come_back(sender, receiver));
    });
}

/// Not a byte of a message is in a buffer that another message is received into.
#[test]
fn another_message_overtakes_one_that_has_not_come_as_a_whole() {
    // So that they look before they sleep.
    with_processors(3, 3, |worlds| {
        let [first, receiver, second] = worlds else { panic!("three ranks") };
        send_parts(first, LENGTHS[2], 1);
        let mut buffer = vec![9u8; LENGTHS[2]];
        for message in 0..100u8 {
            second.send(&[message; 3], (1, TAG)).unwrap();
            let status = receiver.recv(&mut buffer, (ANY_SOURCE, TAG)).unwrap();
            assert_eq!((status.source, status.bytes, &buffer[..3]), (2, 3, &[message; 3][..]));
            assert!(buffer[3..].iter().all(|&byte| byte == 9), "the buffer is untouched behind the message");
        }
    });
}

/// Messages that answer each other lie in the same chunks, whichever rank's they are, and however long they are.
#[test]
fn an_answer_lies_in_the_chunks_of_what_it_answers() {
    with_ranks(|one, other| {
        let lengths =
            [3000, PART_BYTES, PART_BYTES + 1, 40_000, LESS_EAGER_BYTES as usize, 2000, 50_000, 5000];
        for (round, &length) in lengths.iter().cycle().take(1000).enumerate() {
            let (there, back) = (content(length), content(lengths[(round / 3) % lengths.len()]));
            one.send(&there, (1, TAG)).unwrap();
            assert_eq!(other.recv_vec::<u8>((0, TAG)).unwrap().0, there, "round {round}");
            other.send(&back, (0, TAG)).unwrap();
            // Every third one is found by a receive for another one, and kept.
            if round % 3 == 0 {
                assert!(one.try_probe((1, TAG + 1)).unwrap().is_none());
            }
            assert_eq!(one.recv_vec::<u8>((1, TAG)).unwrap().0, back, "round {round}");
        }
        assert!(all_chunks_come_back(one, other) && all_chunks_come_back(other, one));
    });
}

#[test]
fn a_chunk_goes_to_and_fro_and_no_other_is_touched() {
    with_ranks(|one, other| {
        let whole = content(4000);
        let place = |world: &World| world.engine.borrow().links[1 - world.rank()].chunks.clone_held();
        let mut places = Vec::new();
        for _ in 0..4 {
            for (from, to) in [(one, other), (other, one)] {
                from.send(&whole, (to.rank(), TAG)).unwrap();
                assert_eq!(to.recv_vec::<u8>((from.rank(), TAG)).unwrap().0, whole);
                places.push((to.rank(), place(to)));
            }
        }
        let [chunk] = place(one)[..] else { panic!("one message in one chunk") };
        for (rank, held) in places {
            assert_eq!(held, [Lent { mine: rank == 0, ..chunk }]);
        }
    });
}

/// A long message that comes before its receive stays in its chunks, as long as there are not too many of them; nothing changes
/// for who receives it, or gives it up.
#[test]
fn long_messages_are_kept_in_their_chunks() {
    with_ranks(|sender, receiver| {
        let kept = || receiver.engine.borrow().links[0].kept_chunks();
        for given_up in [false, true] {
            let messages: Vec<_> = (0..5).map(|number| content(100_000 + number)).collect();
            for message in &messages {
                sender.send(message, (1, TAG)).unwrap();
            }
            assert!(receiver.try_probe((0, TAG + 1)).unwrap().is_none());
            // Seven parts each, and at most 32 of all of them.
            assert_eq!(kept(), 28);
            assert!(!all_chunks_are_free(sender));
            if given_up {
                receiver.engine.borrow_mut().give_up_messages().unwrap();
            } else {
                let error = receiver.recv(&mut [0u8; 10], (0, TAG)).unwrap_err();
                assert!(matches!(error, Error::Truncated { .. }), "{error}");
                for message in &messages[1..] {
                    assert!(receiver.recv_vec::<u8>((0, TAG)).unwrap().0 == *message);
                }
            }
            assert_eq!(kept(), 0);
            assert!(all_chunks_come_back(sender, receiver));
            let charged = sender.engine.borrow().links[1].charged;
            assert_eq!(receiver.engine.borrow().links[0].released, charged);
        }
    });
}

/// Who goes to sleep gives back what it holds on to.
#[test]
fn a_rank_that_sleeps_holds_no_chunks() {
    let job: &'static Job = Box::leak(Box::new(in_process(2).unwrap()));
    let [sender, receiver] = [0, 1].map(|rank| World::attached(Attachment::of_thread(job, rank)));
    sender.send(&content(3000), (1, TAG)).unwrap();
    let receiver = std::thread::spawn(move || {
        receiver.recv(&mut vec![0u8; 3000], (0, TAG)).unwrap();
        receiver.recv(&mut [0u8], (0, TAG + 1)).unwrap();
        receiver
    });
    let begin = Instant::now();
    while !all_chunks_are_free(&sender) {
        assert!(begin.elapsed() < Duration::from_secs(60), "chunks are held in a sleep");
        std::thread::yield_now();
    }
    sender.send(&[0u8], (1, TAG + 1)).unwrap();
    let receiver = receiver.join().unwrap();
    [sender, receiver].into_iter().for_each(|world| drop(world.fail("the test is over".to_owned())));
}

/// Of what is thrown away chunks of either pool come back, and the shuttle with it.
#[test]
fn answers_that_are_thrown_away_give_their_chunks_back() {
    with_ranks(|one, other| {
        meet(one, other);
        one.send(&content(LENGTHS[1]), (1, TAG)).unwrap();
        one.send(&[0u8], (1, TAG)).unwrap();
        other.recv(&mut vec![0u8; LENGTHS[1]], (0, TAG)).unwrap();
        other.recv(&mut [0u8], (0, TAG)).unwrap();
        // Both come home unread.
        other.send(&content(LENGTHS[1]), (0, TAG)).unwrap();
        other.send(&[0u8], (0, TAG)).unwrap();
        assert!(!all_chunks_are_free(one));
        let before = in_shuttle(one);
        let mut engine = one.engine.borrow_mut();
        let consumer = engine.links[1].consumer.take().unwrap();
        let consumer = engine.empty_ring(1, consumer).unwrap();
        engine.links[1].consumer = Some(consumer);
        drop(engine);
        assert!(all_chunks_are_free(one));
        one.send(&[5u8], (1, TAG)).unwrap();
        assert_eq!(in_shuttle(one), before + 1);
        let mut buffer = [0u8];
        other.recv(&mut buffer, (0, TAG)).unwrap();
        assert_eq!(buffer, [5]);
    });
}

/// What a rank sent before it died is received, and the chunk that came with it is free again then, just once.
#[test]
fn chunks_that_came_home_from_a_rank_that_died_are_free() {
    with_ranks(|one, other| {
        for length in [4000, 40_000] {
            let whole = content(length);
            one.send(&whole, (1, TAG)).unwrap();
            other.recv(&mut vec![0u8; length], (0, TAG)).unwrap();
            other.send(&whole, (0, TAG)).unwrap();
        }
        one.engine.borrow().job.depart(1, rank_state::DEAD);
        // It is noticed before anything is received.
        assert!(one.engine.borrow_mut().notice_departures().unwrap());
        for length in [4000, 40_000] {
            assert_eq!(one.recv_vec::<u8>((1, TAG)).unwrap().0, content(length));
        }
        assert!(all_chunks_come_back(one, one));
        let mut engine = one.engine.borrow_mut();
        let lender = engine.lender.as_mut().unwrap();
        let mut chunks: Vec<_> = std::iter::from_fn(|| lender.lend_matched(1, 0)).collect();
        let lent = chunks.len();
        chunks.sort_unstable();
        chunks.dedup();
        assert_eq!(chunks.len(), lent, "no chunk is lent twice");
    });
}

/// Messages in the shuttle between both ranks so far.
fn in_shuttle(world: &World) -> u32 {
    world.engine.borrow().job.ring(0, 1).shuttle().messages()
}

#[test]
fn short_messages_that_answer_each_other_share_a_line() {
    with_ranks(|one, other| {
        meet(one, other);
        let before = in_shuttle(one);
        for round in 0..100u32 {
            let message = vec![round; round as usize % 25];
            for (from, to, source) in [
                (one, other, Source::from((0, TAG))),
                (other, one, Source::from((1, TAG))),
                (one, other, (ANY_SOURCE, TAG).into()),
                (other, one, (ANY_SOURCE, TAG).into()),
            ] {
                let mut buffer = [7; 24];
                from.send(&message, (to.rank(), TAG)).unwrap();
                let status = to.recv(&mut buffer, source).unwrap();
                assert_eq!((status.bytes, status.source), (4 * message.len() as u64, from.rank()));
                assert_eq!(buffer[..message.len()], message);
            }
        }
        assert_eq!(in_shuttle(one) - before, 400);
        // One byte too many.
        one.send(&[1u8; 97], (1, TAG)).unwrap();
        other.recv(&mut [0u8; 97], (0, TAG)).unwrap();
        assert_eq!(in_shuttle(one) - before, 400);
    });
}

/// What goes by the shuttle, through the ring and in chunks is received in the order in which it was sent, whatever is posted.
#[test]
fn lanes_keep_their_order() {
    with_ranks(|one, other| {
        let lengths = [8, 40, 3000, 0, 96, 20_000, 97, 1];
        let mut seed = 1u32;
        let mut random = |below: usize| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 16) as usize % below
        };
        for round in 0..500 {
            let (from, to) = if round % 2 == 0 { (one, other) } else { (other, one) };
            let sent: Vec<_> = (0..1 + random(6)).map(|_| content(lengths[random(lengths.len())])).collect();
            let posted: Vec<_> =
                (0..random(3).min(sent.len())).map(|_| to.irecv::<u8>((from.rank(), TAG)).unwrap()).collect();
            for message in &sent {
                from.send(message, (to.rank(), TAG)).unwrap();
            }
            if random(3) == 0 {
                // All are found, and kept.
                assert!(to.try_probe((from.rank(), TAG + 1)).unwrap().is_none());
            }
            let mut received: Vec<_> = posted.into_iter().map(|request| request.wait().unwrap().0).collect();
            while received.len() < sent.len() {
                received.push(to.recv_vec::<u8>((from.rank(), TAG)).unwrap().0);
            }
            assert!(received == sent, "round {round}");
        }
        assert!(in_shuttle(one) > 100);
    });
}

#[test]
fn what_the_shuttle_never_carries_is_damage() {
    with_ranks(|one, other| {
        meet(one, other);
        let mut engine = one.engine.borrow_mut();
        let link = &mut engine.links[1];
        let pushed = link.producer.as_ref().unwrap().pushed();
        link.consumer.as_mut().unwrap().send_in_shuttle(pushed, LENT, [0; 3], &[0; 8]);
        drop(engine);
        let error = other.recv(&mut [0u8], (0, TAG)).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
    });
}

/// Sends so many messages, fewer than a ring has cells, all of which are there when they are received.
fn stream(from: &World, to: &World, messages: u8) {
    (0..messages).for_each(|value| from.send(&[value], (to.rank(), TAG)).unwrap());
    let mut buffers = vec![[0u8]; messages.into()];
    let source = (from.rank(), TAG);
    to.scope(|scope| buffers.iter_mut().try_for_each(|one| scope.irecv(one, source).map(drop))).unwrap();
    assert!(buffers.iter().map(|one| one[0]).eq(0..messages));
}

/// Receives a message from rank 0 as if that had not been there at the first look; whether one looked again, and had it then.
fn receive_at_once(receiver: &World) -> (bool, bool) {
    let looks = looks_again(receiver);
    let mut buffer = BorrowedBuffer::leaked(1);
    let pattern = receiver.pattern((0, TAG).into());
    let received = receiver.engine.borrow_mut().receive_at_once(pattern, &expected::<u8>(), &mut buffer);
    (looks, received.unwrap().is_some())
}

/// Looks again for a message that does not come.
fn look_in_vain(receiver: &World) {
    assert_eq!(receive_at_once(receiver), (true, false));
}

fn looks_again(receiver: &World) -> bool {
    receiver.engine.borrow_mut().look_again(0)
}

#[test]
fn who_only_receives_looks_again_for_what_comes_a_moment_later() {
    with_ranks(|sender, receiver| {
        (0..6).for_each(|_| stream(sender, receiver, 60));
        look_in_vain(receiver);
        assert!(!looks_again(receiver), "it was in vain");
        stream(sender, receiver, 4);
        look_in_vain(receiver);
        stream(sender, receiver, 7);
        assert!(!looks_again(receiver), "it was in vain twice");
        stream(sender, receiver, 1);
        sender.send(&[8u8], (1, TAG)).unwrap();
        assert_eq!(receive_at_once(receiver), (true, true));
        look_in_vain(receiver);
        stream(sender, receiver, 4);
        assert!(looks_again(receiver), "it has not been in vain twice since it was not");
    });
}

/// What is there is not what the receive wants: that is in vain, too.
#[test]
fn another_message_is_not_what_one_has_looked_for() {
    with_ranks(|sender, receiver| {
        (0..6).for_each(|_| stream(sender, receiver, 60));
        sender.send(&[8u8], (1, TAG + 1)).unwrap();
        look_in_vain(receiver);
        assert!(!looks_again(receiver));
        receiver.recv(&mut [0u8], (0, TAG + 1)).unwrap();
    });
}

#[test]
fn who_has_something_under_way_does_not_look_again() {
    with_ranks(|sender, receiver| {
        (0..6).for_each(|_| stream(sender, receiver, 60));
        assert!(looks_again(receiver));
        // More than the ring takes.
        let sends: Vec<_> = (0..2000).map(|_| receiver.isend(vec![1u8], (0, TAG)).unwrap()).collect();
        assert!(!receiver.engine.borrow().outgoing.is_empty());
        assert!(!looks_again(receiver));
        drop(sends);
    });
}

#[test]
fn who_shares_its_processor_does_not_look_again() {
    with_processors(2, 1, |worlds| {
        let [sender, receiver] = worlds else { panic!("two ranks") };
        (0..6).for_each(|_| stream(sender, receiver, 60));
        assert!(!looks_again(receiver));
    });
}

/// Neither to whom it receives from nor to another one, and however long the messages are.
#[test]
fn who_sends_too_does_not_look_again() {
    for (ranks, to) in [(2, 0), (3, 2)] {
        with_processors(ranks, 3, |worlds| {
            let (sender, receiver) = (&worlds[0], &worlds[1]);
            meet(sender, receiver);
            for _ in 0..6 {
                stream(sender, receiver, 60);
                stream(receiver, &worlds[to], 60);
            }
            assert!(!looks_again(receiver), "sends to rank {to}");
        });
    }
    with_ranks(|sender, receiver| {
        meet(sender, receiver);
        let whole = content(READ_BEHIND / 2);
        for _ in 0..60 {
            sender.send(&whole, (1, TAG)).unwrap();
            assert_eq!(receiver.recv_vec::<u8>((0, TAG)).unwrap().0, whole);
            receiver.send(&whole, (0, TAG)).unwrap();
            assert_eq!(sender.recv_vec::<u8>((1, TAG)).unwrap().0, whole);
        }
        assert!(!looks_again(receiver));
    });
}
