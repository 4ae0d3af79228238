//! What a rank counts and records of itself while somebody watches: see `engine/observe.rs`.
//!
//! # Safety
//!
//! This module asserts that its `repr(C)` structs are plain atomics, valid for any bytes.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU32, AtomicU64};

use shm_core::{SharedLayout, fixed_layout};

/// What a rank counts of itself while somebody watches; written by that rank alone.
#[repr(C, align(64))]
pub(crate) struct Tally {
    /// Nanoseconds in calls that waited for other ranks.
    pub(crate) waiting: AtomicU64,
    /// How many such calls there were.
    pub(crate) waits: AtomicU64,
    /// Events recorded in its timeline, those that newer ones have replaced included; grows after the event is written.
    pub(crate) events: AtomicU64,
}

/// Messages between the rank and one other; a line for each.
#[repr(C)]
pub(crate) struct PeerTally {
    pub(crate) sent: Traffic,
    pub(crate) received: Traffic,
}

/// Messages and the bytes in them.
#[repr(C)]
pub(crate) struct Traffic {
    pub(crate) messages: AtomicU64,
    pub(crate) bytes: AtomicU64,
}

/// What one line of source did; the first is that of all lines which are not in the table.
#[repr(C)]
pub(crate) struct SiteTally {
    /// Messages sent and received, and collectives.
    pub(crate) calls: AtomicU64,
    pub(crate) bytes: AtomicU64,
    /// Nanoseconds that it waited.
    pub(crate) waiting: AtomicU64,
    /// The call in that line, by `status::operation_number`.
    pub(crate) operation: AtomicU32,
    pub(crate) reserved: AtomicU32,
}

/// The values of [`Event::kind`].
pub(crate) mod event_kind {
    /// A message was handed to the library: the time that took.
    pub(crate) const SENT: u32 = 1;
    /// A message has found its receive.
    pub(crate) const RECEIVED: u32 = 2;
    /// The rank waited for others.
    pub(crate) const WAITED: u32 = 3;
    /// The rank took part in a collective.
    pub(crate) const COLLECTIVE: u32 = 4;
}

/// An entry of a timeline, written when what it tells of is over. Times are nanoseconds of CLOCK_MONOTONIC.
#[repr(C, align(64))]
pub(crate) struct Event {
    pub(crate) begin: AtomicU64,
    pub(crate) end: AtomicU64,
    pub(crate) bytes: AtomicU64,
    /// Of a message: its number among those from its sender to its receiver, from 1 on; 0 if it is not known.
    pub(crate) number: AtomicU64,
    /// See [`event_kind`].
    pub(crate) kind: AtomicU32,
    /// Its number, by `status::operation_number`.
    pub(crate) operation: AtomicU32,
    /// Peer rank, or [`NO_RANK`](super::NO_RANK) for any or none.
    pub(crate) peer: AtomicU32,
    /// Tag, or -1 for any or none.
    pub(crate) tag: AtomicU32,
    /// Interned call site.
    pub(crate) call_site: AtomicU32,
}

fixed_layout!(Tally { waiting, waits, events });
fixed_layout!(PeerTally { sent, received });
fixed_layout!(Traffic { messages, bytes });
fixed_layout!(SiteTally { calls, bytes, waiting, operation, reserved });
fixed_layout!(Event { begin, end, bytes, number, kind, operation, peer, tag, call_site });

// SAFETY: repr(C), atomics only, any bytes are valid values.
unsafe impl SharedLayout for Tally {}
// SAFETY: repr(C), atomics only, any bytes are valid values.
unsafe impl SharedLayout for PeerTally {}
// SAFETY: repr(C), atomics only, any bytes are valid values.
unsafe impl SharedLayout for SiteTally {}
// SAFETY: repr(C), atomics only, any bytes are valid values.
unsafe impl SharedLayout for Event {}
