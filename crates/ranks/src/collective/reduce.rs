//! All ranks show their elements, which are combined in the order of the ranks.

use std::ops::Range;
use std::slice::from_ref;

use bytemuck::Pod;

use shm_core::board::{INLINE_BYTES, INLINE_WORDS};

use super::{Collective, Kind, pieces};
use crate::error::{Error, Result};
use crate::reduction::Reduction;
use crate::world::World;

/// From this many bytes on, and with more than two ranks, each rank combines only its own slice of the elements
/// and the results are shown in a second round: a round costs about as much as reading this much (not tuned yet).
const SLICED_FROM_BYTES: usize = 4 << 10;

/// What is read from one rank before it is combined: stays in a core's nearest cache.
const BLOCK_BYTES: usize = 4 << 10;
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
        if collective.exceeds_round(data) {
            let ranks = if root == self.rank() { self.size() } else { 0 };
            return collective.combine_long(data, result, &operation, ranks);
        }
        for piece in collective.element_pieces::<T>(data.len()) {
            if root == self.rank() {
                collective.pass()?;
                collective.combine(data, result, Part::shown(piece), &operation, self.size())?;
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
        if collective.exceeds_round(data) {
            return collective.combine_long(data, result, &operation, self.size());
        }
        let mut pieces = collective.element_pieces::<T>(data.len()).peekable();
        while let Some(piece) = pieces.next() {
            let sliced = self.size() > 2 && piece.len() * size_of::<T>() >= SLICED_FROM_BYTES;
            collective.show(bytemuck::cast_slice(&data[piece.clone()]))?;
            if sliced {
                collective.combine_slices(data, result, piece, &operation)?;
            } else {
                let part = Part { next: pieces.peek().cloned().unwrap_or_default(), ..Part::shown(piece) };
                collective.combine(data, result, part, &operation, self.size())?;
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
        if collective.exceeds_round(data) {
            return collective.combine_long(data, result, &operation, self.rank() + 1);
        }
        for piece in collective.element_pieces::<T>(data.len()) {
            collective.show(bytemuck::cast_slice(&data[piece.clone()]))?;
            collective.combine(data, result, Part::shown(piece), &operation, self.rank() + 1)?;
            collective.leave()?;
        }
        Ok(())
    }
}

/// Elements that are combined in one round.
struct Part {
    /// The first element that is shown in the round.
    shown: usize,
    /// Those that are combined.
    range: Range<usize>,
    /// Those that this rank shows in the next round, if any.
    next: Range<usize>,
}

impl Part {
    /// All that is shown.
    fn shown(range: Range<usize>) -> Self {
        Self { shown: range.start, range, next: 0..0 }
    }
}

impl Collective<'_> {
    /// The elements in pieces of one round each; one empty piece if there are none, so that ranks still meet.
    fn element_pieces<T>(&self, elements: usize) -> impl Iterator<Item = Range<usize>> + use<T> {
        let size = size_of::<T>().max(1);
        let per_round = (self.piece_bytes() / size).max(1) * size;
        pieces(elements * size, per_round).map(move |bytes| bytes.start / size..bytes.end / size)
    }

    /// Whether not even one element can be shown in a round.
    fn exceeds_round<T>(&self, data: &[T]) -> bool {
        !data.is_empty() && size_of::<T>() > self.piece_bytes()
    }

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
        for range in self.pieces(mine.len()) {
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

    /// Combines a part of the elements of the first `ranks` ranks, which show theirs in this round.
    #[inline]
    fn combine<T: Pod>(
        &self,
        data: &[T],
        result: &mut [T],
        part: Part,
        operation: &impl Reduction<T>,
        ranks: usize,
    ) -> Result<()> {
        if size_of_val(data) <= INLINE_BYTES && bytemuck::try_cast_slice::<u64, T>(&[0; INLINE_WORDS]).is_ok()
        {
            return self.combine_short(data, result, operation, ranks);
        }
        self.combine_blocks(data, result, part, operation, ranks)
    }

    /// Combines all elements, which fit into a cell.
    #[inline]
    fn combine_short<T: Pod>(
        &self,
        data: &[T],
        result: &mut [T],
        operation: &impl Reduction<T>,
        ranks: usize,
    ) -> Result<()> {
        for rank in 0..ranks {
            let mut words = [0u64; INLINE_WORDS];
            let next = if rank == self.world.rank() {
                data
            } else {
                self.hear(rank)?;
                self.read_short(rank, &mut words, size_of_val(data))?;
                &bytemuck::cast_slice(&words)[..data.len()]
            };
            match rank {
                0 => result.copy_from_slice(next),
                _ => operation.combine(result, next),
            }
        }
        Ok(())
    }

    #[inline(never)]
    fn combine_blocks<T: Pod>(
        &self,
        data: &[T],
        result: &mut [T],
        Part { shown, range, next }: Part,
        operation: &impl Reduction<T>,
        ranks: usize,
    ) -> Result<()> {
        let me = self.world.rank();
        let next = bytemuck::cast_slice(&data[next]);
        (0..ranks).filter(|&rank| rank != me).try_for_each(|rank| self.hear(rank))?;
        let at_once = (BLOCK_BYTES / size_of::<T>().max(1)).max(1).min(range.len());
        let (mut line, mut heap) = ([0u64; LINE_WORDS], Vec::new());
        let scratch = scratch(at_once, &mut line, &mut heap);
        let mut start = range.start;
        while start < range.end {
            let block = start..range.end.min(start + at_once);
            let (target, theirs) = (&mut result[block.clone()], &mut scratch[..block.len()]);
            let source = Source { ranks, offset: (start - shown) * size_of::<T>(), next };
            self.combine_block(&data[block.clone()], target, theirs, source, operation)?;
            start = block.end;
        }
        Ok(())
    }

    /// Combines one block of elements.
    #[inline]
    fn combine_block<T: Pod>(
        &self,
        mine: &[T],
        target: &mut [T],
        scratch: &mut [T],
        Source { ranks, offset, next }: Source<'_>,
        operation: &impl Reduction<T>,
    ) -> Result<()> {
        let me = self.world.rank();
        if ranks == 2 {
            let other = usize::from(me == 0);
            self.read_and_write(other, offset, bytemuck::cast_slice_mut(scratch), next)?;
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
                    self.read_and_write(rank, offset, bytemuck::cast_slice_mut(target), next)?;
                    continue;
                }
                (_, false) => {
                    self.read_and_write(rank, offset, bytemuck::cast_slice_mut(scratch), next)?;
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

    /// Combines this rank's slice of the piece, then shows it and takes the others' slices.
    fn combine_slices<T: Pod>(
        &self,
        data: &[T],
        result: &mut [T],
        piece: Range<usize>,
        operation: &impl Reduction<T>,
    ) -> Result<()> {
        let ranks = self.world.size();
        let bound = |rank: usize| piece.start + piece.len() * rank / ranks;
        let slice = |rank: usize| bound(rank)..bound(rank + 1);
        let mine = slice(self.world.rank());
        let part = Part { range: mine.clone(), ..Part::shown(piece.clone()) };
        self.combine(data, result, part, operation, ranks)?;
        self.leave()?;
        self.show(bytemuck::cast_slice(&result[mine]))?;
        for rank in self.others() {
            self.hear(rank)?;
            self.read(rank, 0, bytemuck::cast_slice_mut(&mut result[slice(rank)]))?;
        }
        Ok(())
    }
}

/// Where one block of elements comes from.
#[derive(Clone, Copy)]
struct Source<'d> {
    /// It is that of the first so many ranks,
    ranks: usize,
    /// who show it there in this round.
    offset: usize,
    /// What this rank shows in the next round.
    next: &'d [u8],
}

/// Room for `elements` elements: `line` if they fit, or else new memory.
fn scratch<'s, T: Pod>(
    elements: usize,
    line: &'s mut [u64; LINE_WORDS],
    heap: &'s mut Vec<T>,
) -> &'s mut [T] {
    match bytemuck::try_cast_slice_mut(line) {
        Ok(line) if line.len() >= elements => line,
        _ => {
            heap.resize(elements, T::zeroed());
            heap
        }
    }
}
