//! All ranks show their elements, which are combined in the order of the ranks.

use std::ops::Range;
use std::slice::from_ref;

use bytemuck::Pod;

use shm_core::board::{INLINE_BYTES, INLINE_WORDS, SLOT_LIMIT};

use super::round::SLICES;
use super::teller::Combining;
use super::{BLOCK_BYTES, Collective, Kind, pieces};
use crate::error::{Error, Result};
use crate::reduction::Reduction;
use crate::world::World;

/// From this many bytes on each rank combines only its own slice of the elements, and the results are shown in a second
/// round, which costs about as much as reading this much (not tuned yet) ...
const SLICED_FROM_BYTES: usize = 4 << 10;
/// ... this much for each rank on a processor where ranks share them, and a second round takes until all have had their turn. 2
/// near cores of a Zen 4 machine, µs, combined by a teller and in slices: 16 KiB by 4 ranks 9.3 and 8.8, 32 KiB 12.1 and 10.2; by 8 16 KiB
/// 18.7 and 22.8, 32 KiB 33.4 and 32.1, 64 KiB 54 and 47; by 16 32 KiB 77 and 101, 64 KiB 122 and 144, 128 KiB 231 and 213. More than
/// 16 ranks show at most 64 KiB in a round: there never are slices then, with 9 and more on each. By 64 64 KiB 690 and 880 ...
const SLICED_FROM_BYTES_SHARED: usize = 8 << 10;
/// ... and this much where there are only two slices. 2 near cores, µs, whole and in slices: 16 KiB 1.50 and 1.47, 32 KiB 2.70 and
/// 2.49, 48 KiB 4.09 and 3.70; distant ones 16 KiB 3.02 and 3.43, 32 KiB 5.5 and 5.8, 48 KiB 8.1 and 7.8, 1 MiB 125 and 97.
const HALVED_FROM_BYTES: usize = 32 << 10;

/// What is read at once where cores are distant: four pages, side by side (`shm_core::copy`). 2 distant cores of a Zen 4 machine, µs, in blocks
/// of [`BLOCK_BYTES`] and of these: all_reduce of 16 KiB 2.81 and 2.24, 64 KiB 8.54 and 7.35, 256 KiB 30.7 and 27.2, 384 KiB 45.2 and 41.9;
/// reduce of 16 KiB 1.58 and 1.26, 64 KiB 6.03 and 4.92, 256 KiB 20.3 and 16.8 ...
const DISTANT_BLOCK_BYTES: usize = 16 << 10;
/// ... but of less than this, as long copies there: all_reduce of 512 KiB 53.3 and 52.4, 1 MiB 98 and 105, reduce 33.2 and 33.1, 62 and 70.
const LONG_BYTES: usize = 512 << 10;

/// Scratch memory that needs no allocation.
const LINE_WORDS: usize = 8;

impl World {
    /// Combines the elements of all ranks, position by position, into `result` on `root`. On the other ranks
    /// `result` is not touched and may be empty. Blocks on the root until all ranks have called it.
    ///
    /// The order is that of the ranks, whatever the timing: see [`Reduction`].
    ///
    /// # Errors
    ///
    /// [`Error::LengthMismatch`] if `result` on the root has another length than `data`,
    /// [`Error::CollectiveMismatch`], [`Error::PeerGone`], [`Error::RankOutOfRange`], [`Error::Segment`].
    ///
    /// # MPI
    /// `MPI_Reduce`.
    #[track_caller]
    pub fn reduce<T: Pod>(
        &self,
        data: &[T],
        result: &mut [T],
        operation: impl Reduction<T>,
        root: usize,
    ) -> Result<()> {
        let collective = Collective::new::<T>(self, Kind::Reduce, Some(root), size_of_val(data))?;
        if root == self.rank() {
            collective.check_length("result", result.len(), data.len())?;
        }
        if fits_cell(data) {
            if root == self.rank() {
                collective.pass()?;
                collective.combine_short(data, result, &operation, self.size())?;
            } else {
                collective.show(bytemuck::cast_slice(data))?;
            }
            return collective.leave();
        }
        let most = collective.streamed_bytes();
        if exceeds_round(data, most) {
            let ranks = if root == self.rank() { self.size() } else { 0 };
            return collective.combine_long(data, result, &operation, ranks);
        }
        for piece in element_pieces::<T>(data.len(), most) {
            if root == self.rank() {
                collective.pass()?;
                collective.hear_first(self.size())?;
                collective.combine_blocks(data, result, piece, None, &operation, self.size())?;
            } else {
                collective.show(bytemuck::cast_slice(&data[piece]))?;
            }
            collective.leave()?;
        }
        Ok(())
    }

    /// Combines the elements of all ranks, position by position, into `result` on every rank: the same to the bit on
    /// all of them. Blocks until all ranks have called it.
    ///
    /// # Errors
    ///
    /// [`Error::LengthMismatch`] if `result` has another length than `data`, [`Error::CollectiveMismatch`],
    /// [`Error::PeerGone`], [`Error::Segment`].
    ///
    /// # MPI
    /// `MPI_Allreduce`.
    ///
    /// # Examples
    ///
    /// ```
    /// ranks::spawn(4, |world| {
    ///     let mine = [world.rank() as i64, 1];
    ///     let mut sum = [0; 2];
    ///     world.all_reduce(&mine, &mut sum, ranks::Sum).unwrap();
    ///     assert_eq!(sum, [6, 4]);
    ///     world.all_reduce(&mine, &mut sum, |left: i64, right| left.max(right)).unwrap();
    ///     assert_eq!(sum, [3, 1]);
    ///     assert!(world.all_reduce(&mine, &mut [0; 3], ranks::Sum).is_err());
    /// })?;
    /// # Ok::<(), ranks::Error>(())
    /// ```
    #[track_caller]
    #[doc(alias = "allreduce")]
    pub fn all_reduce<T: Pod>(
        &self,
        data: &[T],
        result: &mut [T],
        operation: impl Reduction<T>,
    ) -> Result<()> {
        let collective = Collective::new::<T>(self, Kind::AllReduce, None, size_of_val(data))?;
        collective.check_length("result", result.len(), data.len())?;
        let combines_for_all = collective.combines_for_all(size_of_val(data));
        if fits_cell(data) && !combines_for_all {
            collective.show(bytemuck::cast_slice(data))?;
            collective.combine_short(data, result, &operation, self.size())?;
            return collective.leave();
        }
        if self.size() == 2 && size_of_val(data) <= SLOT_LIMIT && !combines_for_all {
            return collective.combine_pair(data, result, &operation);
        }
        let most = collective.exchanged_bytes();
        if exceeds_round(data, most) {
            return collective.combine_long(data, result, &operation, self.size());
        }
        let sliced_from = match (self.size(), collective.ranks_per_processor()) {
            (..=2, _) => HALVED_FROM_BYTES,
            (_, 0) => SLICED_FROM_BYTES,
            (_, ranks) => ranks.max(2) * SLICED_FROM_BYTES_SHARED,
        };
        for piece in element_pieces::<T>(data.len(), most) {
            if self.size() > 1 && piece.len() * size_of::<T>() >= sliced_from {
                collective.combine_slices(data, result, piece, &operation)?;
            } else if combines_for_all {
                collective.combine_for_all(data, result, piece, &operation)?;
            } else {
                collective.show(bytemuck::cast_slice(&data[piece.clone()]))?;
                collective.hear_first(self.size())?;
                collective.combine_blocks(data, result, piece, None, &operation, self.size())?;
            }
            collective.leave()?;
        }
        Ok(())
    }

    /// Combines the elements of ranks 0 to this one, position by position, into `result`. Blocks until those ranks
    /// have called it.
    ///
    /// # Errors
    ///
    /// As [`World::all_reduce`].
    ///
    /// # MPI
    /// `MPI_Scan` (inclusive).
    #[track_caller]
    pub fn scan<T: Pod>(&self, data: &[T], result: &mut [T], operation: impl Reduction<T>) -> Result<()> {
        let collective = Collective::new::<T>(self, Kind::Scan, None, size_of_val(data))?;
        collective.check_length("result", result.len(), data.len())?;
        if fits_cell(data) {
            collective.show(bytemuck::cast_slice(data))?;
            collective.combine_short(data, result, &operation, self.rank() + 1)?;
            return collective.leave();
        }
        let most = collective.exchanged_bytes();
        if exceeds_round(data, most) {
            return collective.combine_long(data, result, &operation, self.rank() + 1);
        }
        for piece in element_pieces::<T>(data.len(), most) {
            collective.show(bytemuck::cast_slice(&data[piece.clone()]))?;
            collective.hear_first(self.rank() + 1)?;
            collective.combine_blocks(data, result, piece, None, &operation, self.rank() + 1)?;
            collective.leave()?;
        }
        Ok(())
    }
}

/// Elements in pieces of at most `most` bytes; one empty piece if there are none, so that ranks still meet.
fn element_pieces<T>(elements: usize, most: usize) -> impl Iterator<Item = Range<usize>> {
    let size = size_of::<T>().max(1);
    let per_round = (most / size).max(1) * size;
    pieces(elements * size, per_round).map(move |bytes| bytes.start / size..bytes.end / size)
}

/// Whether all elements fit into a cell of the board, and may be combined where they lie in its words.
#[inline]
fn fits_cell<T: Pod>(data: &[T]) -> bool {
    size_of_val(data) <= INLINE_BYTES && bytemuck::try_cast_slice::<u64, T>(&[0; INLINE_WORDS]).is_ok()
}

/// Whether not even one element can be shown in a round of at most `most` bytes.
fn exceeds_round<T>(data: &[T], most: usize) -> bool {
    !data.is_empty() && size_of::<T>() > most
}

impl Collective<'_> {
    /// Combines elements of the first `ranks` ranks that take several rounds each, one element after the other.
    fn combine_long<T: Pod>(
        &self,
        data: &[T],
        result: &mut [T],
        operation: &impl Reduction<T>,
        ranks: usize,
    ) -> Result<()> {
        let mut shown = self.zeroed(ranks as u64)?;
        for (index, element) in data.iter().enumerate() {
            self.collect_long(element, &mut shown)?;
            if let Some((first, others)) = shown.split_first() {
                let target = &mut result[index..=index];
                target.copy_from_slice(from_ref(first));
                others.iter().for_each(|next| operation.combine(target, from_ref(next)));
            }
        }
        Ok(())
    }

    /// Shows `element` in several rounds, and puts the first ranks' into `shown`.
    fn collect_long<T: Pod>(&self, element: &T, shown: &mut [T]) -> Result<()> {
        let mine = bytemuck::bytes_of(element);
        for range in pieces(mine.len(), self.streamed_bytes()) {
            self.show(&mine[range.clone()])?;
            for (rank, theirs) in shown.iter_mut().enumerate() {
                let target = &mut bytemuck::bytes_of_mut(theirs)[range.clone()];
                if rank == self.world.rank() {
                    target.copy_from_slice(&mine[range.clone()]);
                } else {
                    self.hear(rank)?;
                    self.read(rank, 0, target)?;
                }
            }
            self.leave()?;
        }
        Ok(())
    }

    pub(super) fn check_length(&self, what: &'static str, found: usize, expected: usize) -> Result<()> {
        if found == expected {
            return Ok(());
        }
        let caller = self.caller();
        Err(Error::LengthMismatch { operation: caller.operation, what, found, expected, at: caller.at })
    }

    /// The teller combines a piece of the elements of all ranks, and shows the others what comes out.
    #[inline(never)]
    fn combine_for_all<T: Pod>(
        &self,
        data: &[T],
        result: &mut [T],
        piece: Range<usize>,
        operation: &impl Reduction<T>,
    ) -> Result<()> {
        self.show(bytemuck::cast_slice(&data[piece.clone()]))?;
        let teller = self.hear_teller()?;
        let is_teller = teller == self.world.rank();
        if is_teller {
            let combining = Combining(self);
            self.combine_blocks(data, result, piece.clone(), None, operation, self.world.size())?;
            combining.succeeded();
        }
        self.leave()?;
        let next = self.second_round(teller as u64);
        let result = bytemuck::cast_slice_mut(&mut result[piece]);
        if is_teller {
            return next.show(result);
        }
        next.pass()?;
        next.hear(teller)?;
        next.read(teller, 0, result)
    }

    /// Combines all elements, which fit into a cell, of the first `ranks` ranks.
    #[inline]
    fn combine_short<T: Pod>(
        &self,
        data: &[T],
        result: &mut [T],
        operation: &impl Reduction<T>,
        ranks: usize,
    ) -> Result<()> {
        let mut words = [0u64; INLINE_WORDS];
        let me = self.world.rank();
        if ranks == 2 {
            let theirs = self.hear_short(usize::from(me == 0), &mut words, data.len())?;
            let (first, next) = if me == 0 { (data, theirs) } else { (theirs, data) };
            operation.combine_into(result, first, next);
            return Ok(());
        }
        for rank in 0..ranks {
            let next = if rank == me { data } else { self.hear_short(rank, &mut words, data.len())? };
            match rank {
                0 => result.copy_from_slice(next),
                _ => operation.combine(result, next),
            }
        }
        Ok(())
    }

    /// [`World::all_reduce`] of elements that fit into a slot, by two ranks.
    fn combine_pair<T: Pod>(
        &self,
        data: &[T],
        result: &mut [T],
        operation: &impl Reduction<T>,
    ) -> Result<()> {
        self.show(bytemuck::cast_slice(data))?;
        self.hear(usize::from(self.world.rank() == 0))?;
        let (mut line, mut kept, mut heap) = ([0u64; LINE_WORDS], Vec::new(), Vec::new());
        if size_of_val(data) > size_of_val(&line) {
            kept = std::mem::take(&mut self.world.engine.borrow_mut().scratch);
        }
        let theirs = &mut scratch(data.len(), (&mut line, &mut kept), &mut heap)[..data.len()];
        self.combine_block(data, result, theirs, (2, |_| 0), operation)?;
        if !kept.is_empty() {
            self.world.engine.borrow_mut().scratch = kept;
        }
        self.leave()
    }

    /// Waits for the elements that `rank` shows in its cell, and reads them into `words`.
    #[inline]
    fn hear_short<'e, T: Pod>(
        &self,
        rank: usize,
        words: &'e mut [u64; INLINE_WORDS],
        elements: usize,
    ) -> Result<&'e [T]> {
        self.hear(rank)?;
        self.read_short(rank, words, elements * size_of::<T>())?;
        Ok(&bytemuck::cast_slice(words.as_slice())[..elements])
    }

    /// [`Collective::hear_all`] for the first `ranks` ranks.
    fn hear_first(&self, ranks: usize) -> Result<()> {
        self.others().take_while(|&rank| rank < ranks).try_for_each(|rank| self.hear(rank))
    }

    /// Combines the elements in `range` of the first `ranks` ranks, which have been heard in this round. Or this rank's slice of a
    /// piece: then `before` says how many others a rank shows before them, and what comes out is shown in the next round.
    #[inline(never)]
    fn combine_blocks<T: Pod>(
        &self,
        data: &[T],
        result: &mut [T],
        range: Range<usize>,
        before: Option<&dyn Fn(usize) -> usize>,
        operation: &impl Reduction<T>,
        ranks: usize,
    ) -> Result<()> {
        let reads_pages = size_of_val(data) < LONG_BYTES && self.world.engine.borrow().board.is_far();
        let block_bytes = if reads_pages { DISTANT_BLOCK_BYTES } else { BLOCK_BYTES };
        let at_once = (block_bytes / size_of::<T>().max(1)).max(1).min(range.len());
        let (mut line, mut kept, mut heap) = ([0u64; LINE_WORDS], Vec::new(), Vec::new());
        if at_once * size_of::<T>() > size_of_val(&line) {
            kept = std::mem::take(&mut self.world.engine.borrow_mut().scratch);
        }
        let scratch = scratch(at_once, (&mut line, &mut kept), &mut heap);
        let (mut start, is_slice) = (range.start, before.is_some());
        while start < range.end {
            let block = start..range.end.min(start + at_once);
            let (target, theirs) = (&mut result[block.clone()], &mut scratch[..block.len()]);
            let before = |rank| before.map_or(0, |before| before(rank));
            let offset = |rank| (before(rank) + start - range.start) * size_of::<T>();
            self.combine_block(&data[block.clone()], target, theirs, (ranks, offset), operation)?;
            if is_slice {
                let made = bytemuck::cast_slice(&result[block.clone()]);
                let [offset, length] = [start - range.start, range.len()].map(|count| count * size_of::<T>());
                self.world.engine.borrow_mut().board.write_ahead(length, offset, made);
            }
            start = block.end;
        }
        if !kept.is_empty() {
            self.world.engine.borrow_mut().scratch = kept;
        }
        Ok(())
    }

    /// Combines one block of elements of the first `ranks` ranks: each shows its own at its `offset`, in bytes.
    #[inline]
    fn combine_block<T: Pod>(
        &self,
        mine: &[T],
        target: &mut [T],
        scratch: &mut [T],
        (ranks, offset): (usize, impl Fn(usize) -> usize),
        operation: &impl Reduction<T>,
    ) -> Result<()> {
        let me = self.world.rank();
        if ranks == 2 {
            let other = usize::from(me == 0);
            self.read(other, offset(other), bytemuck::cast_slice_mut(scratch))?;
            let (first, next) = if me == 0 { (mine, &*scratch) } else { (&*scratch, mine) };
            // One call for both ranks: of two, the compiler may turn the operands of one around, and of two values that
            // are no numbers the other one would come out.
            operation.combine_into(target, first, next);
            return Ok(());
        }
        for rank in 0..ranks {
            let next = match (rank, rank == me) {
                (_, true) => mine,
                (0, false) => {
                    self.read(rank, offset(rank), bytemuck::cast_slice_mut(target))?;
                    continue;
                }
                (_, false) => {
                    self.read(rank, offset(rank), bytemuck::cast_slice_mut(scratch))?;
                    &*scratch
                }
            };
            match rank {
                0 => target.copy_from_slice(next),
                _ => operation.combine(target, next),
            }
        }
        Ok(())
    }

    /// Shows the others' slices of the piece, combines this rank's own, then shows that and takes theirs.
    fn combine_slices<T: Pod>(
        &self,
        data: &[T],
        result: &mut [T],
        piece: Range<usize>,
        operation: &impl Reduction<T>,
    ) -> Result<()> {
        let (me, ranks) = (self.world.rank(), self.world.size());
        let bound = |rank: usize| piece.start + piece.len() * rank / ranks;
        let slice = |rank: usize| bound(rank)..bound(rank + 1);
        let mine = slice(me);
        let others = [&data[piece.start..mine.start], &data[mine.end..piece.end]];
        self.show_both(bytemuck::cast_slice(others[0]), bytemuck::cast_slice(others[1]))?;
        // Of what lies before it in the piece, a rank leaves its own slice out.
        let before = |rank: usize| mine.start - piece.start - if rank < me { slice(rank).len() } else { 0 };
        self.hear_all()?;
        let combining = Combining(self);
        self.combine_blocks(data, result, mine.clone(), Some(&before), operation, ranks)?;
        combining.succeeded();
        self.leave()?;
        let next = self.second_round(SLICES);
        next.show(bytemuck::cast_slice(&result[mine]))?;
        for rank in self.others() {
            next.hear(rank)?;
            next.read(rank, 0, bytemuck::cast_slice_mut(&mut result[slice(rank)]))?;
        }
        Ok(())
    }
}

/// Room for `elements` elements: in `line` if they fit, in `kept`, which becomes as long as it has to be, or in new memory if they
/// cannot lie in words.
fn scratch<'s, T: Pod>(
    elements: usize,
    (line, kept): (&'s mut [u64; LINE_WORDS], &'s mut Vec<u64>),
    heap: &'s mut Vec<T>,
) -> &'s mut [T] {
    let words = (elements * size_of::<T>()).div_ceil(size_of::<u64>());
    let place = match line.get_mut(..words) {
        Some(place) => place,
        None => {
            kept.resize(words.max(kept.len()), 0);
            &mut kept[..words]
        }
    };
    match bytemuck::try_cast_slice_mut(place) {
        Ok(place) if place.len() >= elements => place,
        _ => {
            heap.resize(elements, T::zeroed());
            heap
        }
    }
}
