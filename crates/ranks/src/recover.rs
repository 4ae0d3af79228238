//! Going on when ranks have failed: in jobs that survive it (`shmrun --on-failure=continue`).

use std::cell::RefCell;

use crate::engine::Caller;
use crate::engine::renew::{AGREE, SHRINK};
use crate::error::{Departure, Result};
use crate::world::{World, context_of};

/// What the ranks of a world have agreed on: see [`World::agree`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Agreement {
    /// Whether every rank that came said so.
    pub flag: bool,
    /// The ranks of this world that have failed, in order.
    pub failed: Vec<usize>,
}

impl World {
    /// Leaves this world for one of the ranks that are left; blocks until all of those have called it. They are
    /// numbered from 0 there, in the order that they had.
    ///
    /// As soon as one rank has called it, operations of the others in this world fail where they would have to wait
    /// ([`Error::Shrinking`](crate::Error::Shrinking)), so that they come to call it too. Messages of this world that nobody has received are gone.
    ///
    /// Ranks may fail meanwhile: then they are not members of the new world, or are found dead in it, which ends with another `shrink`.
    /// Ranks that have finished are not members either.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`](crate::Error::Damaged). This rank has left the job then.
    ///
    /// # MPI
    /// `MPI_Comm_revoke` and `MPI_Comm_shrink`, but the old communicator is gone.
    ///
    /// # Examples
    ///
    /// ```
    /// use ranks::{OnFailure, Spawn, Sum};
    ///
    /// Spawn::new(3).on_failure(OnFailure::Continue).run_with_world(|mut world| {
    ///     if world.rank() == 1 {
    ///         std::process::exit(3);
    ///     }
    ///     let mut sum = [0];
    ///     while let Err(error) = world.all_reduce(&[1], &mut sum, Sum) {
    ///         assert!(error.to_string().contains("rank 1 has failed"), "{error}");
    ///         world = world.shrink()?;
    ///     }
    ///     assert_eq!((world.size(), sum), (2, [2]));
    ///     Ok(())
    /// })?;
    /// # Ok::<(), ranks::Error>(())
    /// ```
    #[track_caller]
    pub fn shrink(mut self) -> Result<Self> {
        let caller = Caller::new("shrink");
        self.next_turn();
        let next = self.engine.get_mut().shrink(caller)?;
        self.attachment.job = next.job;
        self.attachment.rank = next.rank;
        self.context = context_of(next.world_number());
        self.engine = RefCell::new(next);
        Ok(self)
    }

    /// Blocks until every rank that has not left has called it, and gives the same answer to all of them, whoever fails
    /// meanwhile: whether `flag` was true on all that have come, and who has failed.
    ///
    /// A rank that has come and then failed is counted: its flag is, and whether it is named as failed is the same for all.
    ///
    /// # Errors
    ///
    /// [`Error::Shrinking`](crate::Error::Shrinking), on every rank that has called this, if another one has called
    /// [`World::shrink`] instead. [`Error::Damaged`](crate::Error::Damaged).
    ///
    /// # MPI
    /// `MPI_Comm_agree`, with a list instead of a group of failures.
    ///
    /// # Examples
    ///
    /// ```
    /// ranks::spawn(3, |world| {
    ///     let agreement = world.agree(world.rank() < 3).unwrap();
    ///     assert!(agreement.flag && agreement.failed.is_empty());
    ///     assert!(!world.agree(world.rank() == 0).unwrap().flag);
    /// })?;
    /// # Ok::<(), ranks::Error>(())
    /// ```
    #[track_caller]
    pub fn agree(&self, flag: bool) -> Result<Agreement> {
        self.next_turn();
        let caller = Caller::new("agree");
        let mut engine = self.engine.borrow_mut();
        let agreed = engine.agree(AGREE, flag.into(), |left, right| left & right, caller)?;
        if agreed.kinds & SHRINK != 0 {
            return Err(engine.shrinking(caller));
        }
        let failed = (0..self.size()).filter(|&rank| agreed.failed.contains(rank)).collect();
        Ok(Agreement { flag: agreed.value != 0, failed })
    }

    /// The ranks of this world that have not left it, this one included, as far as is known now. Never blocks.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`](crate::Error::Damaged), [`Error::Segment`](crate::Error::Segment).
    pub fn alive(&self) -> Result<Vec<usize>> {
        self.next_turn();
        self.engine.borrow_mut().ranks_with(None)
    }

    /// The ranks of this world that have failed, as far as is known now. Never blocks. Ranks may differ in what they
    /// know: [`World::agree`] makes it one list.
    ///
    /// # Errors
    ///
    /// As [`World::alive`].
    ///
    /// # MPI
    /// `MPI_Comm_get_failed`.
    pub fn failed(&self) -> Result<Vec<usize>> {
        self.next_turn();
        self.engine.borrow_mut().ranks_with(Some(Departure::Failed))
    }

    /// Says that this rank knows of the ranks that have failed so far, which it returns. Never blocks.
    ///
    /// In a job that survives failures, receives from any rank fail with [`Error::PeerGone`](crate::Error::PeerGone) while there is a
    /// failure that was not acknowledged: the message may have been the failed rank's to send. From now on they wait for the others.
    ///
    /// # Errors
    ///
    /// As [`World::alive`].
    ///
    /// # MPI
    /// `MPI_Comm_ack_failed`.
    ///
    /// # Examples
    ///
    /// ```
    /// use ranks::{ANY_SOURCE, Error, OnFailure, Spawn};
    ///
    /// Spawn::new(3).on_failure(OnFailure::Continue).run_with_world(|world| {
    ///     match world.rank() {
    ///         0 => {
    ///             assert!(matches!(world.recv_vec::<u8>(ANY_SOURCE), Err(Error::PeerGone { rank: 2, .. })));
    ///             assert_eq!(world.acknowledge()?, [2]);
    ///             world.send(&[0u8], 1)?;
    ///             assert_eq!(world.recv_vec::<u8>(ANY_SOURCE)?.0, [7]);
    ///         }
    ///         1 => {
    ///             world.recv(&mut [0u8], 0)?;
    ///             world.send(&[7u8], 0)?;
    ///         }
    ///         _ => std::process::exit(3),
    ///     }
    ///     Ok(())
    /// })?;
    /// # Ok::<(), ranks::Error>(())
    /// ```
    pub fn acknowledge(&self) -> Result<Vec<usize>> {
        self.next_turn();
        self.engine.borrow_mut().acknowledge()
    }
}
