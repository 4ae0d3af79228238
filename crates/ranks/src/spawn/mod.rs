//! Running several ranks out of one program, without `shmrun`.
//!
//! [`spawn`] starts the current program again, once per rank, and never forks without exec. A child finds in
//! its environment which call it belongs to: the place in the source and how many calls there were before it.
//! It runs like its parent up to that call, becomes the rank there, and ends there.

mod child;
mod error;
mod harness;
mod identity;
mod parent;
mod test;

pub use error::SpawnError;
pub use parent::{Spawn, spawn};
pub use test::{Test, TestResult};
