//! A channel whose segment is written over between its calls: every call ends, with an error or without, and none
//! panics, whatever the words say.
#![cfg(all(target_os = "linux", not(loom)))]

mod common;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use proptest::prelude::*;
use shm_core::channel::{Channel, Client, Consumer, Options, Publisher, Server};

const CAPACITY: usize = 100;
/// What a call may wait for: the other end has the same thread.
const LIMIT: Duration = Duration::from_micros(100);
/// Header, doorbells and lanes.
const WORDS: u64 = 4096 / 8;

#[derive(Debug, Clone)]
enum Action {
    Send(usize),
    Receive,
    /// The other call of the sending end: flush, or the reply to a request.
    Finish,
    Reopen,
    WriteOver {
        word: u64,
        value: u64,
        flip: bool,
    },
}

fn action() -> impl Strategy<Value = Action> {
    // The header is short: most words of its page are nobody's.
    let word = prop_oneof![8 => 0..60u64, 1 => 0..WORDS];
    let value = prop_oneof![4 => 0..4u64, 1 => Just(u64::MAX), 1 => any::<u64>(), 1 => (0..64u32).prop_map(|bit| 1 << bit)];
    prop_oneof![
        4 => (0..3 * CAPACITY).prop_map(Action::Send),
        4 => Just(Action::Receive),
        2 => Just(Action::Finish),
        1 => Just(Action::Reopen),
        6 => (word, value, any::<bool>()).prop_map(|(word, value, flip)| Action::WriteOver { word, value, flip }),
    ]
}

fn write_over(file: &File, word: u64, value: u64, flip: bool) {
    let mut now = [0; 8];
    file.read_exact_at(&mut now, word * 8).unwrap();
    let value = if flip { u64::from_ne_bytes(now) ^ value } else { value };
    file.write_all_at(&value.to_ne_bytes(), word * 8).unwrap();
}

/// Opens the object itself, as any process of this user can.
fn object(name: &str) -> File {
    OpenOptions::new().read(true).write(true).open(format!("/dev/shm{name}")).unwrap()
}

/// Both ends of one kind of channel.
trait Pair: Sized {
    fn open(name: &str) -> Option<Self>;
    fn act(&mut self, action: &Action);
}

struct OneWay(Publisher, Consumer);

impl Pair for OneWay {
    fn open(name: &str) -> Option<Self> {
        let open = || Channel::open_or_create(name, &Options::default().capacity(CAPACITY));
        Some(Self(open().ok()?.publisher().ok()?, open().ok()?.consumer().ok()?))
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Send(length) => drop(self.0.publish_timeout(&vec![7; *length], LIMIT)),
            Action::Receive => drop(self.1.receive_timeout(LIMIT)),
            _ => drop(self.0.flush_timeout(LIMIT)),
        }
    }
}

struct RequestReply(Client, Server);

impl Pair for RequestReply {
    fn open(name: &str) -> Option<Self> {
        let open = || Channel::open_or_create(name, &Options::default().capacity(CAPACITY));
        Some(Self(open().ok()?.client().ok()?, open().ok()?.server().ok()?))
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Send(length) => drop(self.0.try_request(&vec![7; *length])),
            Action::Receive => {
                if let Ok(Some(request)) = self.1.try_receive() {
                    let answer = request.to_vec();
                    drop(request.reply_timeout(&answer, LIMIT));
                }
            }
            _ => drop(self.0.try_reply()),
        }
    }
}

fn play<P: Pair>(label: &str, actions: &[Action]) {
    let name = common::name(label);
    let mut pair = P::open(&name);
    let mut file = object(&name);
    for action in actions {
        match action {
            Action::WriteOver { word, value, flip } => write_over(&file, *word, *value, *flip),
            Action::Reopen => {
                drop(pair.take());
                // What is damaged may be refused.
                pair = P::open(&name);
                file = if common::exists(&name) { object(&name) } else { file };
            }
            action => pair.iter_mut().for_each(|pair| pair.act(action)),
        }
    }
    drop(pair);
    if common::exists(&name) {
        std::fs::remove_file(format!("/dev/shm{name}")).unwrap();
    }
    common::leftovers(&name)
        .iter()
        .for_each(|left| std::fs::remove_file(format!("/dev/shm/{left}")).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn one_way(actions in prop::collection::vec(action(), 0..60)) {
        common::watched("one_way", || play::<OneWay>("damage1", &actions));
    }

    #[test]
    fn request_reply(actions in prop::collection::vec(action(), 0..60)) {
        common::watched("request_reply", || play::<RequestReply>("damage2", &actions));
    }
}
