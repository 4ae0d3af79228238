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
//! - A rank that dies ends the job, or makes the operations that need it fail; nobody hangs on it.
//!
//! # What it refuses to do
//!
//! More than one machine, more than one thread at a time in the library, progress while no rank is in a call.
//!
//! # What it costs
//!
//! One cache line handed over for a message of up to 32 bytes; two copies for any other, one into shared memory
//! and one out of it, which overlap for long messages. A rank that waits spins for some microseconds, yields
//! and then sleeps.

mod address;
mod attach;
mod call_site;
mod collective;
mod engine;
mod envelope;
mod error;
mod job;
mod last_words;
#[doc(hidden)]
pub mod launch;
mod layout;
mod matching;
mod object;
mod p2p;
mod probe;
mod reduction;
mod request;
mod scope;
mod spawn;
mod status;
#[cfg(test)]
mod testing;
mod world;

pub use address::{ANY_SOURCE, ANY_TAG, AnySource, AnyTag, Destination, Source, Tag};
pub use attach::AttachError;
pub use collective::Varying;
pub use error::{CallSite, CollectiveCall, Departure, Error, Result};
pub use launch::LaunchError;
pub use probe::Message;
pub use reduction::{
    BitAnd, BitOr, BitXor, Located, LogicalAnd, LogicalOr, LogicalXor, Max, MaxLocation, Min, MinLocation,
    Product, Reduction, Sum,
};
pub use request::{Cancel, Request, wait_all, wait_any};
pub use scope::{Overlap, Scope, ScopedRequest};
pub use spawn::{Spawn, SpawnError, spawn};
pub use status::Status;
pub use world::{World, init};
