//! The parts that ranks give to collectives which move data.

use crate::values::value;

pub(crate) fn values(rank: usize, length: usize) -> Vec<u64> {
    (0..length).map(|index| value(rank, index)).collect()
}

/// What all ranks give, one behind the other.
pub(crate) fn concatenated(size: usize, length: usize) -> Vec<u64> {
    (0..size).flat_map(|rank| values(rank, length)).collect()
}
