//! All ranks show their elements, which are combined in the order of the ranks.

use std::ops::Range;
use std::slice::from_ref;

use bytemuck::Pod;

use super::{Collective, Kind};
use crate::error::{Error, Result};
use crate::reduction::Reduction;
use crate::world::World;

/// From this many bytes on, and with more than two ranks, each rank combines only its own slice of the elements
/// and the results are shown in a second round: a round costs about as much as reading this much (not tuned yet).
const SLICED_FROM_BYTES: usize = 4 << 10;

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
        for piece in collective.pieces::<T>(data.len()) {
            collective.show(&[(0, bytemuck::cast_slice(&data[piece.clone()]))])?;
            if root == self.rank() {
                collective.combine(data, result, piece.clone(), piece, &operation, self.size())?;
            }
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
        for piece in collective.pieces::<T>(data.len()) {
            let sliced = self.size() > 2 && piece.len() * size_of::<T>() >= SLICED_FROM_BYTES;
            collective.show(&[(0, bytemuck::cast_slice(&data[piece.clone()]))])?;
            if sliced {
                collective.combine_slices(data, result, piece, &operation)?;
            } else {
                collective.combine(data, result, piece.clone(), piece, &operation, self.size())?;
            }
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
        for piece in collective.pieces::<T>(data.len()) {
            collective.show(&[(0, bytemuck::cast_slice(&data[piece.clone()]))])?;
            collective.combine(data, result, piece.clone(), piece, &operation, self.rank() + 1)?;
        }
        Ok(())
    }
}

impl Collective<'_> {
    /// The elements in pieces of one round each; one empty piece if there are none, so that ranks still meet.
    fn pieces<T>(&self, elements: usize) -> impl Iterator<Item = Range<usize>> + use<T> {
        let per_round = (self.capacity() / size_of::<T>().max(1)).max(1);
        let rounds = elements.div_ceil(per_round).max(1);
        (0..rounds).map(move |round| round * per_round..elements.min((round + 1) * per_round))
    }

    /// Whether not even one element can be shown in a round.
    fn exceeds_round<T>(&self, data: &[T]) -> bool {
        !data.is_empty() && size_of::<T>() > self.capacity()
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
        self.contribute(mine, mine.len(), |collective, done| {
            let end = mine.len().min(done + collective.capacity());
            for (rank, theirs) in shown.iter_mut().enumerate() {
                let target = &mut bytemuck::bytes_of_mut(theirs)[done..end];
                if rank == collective.world.rank() {
                    target.copy_from_slice(&mine[done..end]);
                } else {
                    collective.hear(rank)?;
                    collective.read(rank, 0, target)?;
                }
            }
            Ok(())
        })
    }

    pub(super) fn check_length(&self, what: &'static str, found: usize, expected: usize) -> Result<()> {
        if found == expected {
            return Ok(());
        }
        let caller = self.caller();
        Err(Error::LengthMismatch { operation: caller.operation, what, found, expected, at: caller.at })
    }

    /// Combines `range`, a part of the `piece` that is shown in this round, of the first `ranks` ranks.
    fn combine<T: Pod>(
        &self,
        data: &[T],
        result: &mut [T],
        piece: Range<usize>,
        range: Range<usize>,
        operation: &impl Reduction<T>,
        ranks: usize,
    ) -> Result<()> {
        let offset = (range.start - piece.start) * size_of::<T>();
        let mut scratch = Vec::new();
        for rank in 0..ranks {
            let target = &mut result[range.clone()];
            let mine = rank == self.world.rank();
            if !mine {
                self.hear(rank)?;
            }
            match (rank, mine) {
                (0, true) => target.copy_from_slice(&data[range.clone()]),
                (0, false) => self.read(rank, offset, bytemuck::cast_slice_mut(target))?,
                (_, true) => operation.combine(target, &data[range.clone()]),
                (_, false) => {
                    scratch.resize(target.len(), T::zeroed());
                    self.read(rank, offset, bytemuck::cast_slice_mut(&mut scratch))?;
                    operation.combine(target, &scratch);
                }
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
        self.combine(data, result, piece.clone(), mine.clone(), operation, ranks)?;
        self.show(&[(0, bytemuck::cast_slice(&result[mine]))])?;
        for rank in self.others() {
            self.hear(rank)?;
            self.read(rank, 0, bytemuck::cast_slice_mut(&mut result[slice(rank)]))?;
        }
        Ok(())
    }
}
