//! Copying into and out of shared memory.
//!
//! The system's `memcpy` turns to `rep movsb` for more than a few KiB. On AMD Zen 3 and 4 that instruction is many
//! times slower when source and destination have nearly the same offset within their pages, which is just what long
//! messages have: chunks begin with a page, and so do large buffers, but for their allocator's header. So long
//! copies run here in plain vector loads and stores, whose speed does not depend on that; and for readers on distant
//! cores (`distance.rs`) in stores that go past the caches.
//!
//! # Safety
//!
//! Trusted for the vector loop, which copies exactly the range that its caller vouches for.
#![allow(unsafe_code)]

use crate::bytes::LINE_BYTES;

/// Up to this `memcpy` is at its best, and never uses `rep movsb`. All_reduce of 1 KiB by 2 ranks, near cores of a Zen 4 machine: 0.177 µs
/// with it, 0.195 with vectors from 512 bytes on; all_to_all 0.141 and 0.157. For the cells of a ring see `MEMCPY_BYTES` in `ring.rs`.
const SHORT_BYTES: usize = 1024;
/// From here on [`copy_fresh`] reads both halves: see its table.
#[cfg(target_arch = "x86_64")]
const HALVES_FROM: usize = 8192;

/// [`copy_streamed`] reads so many pages side by side ...
#[cfg(target_arch = "x86_64")]
const PAGES: usize = 4;
#[cfg(target_arch = "x86_64")]
const PAGE: usize = 4096;
/// ... of ranges that are as long as this: see its table.
#[cfg(target_arch = "x86_64")]
const PAGES_FOR: std::ops::Range<usize> = PAGES * PAGE..256 << 10;

#[cfg(target_arch = "x86_64")]
type Vector = std::arch::x86_64::__m256i;
#[cfg(target_arch = "x86_64")]
const VECTOR: usize = size_of::<Vector>();
#[cfg(target_arch = "x86_64")]
const VECTORS: usize = 4;
#[cfg(target_arch = "x86_64")]
const BLOCK: usize = VECTORS * VECTOR;
/// What is asked for while as much is stored past the caches: about what a core can have on its way at once. 1 MiB each way
/// at the same time between distant cores of a Zen 4 machine, µs: one after the other 85 to 98, in turns of 256 bytes 72, of
/// 512 66, of 1024 74, of 4096 79 to 93.
#[cfg(target_arch = "x86_64")]
const TURN: usize = 4 * BLOCK;

/// Copies `length` bytes.
///
/// # Safety
///
/// - `source` is valid for reads and `destination` for writes of `length` bytes;
/// - the ranges do not overlap.
#[inline]
pub(crate) unsafe fn copy(source: *const u8, destination: *mut u8, length: usize) {
    #[cfg(target_arch = "x86_64")]
    if length > SHORT_BYTES {
        // SAFETY: the caller's promise.
        return unsafe { copy_in_vectors(source, destination, length) };
    }
    // SAFETY: the caller's promise.
    unsafe { std::ptr::copy_nonoverlapping(source, destination, length) }
}

/// [`copy`] in vectors, whatever the length, where the processor has them.
///
/// # Safety
///
/// As [`copy`].
#[inline]
pub(crate) unsafe fn copy_in_vectors(source: *const u8, destination: *mut u8, length: usize) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx") {
        // SAFETY: the processor has AVX, and the ranges are the caller's promise.
        return unsafe { copy_vectors::<false>(source, destination, length) };
    }
    // SAFETY: the caller's promise.
    unsafe { std::ptr::copy_nonoverlapping(source, destination, length) }
}

/// [`copy`] of what a near core has written just now, and may write on behind it.
///
/// A processor that reads upwards asks for lines beyond the end too: those that the other core is about to write, which
/// then has to take them back. So short ranges are read downwards; long ones by turns of both halves, which asks for fewer lines
/// too early and has more on their way. Messages of 2 ranks, medians of 29 rounds on a Zen 4 machine, half round trip in µs and
/// windows of 64 in GB/s:
///
/// | bytes | upwards | downwards | both halves | | upwards | downwards | both halves |
/// |--:|--:|--:|--:|--|--:|--:|--:|
/// | 2048 | 0.296 | 0.255 | 0.265 | | 11.9 | 17.3 | 15.0 |
/// | 8192 | 0.550 | 0.548 | 0.547 | | 35.5 | 34.8 | 35.5 |
/// | 16384 | 1.16 | 1.09 | 1.08 | | 36.9 | 33.8 | 37.5 |
/// | 65536 | 2.70 | 2.61 | 2.57 | | 33.3 | 32.3 | 33.8 |
///
/// Where ranges follow each other more is gained: 4 KiB of a broadcast took 0.27 µs upwards and 0.21 downwards, of an
/// all-to-all 0.57 and 0.36.
///
/// # Safety
///
/// As [`copy`].
#[inline]
pub(crate) unsafe fn copy_fresh(source: *const u8, destination: *mut u8, length: usize) {
    #[cfg(target_arch = "x86_64")]
    if length > SHORT_BYTES && std::arch::is_x86_feature_detected!("avx") {
        // SAFETY: the processor has AVX, and the ranges are the caller's promise.
        return unsafe {
            match length >= HALVES_FROM {
                true => copy_halves(source, destination, length),
                false => copy_downwards(source, destination, length),
            }
        };
    }
    // SAFETY: the caller's promise.
    unsafe { copy(source, destination, length) }
}

/// [`copy`] of what a distant core has streamed to memory just now.
///
/// It comes from memory, and a processor that reads upwards waits for it again at the beginning of each page, beyond whose end it asks
/// for nothing. So some pages are read side by side. Two processes without anything else on distant cores of a Zen 4 machine, µs,
/// medians of 25 rounds:
///
/// | | upwards | 2 pages | 3 pages | 4 pages | 5 pages | asked for in the page before |
/// |---|--:|--:|--:|--:|--:|--:|
/// | 16 KiB, half a round trip | 1.92 | 2.03 | 1.95 | 1.82 | 1.90 | 1.96 |
/// | 64 KiB in four parts | 5.43 | 5.52 | 5.45 | 4.85 | 5.43 | 5.64 |
/// | 256 KiB in sixteen | 15.9 | 18.0 | 18.2 | 15.9 | 16.3 | 16.6 |
/// | 128 KiB to each other, as a whole | 12.4 | 12.7 | 11.8 | 11.1 | 12.2 | 12.6 |
/// | 256 KiB to each other | 23.6 | 25.7 | 23.5 | 22.7 | 24.4 | 24.3 |
/// | 512 KiB to each other | 41.5 | 51.1 | 47.6 | 45.3 | 48.0 | 42.0 |
///
/// # Safety
///
/// As [`copy`].
#[inline]
pub(crate) unsafe fn copy_streamed(source: *const u8, destination: *mut u8, length: usize) {
    #[cfg(target_arch = "x86_64")]
    if PAGES_FOR.contains(&length) && std::arch::is_x86_feature_detected!("avx") {
        // SAFETY: the processor has AVX, and the ranges are the caller's promise.
        return unsafe { copy_pages(source, destination, length) };
    }
    // SAFETY: the caller's promise.
    unsafe { copy(source, destination, length) }
}

/// Whether the processor has stores that go past the caches.
pub(crate) fn can_stream() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Copies `length` bytes with stores that go past the caches to memory, in order before any store that follows. Where
/// the processor has no such stores this is [`copy`].
///
/// # Safety
///
/// As [`copy`].
pub(crate) unsafe fn copy_streaming(source: *const u8, destination: *mut u8, length: usize) {
    #[cfg(target_arch = "x86_64")]
    if can_stream() {
        // SAFETY: the processor has AVX, and the ranges are the caller's promise.
        // Streaming stores are in no order with those that follow, such as the one that publishes them, but for the fence.
        unsafe { copy_vectors::<true>(source, destination, length) };
        return finish_streaming();
    }
    // SAFETY: the caller's promise.
    unsafe { copy(source, destination, length) }
}

/// Copies in blocks of two lines to aligned destinations, in streaming stores or plain ones; what is left at both ends
/// goes by `memcpy`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx")]
unsafe fn copy_vectors<const STREAMING: bool>(source: *const u8, destination: *mut u8, length: usize) {
    // A line that is streamed in two parts goes to memory twice.
    let alignment = if STREAMING { LINE_BYTES } else { VECTOR };
    let head = destination.align_offset(alignment).min(length);
    // SAFETY: `head` bytes are part of the range.
    unsafe { copy_rest(source, destination, head) };
    let blocks = (length - head) / BLOCK;
    for block in 0..blocks {
        let at = head + block * BLOCK;
        // SAFETY: `at + BLOCK <= length`, so the block lies within the ranges; the destination is aligned by `head`.
        unsafe { copy_block::<STREAMING>(source.add(at), destination.add(at)) };
    }
    let done = head + blocks * BLOCK;
    // SAFETY: what is left of the range.
    unsafe { copy_rest(source.add(done), destination.add(done), length - done) };
}

/// Copies what is left at an end, which is mostly nothing.
///
/// # Safety
///
/// As [`copy`].
#[cfg(target_arch = "x86_64")]
#[inline]
unsafe fn copy_rest(source: *const u8, destination: *mut u8, length: usize) {
    if length > 0 {
        // SAFETY: the caller's promise.
        unsafe { std::ptr::copy_nonoverlapping(source, destination, length) }
    }
}

/// Copies in blocks to aligned destinations, the last one first; what is left at both ends goes by `memcpy`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx")]
unsafe fn copy_downwards(source: *const u8, destination: *mut u8, length: usize) {
    let tail = ((destination.addr() + length) % VECTOR).min(length);
    let mut end = length - tail;
    // SAFETY: `tail` bytes are the last of the range.
    unsafe { copy_rest(source.add(end), destination.add(end), tail) };
    while end >= BLOCK {
        end -= BLOCK;
        // SAFETY: `end + BLOCK <= length`.
        unsafe { copy_block::<false>(source.add(end), destination.add(end)) };
    }
    // SAFETY: what is left of the range.
    unsafe { copy_rest(source, destination, end) };
}

/// Copies in blocks to aligned destinations, by turns of both halves; what is left at both ends goes by `memcpy`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx")]
unsafe fn copy_halves(source: *const u8, destination: *mut u8, length: usize) {
    let head = destination.align_offset(VECTOR).min(length);
    let half = (length - head) / (2 * BLOCK) * BLOCK;
    for at in (head..head + half).step_by(BLOCK) {
        // SAFETY: `at + half + BLOCK <= head + 2 * half <= length`.
        unsafe {
            copy_block::<false>(source.add(at), destination.add(at));
            copy_block::<false>(source.add(at + half), destination.add(at + half));
        }
    }
    let done = head + 2 * half;
    // SAFETY: what is left of the range.
    unsafe {
        copy_rest(source, destination, head);
        copy_rest(source.add(done), destination.add(done), length - done);
    }
}

/// Copies by turns of so many pages; what is left goes one after the other.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx")]
unsafe fn copy_pages(source: *const u8, destination: *mut u8, length: usize) {
    let whole = length / (PAGES * PAGE) * (PAGES * PAGE);
    for first in (0..whole).step_by(PAGES * PAGE) {
        for start in (first..first + PAGE).step_by(BLOCK) {
            for at in (start..start + PAGES * PAGE).step_by(PAGE) {
                // SAFETY: `at + BLOCK <= first + PAGES * PAGE <= length`.
                unsafe { copy_block::<false>(source.add(at), destination.add(at)) };
            }
        }
    }
    // SAFETY: what is left of the range.
    unsafe { copy(source.add(whole), destination.add(whole), length - whole) };
}

/// Copies one block; streaming, to a destination that is aligned to a vector.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx")]
unsafe fn copy_block<const STREAMING: bool>(source: *const u8, destination: *mut u8) {
    use std::arch::x86_64::{_mm256_loadu_si256, _mm256_storeu_si256, _mm256_stream_si256};
    // SAFETY: all four vectors lie within the block.
    unsafe {
        let (from, to) = (source.cast::<Vector>(), destination.cast::<Vector>());
        let vectors: [_; VECTORS] = [
            _mm256_loadu_si256(from),
            _mm256_loadu_si256(from.add(1)),
            _mm256_loadu_si256(from.add(2)),
            _mm256_loadu_si256(from.add(3)),
        ];
        for (index, vector) in vectors.into_iter().enumerate() {
            if STREAMING {
                _mm256_stream_si256(to.add(index), vector);
            } else {
                _mm256_storeu_si256(to.add(index), vector);
            }
        }
    }
}

/// Copies `length` bytes from `incoming` to `buffer`, and as many from `data` to `outgoing` with stores that go past the
/// caches, at the same time: while these are stored, those are on their way. Not in order with later stores before
/// [`finish_streaming`].
///
/// # Safety
///
/// As [`copy`], for both copies; neither of the ranges that are written overlaps with any other.
pub(crate) unsafe fn copy_both(
    (incoming, buffer): (*const u8, *mut u8),
    (data, outgoing): (*const u8, *mut u8),
    length: usize,
) {
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if can_stream() && outgoing.align_offset(LINE_BYTES) == 0 {
        done = length / TURN * TURN;
        // SAFETY: the processor has AVX, the ranges are the caller's promise, and the destination is aligned.
        unsafe { copy_turns((incoming, buffer), (data, outgoing), done) };
    }
    // SAFETY: what is left of both ranges.
    unsafe {
        copy(incoming.add(done), buffer.add(done), length - done);
        copy_streaming(data.add(done), outgoing.add(done), length - done);
    }
}

/// Copies whole turns, in turn.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx")]
unsafe fn copy_turns(
    (incoming, buffer): (*const u8, *mut u8),
    (data, outgoing): (*const u8, *mut u8),
    length: usize,
) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    for start in (0..length).step_by(TURN) {
        let end = start + TURN;
        for line in (end..end + TURN).step_by(LINE_BYTES) {
            // A hint, which never faults: beyond the end too.
            _mm_prefetch::<_MM_HINT_T0>(incoming.wrapping_add(line).cast());
        }
        // SAFETY: all blocks lie within the ranges, and those of the aligned destination are aligned too.
        unsafe {
            (start..end).step_by(BLOCK).for_each(|at| copy_block::<true>(data.add(at), outgoing.add(at)));
            (start..end).step_by(BLOCK).for_each(|at| copy_block::<false>(incoming.add(at), buffer.add(at)));
        }
    }
}

/// Puts stores that went past the caches in order before all that follow.
pub(crate) fn finish_streaming() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every processor of this kind has the instruction, which touches nothing.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    type Copy = unsafe fn(*const u8, *mut u8, usize);

    proptest! {
        /// Of both copies at once every byte arrives, none beside them changes, wherever the ranges begin.
        #[test]
        fn copies_both_ranges_exactly(starts: [u8; 4], aligned: bool, length in 0..5000usize) {
            let [incoming, buffer, data, outgoing] = starts.map(|start| usize::from(start) % 130);
            let source = |begin: usize, seed: usize| -> Vec<u8> {
                (0..begin + length).map(|at| (at * 7 + at / 256 + seed) as u8).collect()
            };
            let (one, other) = (source(incoming, 0), source(data, 100));
            let [mut read, mut written] = [(); 2].map(|()| vec![0xAA; length + 200]);
            let outgoing = if aligned { written.as_ptr().align_offset(super::LINE_BYTES) } else { outgoing };
            // SAFETY: all four vectors are long enough.
            unsafe {
                super::copy_both(
                    (one[incoming..].as_ptr(), read[buffer..].as_mut_ptr()),
                    (other[data..].as_ptr(), written[outgoing..].as_mut_ptr()),
                    length,
                );
            }
            super::finish_streaming();
            for (target, begin, expected) in [(read, buffer, &one[incoming..]), (written, outgoing, &other[data..])] {
                prop_assert_eq!(&target[begin..begin + length], expected);
                prop_assert!(target[..begin].iter().chain(&target[begin + length..]).all(|&byte| byte == 0xAA));
            }
        }

        /// Every byte arrives, none beside them changes, wherever both ranges begin.
        #[test]
        fn copies_exactly_the_range(
            from in 0..70usize, to in 0..70usize, length in prop_oneof![0..17_000usize, 17_000..60_000usize],
        ) {
            let source: Vec<u8> = (0..from + length).map(|at| (at * 7 + at / 256) as u8).collect();
            let copies: [Copy; 4] = [super::copy, super::copy_fresh, super::copy_streamed, super::copy_streaming];
            for copy in copies {
                let mut target = vec![0xAA; to + length + 70];
                // SAFETY: both vectors are long enough.
                unsafe { copy(source[from..].as_ptr(), target[to..].as_mut_ptr(), length) };
                prop_assert!(target[..to].iter().all(|&byte| byte == 0xAA));
                prop_assert!(target[to + length..].iter().all(|&byte| byte == 0xAA));
                prop_assert_eq!(&target[to..to + length], &source[from..]);
            }
        }
    }
}
