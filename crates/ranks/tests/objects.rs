//! Values of any serde type as messages.

#[path = "support/watchdog.rs"]
mod watchdog;

use std::collections::{BTreeMap, HashMap};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use ranks::{ANY_SOURCE, Error, World, spawn};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::de::DeserializeOwned;
use serde::ser::SerializeTuple;
use serde::{Deserialize, Serialize, Serializer};
use watchdog::{step, watch};

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
enum Shape {
    Point,
    Polygon { corners: Vec<(f64, f64)>, name: Option<String> },
}

fn polygon(corners: usize) -> Shape {
    let corner = |index: usize| (index as f64, 1.0 / (index + 1) as f64);
    Shape::Polygon { corners: (0..corners).map(corner).collect(), name: Some("ß".repeat(corners)) }
}

/// Encoded: a byte, some hundred bytes, and more than a megabyte.
fn shapes() -> Vec<Shape> {
    vec![Shape::Point, polygon(0), polygon(20), polygon(100_000)]
}

#[test]
fn objects_arrive_equal_to_what_was_sent() {
    spawn(2, |world| {
        watch(world);
        for (tag, shape) in (0..).zip(shapes()) {
            step(format!("object {tag}"));
            if world.rank() == 0 {
                world.send_object(&shape, (1, tag)).unwrap();
            } else {
                let (received, status) = world.recv_object::<Shape>(ANY_SOURCE).unwrap();
                assert_eq!((status.source, status.tag), (0, tag));
                assert_eq!(received, shape);
            }
        }
    })
    .unwrap();
}

#[test]
fn every_rank_has_the_object_of_the_root_after_a_broadcast() {
    for ranks in [1, 2, 3, 5] {
        spawn(ranks, |world| {
            watch(world);
            for (index, shape) in shapes().into_iter().enumerate() {
                let root = index % world.size();
                step(format!("object {index} from rank {root}"));
                let mine = (world.rank() == root).then(|| shape.clone());
                assert_eq!(world.broadcast_object(mine, root).unwrap(), shape);
            }
        })
        .unwrap();
    }
}

#[test]
fn the_root_gathers_objects_of_different_sizes_in_rank_order() {
    let words =
        |rank: usize| (0..rank * 1000).map(|key| (key, format!("rank {rank}"))).collect::<BTreeMap<_, _>>();
    for ranks in [1, 2, 3, 5] {
        spawn(ranks, |world| {
            watch(world);
            for root in 0..world.size() {
                step(format!("gathers at rank {root}"));
                let gathered = world.gather_object(&words(world.rank()), root).unwrap();
                let expected = (world.rank() == root).then(|| (0..ranks).map(words).collect::<Vec<_>>());
                assert_eq!(gathered, expected);
            }
        })
        .unwrap();
    }
}

/// Bytes that are sent as they are, without a length before them.
struct Raw(Vec<u8>);

impl Serialize for Raw {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(self.0.len())?;
        self.0.iter().try_for_each(|byte| tuple.serialize_element(byte))?;
        tuple.end()
    }
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct List(Option<Box<List>>);

#[derive(Deserialize)]
struct Tree(#[allow(dead_code, reason = "only built")] Vec<Tree>);

/// A kilobyte in memory, nothing in a message.
#[derive(Deserialize)]
struct Unsent {
    #[allow(dead_code, reason = "only built")]
    #[serde(skip)]
    words: [[u64; 32]; 4],
}

/// What decoding may take on top of what the process has: far above 16 MiB with what a growing vector wastes, far
/// below what a wrong length asks for.
const MEMORY: u64 = 128 << 20;

/// Makes larger allocations of this process fail, which ends it.
fn limit_memory() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:")).unwrap();
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    let maximum = getrlimit(Resource::Data).maximum;
    setrlimit(Resource::Data, Rlimit { current: Some((kilobytes << 10) + MEMORY), maximum }).unwrap();
}

/// Receives an object as a `T`, which it need not be.
#[track_caller]
fn receive<T: DeserializeOwned>(world: &World) -> Option<T> {
    match world.recv_object::<T>(0) {
        Ok((object, _)) => Some(object),
        Err(Error::Codec { .. }) => None,
        Err(error) => panic!("{}: {error}", std::any::type_name::<T>()),
    }
}

type Receive = fn(&World) -> bool;

const TYPES: [Receive; 9] = [
    |world| receive::<String>(world).is_some(),
    |world| receive::<Vec<u64>>(world).is_some(),
    |world| receive::<Vec<()>>(world).is_some(),
    |world| receive::<Option<Box<(u8, String)>>>(world).is_some(),
    |world| receive::<HashMap<String, Vec<f64>>>(world).is_some(),
    |world| receive::<Shape>(world).is_some(),
    |world| receive::<List>(world).is_some(),
    |world| receive::<Tree>(world).is_some(),
    |world| receive::<Vec<Unsent>>(world).is_some(),
];

/// Runs `check` on rank 1 with every type, once for each of `messages`, which rank 0 sends.
fn receive_as_every_type(messages: impl Fn() -> Vec<Raw>, check: impl Fn(usize, bool)) {
    spawn(2, |world| {
        watch(world);
        if world.rank() == 1 {
            limit_memory();
        }
        for (index, raw) in messages().into_iter().enumerate() {
            for (number, receive) in TYPES.iter().enumerate() {
                if world.rank() == 0 {
                    world.send_object(&raw, 1).unwrap();
                } else {
                    let shown = &raw.0[..raw.0.len().min(64)];
                    step(format!("message {index} as type {number}: {} bytes, {shown:?}", raw.0.len()));
                    check(number, receive(world));
                }
            }
        }
    })
    .unwrap();
}

#[test]
fn any_bytes_are_a_value_or_an_error_and_take_little_memory() {
    // 1 nests, 251 to 253 begin long numbers, 250 is the longest short one.
    let telling = prop_oneof![Just(0u8), Just(1), Just(250), Just(251), Just(252), Just(253), any::<u8>()];
    let messages = || {
        let lengths = prop_oneof![vec(any::<u8>(), 0..40), vec(telling.clone(), 0..3_000)];
        let mut runner = TestRunner::deterministic();
        (0..300).map(|_| Raw(lengths.new_tree(&mut runner).unwrap().current())).collect()
    };
    receive_as_every_type(messages, |_, _| ());
}

/// A number of eight bytes as bincode writes it.
fn long_number(number: u64) -> Vec<u8> {
    [&[253][..], &number.to_le_bytes()].concat()
}

#[test]
fn lengths_beyond_the_message_are_errors_for_every_type() {
    let claims = [u64::MAX, 1 << 62, 1 << 45, 1 << 33, 1 << 25];
    let messages = || claims.iter().map(|&claim| Raw(long_number(claim))).collect();
    receive_as_every_type(messages, |number, is_value| assert!(!is_value, "type {number} was decoded"));
}

/// Each level takes one byte, or claims as much memory as is left: a stack or a heap must not follow.
#[test]
fn deep_nesting_is_an_error_for_every_type_that_nests() {
    let messages = || {
        let claims = (0..20_000u32).flat_map(|_| [251, 255, 255]).collect();
        vec![Raw(vec![1; 1_000_000]), Raw(claims)]
    };
    receive_as_every_type(messages, |number, is_value| {
        assert!(!is_value || ![6, 7].contains(&number), "type {number} was decoded");
    });
}

/// Sends `object` from rank 0 and compares it with what comes.
fn assert_arrives<T: Serialize + DeserializeOwned + PartialEq>(world: &World, what: &str, object: &T) {
    step(what);
    if world.rank() == 0 {
        world.send_object(object, 1).unwrap();
    } else {
        assert!(world.recv_object::<T>(0).unwrap().0 == *object, "{what} did not arrive as sent");
    }
}

#[test]
fn large_deep_and_empty_elements_arrive() {
    spawn(2, |world| {
        watch(world);
        assert_arrives(world, "a long string", &"0123456789".repeat(12_000_000));
        assert_arrives(world, "long numbers", &(0..13_000_000u64).map(|index| !index).collect::<Vec<_>>());
        assert_arrives(world, "units", &vec![(); 1_000_000]);
        assert_arrives(world, "a set", &(0..100_000u32).map(|key| (key, ())).collect::<HashMap<_, _>>());
        assert_arrives(world, "lists of units", &vec![vec![(); 100]; 1_000]);
        assert_arrives(world, "a chain", &(0..500).fold(List(None), |list, _| List(Some(Box::new(list)))));
        let every = (true, -5i8, i128::MIN, 'ß', f32::MAX, [u16::MAX; 3], Some(Ok::<u8, String>(7)));
        assert_arrives(world, "one of each", &every);
    })
    .unwrap();
}
