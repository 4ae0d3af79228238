//! All ranks show, one or all look.

use bytemuck::Pod;

use super::{Collective, Kind};
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
            return collective.contribute(bytemuck::cast_slice(data), size_of_val(data), |_, _| Ok(()));
        }
        collective.check_length("result", result.len(), data.len() * self.size())?;
        collective.collect(data, bytemuck::cast_slice_mut(result), &vec![data.len(); self.size()])
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
        collective.collect(data, bytemuck::cast_slice_mut(result), &vec![data.len(); self.size()])
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
        collective.collect_varying(data, counts)
    }
}

impl Collective<'_> {
    pub(crate) fn gather_varying<T: Pod>(&self, data: &[T], root: usize) -> Result<Option<Varying<T>>> {
        let counts = self.share_counts(data.len())?;
        if root == self.world.rank() {
            return self.collect_varying(data, counts).map(Some);
        }
        let longest = counts.into_iter().max().unwrap_or(0) * size_of::<T>();
        self.contribute(bytemuck::cast_slice(data), longest, |_, _| Ok(()))?;
        Ok(None)
    }

    /// Tells all ranks this rank's number, and returns everybody's.
    fn share_counts(&self, count: usize) -> Result<Vec<usize>> {
        self.show(&[(0, &(count as u64).to_le_bytes())])?;
        let mut counts = vec![count; self.world.size()];
        for rank in self.others() {
            let mut bytes = [0; 8];
            self.hear(rank)?;
            self.read(rank, 0, &mut bytes)?;
            counts[rank] = u64::from_le_bytes(bytes) as usize;
        }
        Ok(counts)
    }

    fn collect_varying<T: Pod>(&self, data: &[T], counts: Vec<usize>) -> Result<Varying<T>> {
        let total = counts.iter().fold(0usize, |total, &count| total.saturating_add(count));
        let mut all = self.zeroed(total as u64)?;
        self.collect(data, bytemuck::cast_slice_mut(&mut all), &counts)?;
        Ok(Varying { data: all, counts })
    }

    /// Shows `data` and puts what all ranks show one after the other into `result`.
    fn collect<T: Pod>(&self, data: &[T], result: &mut [u8], counts: &[usize]) -> Result<()> {
        let mut starts = vec![0; counts.len() + 1];
        for (rank, count) in counts.iter().enumerate() {
            starts[rank + 1] = starts[rank] + count * size_of::<T>();
        }
        let me = self.world.rank();
        let mine: &[u8] = bytemuck::cast_slice(data);
        result[starts[me]..starts[me + 1]].copy_from_slice(mine);
        let longest = counts.iter().max().map_or(0, |count| count * size_of::<T>());
        self.contribute(mine, longest, |collective, done| {
            for rank in collective.others() {
                collective.hear(rank)?;
                let (start, end) = (starts[rank] + done, starts[rank + 1]);
                if start < end {
                    let end = end.min(start + collective.capacity());
                    collective.read(rank, 0, &mut result[start..end])?;
                }
            }
            Ok(())
        })
    }

    /// Shows `mine` piece by piece, in as many rounds as `longest` bytes need; `look` is called in each round with
    /// the number of bytes shown in the rounds before.
    pub(super) fn contribute(
        &self,
        mine: &[u8],
        longest: usize,
        mut look: impl FnMut(&Self, usize) -> Result<()>,
    ) -> Result<()> {
        let capacity = self.capacity();
        for round in 0..longest.div_ceil(capacity).max(1) {
            let done = round * capacity;
            let piece = mine.get(done..).unwrap_or(&[]);
            self.show(&[(0, &piece[..piece.len().min(capacity)])])?;
            look(self, done)?;
        }
        Ok(())
    }
}
