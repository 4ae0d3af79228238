//! The channel between two ends of one process: lengths, paging, alternation, time, roles.
#![cfg(not(loom))]

mod common;

use std::thread;
use std::time::{Duration, Instant};

use common::{leftovers, message, name, watched};
use shm_core::SegmentError;
use shm_core::channel::{
    Channel, ChannelError, Client, Consumer, Departure, Options, Publisher, Role, Server,
};

const CAPACITY: usize = 4096 + 100;
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(20);

fn one_way(name: &str) -> (Publisher, Consumer) {
    let publisher =
        Channel::create(name, &Options::default().capacity(CAPACITY)).unwrap().publisher().unwrap();
    (publisher, Channel::open(name).unwrap().consumer().unwrap())
}

fn request_reply(name: &str) -> (Client, Server) {
    let client = Channel::create(name, &Options::default().capacity(CAPACITY)).unwrap().client().unwrap();
    (client, Channel::open(name).unwrap().server().unwrap())
}

#[test]
fn every_length_around_the_capacity_arrives_intact() {
    watched("lengths", || {
        let (mut publisher, mut consumer) = one_way(&name("len"));
        let around = |multiple: usize| (multiple * CAPACITY).saturating_sub(2)..multiple * CAPACITY + 3;
        let lengths: Vec<usize> = [0, 1, 2, 3, 7].into_iter().flat_map(around).collect();
        let sent = lengths.clone();
        let sender = thread::spawn(move || {
            for (number, length) in sent.into_iter().enumerate() {
                publisher.publish(&message(number as u64, length)).unwrap();
            }
            publisher.flush().unwrap();
        });
        let mut buffer = vec![9; 3];
        for (number, length) in lengths.into_iter().enumerate() {
            consumer.receive_into(&mut buffer).unwrap();
            assert_eq!(buffer.len(), length);
            assert!(buffer == message(number as u64, length), "length {length} has other bytes");
        }
        sender.join().unwrap();
    });
}

#[test]
fn the_next_message_waits_until_the_last_is_consumed() {
    let (mut publisher, mut consumer) = one_way(&name("alt"));
    assert_eq!(consumer.try_receive().unwrap(), None);
    assert!(publisher.try_publish(b"first").unwrap());
    assert!(!publisher.try_publish(b"second").unwrap());
    let late = publisher.publish_timeout(b"second", SHORT);
    assert!(
        matches!(late, Err(ChannelError::Timeout { limit: SHORT, role: Role::Consumer, .. })),
        "{late:?}"
    );
    assert!(matches!(publisher.flush_timeout(SHORT), Err(ChannelError::Timeout { .. })));
    assert_eq!(consumer.try_receive().unwrap().as_deref(), Some(&b"first"[..]));
    assert!(publisher.try_publish(b"second").unwrap());
    assert_eq!(consumer.receive().unwrap(), b"second");
    publisher.flush().unwrap();
}

#[test]
fn a_timeout_waits_its_time_and_nothing_is_lost() {
    let (mut publisher, mut consumer) = one_way(&name("time"));
    let begin = Instant::now();
    assert!(matches!(consumer.receive_timeout(SHORT), Err(ChannelError::Timeout { .. })));
    assert!(begin.elapsed() >= SHORT);
    publisher.publish(b"later").unwrap();
    assert_eq!(consumer.receive_timeout(LONG).unwrap(), b"later");
}

#[test]
fn a_long_message_that_is_given_up_does_not_mix_with_the_next() {
    watched("give up", || {
        let (mut publisher, mut consumer) = one_way(&name("give"));
        let long = message(1, 3 * CAPACITY);
        assert!(matches!(publisher.publish_timeout(&long, SHORT), Err(ChannelError::Timeout { .. })));
        assert_eq!(consumer.try_receive().unwrap(), None, "one chunk of three");
        assert!(publisher.try_publish(b"next").unwrap());
        let lost = consumer.try_receive();
        let (part, all) = (CAPACITY as u64, 3 * CAPACITY as u64);
        assert!(
            matches!(lost, Err(ChannelError::Abandoned { received, total, .. }) if (received, total) == (part, all)),
            "{lost:?}"
        );
        assert_eq!(consumer.receive().unwrap(), b"next");
    });
}

#[test]
fn a_long_message_is_not_tried_and_the_error_names_both_sizes() {
    let (mut publisher, _consumer) = one_way(&name("long"));
    let error = publisher.try_publish(&vec![0; CAPACITY + 1]).unwrap_err();
    assert!(matches!(error, ChannelError::LongerThanCapacity { length, capacity, .. }
            if length == CAPACITY + 1 && capacity == CAPACITY));
}

#[test]
fn a_timed_receive_keeps_the_part_that_has_come() {
    watched("resume", || {
        let (mut publisher, mut consumer) = one_way(&name("resume"));
        let long = message(5, 2 * CAPACITY + 1);
        let expected = long.clone();
        let sender = thread::spawn(move || publisher.publish_timeout(&long, LONG).map(|()| publisher));
        let received = loop {
            match consumer.receive_timeout(Duration::ZERO) {
                Ok(received) => break received,
                Err(ChannelError::Timeout { .. }) => thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        };
        assert!(received == expected);
        sender.join().unwrap().unwrap();
    });
}

#[test]
fn replies_take_the_place_of_what_the_buffer_held() {
    let (mut client, mut server) = request_reply(&name("into"));
    thread::scope(|scope| {
        scope.spawn(move || server.serve(|request| request.repeat(2)).unwrap());
        let mut reply = b"something longer than what comes".to_vec();
        // Lengths that grow and shrink, and none at all.
        for length in [3, CAPACITY, 1, 0, 2 * CAPACITY + 1] {
            let request: Vec<u8> = (0..length).map(|at| at as u8).collect();
            client.request_into(&request, &mut reply).unwrap();
            assert_eq!(reply, request.repeat(2));
        }
        drop(client);
    });
}

#[test]
fn requests_get_their_replies_and_serve_ends_with_the_client() {
    watched("serve", || {
        let (mut client, mut server) = request_reply(&name("serve"));
        let serving = thread::spawn(move || server.serve(|request| request.iter().rev().copied().collect()));
        for length in [0, 1, CAPACITY - 1, CAPACITY, CAPACITY + 1, 5 * CAPACITY] {
            let request = message(length as u64, length);
            let reply = client.request_timeout(&request, LONG).unwrap();
            assert!(reply.iter().rev().eq(&request), "length {length}");
        }
        drop(client);
        assert_eq!(serving.join().unwrap().unwrap(), 6);
    });
}

#[test]
fn a_reply_that_nobody_waits_for_any_more_is_not_taken_for_the_next() {
    watched("stale", || {
        let (mut client, mut server) = request_reply(&name("stale"));
        assert!(matches!(client.request_timeout(b"one", SHORT), Err(ChannelError::Timeout { .. })));
        let serving = thread::spawn(move || {
            let long_reply = |request: &[u8]| request.repeat(2 * CAPACITY);
            server.serve(long_reply)
        });
        // The server is in the middle of a long reply to "one" while the client sends a long request.
        let request = message(2, 2 * CAPACITY);
        assert!(client.request(&request).unwrap() == request.repeat(2 * CAPACITY));
        drop(client);
        assert_eq!(serving.join().unwrap().unwrap(), 2);
    });
}

#[test]
fn a_reply_to_an_earlier_request_that_comes_after_the_next_request_is_passed_over() {
    let (mut client, mut server) = request_reply(&name("late"));
    assert!(client.try_request(b"one").unwrap());
    let one = server.try_receive().unwrap().expect("the request is there");
    assert!(client.try_request(b"two").unwrap());
    one.reply_timeout(b"reply to one", LONG).unwrap();
    assert_eq!(client.try_reply().unwrap(), None);
    let two = server.try_receive().unwrap().expect("the request is there");
    two.reply_timeout(b"reply to two", LONG).unwrap();
    assert_eq!(client.try_reply().unwrap().as_deref(), Some(&b"reply to two"[..]));
}

#[test]
fn the_forms_that_do_not_wait_make_a_whole_exchange() {
    let (mut client, mut server) = request_reply(&name("try"));
    assert!(server.try_receive().unwrap().is_none());
    assert!(client.try_request(b"ping").unwrap());
    assert_eq!(client.try_reply().unwrap(), None);
    let request = server.try_receive().unwrap().expect("the request is there");
    assert_eq!(request.to_vec(), b"ping");
    request.reply_timeout(b"pong", LONG).unwrap();
    assert_eq!(client.try_reply().unwrap().as_deref(), Some(&b"pong"[..]));
    assert_eq!(client.try_reply().unwrap(), None);
}

#[test]
fn what_was_published_is_received_before_the_departure_is_reported_once() {
    watched("leave", || {
        let name = name("leave");
        let (mut publisher, mut consumer) = one_way(&name);
        publisher.publish(b"last words").unwrap();
        drop(publisher);
        assert_eq!(consumer.receive().unwrap(), b"last words");
        let gone = consumer.receive();
        assert!(
            matches!(gone, Err(ChannelError::PeerGone { role: Role::Publisher, how: Departure::Left, .. })),
            "{gone:?}"
        );
        assert_eq!(consumer.try_receive().unwrap(), None);
        let mut successor = Channel::open(&name).unwrap().publisher().unwrap();
        successor.publish(b"hello again").unwrap();
        assert_eq!(consumer.receive().unwrap(), b"hello again");
    });
}

#[test]
fn publishing_to_a_consumer_that_left_is_an_error() {
    let (mut publisher, consumer) = one_way(&name("left"));
    drop(consumer);
    let gone = publisher.publish(b"anyone?");
    assert!(matches!(gone, Err(ChannelError::PeerGone { how: Departure::Left, .. })), "{gone:?}");
    assert!(publisher.try_publish(b"for the successor").unwrap());
}

#[test]
fn names_ends_and_uses_that_do_not_fit_are_refused() {
    let name = name("refuse");
    let options = Options::default().capacity(CAPACITY);
    assert!(matches!(Channel::open(&name), Err(ChannelError::Segment(SegmentError::Missing { .. }))));
    let publisher = Channel::create(&name, &options).unwrap().publisher().unwrap();
    let again = Channel::create(&name, &options);
    assert!(matches!(again, Err(ChannelError::Segment(SegmentError::Exists { .. }))), "{again:?}");
    let second = Channel::open(&name).unwrap().publisher();
    assert!(matches!(second, Err(ChannelError::RoleTaken { role: Role::Publisher, .. })), "{second:?}");
    let server = Channel::open(&name).unwrap().server();
    assert!(matches!(server, Err(ChannelError::WrongMode { usage: "one way", .. })), "{server:?}");
    let consumer = Channel::open_or_create(&name, &Options::default()).unwrap();
    assert_eq!(consumer.capacity(), CAPACITY, "the creator decides");
    let consumer = consumer.consumer().unwrap();
    for third in [Channel::open(&name), Channel::open_or_create(&name, &options)] {
        assert!(matches!(third, Err(ChannelError::Occupied { .. })), "{third:?}");
    }
    assert!(!Channel::remove_leftover(&name).unwrap());
    drop((publisher, consumer));
    assert_eq!(leftovers(&name), [""; 0]);
}

#[test]
fn names_and_capacities_that_are_not_possible_are_refused() {
    let long = format!("/{}", "x".repeat(29));
    assert!(matches!(Channel::open(&long), Err(ChannelError::Segment(SegmentError::InvalidName { .. }))));
    let name = name("capacity");
    for capacity in [0, usize::MAX] {
        let refused = Channel::create(&name, &Options::default().capacity(capacity));
        assert!(matches!(refused, Err(ChannelError::InvalidCapacity { capacity: c, .. }) if c == capacity));
    }
    assert_eq!(leftovers(&name), [""; 0]);
}

#[test]
fn an_object_of_something_else_is_refused_and_not_removed() {
    let name = name("other");
    let path = format!("/dev/shm{name}");
    std::fs::write(&path, [b'x'; 100]).unwrap();
    let refused = [Channel::open_or_create(&name, &Options::default()), Channel::open(&name)];
    let cleaned = Channel::remove_leftover(&name);
    let kept = std::fs::read(&path);
    std::fs::remove_file(&path).unwrap();
    for refused in refused {
        assert!(
            matches!(refused, Err(ChannelError::Segment(SegmentError::WrongMagic { .. }))),
            "{refused:?}"
        );
    }
    assert!(cleaned.is_err());
    assert_eq!(kept.unwrap(), [b'x'; 100]);
}

#[test]
fn an_idle_receiver_uses_no_processor_time() {
    let (_publisher, mut consumer) = one_way(&name("idle"));
    let wait = thread::spawn(move || {
        let before = processor_ticks();
        assert!(consumer.receive_timeout(Duration::from_secs(1)).is_err());
        processor_ticks() - before
    });
    // A tick is 10 ms: spinning would take 100.
    assert!(wait.join().unwrap() <= 10);
}

/// User and system time of this thread in clock ticks.
fn processor_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

/// The server sees the second client's request before it sees that the first one has left.
#[test]
fn a_client_that_follows_at_once_gets_its_answer() {
    watched("follows", || {
        let name = name("fol");
        let (mut client, mut server) = request_reply(&name);
        assert!(client.try_request(b"first").unwrap());
        server.receive().unwrap().reply(b"one").unwrap();
        assert_eq!(client.try_reply().unwrap().unwrap(), b"one");
        drop(client);
        let mut client = Channel::open(&name).unwrap().client().unwrap();
        assert!(client.try_request(b"second").unwrap());
        let request = server.receive().unwrap();
        assert_eq!(*request, *b"second");
        request.reply(b"two").unwrap();
        assert_eq!(client.try_reply().unwrap().unwrap(), b"two");
        // The departure is reported all the same, and once.
        let reported = server.receive_timeout(LONG).unwrap_err();
        assert!(matches!(reported, ChannelError::PeerGone { how: Departure::Replaced, .. }), "{reported}");
        assert!(server.try_receive().unwrap().is_none());
    });
}
