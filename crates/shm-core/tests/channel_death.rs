//! Processes that are killed at random moments, in every role: an error and not a hang, no half message, and
//! nothing left behind.
//!
//! Each test runs its own binary again as the process to be killed.
#![cfg(not(loom))]

mod common;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use common::{Player, Random, exists, leftovers, message, name, part, play, watched};
use shm_core::SegmentError;
use shm_core::channel::{
    Channel, ChannelError, Client, Consumer, Departure, Options, Publisher, Role, Server,
};

const CAPACITY: usize = 8 << 10;
/// Longer than any wait for a death: a result of "timeout" means that the death was not seen.
const LONG: Duration = Duration::from_secs(30);
const ROUNDS: u64 = 25;

fn options() -> Options {
    Options::default().capacity(CAPACITY)
}

/// Lengths from nothing to several chunks.
fn length(number: u64) -> usize {
    (number as usize * 7919) % (4 * CAPACITY)
}

fn died(error: &ChannelError) -> bool {
    matches!(error, ChannelError::PeerGone { how: Departure::Died | Departure::Replaced, .. })
}

#[test]
fn a_killed_consumer_is_an_error_for_its_publisher() {
    const TEST: &str = "a_killed_consumer_is_an_error_for_its_publisher";
    if let Some(part) = part() {
        let mut consumer = Channel::open(&part[0]).unwrap().consumer().unwrap();
        println!("attached");
        loop {
            let received = consumer.receive();
            // The rest of what the publisher was sending to the predecessor.
            let given_up = matches!(received, Err(ChannelError::Abandoned { .. }));
            assert!(received.is_ok() || given_up, "{received:?}");
        }
    }
    watched(TEST, || {
        let name = name("dc");
        let mut random = Random::new(0x5eed1);
        let mut publisher = Channel::create(&name, &options()).unwrap().publisher().unwrap();
        for _ in 0..ROUNDS {
            let mut player = play(TEST, &name);
            player.await_line("attached");
            let moment = Duration::from_micros(random.below(20_000));
            let killer = thread::spawn(move || {
                thread::sleep(moment);
                player.kill();
            });
            let error = publish_until_error(&mut publisher);
            killer.join().unwrap();
            assert!(died(&error), "{error}");
        }
        drop(publisher);
        assert_eq!(leftovers(&name), [""; 0]);
    });
}

fn publish_until_error(publisher: &mut Publisher) -> ChannelError {
    (0..)
        .find_map(|n| publisher.publish_timeout(&message(n, length(n)), LONG).err())
        .expect("an error in the end")
}

#[test]
fn a_killed_publisher_is_an_error_and_no_message_is_half() {
    const TEST: &str = "a_killed_publisher_is_an_error_and_no_message_is_half";
    if let Some(part) = part() {
        let mut publisher = Channel::open(&part[0]).unwrap().publisher().unwrap();
        println!("attached");
        panic!("{}", publish_until_error(&mut publisher));
    }
    watched(TEST, || {
        let name = name("dp");
        let mut random = Random::new(0x5eed2);
        let mut consumer = Channel::create(&name, &options()).unwrap().consumer().unwrap();
        let mut received = 0;
        for _ in 0..ROUNDS {
            let mut player = play(TEST, &name);
            player.await_line("attached");
            let moment = Duration::from_micros(random.below(20_000));
            let killer = thread::spawn(move || {
                thread::sleep(moment);
                player.kill();
            });
            received += receive_until_death(&mut consumer);
            killer.join().unwrap();
        }
        assert!(received > 0, "the publishers lived long enough for some messages");
        drop(consumer);
        assert_eq!(leftovers(&name), [""; 0]);
    });
}

/// Each publisher counts from 0, and all that arrives is whole and in order.
fn receive_until_death(consumer: &mut Consumer) -> u64 {
    for number in 0.. {
        match consumer.receive_timeout(LONG) {
            Ok(bytes) => assert!(bytes == message(number, length(number)), "message {number} is damaged"),
            Err(error) if died(&error) => return number,
            Err(error) => panic!("{error}"),
        }
    }
    unreachable!("numbers do not end")
}

#[test]
fn a_death_is_an_error_within_a_second_also_for_a_parked_waiter() {
    const TEST: &str = "a_death_is_an_error_within_a_second_also_for_a_parked_waiter";
    if let Some(part) = part() {
        let _publisher = Channel::open(&part[0]).unwrap().publisher().unwrap();
        println!("attached");
        thread::sleep(LONG);
    }
    watched(TEST, || {
        let name = name("d1");
        let mut consumer = Channel::create(&name, &options()).unwrap().consumer().unwrap();
        let mut player = play(TEST, &name);
        player.await_line("attached");
        let waiter = thread::spawn(move || (consumer.receive_timeout(LONG), Instant::now()));
        thread::sleep(Duration::from_millis(100));
        let killed = Instant::now();
        player.kill();
        let (result, seen) = waiter.join().unwrap();
        assert!(matches!(result, Err(ChannelError::PeerGone { how: Departure::Died, .. })), "{result:?}");
        // The promise of the interface, four times the slice in which waiters look.
        assert!(seen - killed < Duration::from_secs(1), "{:?}", seen - killed);
    });
}

#[test]
fn a_killed_server_is_an_error_and_its_successor_serves_on() {
    const TEST: &str = "a_killed_server_is_an_error_and_its_successor_serves_on";
    if let Some(part) = part() {
        let mut server = Channel::open(&part[0]).unwrap().server().unwrap();
        println!("attached");
        server.serve(|request| request.repeat(3)).unwrap();
        return;
    }
    watched(TEST, || {
        let name = name("ds");
        let mut random = Random::new(0x5eed3);
        let mut client = Channel::create(&name, &options()).unwrap().client().unwrap();
        for _ in 0..ROUNDS {
            let mut player = play(TEST, &name);
            player.await_line("attached");
            let moment = Duration::from_micros(random.below(20_000));
            let killer = thread::spawn(move || {
                thread::sleep(moment);
                player.kill();
            });
            let error = ask_until_error(&mut client);
            killer.join().unwrap();
            assert!(died(&error), "{error}");
        }
        let mut last = play(TEST, &name);
        last.await_line("attached");
        assert_eq!(client.request_timeout(b"ab", LONG).unwrap(), b"ababab");
        drop(client);
        last.finish();
        assert_eq!(leftovers(&name), [""; 0]);
    });
}

/// Every reply that comes answers the request before it.
fn ask_until_error(client: &mut Client) -> ChannelError {
    for number in 0.. {
        let request = message(number, length(number) / 3);
        match client.request_timeout(&request, LONG) {
            Ok(reply) => assert!(reply == request.repeat(3), "another request's reply"),
            Err(error) => return error,
        }
    }
    unreachable!("numbers do not end")
}

#[test]
fn a_killed_client_does_not_stop_its_server() {
    const TEST: &str = "a_killed_client_does_not_stop_its_server";
    if let Some(part) = part() {
        let mut client = Channel::open(&part[0]).unwrap().client().unwrap();
        println!("attached");
        panic!("{}", ask_until_error(&mut client));
    }
    watched(TEST, || {
        let name = name("dq");
        let mut random = Random::new(0x5eed4);
        let server = Channel::create(&name, &options()).unwrap().server().unwrap();
        let serving = thread::spawn(move || serve_clients(server, ROUNDS + 1));
        for _ in 0..ROUNDS {
            let mut player = play(TEST, &name);
            player.await_line("attached");
            thread::sleep(Duration::from_micros(random.below(20_000)));
            player.kill();
            // A successor within the slice would count as the same departure.
            thread::sleep(Duration::from_millis(600));
        }
        let mut client = Channel::open(&name).unwrap().client().unwrap();
        assert_eq!(client.request_timeout(b"still there?", LONG).unwrap(), b"still there?".repeat(3));
        drop(client);
        serving.join().unwrap();
        assert_eq!(leftovers(&name), [""; 0]);
    });
}

fn serve_clients(mut server: Server, clients: u64) {
    for _ in 0..clients {
        server.serve(|request| request.repeat(3)).unwrap();
    }
}

#[test]
fn a_third_process_is_refused_by_name() {
    const TEST: &str = "a_third_process_is_refused_by_name";
    if let Some(part) = part() {
        let refused = Channel::open_or_create(&part[0], &options());
        assert!(matches!(refused, Err(ChannelError::Occupied { .. })), "{refused:?}");
        return;
    }
    watched(TEST, || {
        let name = name("d3");
        let _publisher = Channel::create(&name, &options()).unwrap().publisher().unwrap();
        let _consumer = Channel::open(&name).unwrap().consumer().unwrap();
        play(TEST, &name).finish();
    });
}

#[test]
fn a_creator_killed_at_any_moment_leaves_nothing_in_the_way() {
    const TEST: &str = "a_creator_killed_at_any_moment_leaves_nothing_in_the_way";
    if let Some(part) = part() {
        println!("attached");
        loop {
            drop(Channel::create(&part[0], &options()).unwrap().publisher().unwrap());
        }
    }
    watched(TEST, || {
        let name = name("dk");
        let mut random = Random::new(0x5eed5);
        let mut left = 0;
        for _ in 0..4 * ROUNDS {
            let mut player = play(TEST, &name);
            player.await_line("attached");
            thread::sleep(Duration::from_micros(random.below(3_000)));
            kill_creator(&mut player);
            left += u32::from(exists(&name));
            drop(Channel::create(&name, &options()).unwrap().consumer().unwrap());
            assert_eq!(leftovers(&name), [""; 0]);
        }
        assert!(left > 0, "no kill hit a living channel: the test shows nothing");
    });
}

/// Kills it, and removes the file that glibc's `sem_open` leaves then, which no library can clean up: see `wait.rs`.
///
/// Only what the creator has open itself while it stands still is taken for its own. `sem_open` keeps the file open
/// until it has removed it, and the path of a removed file ends in " (deleted)".
fn kill_creator(player: &mut Player) {
    if !cfg!(feature = "named-semaphores") {
        return player.kill();
    }
    player.stop();
    let unfinished: Vec<_> = player.open_files().into_iter().filter(|path| is_unfinished(path)).collect();
    player.kill();
    for path in unfinished {
        fs::remove_file(path).unwrap();
    }
}

/// Whether glibc gives this name to a semaphore that it has not finished.
fn is_unfinished(path: &Path) -> bool {
    let random = path.to_str().and_then(|path| path.strip_prefix("/dev/shm/sem."));
    random.is_some_and(|random| random.len() == 6 && random.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

#[test]
fn what_a_creator_leaves_before_its_header_is_found_and_removed() {
    let name = name("d0");
    // After shm_open, and after ftruncate.
    for size in [0, 64, 4096, 1 << 20] {
        let lay = || {
            let path = format!("/dev/shm{name}");
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
            file.set_len(size).unwrap();
        };
        lay();
        assert!(Channel::remove_leftover(&name).unwrap());
        assert!(!exists(&name) && !Channel::remove_leftover(&name).unwrap());
        lay();
        let error = Channel::open(&name).unwrap_err();
        if size == 0 {
            // Its creator may be just about to go on, so it stays, and the error says what to do.
            assert!(matches!(error, ChannelError::Unfinished { .. }) && exists(&name), "{error}");
            assert!(error.to_string().contains("remove_leftover"), "{error}");
        } else {
            assert!(matches!(error, ChannelError::Segment(SegmentError::Missing { .. })), "{error}");
        }
        drop(Channel::open_or_create(&name, &options()).unwrap());
        assert_eq!(leftovers(&name), [""; 0]);
    }
}

#[test]
fn both_killed_leave_a_name_that_the_next_user_takes_over() {
    const TEST: &str = "both_killed_leave_a_name_that_the_next_user_takes_over";
    if let Some(part) = part() {
        let channel = Channel::open_or_create(&part[0], &options()).unwrap();
        match part[1].as_str() {
            "publish" => {
                let mut publisher = channel.publisher().unwrap();
                println!("attached");
                drop(publish_until_error(&mut publisher));
            }
            _ => {
                let mut consumer = channel.consumer().unwrap();
                println!("attached");
                while consumer.receive().is_ok() {}
            }
        }
        thread::sleep(LONG);
    }
    watched(TEST, || {
        let name = name("db");
        let mut players = ["publish", "consume"].map(|role| play(TEST, &format!("{name} {role}")));
        players.iter_mut().for_each(|player| player.await_line("attached"));
        assert!(!Channel::remove_leftover(&name).unwrap(), "it is in use");
        players.iter_mut().for_each(|player| player.kill());
        assert!(exists(&name));
        let opened = Channel::open(&name);
        assert!(matches!(opened, Err(ChannelError::Segment(SegmentError::Missing { .. }))), "{opened:?}");
        assert_eq!(leftovers(&name), [""; 0]);
    });
}

#[test]
fn two_cleaners_and_two_creators_on_one_name() {
    const TEST: &str = "two_cleaners_and_two_creators_on_one_name";
    const EXCHANGES: u64 = 200;
    if let Some(part) = part() {
        match part[1].as_str() {
            "publish" => publish_rounds(&part[0], EXCHANGES),
            "consume" => consume_rounds(&part[0], EXCHANGES),
            _ => clean_until_gone(&part[0], &part[2]),
        }
        return;
    }
    watched(TEST, || {
        let name = name("d2");
        let running = std::env::temp_dir().join(format!("shm-core-test-{}", std::process::id()));
        let running = running.to_str().expect("a path of UTF-8").to_owned();
        fs::write(&running, "").unwrap();
        let start = |role: &str| play(TEST, &format!("{name} {role} {running}"));
        let cleaners = ["clean", "clean"].map(start);
        let creators = ["publish", "consume"].map(start);
        creators.into_iter().for_each(|creator| creator.finish());
        fs::remove_file(&running).unwrap();
        cleaners.into_iter().for_each(|cleaner| cleaner.finish());
        assert_eq!(leftovers(&name), [""; 0]);
    });
}

/// Attaches anew for each message. Both sides find each other whatever the cleaners do, and lose nothing.
fn publish_rounds(name: &str, rounds: u64) {
    for number in 0..rounds {
        let mut publisher = Channel::open_or_create(name, &options()).unwrap().publisher().unwrap();
        let mut sent = publisher.publish_timeout(&message(number, 99), LONG);
        // The consumer of the last round leaving is no failure of this one.
        while let Err(ChannelError::PeerGone { role: Role::Consumer, .. }) = sent {
            sent = publisher.publish_timeout(&message(number, 99), LONG);
        }
        sent.unwrap();
        while let Err(error) = publisher.flush_timeout(LONG) {
            assert!(matches!(error, ChannelError::PeerGone { .. }), "{error}");
        }
    }
}

fn consume_rounds(name: &str, rounds: u64) {
    for number in 0..rounds {
        let mut consumer = Channel::open_or_create(name, &options()).unwrap().consumer().unwrap();
        let received = loop {
            match consumer.receive_timeout(LONG) {
                Ok(received) => break received,
                Err(ChannelError::PeerGone { role: Role::Publisher, .. }) => {}
                Err(error) => panic!("{error}"),
            }
        };
        assert_eq!(received, message(number, 99));
    }
}

fn clean_until_gone(name: &str, running: &str) {
    while fs::exists(running).unwrap() {
        match Channel::remove_leftover(name) {
            // Without any pause between, a crowd is possible on a busy machine; it must not stop those who use the name.
            Ok(_) | Err(ChannelError::Busy { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}
