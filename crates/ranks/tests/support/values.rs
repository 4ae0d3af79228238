//! What ranks give in the tests of collectives, and for how many ranks and elements.

pub(crate) const RANKS: [usize; 5] = [1, 2, 3, 5, 8];
/// In words of eight bytes: nothing, one, what just fits and does not fit into a cell, a slot and the pieces of the board
/// (64 KiB, 512 KiB), and several of them.
pub(crate) const LENGTHS: [usize; 11] = [0, 1, 4, 7, 256, 257, 8192, 8193, 65_536, 65_537, 150_001];

/// What `rank` gives at `index`.
pub(crate) fn value(rank: usize, index: usize) -> u64 {
    (rank as u64 + 1) * 1_000_003 + index as u64 * 31 % 999_983
}

/// The lengths, each with a root; every rank is the root of a short one.
pub(crate) fn lengths_and_roots(size: usize) -> impl Iterator<Item = (usize, usize)> {
    let short = (0..size).map(|root| (5, root));
    short.chain(LENGTHS.into_iter().zip((0..size).rev().cycle()))
}

/// Asserts equality without printing a megabyte.
#[track_caller]
pub(crate) fn assert_same<T: PartialEq + std::fmt::Debug>(found: &[T], expected: &[T], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: length");
    if let Some(index) = (0..found.len()).find(|&index| found[index] != expected[index]) {
        panic!("{what}: element {index} is {:?}, expected {:?}", found[index], expected[index]);
    }
}
