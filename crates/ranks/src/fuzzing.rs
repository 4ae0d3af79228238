//! What comes from outside, for fuzzers (`fuzz/`): each function takes anything, and neither panics nor hangs nor takes
//! much memory.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::attach;
use crate::launch::environment;
use crate::object::decoder;
use crate::testing::damage;

/// A script of what happens to a job and its segment: see `testing/damage.rs`.
pub fn segment(script: &[u8]) {
    damage::play(script);
}

/// A message that is to be an object, of several types.
pub fn object(message: &[u8]) {
    fn decode<T: for<'de> Deserialize<'de>>(message: &[u8]) {
        drop(decoder::decode::<T>(message));
    }
    decode::<String>(message);
    decode::<Vec<u8>>(message);
    decode::<Vec<Option<(bool, char, f64)>>>(message);
    decode::<HashMap<String, Vec<u64>>>(message);
    decode::<BTreeMap<u32, [u16; 3]>>(message);
    decode::<Vec<()>>(message);
    decode::<Tree>(message);
    decode::<(i128, u128, Box<[String]>)>(message);
}

/// An environment, variables separated by NUL: of a rank, and of a process that may belong to a job.
pub fn environment(block: &[u8]) {
    let variables = block.split(|&byte| byte == 0).map(String::from_utf8_lossy);
    let variables: HashMap<String, String> = variables
        .filter_map(|variable| {
            variable.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
        })
        .collect();
    attach::read_environment(&|name: &str| variables.get(name).cloned());
    environment::belongs(block, "00000000000000ff");
}

/// Nested as deeply as a message says.
#[derive(Serialize, Deserialize)]
enum Tree {
    Leaf,
    Named { name: String, value: Option<i64> },
    Nodes(Vec<Tree>),
    Boxed(Box<Tree>),
}
