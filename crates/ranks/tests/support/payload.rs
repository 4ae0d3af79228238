//! Contents of messages that show when a part is lost, shifted or taken from another message.

/// What the message `id` carries at `index`.
fn word(id: u64, index: usize) -> u64 {
    (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ id.wrapping_mul(0xD6E8_FEB8_6659_FD93)
}

/// The `words` words of the message `id`.
pub(crate) fn filled(id: u64, words: usize) -> Vec<u64> {
    (0..words).map(|index| word(id, index)).collect()
}

/// Asserts that `data` is the whole of, or the beginning of, the message `id`.
#[track_caller]
pub(crate) fn check(data: &[u64], id: u64) {
    if let Some(index) = data.iter().enumerate().position(|(index, &found)| found != word(id, index)) {
        let (found, expected) = (data[index], word(id, index));
        panic!("message {id}: word {index} of {} is {found:#x}, expected {expected:#x}", data.len());
    }
}
