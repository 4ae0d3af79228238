//! Shared memory between processes: segments, waiting, lock-free lanes, and a request-reply channel.
//!
//! What it does:
//! - [`segment`]: named POSIX shared memory with a checked header, sized once, reserved before it is touched;
//! - [`wait`]: spin, yield, park across processes, by futex or by named semaphores;
//! - [`ring`], [`pool`], [`board`]: lock-free lanes for short messages, long ones, and collectives;
//! - [`distance`]: which stores reach another core sooner; [`first_look`]: when to look for its answer;
//! - [`direct`]: long messages copied once, from process to process, by both sides at the same time;
//! - [`channel`]: one publisher and one consumer, or request and reply, between two processes that know a name.
//!
//! What it refuses to do: no threads of its own, no signal handlers, no pointers in shared memory, no
//! allocation there, no knowledge of what its users exchange.
//!
//! What it costs: a fence per publication (to look for a sleeper), a system call only when somebody sleeps.

pub mod agreement;
pub mod board;
pub mod bytes;
#[cfg(any(target_os = "linux", loom))]
pub mod channel;
#[cfg(not(loom))]
mod copy;
pub mod direct;
pub mod distance;
pub mod error;
mod fingerprint;
pub mod first_look;
pub mod limit;
mod mix;
pub mod pool;
pub mod ring;
pub mod segment;
pub mod sync;
mod sys;
pub mod wait;

pub use error::{BellError, SegmentError};
pub use fingerprint::{Fingerprint, FixedLayout};
pub use mix::mix;
pub use segment::{Format, Segment, SegmentName, SharedLayout};
pub use wait::{Backoff, Bell, Doorbell};
