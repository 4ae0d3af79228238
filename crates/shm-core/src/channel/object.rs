//! A channel's object in the system: opening or creating it, its gate, its leftovers.
//!
//! Three advisory locks on the object's descriptor, released by the kernel however their holder dies:
//!
//! ```text
//! byte 0     gate      exclusive: whoever initialises, attaches, detaches or removes
//! byte 1, 2  the ends  exclusive, for as long as the end is attached
//! byte 3     presence  shared, for as long as a handle exists
//! ```
//!
//! 1. The name is created by anyone, but initialised and removed only by the holder of the object's gate, and
//!    only after it has found that the name still leads to this very object (same device and inode). So nobody
//!    removes the successor of what it looked at.
//! 2. Presence is taken under the gate, before the gate is first given up. So an object whose gate is free and
//!    on which nobody else holds bytes 1 to 3 is a leftover, whatever its contents.
//! 3. An object of size 0 behind a free gate has been created, not initialised: by a process that died, or that
//!    is about to ask for the gate. Whoever holds the gate initialises it; the other one finds it ready.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use crate::error::SegmentError;
use crate::segment::{Segment, SegmentName, failure, open_own};
use crate::sync::Ordering::Relaxed;
use crate::sys::lock::{self, Kind};
use crate::sys::shm;
use crate::wait::Bell;

use super::error::ChannelError;
use super::layout::{self, CONTROL_BYTES, FORMAT, Geometry};
use super::{Options, Role};

const GATE: u16 = 0;
const FIRST_END: u16 = 1;
const PRESENCE: u16 = 3;
const MODE_BITS: u32 = 0o7777;

/// How long to wait for the gate. Its holders reserve memory, which takes milliseconds; one that takes seconds is
/// stopped, and nobody can tell for how long.
const GATE_PATIENCE: Duration = Duration::from_secs(5);
/// Pause between two tries for the gate: it is held for microseconds to milliseconds.
const GATE_PAUSE: Duration = Duration::from_micros(200);

/// What to do about a name that exists, and one that does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Policy {
    Create,
    Open,
    OpenOrCreate,
}

/// A name that leaves two bytes for the suffix of its semaphores, in every build.
pub(super) fn checked_name(name: &str) -> Result<SegmentName, SegmentError> {
    let checked = SegmentName::new(name)?;
    if name.len() > SegmentName::MAX_BYTES - 2 {
        let problem = "it is longer than 29 bytes, which leaves no room for its semaphores' names";
        return Err(SegmentError::InvalidName { name: name.to_owned(), problem });
    }
    Ok(checked)
}

/// A ready object in which this process has presence. Dropping it leaves.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) segment: Segment,
    pub(super) geometry: Geometry,
    pub(super) bells: [Bell; 2],
    pub(super) name: SegmentName,
}

impl Object {
    /// Opens or creates the object and takes presence in it.
    pub(super) fn attach(
        name: &SegmentName,
        options: &Options,
        policy: Policy,
    ) -> Result<Self, ChannelError> {
        let deadline = Instant::now() + GATE_PATIENCE;
        loop {
            let Some(file) = open(name, policy)? else {
                continue;
            };
            lock_gate(&file, name, deadline)?;
            // Invariant 1. If not, dropping the descriptor gives the gate up.
            if !leads_to(name, &file)? {
                continue;
            }
            match look(&file, name)? {
                Finding::Fresh if policy == Policy::Open => {
                    return Err(ChannelError::Unfinished { name: name.to_string() });
                }
                Finding::Fresh => {
                    // Still under the gate; the first error says more than a failure to remove.
                    return Self::initialise(file, name, options).inspect_err(|_| drop(remove(name)));
                }
                Finding::Leftover => remove(name)?,
                Finding::Alive if policy == Policy::Create => {
                    let size = options.geometry(name)?.size();
                    return Err(SegmentError::Exists { name: name.to_string(), size }.into());
                }
                Finding::Alive => return Self::join(file, name),
            }
        }
    }

    fn initialise(file: File, name: &SegmentName, options: &Options) -> Result<Self, ChannelError> {
        let geometry = options.geometry(name)?;
        lock(&file, name, PRESENCE, Kind::Shared)?;
        let bells = create_bells(name)?;
        let segment = Segment::initialise(file, name.as_str(), geometry.size(), FORMAT)?;
        segment.reserve(0..CONTROL_BYTES)?;
        layout::header(&segment).capacity.store(geometry.capacity as u64, Relaxed);
        let object = Self { segment, geometry, bells, name: name.clone() };
        object.unlock_gate()?;
        Ok(object)
    }

    fn join(file: File, name: &SegmentName) -> Result<Self, ChannelError> {
        if (0..2).try_fold(true, |all, end| end_held(&file, name, end).map(|held| all && held))? {
            return Err(ChannelError::Occupied { name: name.to_string() });
        }
        lock(&file, name, PRESENCE, Kind::Shared)?;
        let segment = Segment::check_and_map(file, name.to_string(), FORMAT)?;
        let geometry = Geometry::of(&segment, name.as_str())?;
        let bells = open_bells(name)?;
        let object = Self { segment, geometry, bells, name: name.clone() };
        object.unlock_gate()?;
        Ok(object)
    }

    /// Takes the gate; it is given up by [`Object::unlock_gate`].
    pub(super) fn lock_gate_to_attach(&self) -> Result<(), ChannelError> {
        lock_gate(self.segment.file(), &self.name, Instant::now() + GATE_PATIENCE)
    }

    pub(super) fn unlock_gate(&self) -> Result<(), ChannelError> {
        lock::unlock(self.segment.file(), GATE..=GATE).map_err(|e| lock_failure(&self.name, e))
    }

    /// Takes the lock of an end, under the gate.
    pub(super) fn take_end(&self, role: Role) -> Result<(), ChannelError> {
        let byte = FIRST_END + role.end() as u16;
        let taken = lock::try_lock(self.segment.file(), byte..=byte, Kind::Exclusive);
        match taken.map_err(|e| lock_failure(&self.name, e))? {
            true => Ok(()),
            false => Err(ChannelError::RoleTaken { name: self.name.to_string(), role }),
        }
    }

    /// Whether another handle holds the lock of the end.
    pub(super) fn end_held(&self, end: usize) -> Result<bool, ChannelError> {
        end_held(self.segment.file(), &self.name, end)
    }
}

impl Drop for Object {
    /// Gives everything up, and removes the name if nobody else is there. Failures leave a leftover, which the
    /// next user of the name finds.
    fn drop(&mut self) {
        /// A process that ends should not wait long for one that is stopped in the gate.
        const PATIENCE: Duration = Duration::from_millis(100);
        let file = self.segment.file();
        let gate = lock_gate(file, &self.name, Instant::now() + PATIENCE).is_ok();
        let alone = matches!(lock::held_by_other(file, FIRST_END..=PRESENCE), Ok(false));
        if gate && alone && matches!(leads_to(&self.name, file), Ok(true)) {
            let _ = remove(&self.name);
        }
        // Before the gate is given up by the closing: the next in it must not take this handle for alive.
        let _ = lock::unlock(file, FIRST_END..=PRESENCE);
    }
}

/// Removes the leftover of a crashed run; false if there is nothing or somebody is attached.
pub(super) fn remove_leftover(name: &SegmentName) -> Result<bool, ChannelError> {
    let Some(file) = open_existing(name)? else {
        return Ok(false);
    };
    lock_gate(&file, name, Instant::now() + GATE_PATIENCE)?;
    if !leads_to(name, &file)? {
        return Ok(false);
    }
    match look(&file, name)? {
        Finding::Alive => Ok(false),
        Finding::Fresh | Finding::Leftover => remove(name).map(|()| true),
    }
}

/// What an object under one's gate is.
enum Finding {
    /// Size 0: to be initialised (Invariant 3).
    Fresh,
    /// Nobody is there (Invariant 2).
    Leftover,
    /// Somebody is there.
    Alive,
}

fn look(file: &File, name: &SegmentName) -> Result<Finding, ChannelError> {
    let alive = lock::held_by_other(file, FIRST_END..=PRESENCE).map_err(|e| lock_failure(name, e))?;
    match Segment::check(file, name.as_str(), FORMAT) {
        Err(SegmentError::NotReady { size: 0, .. }) => Ok(Finding::Fresh),
        _ if alive => Ok(Finding::Alive),
        Ok(_) => Ok(Finding::Leftover),
        // Creators die between sizing the object and its first word, too. An object that such a creator cannot
        // have made is left alone.
        Err(SegmentError::NotReady { .. }) if looks_like_ours(file, name)? => Ok(Finding::Leftover),
        Err(error) => Err(error.into()),
    }
}

fn looks_like_ours(file: &File, name: &SegmentName) -> Result<bool, SegmentError> {
    let facts = file.metadata().map_err(|e| failure("fstat", name.as_str(), 0, e))?;
    Ok(facts.mode() & MODE_BITS & !0o600 == 0)
}

/// `None`: the name has come or gone between two steps, try again.
fn open(name: &SegmentName, policy: Policy) -> Result<Option<File>, SegmentError> {
    match open_existing(name)? {
        Some(file) => Ok(Some(file)),
        None if policy == Policy::Open => Err(SegmentError::Missing { name: name.to_string() }),
        None => match shm::create(name.as_str()) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            other => other.map(Some).map_err(|e| failure("shm_open (create)", name.as_str(), 0, e)),
        },
    }
}

fn open_existing(name: &SegmentName) -> Result<Option<File>, SegmentError> {
    match open_own(name) {
        Err(SegmentError::Missing { .. }) => Ok(None),
        other => other.map(Some),
    }
}

/// Whether the name leads to this very object now.
fn leads_to(name: &SegmentName, file: &File) -> Result<bool, SegmentError> {
    let Some(named) = open_existing(name)? else {
        return Ok(false);
    };
    let facts = |file: &File| file.metadata().map_err(|e| failure("fstat", name.as_str(), 0, e));
    let (named, ours) = (facts(&named)?, facts(file)?);
    Ok((named.dev(), named.ino()) == (ours.dev(), ours.ino()))
}

/// Removes the names of the object and its semaphores, under the gate.
fn remove(name: &SegmentName) -> Result<(), ChannelError> {
    (0..2).try_for_each(|end| Bell::unlink(&bell_name(name, end)))?;
    Ok(Segment::unlink(name)?)
}

fn create_bells(name: &SegmentName) -> Result<[Bell; 2], ChannelError> {
    let create = |end| {
        // The name of a semaphore can outlive its channel if a creator dies between the two.
        Bell::unlink(&bell_name(name, end))?;
        Bell::create(&bell_name(name, end))
    };
    Ok([create(0)?, create(1)?])
}

fn open_bells(name: &SegmentName) -> Result<[Bell; 2], ChannelError> {
    Ok([Bell::open(&bell_name(name, 0))?, Bell::open(&bell_name(name, 1))?])
}

fn bell_name(name: &SegmentName, end: usize) -> String {
    format!("{name}.{end}")
}

fn lock_gate(file: &File, name: &SegmentName, deadline: Instant) -> Result<(), ChannelError> {
    let begin = Instant::now();
    loop {
        if lock::try_lock(file, GATE..=GATE, Kind::Exclusive).map_err(|e| lock_failure(name, e))? {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(ChannelError::Busy { name: name.to_string(), waited: begin.elapsed() });
        }
        std::thread::sleep(GATE_PAUSE);
    }
}

/// Takes a lock that, under the gate, nobody can be in the way of.
fn lock(file: &File, name: &SegmentName, byte: u16, kind: Kind) -> Result<(), ChannelError> {
    match lock::try_lock(file, byte..=byte, kind).map_err(|e| lock_failure(name, e))? {
        true => Ok(()),
        false => Err(lock_failure(name, io::ErrorKind::WouldBlock.into())),
    }
}

fn end_held(file: &File, name: &SegmentName, end: usize) -> Result<bool, ChannelError> {
    let byte = FIRST_END + end as u16;
    lock::held_by_other(file, byte..=byte).map_err(|e| lock_failure(name, e))
}

fn lock_failure(name: &SegmentName, error: io::Error) -> ChannelError {
    failure("fcntl (lock)", name.as_str(), 0, error).into()
}
