//! The job as one rank sees it.

use std::cell::{Cell, RefCell};

use crate::attach::{self, Attachment};
use crate::engine::slab::Slab;
use crate::engine::{Caller, Engine};
use crate::envelope::FLAG_SYNCHRONOUS;
use crate::error::{Error, Result};
use crate::launch::RETURNED_ERROR;
use crate::layout::modes;
use crate::scope::Operation;
use crate::turns::Turns;

/// Context of the world's point-to-point messages; collectives use the next number. Communicators made later
/// get pairs of their own.
pub(crate) const WORLD_CONTEXT: u32 = 0;
/// What a communicator's collectives add to its context, so that their messages meet no receive of the user.
pub(crate) const COLLECTIVE: u32 = 1;

/// The context of world number `world`: the job's first is 0, each world of survivors gets the next.
pub(crate) fn context_of(world: u32) -> u32 {
    WORLD_CONTEXT + 2 * world
}

/// All ranks of the job, and this process as one of them.
///
/// Everything that ranks do with each other is a method of it. It may move to another thread, but only one
/// thread at a time can use it: `World` is `Send` and not `Sync`.
///
/// ```
/// fn is_send<T: Send>() {}
/// is_send::<ranks::World>();
/// ```
///
/// ```compile_fail
/// fn is_sync<T: Sync>() {}
/// is_sync::<ranks::World>();
/// ```
///
/// Nothing moves while no rank is in a call: there is no progress thread. A receiver needs no help of its sender
/// for what lies in the segment already: messages of up to 256 KiB, and up to 64 KiB of those longer ones that are not copied
/// directly.
///
/// Dropping it finalizes, see [`World::finalize`], and gives up on errors. While a panic unwinds, dropping it
/// waits for nothing but a copy to its memory that another rank is at, and tells the launcher that this rank has failed.
///
/// # MPI
/// `MPI_COMM_WORLD`.
pub struct World {
    pub(crate) engine: RefCell<Engine>,
    pub(crate) context: u32,
    /// Flags of every message: SYNCHRONOUS under `--strict`.
    pub(crate) message_flags: u16,
    /// This rank runs only when it has the turn.
    takes_turns: bool,
    /// Memory of the last scope, for the next one.
    pub(crate) spare_operations: Cell<Slab<Operation>>,
    pub(crate) attachment: Attachment,
    finalized: Cell<bool>,
}

/// Joins the job that `shmrun` started this process for, as one of its ranks.
///
/// Without `shmrun`, the process is the only rank of a world of size 1. Does not wait for the other ranks.
///
/// # Errors
///
/// [`Error::Attach`] if the hand-over is damaged, if another process has this rank already, if this process has
/// been a rank before, or if another launcher's variables say that this is one of several processes (then a
/// world of size 1 would compute the wrong thing; `SHMRUN_SINGLETON=1` overrides that).
///
/// # MPI
/// `MPI_Init`.
///
/// # Examples
///
/// ```
/// let world = ranks::init()?;
/// assert!(world.rank() < world.size());
/// # Ok::<(), ranks::Error>(())
/// ```
pub fn init() -> Result<World> {
    Ok(World::attached(attach::attach()?))
}

impl World {
    pub(crate) fn attached(attachment: Attachment) -> Self {
        let engine = RefCell::new(Engine::new(attachment.job, attachment.rank));
        let message_flags = if attachment.job.has_mode(modes::STRICT) { FLAG_SYNCHRONOUS } else { 0 };
        Self {
            engine,
            spare_operations: Cell::default(),
            context: WORLD_CONTEXT,
            message_flags,
            takes_turns: attachment.job.has_mode(modes::CHAOS),
            attachment,
            finalized: Cell::new(false),
        }
    }

    /// This process's number, from 0 to `size() - 1`. Never blocks.
    ///
    /// # MPI
    /// `MPI_Comm_rank`.
    #[inline]
    pub fn rank(&self) -> usize {
        self.attachment.rank
    }

    /// The number of ranks. Never blocks.
    ///
    /// # MPI
    /// `MPI_Comm_size`.
    #[inline]
    pub fn size(&self) -> usize {
        self.attachment.job.size()
    }

    /// Ends the whole job at once, with `code` as the exit code of `shmrun` (1 if `code` is 0: an aborted job did
    /// not succeed). Does not return, runs no destructors, blocks for nothing.
    ///
    /// # MPI
    /// `MPI_Abort`.
    #[track_caller]
    pub fn abort(&self, code: i32) -> ! {
        let caller = Caller::new("abort");
        attach::abort(&self.attachment, code, &format!("abort({code}) at {}", caller.at))
    }

    /// Leaves the job: blocks until everything that this rank has sent is out of its buffers, then tells the
    /// others that nothing more will come. Messages that nobody has received yet can still be received.
    ///
    /// # Errors
    ///
    /// [`Error::PeerGone`] if a message that nobody waited for (its request was dropped) could not be delivered,
    /// because its receiver has left or is leaving too. [`Error::Damaged`].
    ///
    /// # MPI
    /// `MPI_Finalize`, but not collective.
    #[track_caller]
    pub fn finalize(self) -> Result<()> {
        self.leave(Caller::new("finalize"))
    }

    /// Leaves the job as a rank that failed with this error, which it gives back.
    pub(crate) fn fail(self, error: String) -> String {
        self.finalized.set(true);
        attach::fail_with(&self.attachment, &format!("{RETURNED_ERROR}: {error}"));
        error
    }

    fn leave(&self, caller: Caller) -> Result<()> {
        if self.finalized.replace(true) {
            return Ok(());
        }
        self.next_turn();
        let mut engine = self.engine.borrow_mut();
        let outcome = engine.leave(caller);
        attach::detach(&self.attachment);
        outcome
    }

    /// Every call into the library begins with it: under `--chaos` the place where others may run.
    #[inline]
    pub(crate) fn next_turn(&self) {
        if self.takes_turns {
            self.end_turn();
        }
    }

    #[cold]
    fn end_turn(&self) {
        if let Some(turns) = Turns::of(self.attachment.job) {
            turns.next(self.attachment.job.place(self.attachment.rank));
        }
    }

    /// Checks a rank that a caller named.
    #[inline]
    pub(crate) fn check_rank(&self, rank: usize, caller: Caller) -> Result<()> {
        let Caller { operation, at } = caller;
        let size = self.size();
        if rank < size { Ok(()) } else { Err(Error::RankOutOfRange { operation, rank, size, at }) }
    }
}

impl Drop for World {
    #[track_caller]
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // An error here has no one to go to; who wants it calls `finalize`.
            let _ = self.leave(Caller::new("finalize"));
        } else if !self.finalized.replace(true) {
            attach::fail(&self.attachment);
        }
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "World {{ rank: {}, size: {} }}", self.rank(), self.size())
    }
}
