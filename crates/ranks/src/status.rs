//! What a receive or probe tells about a message, and the names of operations as numbers.

use crate::address::Tag;
use crate::envelope::Envelope;

/// Where a message came from, its tag and its size.
///
/// # MPI
/// `MPI_Status`, with `MPI_Get_count` as [`Status::count`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// The rank that sent the message.
    pub source: usize,
    /// Its tag.
    pub tag: Tag,
    /// Its length in bytes.
    pub bytes: u64,
}

impl Status {
    pub(crate) fn of(envelope: &Envelope) -> Self {
        Self { source: envelope.source.into(), tag: envelope.tag, bytes: envelope.length }
    }

    /// How many elements of type `T` the message holds; a rest of less than one element is not counted.
    ///
    /// ```
    /// let status = ranks::Status { source: 0, tag: 0, bytes: 24 };
    /// assert_eq!(status.count::<f64>(), 3);
    /// ```
    ///
    /// # MPI
    /// `MPI_Get_count`.
    pub fn count<T>(&self) -> usize {
        (self.bytes / size_of::<T>().max(1) as u64) as usize
    }
}

/// The operations that can block or move a message, in the order of their numbers. New ones go to the end;
/// the collectives stand together, in the order of `collective::Kind`.
pub(crate) const OPERATIONS: &[&str] = &[
    "send",
    "synchronous_send",
    "recv",
    "recv_vec",
    "sendrecv",
    "wait",
    "wait_all",
    "wait_any",
    "probe",
    "matched_probe",
    "scope",
    "finalize",
    "send_object",
    "recv_object",
    "barrier",
    "broadcast",
    "broadcast_vec",
    "reduce",
    "all_reduce",
    "scan",
    "gather",
    "gather_varying",
    "all_gather",
    "all_gather_varying",
    "scatter",
    "scatter_varying",
    "all_to_all",
    "all_to_all_varying",
    "broadcast_object",
    "gather_object",
    "agree",
    "shrink",
    "isend",
    "synchronous_isend",
    "irecv",
    "irecv_into",
    "irecv_overlapping",
    "try_matched_probe",
];

/// The number of an operation in status lines and collective signatures; 0 if it has none.
pub(crate) fn operation_number(operation: &str) -> u32 {
    OPERATIONS.iter().position(|&known| known == operation).map_or(0, |at| at as u32 + 1)
}

/// The name of an operation by its number.
#[inline]
pub(crate) fn operation_name(number: u32) -> &'static str {
    let at = (number as usize).checked_sub(1);
    at.and_then(|at| OPERATIONS.get(at)).copied().unwrap_or("an unknown operation")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lead_back_to_names() {
        for name in OPERATIONS {
            assert_eq!(operation_name(operation_number(name)), *name);
        }
        assert_eq!(operation_number("no such thing"), 0);
        assert_eq!(operation_name(0), operation_name(u32::MAX));
    }
}
