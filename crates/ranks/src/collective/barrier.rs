//! Nobody goes on before everybody has come.

use super::{Collective, Kind};
use crate::error::Result;
use crate::world::World;

impl World {
    /// Blocks until every rank has called it.
    ///
    /// # Errors
    ///
    /// [`Error::PeerGone`](crate::Error::PeerGone) if a rank has left the job before it came here,
    /// [`Error::CollectiveMismatch`](crate::Error::CollectiveMismatch) if a rank calls another collective.
    ///
    /// # MPI
    /// `MPI_Barrier`.
    ///
    /// # Examples
    ///
    /// ```
    /// ranks::spawn(3, |world| {
    ///     world.barrier().unwrap();
    /// })?;
    /// # Ok::<(), ranks::Error>(())
    /// ```
    #[track_caller]
    pub fn barrier(&self) -> Result<()> {
        let collective = Collective::new::<()>(self, Kind::Barrier, None, 0)?;
        collective.show(&[])?;
        collective.hear_all()?;
        collective.leave_barrier()
    }
}
