//! MPI-style parallel programs on one machine: ranks that exchange messages through shared memory.
//!
//! A program is started several times, as `shmrun -n 4 ./app`; each process is a *rank*, with a number of its own and
//! memory of its own. Ranks send each other messages and work together in collective operations.
//!
//! ```
//! ranks::spawn(4, |world| {
//!     let mine = [(world.rank() + 1) as f64];
//!     let mut product = [0.0];
//!     world.all_reduce(&mine, &mut product, ranks::Product).unwrap();
//!     assert_eq!(product, [24.0]);
//! })?;
//! # Ok::<(), ranks::Error>(())
//! ```
//!
//! # What it does
//!
//! - [`init`] joins the job that `shmrun` made; [`spawn()`] makes a job out of the current program.
//! - Messages: [`World::send`], [`World::recv`] and their non-blocking forms, with MPI's matching rules.
//! - Collectives: [`World::barrier`], [`World::broadcast`], [`World::all_reduce`] and the others.
//! - Elements of any plain type ([`bytemuck::Pod`]); any serde type with [`World::send_object`].
//! - A rank that dies ends the job, or makes the operations that need it fail; nobody hangs on it. The others can go on:
//!   [`World::shrink`].
//!
//! # What it refuses to do
//!
//! More than one machine, more than one thread at a time in the library, progress while no rank is in a call.
//!
//! # What it costs
//!
//! One cache line handed over for a message of up to 32 bytes, two for an answer of up to 96; two copies, one into shared memory
//! and one out of it, which overlap for long messages. A rank that waits spins for some microseconds, yields
//! and then sleeps.

mod address;
mod attach;
mod call_site;
mod collective;
mod diagnose;
mod engine;
mod envelope;
mod error;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod job;
mod last_words;
#[doc(hidden)]
pub mod launch;
mod layout;
mod matching;
mod object;
mod p2p;
mod probe;
mod recover;
mod reduction;
mod request;
mod scope;
mod spawn;
mod status;
#[cfg(any(test, fuzzing))]
mod testing;
mod turns;
mod world;

pub use address::{ANY_SOURCE, ANY_TAG, AnySource, AnyTag, Destination, Source, Tag};
pub use attach::AttachError;
pub use collective::Varying;
pub use error::{CallSite, CollectiveCall, Departure, Error, Result};
pub use launch::{LaunchError, OnFailure};
pub use probe::Message;
pub use recover::Agreement;
pub use reduction::{
    BitAnd, BitOr, BitXor, Located, LogicalAnd, LogicalOr, LogicalXor, Max, MaxLocation, Min, MinLocation,
    Product, Reduction, Sum,
};
pub use request::{Cancel, Request, wait_all, wait_any};
pub use scope::{Overlap, Scope, ScopedRequest};
pub use spawn::{Spawn, SpawnError, spawn};
#[doc(hidden)]
pub use spawn::{Test, TestResult};
pub use status::Status;
pub use world::{World, init};

/// A test whose body runs as every rank of a job, under plain `cargo test`, nextest, or any other runner of Rust's tests.
///
/// `#[ranks::test(4)]` makes a test out of `fn name(world: &World)` or `fn name(world: World)`. The function may return a
/// `Result` whose error implements [`Display`](std::fmt::Display). The test process starts itself again, once per rank,
/// as with [`spawn()`]; several tests run side by side.
///
/// The test fails when a rank panics, returns an error, or ends in any other way, at once: the other ranks do not hang.
/// The message says which rank failed first, how and where, and where the others stood. It fails too when it takes longer
/// than `timeout`, 60 s if not given; the message says what each rank was waiting for. `RANKS_TEST_TIMEOUT` in the
/// environment, a number of seconds or `off`, replaces the timeouts of all tests, for debuggers and slow machines.
///
/// `on_failure = "continue"` is for programs that survive the death of a rank, by [`World::shrink`] say, as
/// [`Spawn::on_failure`] has it: the others go on, a rank that is killed or exits does not fail a test whose other ranks end
/// well without it, and a rank that panics always does. Without it, or with `"kill"`, the others are stopped.
///
/// What the ranks print is captured and shown as that of any test, with the rank in front of every line.
/// `#[should_panic]`, `#[ignore]` and other attributes work as with `#[test]`.
///
/// ```
/// # #![allow(clippy::test_attr_in_doctest)]
/// use ranks::{Sum, World};
///
/// #[ranks::test(4)]
/// fn ranks_add_up(world: &World) {
///     let mut sum = [0];
///     world.all_reduce(&[world.rank() as u32], &mut sum, Sum).unwrap();
///     assert_eq!(sum, [6]);
/// }
///
/// #[ranks::test(ranks = 2, timeout = "10s")]
/// fn a_message_arrives(world: World) -> ranks::Result<()> {
///     match world.rank() {
///         0 => world.send(&[1u8], 1)?,
///         _ => assert_eq!(world.recv_vec::<u8>(0)?.0, [1]),
///     }
///     world.finalize()
/// }
///
/// #[ranks::test(3, on_failure = "continue")]
/// fn two_go_on_without_the_third(world: World) -> ranks::Result<()> {
///     if world.rank() == 2 {
///         std::process::exit(1);
///     }
///     assert!(world.barrier().is_err());
///     let world = world.shrink()?;
///     assert_eq!(world.size(), 2);
///     world.finalize()
/// }
/// # fn main() {}
/// ```
///
/// # MPI
/// No counterpart: the tests of MPI programs need `mpirun`.
pub use ranks_macros::test;
