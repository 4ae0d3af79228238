//! One rank shows, all look.

use bytemuck::Pod;

use super::{Collective, Kind, pieces};
use crate::error::{Error, Result};
use crate::world::World;

impl World {
    /// Gives the content of `data` on `root` to all ranks, in their `data` of the same length. Blocks until this
    /// rank has it; the root may go on before the others have.
    ///
    /// # Errors
    ///
    /// [`Error::CollectiveMismatch`] if the lengths, element types or roots differ, [`Error::PeerGone`],
    /// [`Error::RankOutOfRange`], [`Error::Segment`].
    ///
    /// # MPI
    /// `MPI_Bcast`.
    ///
    /// # Examples
    ///
    /// ```
    /// ranks::spawn(3, |world| {
    ///     let mut parameters = if world.rank() == 0 { [0.5, 2.0] } else { [0.0; 2] };
    ///     world.broadcast(&mut parameters, 0).unwrap();
    ///     assert_eq!(parameters, [0.5, 2.0]);
    /// })?;
    /// # Ok::<(), ranks::Error>(())
    /// ```
    #[track_caller]
    #[doc(alias = "bcast")]
    pub fn broadcast<T: Pod>(&self, data: &mut [T], root: usize) -> Result<()> {
        let collective = Collective::new::<T>(self, Kind::Broadcast, Some(root), size_of_val(data))?;
        collective.broadcast(root, bytemuck::cast_slice_mut(data))
    }

    /// Like [`World::broadcast`], for a vector whose length only the root knows: the others' content is replaced.
    ///
    /// # Errors
    ///
    /// As [`World::broadcast`], and [`Error::OutOfMemory`].
    ///
    /// # MPI
    /// Two `MPI_Bcast`, of the length and of the elements.
    #[track_caller]
    pub fn broadcast_vec<T: Pod>(&self, data: &mut Vec<T>, root: usize) -> Result<()> {
        let collective = Collective::new::<T>(self, Kind::BroadcastVec, Some(root), 0)?;
        collective.broadcast_vec(root, data)
    }
}

impl Collective<'_> {
    fn broadcast(&self, root: usize, bytes: &mut [u8]) -> Result<()> {
        for range in pieces(bytes.len(), self.streamed_bytes()) {
            let piece = &mut bytes[range];
            if root == self.world.rank() {
                self.show(piece)?;
            } else {
                self.pass()?;
                self.hear(root)?;
                self.read(root, 0, piece)?;
            }
            self.leave()?;
        }
        Ok(())
    }

    pub(crate) fn broadcast_vec<T: Pod>(&self, root: usize, data: &mut Vec<T>) -> Result<()> {
        let mut length = [data.len() as u64];
        self.broadcast(root, bytemuck::cast_slice_mut(&mut length))?;
        if root != self.world.rank() {
            *data = self.zeroed(length[0])?;
        }
        self.broadcast(root, bytemuck::cast_slice_mut(data))
    }

    /// A vector for `length` elements, a number that came from another rank.
    pub(super) fn zeroed<T: Pod>(&self, length: u64) -> Result<Vec<T>> {
        let elements = usize::try_from(length).ok();
        let fits = elements.filter(|elements| elements.checked_mul(size_of::<T>()).is_some());
        let vector = fits.and_then(|elements| bytemuck::allocation::try_zeroed_vec(elements).ok());
        let bytes = length.saturating_mul(size_of::<T>() as u64);
        let caller = self.caller();
        vector.ok_or(Error::OutOfMemory { operation: caller.operation, bytes, at: caller.at })
    }
}
