//! All ranks show, one or all look.

use std::ops::Range;

use bytemuck::Pod;
use shm_core::board::{INLINE_BYTES, SLOT_LIMIT};
use shm_core::bytes::copy_private;

use super::{Collective, Kind, pieces};
use crate::error::Result;
use crate::world::World;

/// Elements of all ranks one after the other, when every rank may contribute another number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Varying<T> {
    /// The elements of rank 0, then those of rank 1, and so on.
    pub data: Vec<T>,
    /// How many elements are each rank's.
    pub counts: Vec<usize>,
}

impl<T> Varying<T> {
    /// The elements of `rank`.
    ///
    /// # Panics
    ///
    /// If there is no such rank.
    pub fn part(&self, rank: usize) -> &[T] {
        let start: usize = self.counts[..rank].iter().sum();
        &self.data[start..start + self.counts[rank]]
    }

    /// The elements of each rank, in the order of the ranks.
    pub fn parts(&self) -> impl Iterator<Item = &[T]> {
        let mut rest = &self.data[..];
        self.counts.iter().map(move |&count| {
            let (part, tail) = rest.split_at(count);
            rest = tail;
            part
        })
    }
}

impl World {
    /// Collects `data` of all ranks in `result` on `root`, rank by rank; `result` has `size() * data.len()` elements
    /// there, and is not touched on the others. Blocks on the root until all ranks have called it.
    ///
    /// # Errors
    ///
    /// [`Error::LengthMismatch`](crate::Error::LengthMismatch),
    /// [`Error::CollectiveMismatch`](crate::Error::CollectiveMismatch) if ranks have different lengths,
    /// [`Error::PeerGone`](crate::Error::PeerGone), [`Error::RankOutOfRange`](crate::Error::RankOutOfRange).
    ///
    /// # MPI
    /// `MPI_Gather`.
    #[track_caller]
    pub fn gather<T: Pod>(&self, data: &[T], result: &mut [T], root: usize) -> Result<()> {
        let collective = Collective::new::<T>(self, Kind::Gather, Some(root), size_of_val(data))?;
        if root != self.rank() {
            return collective.contribute(bytemuck::cast_slice(data), size_of_val(data));
        }
        collective.check_length("result", result.len(), data.len() * self.size())?;
        let parts = Parts::Equal(size_of_val(data));
        collective.collect(Own::Kept(bytemuck::cast_slice(data)), bytemuck::cast_slice_mut(result), parts)
    }

    /// Collects `data` of all ranks on `root`, where every rank may have another number of elements. Gives the
    /// collection on the root and `None` elsewhere. Blocks until all ranks have called it.
    ///
    /// # Errors
    ///
    /// As [`World::gather`], and [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    ///
    /// # MPI
    /// `MPI_Gather` of the counts and `MPI_Gatherv`.
    ///
    /// # Examples
    ///
    /// ```
    /// ranks::spawn(3, |world| {
    ///     let mine = vec![world.rank() as u8; world.rank()];
    ///     let all = world.gather_varying(&mine, 0).unwrap();
    ///     assert_eq!(all.map(|all| all.data), (world.rank() == 0).then(|| vec![1, 2, 2]));
    /// })?;
    /// # Ok::<(), ranks::Error>(())
    /// ```
    #[track_caller]
    #[doc(alias = "gatherv")]
    pub fn gather_varying<T: Pod>(&self, data: &[T], root: usize) -> Result<Option<Varying<T>>> {
        let collective = Collective::new::<T>(self, Kind::GatherVarying, Some(root), 0)?;
        collective.gather_varying(data, root)
    }

    /// Collects `data` of all ranks in `result` on every rank, rank by rank; `result` has `size() * data.len()`
    /// elements. Blocks until all ranks have called it.
    ///
    /// # Errors
    ///
    /// As [`World::gather`].
    ///
    /// # MPI
    /// `MPI_Allgather`.
    #[track_caller]
    #[doc(alias = "allgather")]
    pub fn all_gather<T: Pod>(&self, data: &[T], result: &mut [T]) -> Result<()> {
        let collective = Collective::new::<T>(self, Kind::AllGather, None, size_of_val(data))?;
        collective.check_length("result", result.len(), data.len() * self.size())?;
        let (mine, all) = (bytemuck::cast_slice(data), bytemuck::cast_slice_mut(result));
        if self.size() == 2 && mine.len() <= SLOT_LIMIT {
            return collective.swap(mine, mine, all);
        }
        if mine.len() <= INLINE_BYTES {
            return collective.collect_short(mine, all);
        }
        let parts = Parts::Equal(size_of_val(data));
        collective.collect(Own::Shown(mine), all, parts)
    }

    /// Collects `data` of all ranks on every rank, where every rank may have another number of elements. Blocks
    /// until all ranks have called it.
    ///
    /// # Errors
    ///
    /// As [`World::gather_varying`].
    ///
    /// # MPI
    /// `MPI_Allgather` of the counts and `MPI_Allgatherv`.
    #[track_caller]
    #[doc(alias = "allgatherv")]
    pub fn all_gather_varying<T: Pod>(&self, data: &[T]) -> Result<Varying<T>> {
        let collective = Collective::new::<T>(self, Kind::AllGatherVarying, None, 0)?;
        let counts = collective.share_counts(data.len())?;
        collective.collect_varying(Own::Shown(bytemuck::cast_slice(data)), counts)
    }
}

/// This rank's part of a collection.
#[derive(Clone, Copy)]
enum Own<'d> {
    /// The others take it too.
    Shown(&'d [u8]),
    /// Nobody else wants it.
    Kept(&'d [u8]),
}

/// Where the ranks' parts lie in a collection, in bytes.
#[derive(Clone, Copy)]
enum Parts<'c> {
    Equal(usize),
    /// The beginnings of all parts, and the end.
    Varying(&'c [usize]),
}

impl Parts<'_> {
    fn of(self, rank: usize) -> Range<usize> {
        match self {
            Self::Equal(bytes) => rank * bytes..(rank + 1) * bytes,
            Self::Varying(starts) => starts[rank]..starts[rank + 1],
        }
    }

    fn longest(self) -> usize {
        match self {
            Self::Equal(bytes) => bytes,
            Self::Varying(starts) => starts.windows(2).map(|part| part[1] - part[0]).max().unwrap_or(0),
        }
    }
}

impl Collective<'_> {
    pub(crate) fn gather_varying<T: Pod>(&self, data: &[T], root: usize) -> Result<Option<Varying<T>>> {
        let counts = self.share_counts(data.len())?;
        if root == self.world.rank() {
            return self.collect_varying(Own::Kept(bytemuck::cast_slice(data)), counts).map(Some);
        }
        // A number from shared memory: too large a one is never come to an end with, but it must not overflow.
        let longest = counts.into_iter().max().unwrap_or(0).saturating_mul(size_of::<T>());
        self.contribute(bytemuck::cast_slice(data), longest)?;
        Ok(None)
    }

    /// Tells all ranks this rank's number, and returns everybody's.
    fn share_counts(&self, count: usize) -> Result<Vec<usize>> {
        self.show(&(count as u64).to_le_bytes())?;
        let mut counts = vec![count; self.world.size()];
        for rank in self.others() {
            let mut bytes = [0; 8];
            self.hear(rank)?;
            self.read(rank, 0, &mut bytes)?;
            counts[rank] = u64::from_le_bytes(bytes) as usize;
        }
        self.leave()?;
        Ok(counts)
    }

    fn collect_varying<T: Pod>(&self, own: Own<'_>, counts: Vec<usize>) -> Result<Varying<T>> {
        let total = counts.iter().fold(0usize, |total, &count| total.saturating_add(count));
        let mut all = self.zeroed(total as u64)?;
        let mut starts = vec![0; counts.len() + 1];
        for (rank, count) in counts.iter().enumerate() {
            starts[rank + 1] = starts[rank] + count * size_of::<T>();
        }
        let parts = Parts::Varying(&starts);
        self.collect(own, bytemuck::cast_slice_mut(&mut all), parts)?;
        Ok(Varying { data: all, counts })
    }

    /// Puts what all ranks show, which has to fit into a cell, into `result`.
    fn collect_short(&self, mine: &[u8], result: &mut [u8]) -> Result<()> {
        self.show(mine)?;
        for rank in 0..self.world.size() {
            let part = &mut result[rank * mine.len()..][..mine.len()];
            if rank == self.world.rank() {
                copy_private(mine, part);
            } else {
                self.hear(rank)?;
                self.read(rank, 0, part)?;
            }
        }
        self.leave()
    }

    /// Puts what all ranks show, piece by piece, and this rank's own part into their parts of `result`.
    fn collect(&self, own: Own<'_>, result: &mut [u8], parts: Parts<'_>) -> Result<()> {
        let (shown, most) = match own {
            Own::Shown(mine) => (mine, self.exchanged_bytes()),
            Own::Kept(_) => (&[][..], self.streamed_bytes()),
        };
        for range in pieces(parts.longest(), most) {
            let kept = piece_of_mut(&mut result[parts.of(self.world.rank())], &range);
            match own {
                Own::Shown(mine) => self.show_and_keep(piece_of(mine, &range), kept)?,
                Own::Kept(mine) => {
                    self.pass()?;
                    copy_private(piece_of(mine, &range), kept);
                }
            }
            let next = piece_of(shown, &(range.end..range.end + most));
            for rank in self.others() {
                self.hear(rank)?;
                self.read_and_write(rank, 0, piece_of_mut(&mut result[parts.of(rank)], &range), next)?;
            }
            self.leave()?;
        }
        Ok(())
    }

    /// Shows `mine` piece by piece, in as many rounds as `longest` bytes need.
    fn contribute(&self, mine: &[u8], longest: usize) -> Result<()> {
        for range in pieces(longest, self.streamed_bytes()) {
            self.show(piece_of(mine, &range))?;
            self.leave()?;
        }
        Ok(())
    }
}

/// What of `data`, which may be shorter than others', lies in `range`.
fn piece_of<'d>(data: &'d [u8], range: &Range<usize>) -> &'d [u8] {
    &data[range.start.min(data.len())..range.end.min(data.len())]
}

fn piece_of_mut<'d>(data: &'d mut [u8], range: &Range<usize>) -> &'d mut [u8] {
    let length = data.len();
    &mut data[range.start.min(length)..range.end.min(length)]
}
