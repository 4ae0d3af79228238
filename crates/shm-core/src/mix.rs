//! Numbers in which nothing of what they were made from can be seen.

/// Spreads every bit of both over the result (SplitMix64).
///
/// ```
/// let [one, other] = [1, 2].map(|word| shm_core::mix(7, word));
/// assert!((one ^ other).count_ones() > 16);
/// ```
pub const fn mix(state: u64, word: u64) -> u64 {
    let sum = (state ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let once = (sum ^ sum >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let twice = (once ^ once >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    twice ^ twice >> 31
}
