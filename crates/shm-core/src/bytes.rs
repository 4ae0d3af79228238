//! A stretch of shared memory that is only ever copied in and out of.
//!
//! No reference to its content is handed out: another process may write to it at any time, so what was read is
//! a copy, and a copy is all that anybody acts on. Who may write when is the business of the protocol above
//! (ring, pool, board); under loom every copy is checked against those of the other threads.
//!
//! # Safety
//!
//! Trusted for raw copies, and prefetches, whose ranges are checked here, on every call.
#![allow(unsafe_code)]

use crate::sync::UnsafeCell;

/// Bytes of one [`Line`]: a cache line.
pub const LINE_BYTES: usize = 64;

/// One cache line of raw shared memory.
#[repr(C, align(64))]
pub struct Line(UnsafeCell<[u8; LINE_BYTES]>);

// SAFETY: the content is only copied through raw pointers, never referenced; the protocols order the copies.
unsafe impl Sync for Line {}
// SAFETY: a line is plain bytes and belongs to no thread.
unsafe impl Send for Line {}

impl Line {
    /// A line of zeroes, for use on the heap.
    pub fn new() -> Self {
        Self(UnsafeCell::new([0; LINE_BYTES]))
    }
}

impl Default for Line {
    fn default() -> Self {
        Self::new()
    }
}

/// Asks for the line in which `place` begins as its next writer: see [`SharedBytes::prepare`]. It may be anywhere.
#[inline]
pub(crate) fn prepare_line<T>(place: *const T) {
    #[cfg(all(target_arch = "x86_64", not(loom)))]
    // SAFETY: changes no content and cannot fail; processors without the instruction take it for a no-op.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) place, options(nostack, preserves_flags));
    }
    #[cfg(not(all(target_arch = "x86_64", not(loom))))]
    let _ = place;
}

/// Copies private memory as fast as shared memory is copied (see `copy.rs`).
///
/// # Panics
///
/// If both have not the same length.
#[inline]
pub fn copy_private(from: &[u8], to: &mut [u8]) {
    assert_eq!(from.len(), to.len(), "bytes to copy, and room for them");
    #[cfg(not(loom))]
    // SAFETY: both are valid for that length, and a `&mut` overlaps with nothing.
    unsafe {
        crate::copy::copy(from.as_ptr(), to.as_mut_ptr(), from.len());
    }
    #[cfg(loom)]
    to.copy_from_slice(from);
}

/// A borrowed stretch of shared memory.
#[derive(Clone, Copy)]
pub struct SharedBytes<'a> {
    lines: &'a [Line],
}

impl<'a> SharedBytes<'a> {
    /// The memory of `lines`.
    pub fn new(lines: &'a [Line]) -> Self {
        Self { lines }
    }

    /// Size in bytes.
    pub fn len(&self) -> usize {
        self.lines.len() * LINE_BYTES
    }

    /// Whether there are no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Copies `data` to `offset`.
    ///
    /// # Panics
    ///
    /// If the range does not lie within the stretch.
    #[inline]
    pub fn copy_in(&self, offset: usize, data: &[u8]) {
        self.check(offset, data.len());
        #[cfg(not(loom))]
        // SAFETY: the range was checked above; the lines are contiguous and interior-mutable.
        unsafe {
            crate::copy::copy(data.as_ptr(), self.start().add(offset), data.len());
        }
        #[cfg(loom)]
        for (line, range) in self.pieces(offset, data.len()) {
            let (start, piece) = ((offset + range.start) % LINE_BYTES, &data[range]);
            // SAFETY: the range was checked above; loom reports overlapping accesses.
            line.0
                .with_mut(|line| unsafe { (&mut *line)[start..start + piece.len()].copy_from_slice(piece) });
        }
    }

    /// Like [`SharedBytes::copy_in`], past the caches: for readers on distant cores (see [`crate::distance`]).
    ///
    /// # Panics
    ///
    /// If the range does not lie within the stretch.
    pub fn copy_in_streaming(&self, offset: usize, data: &[u8]) {
        #[cfg(loom)]
        self.copy_in(offset, data);
        #[cfg(not(loom))]
        {
            self.check(offset, data.len());
            // SAFETY: the range was checked above; the lines are contiguous and interior-mutable.
            unsafe { crate::copy::copy_streaming(data.as_ptr(), self.start().add(offset), data.len()) }
        }
    }

    /// Copies what lies at `offset` to `buffer`.
    ///
    /// # Panics
    ///
    /// If the range does not lie within the stretch.
    #[inline]
    pub fn copy_out(&self, offset: usize, buffer: &mut [u8]) {
        self.check(offset, buffer.len());
        #[cfg(not(loom))]
        // SAFETY: the range was checked above; `buffer` is private memory and cannot overlap.
        unsafe {
            crate::copy::copy_streamed(self.start().add(offset), buffer.as_mut_ptr(), buffer.len());
        }
        #[cfg(loom)]
        for (line, range) in self.pieces(offset, buffer.len()) {
            let (start, piece) = ((offset + range.start) % LINE_BYTES, &mut buffer[range]);
            // SAFETY: the range was checked above; loom reports overlapping accesses.
            line.0.with(|line| unsafe { piece.copy_from_slice(&(&*line)[start..start + piece.len()]) });
        }
    }

    /// Like [`SharedBytes::copy_out`], of so much that neither its source nor its destination stays in the nearer caches: one line after
    /// the other.
    ///
    /// # Panics
    ///
    /// If the range does not lie within the stretch.
    pub fn copy_out_upwards(&self, offset: usize, buffer: &mut [u8]) {
        #[cfg(loom)]
        self.copy_out(offset, buffer);
        #[cfg(not(loom))]
        {
            self.check(offset, buffer.len());
            // SAFETY: the range was checked above; `buffer` is private memory and cannot overlap.
            unsafe { crate::copy::copy(self.start().add(offset), buffer.as_mut_ptr(), buffer.len()) }
        }
    }

    /// Like [`SharedBytes::copy_out`], of what a near core has written just now: in less time.
    ///
    /// # Panics
    ///
    /// If the range does not lie within the stretch.
    #[inline]
    pub fn copy_out_fresh(&self, offset: usize, buffer: &mut [u8]) {
        #[cfg(loom)]
        self.copy_out(offset, buffer);
        #[cfg(not(loom))]
        {
            self.check(offset, buffer.len());
            // SAFETY: the range was checked above; `buffer` is private memory and cannot overlap.
            unsafe { crate::copy::copy_fresh(self.start().add(offset), buffer.as_mut_ptr(), buffer.len()) }
        }
    }

    /// Copies what lies at `offset` to `buffer`, and `data`, which has the same length, to `to_offset` of `to`, past the
    /// caches: in less time than one after the other between distant cores. Before others may be told of `data`, it needs
    /// [`SharedBytes::finish_streaming`].
    ///
    /// # Panics
    ///
    /// If the lengths differ, or a range does not lie within its stretch.
    pub fn copy_out_and_in(
        &self,
        offset: usize,
        buffer: &mut [u8],
        (to, to_offset): (SharedBytes<'_>, usize),
        data: &[u8],
    ) {
        assert_eq!(buffer.len(), data.len(), "bytes in both directions");
        self.check(offset, buffer.len());
        to.check(to_offset, data.len());
        #[cfg(loom)]
        {
            self.copy_out(offset, buffer);
            to.copy_in(to_offset, data);
        }
        #[cfg(not(loom))]
        // SAFETY: the ranges were checked above; the lines are contiguous and interior-mutable; the slices are private
        // memory, and `buffer` overlaps with nothing. Should both stretches be one, then what is read may be what is
        // written, as it may with any shared memory.
        unsafe {
            let incoming = (self.start().add(offset).cast_const(), buffer.as_mut_ptr());
            crate::copy::copy_both(incoming, (data.as_ptr(), to.start().add(to_offset)), data.len());
        }
    }

    /// Puts what was copied in past the caches in order before all stores that follow.
    pub fn finish_streaming(&self) {
        #[cfg(not(loom))]
        crate::copy::finish_streaming();
    }

    /// Asks for the lines of a range as their next writer: their other copies go while this core has time, and the
    /// write does not wait for it. Content stays as it is. Does nothing where the processor knows no such request.
    ///
    /// # Panics
    ///
    /// If the range does not lie within the stretch.
    #[inline]
    pub fn prepare(&self, offset: usize, length: usize) {
        self.check(offset, length);
        let lines = &self.lines[offset / LINE_BYTES..(offset + length).div_ceil(LINE_BYTES)];
        lines.iter().for_each(|line| prepare_line(line));
    }

    /// The lines of a range, and which part of the data each holds.
    #[cfg(loom)]
    fn pieces(&self, offset: usize, length: usize) -> impl Iterator<Item = (&Line, std::ops::Range<usize>)> {
        let lines = self.lines.iter().enumerate().skip(offset / LINE_BYTES);
        lines.map_while(move |(index, line)| {
            let start = (index * LINE_BYTES).max(offset) - offset;
            let end = ((index + 1) * LINE_BYTES).min(offset + length).checked_sub(offset)?;
            (start < end).then_some((line, start..end))
        })
    }

    #[inline]
    fn check(&self, offset: usize, length: usize) {
        let fits = offset.checked_add(length).is_some_and(|end| end <= self.len());
        assert!(fits, "{length} bytes at {offset} do not lie within {} shared bytes", self.len());
    }

    #[cfg(not(loom))]
    #[inline]
    fn start(&self) -> *mut u8 {
        self.lines.as_ptr().cast::<u8>().cast_mut()
    }
}

#[cfg(not(loom))]
crate::fixed_layout!(Line { 0 });

#[cfg(not(loom))]
// SAFETY: repr(C), plain bytes and atomics, any bytes are valid values.
unsafe impl crate::SharedLayout for Line {}
