//! What a failing rank leaves in its control block: its panic message or its reason to abort.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::layout::{LAST_WORDS_BYTES, RankControl};

/// Records `words`, cut at the space there is, in place of earlier ones. One thread of the rank at a time.
pub(crate) fn write(control: &RankControl, words: &str) {
    let length =
        (0..=words.len().min(LAST_WORDS_BYTES)).rfind(|&end| words.is_char_boundary(end)).unwrap_or(0);
    for (place, byte) in control.last_words.iter().zip(&words.as_bytes()[..length]) {
        place.store(*byte, Relaxed);
    }
    // SYNC last-words: whoever reads the length finds the bytes below it.
    control.last_words_length.store(length as u32, Release);
}

/// What the rank recorded, if anything.
pub(crate) fn read(control: &RankControl) -> Option<String> {
    // SYNC last-words
    let length = control.last_words_length.load(Acquire) as usize;
    let bytes = control.last_words[..length.min(LAST_WORDS_BYTES)].iter();
    let bytes: Vec<u8> = bytes.map(|byte| byte.load(Relaxed)).collect();
    (!bytes.is_empty()).then(|| String::from_utf8_lossy(&bytes).into_owned())
}
