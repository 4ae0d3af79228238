//! A channel between exactly two processes that know only its name.
//!
//! # The problem
//!
//! Two unrelated processes hand messages over, one at a time: what was published must be consumed before the next
//! is published. Lengths are preserved. Either process may be killed at any instruction, before, during or after
//! a transfer, and the other must neither hang nor read half a message as a whole one. Nothing may stay behind
//! that a person has to remove.
//!
//! # Layout
//!
//! ```text
//! offset   size      what                                      written by
//!      0     64      segment header                            creator
//!     64      8      capacity: bytes of a chunk                creator
//!     72      4      mode: 1 one way, 2 request and reply      first end, under the gate
//!     76    2 x 4    attendance of end 0 and end 1             that end, while it holds its lock
//!     88    2 x 8    processors of end 0 and end 1             that end, when it attaches
//!    128     64      doorbell of end 0 (publisher, client)     both
//!    192     64      doorbell of end 1 (consumer, server)      both
//!    256     64      lane 0, from end 0 to end 1:
//!    256      4        state: EMPTY 0, FULL 1                  both, in turn
//!    264      8        message number                          producer
//!    272      8        total length of the message in bytes    producer
//!    280      8        offset of this chunk in the message     producer
//!    288      8        number of the message that it answers   producer
//!    320     64      lane 1, from end 1 to end 0 (request and reply only)
//!   4096  capacity   bytes of lane 0, rounded up to pages
//!     ..  capacity   bytes of lane 1, reserved in request-reply mode only
//! ```
//!
//! # States of a lane
//!
//! ```text
//! state  the buffer is   who changes it       how
//! EMPTY  the producer's  producer             writes bytes and envelope, then EMPTY => FULL
//! FULL   the consumer's  consumer             reads envelope and bytes, then FULL => EMPTY
//! ```
//!
//! A message is `ceil(total / capacity)` chunks, at least one. Request and reply are two lanes; their order comes
//! from the types: a client waits for the reply before its next request, a server replies to what it received.
//!
//! # Invariants
//!
//! 1. A lane has one producer and one consumer at a time: each end holds an exclusive lock of the system.
//! 2. While the state is EMPTY only the producer touches the buffer, while it is FULL only the consumer.
//! 3. Only the producer stores FULL, and only after it has seen EMPTY; only the consumer stores EMPTY, and only
//!    after it has seen FULL.
//! 4. Message numbers of a lane grow, also across producers that die: the last one stands in the lane.
//! 5. An end's attendance number is odd while it is attached, and never takes the same odd value for two tenants.
//!
//! # Memory ordering
//!
//! FULL is stored with Release and read with Acquire (`SYNC lane-full`): the consumer sees bytes and envelope.
//! EMPTY is stored with Release and read with Acquire (`SYNC lane-empty`): the consumer's reads are over before
//! the producer overwrites. What an end published before it left is visible to who sees its new attendance number
//! (`SYNC attendance`). Nothing is promised between the two lanes beyond that order of each.
//!
//! # Proof sketch
//!
//! *Alternation.* Let the k-th put and take of a lane be P(k) and T(k). By 3, P(k+1) reads an EMPTY that only T(k)
//! stored, and T(k) reads a FULL that only P(k) stored, since by 1 nobody else stores. So P(1), T(1), P(2), T(2) ..
//! is the only order; that is what two binary semaphores would enforce, with one word. By the orderings above
//! each happens before the next, so no two accesses to the buffer overlap (2).
//!
//! *No hang.* A side that waits has announced it on its doorbell before its last look at the state, and the other
//! rings after each change: the proof of [`crate::wait`] applies. If the other dies before ringing, the waiter
//! wakes by itself after a slice of 250 ms, looks at the state, and then at the other's lock, which the kernel
//! released with the process. So a death is an error within a second.
//!
//! *No half message.* A receiver joins chunks only if number, total and offset continue each other (4), so parts of
//! two messages never mix. A waiter compares the attendance number with the one that it deals with (5), so a
//! successor that comes within one slice is not taken for the one that died. A successor at the consuming end
//! discards chunks until an offset of 0. A message whose last chunk is FULL is complete, and is delivered even
//! if its producer is gone.
//!
//! *A killed process at any instruction* leaves each word either before or after its change, since all are single
//! stores; there is no state "in between" that only the dead could end.
//!
//! `tests/loom_channel.rs` runs put, take, waiting and ringing through every interleaving; `tests/channel_death.rs`
//! kills real processes. Names, leftovers and the two races around them are in `object.rs`.
//!
//! # What it does not do
//!
//! It needs the locks of Linux (`F_OFD_SETLK`) so far. A process that is stopped is alive: its peer waits. A
//! child that was forked, not executed, shares its parent's locks for as long as it lives. The bytes are
//! trusted as far as lengths go, not beyond: who may open the segment may write anything.

#[cfg(not(loom))]
mod end;
#[cfg(not(loom))]
mod error;
pub mod lane;
#[cfg(not(loom))]
mod layout;
#[cfg(not(loom))]
mod object;
#[cfg(not(loom))]
mod one_way;
#[cfg(not(loom))]
mod options;
#[cfg(not(loom))]
mod peer;
#[cfg(not(loom))]
mod request;

#[cfg(not(loom))]
pub use error::{ChannelError, Departure};
#[cfg(not(loom))]
pub use one_way::{Consumer, Publisher};
#[cfg(not(loom))]
pub use options::{Channel, Options, Role};
#[cfg(not(loom))]
pub use request::{Client, Request, Server};
