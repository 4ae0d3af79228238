//! Where everything of a channel lies in its segment.
//!
//! # Safety
//!
//! Trusted for the claim that its `repr(C)` structs are plain atomics, valid for any bytes.
#![allow(unsafe_code)]

use crate::fingerprint::Fingerprint;
use crate::fixed_layout;
use crate::segment::{Format, Segment, SharedLayout};
use crate::sync::{AtomicU32, AtomicU64};
use crate::wait::Doorbell;

use super::error::ChannelError;
use super::lane::LaneHeader;

/// What the segment's header says.
pub(super) const FORMAT: Format = Format { kind: u32::from_be_bytes(*b"CHAN"), layout: LAYOUT };

/// How waiting works is a feature of the build.
const LAYOUT: Fingerprint = Fingerprint::new("channel")
    .text(env!("CARGO_PKG_VERSION"))
    .number(cfg!(feature = "named-semaphores") as u64)
    .and::<ChannelHeader>()
    .and::<Doorbell>()
    .and::<LaneHeader>();

const PAGE: usize = 4096;
const HEADER: usize = Segment::DATA_OFFSET;
const DOORBELLS: usize = 128;
const LANES: usize = 256;
const BUFFERS: usize = PAGE;

/// Facts about the channel and who is attached to it.
#[repr(C, align(64))]
pub(super) struct ChannelHeader {
    /// Bytes that one chunk carries at most. Written before the segment is in use, constant from then on.
    pub(super) capacity: AtomicU64,
    /// See [`mode`]. Set once, under the gate.
    pub(super) mode: AtomicU32,
    /// Per end: odd while attached, even while not. Grows by one with each attach and each orderly detach; an
    /// end that attaches after a dead predecessor adds two. Written by the end alone, whose lock it holds: under
    /// the gate when it attaches, outside of it when it leaves, as the lock keeps every successor away until then.
    pub(super) attendance: [AtomicU32; 2],
    /// Per end: the processors that it may use, as [`crate::sys::processors`] has them.
    pub(super) processors: [AtomicU64; 2],
}

/// The values of [`ChannelHeader::mode`].
pub(super) mod mode {
    /// No end has been taken yet.
    pub(in crate::channel) const UNDECIDED: u32 = 0;
    /// One publisher, one consumer.
    pub(in crate::channel) const ONE_WAY: u32 = 1;
    /// One client, one server.
    pub(in crate::channel) const REQUEST_REPLY: u32 = 2;
}

const _: () = {
    assert!(size_of::<ChannelHeader>() == 64);
    assert!(size_of::<LaneHeader>() == 64);
    assert!(HEADER + size_of::<ChannelHeader>() == DOORBELLS);
    assert!(DOORBELLS + 2 * size_of::<Doorbell>() == LANES);
    assert!(LANES + 2 * size_of::<LaneHeader>() <= BUFFERS);
};

fixed_layout!(ChannelHeader { capacity, mode, attendance, processors });
// SAFETY: repr(C), atomics only, any bytes are valid values.
unsafe impl SharedLayout for ChannelHeader {}
// SAFETY: repr(C), atomics only, any bytes are valid values.
unsafe impl SharedLayout for LaneHeader {}

/// Offsets of a channel with a given capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) capacity: usize,
}

impl Geometry {
    /// The layout for chunks of at most `capacity` bytes; `None` if it is 0 or the sizes overflow.
    pub(super) fn new(capacity: usize) -> Option<Self> {
        let sizes = capacity.checked_next_multiple_of(PAGE)?.checked_mul(2)?.checked_add(BUFFERS)?;
        (capacity > 0 && i64::try_from(sizes).is_ok()).then_some(Self { capacity })
    }

    /// The layout that an opened segment states, checked against its size.
    pub(super) fn of(segment: &Segment, name: &str) -> Result<Self, ChannelError> {
        let damaged = |value| ChannelError::Damaged { name: name.to_owned(), field: "capacity", value };
        if segment.size() < BUFFERS {
            return Err(damaged(segment.size() as u64));
        }
        let stated = header(segment).capacity.load(crate::sync::Ordering::Relaxed);
        let geometry = usize::try_from(stated).ok().and_then(Self::new);
        geometry.filter(|geometry| geometry.size() == segment.size()).ok_or_else(|| damaged(stated))
    }

    /// Bytes of the whole segment.
    pub(super) fn size(self) -> usize {
        self.buffer(2)
    }

    /// Where the buffer of lane 0 or 1 begins.
    pub(super) fn buffer(self, lane: usize) -> usize {
        BUFFERS + lane * self.capacity.next_multiple_of(PAGE)
    }
}

/// Bytes before the first buffer.
pub(super) const CONTROL_BYTES: usize = BUFFERS;

pub(super) fn header(segment: &Segment) -> &ChannelHeader {
    segment.at(HEADER)
}

pub(super) fn doorbell(segment: &Segment, end: usize) -> &Doorbell {
    &segment.slice_at::<Doorbell>(DOORBELLS, 2)[end]
}

pub(super) fn lane(segment: &Segment, lane: usize) -> &LaneHeader {
    &segment.slice_at::<LaneHeader>(LANES, 2)[lane]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_whole_pages_and_impossible_capacities_are_refused() {
        let geometry = Geometry::new(5000).expect("a possible capacity");
        assert_eq!((geometry.buffer(0), geometry.buffer(1), geometry.size()), (4096, 12288, 20480));
        assert_eq!(Geometry::new(0), None);
        assert_eq!(Geometry::new(usize::MAX - 1), None);
        assert_eq!(Geometry::new(usize::MAX / 4), None);
    }
}
