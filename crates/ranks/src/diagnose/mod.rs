//! Why does nothing move? From what the ranks publish to a finding in words.
//!
//! ```text
//! snapshot.rs  what every rank says of itself at one moment, read from the segment
//! graph.rs     who can never go on, and in which circle
//! find.rs      findings: a deadlock, or a stall because somebody computes or is stopped
//! text.rs      a table of the ranks
//! words.rs     calls, ranks, sizes, times as text
//! advice.rs    what is wrong and what to do about it
//! ```
//!
//! # What a claim of deadlock rests on
//!
//! A rank that sleeps has looked at everything that was published for it, and publishes nothing itself. If several
//! ranks slept at one moment ([`shm_core::Doorbell::asleep`]), and each of them waits for nobody but others of them,
//! then nothing can end their waits: that is a deadlock, whatever the remaining ranks do. A rank may have said that
//! it waits for more ranks than it does, never for fewer. Ranks that are stopped or in a debugger's hands are left
//! out: somebody outside decides about them.
//!
//! Nothing here calls the system; facts about processes come in as values.

mod advice;
mod find;
mod graph;
#[cfg(test)]
mod oracle;
mod snapshot;
#[cfg(test)]
mod tests;
mod text;
mod words;

pub(crate) use find::{Finding, find};
pub(crate) use snapshot::{Outside, Snapshot, View};
pub(crate) use text::{describe, key, last_seen, stand, state};
pub(crate) use words::size;
