//! Creating the job's segment.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use shm_core::direct::{Probe, Remote, time_to_copy};
use shm_core::{Bell, Segment, SegmentError};

use super::environment::DIRECT;
use super::error::LaunchError;
use super::plan::Event;
use super::{cores, proc};
use crate::job::Job;
use crate::layout::{Geometry, JOB_FORMAT, MAX_RANKS, NAME_PREFIX, modes};
use crate::turns::Turns;

/// From this length on a message is copied directly from process to process (docs/decisions/009-direct-lane.md), on
/// machines where the system copies fast.
const DIRECT_FROM: u64 = 16 << 10;
/// Fast is `PROBED_BYTES` in this time or less. On a Zen 4 machine it takes 5.9 µs, and half a round trip 2.7 through the
/// pool and 4.4 directly; on a Sapphire Rapids class machine the kernel copies twice as fast, and these are 6.0 and 2.7.
const FAST_COPY: Duration = Duration::from_nanos(4_200);
const PROBED_BYTES: usize = 64 << 10;
/// Bytes of unexpected messages that a rank buffers from one other before only envelopes flow.
const UNEXPECTED_BOUND: u64 = 8 << 20;

/// What the library can be told to do differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tuning {
    /// Bytes of unexpected messages that a rank buffers from one other before only envelopes flow.
    pub unexpected_bound: u64,
    /// Copy long messages directly from process to process where the system allows it; `None`: where it also pays.
    pub direct: Option<bool>,
    /// What the ranks count and record of what they do.
    pub observe: Observe,
}

impl Tuning {
    /// The default settings, as the environment changes them.
    pub(super) fn of_environment() -> Self {
        let direct = match std::env::var(DIRECT).as_deref() {
            Ok("off") => Some(false),
            Ok("on") => Some(true),
            _ => None,
        };
        Self { unexpected_bound: UNEXPECTED_BOUND, direct, observe: Observe::Nothing }
    }
}

/// What ranks count and record of what they do: see [`super::Outcome::observation`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Observe {
    /// Nothing, unless a tool asks for it: messages are fastest then.
    #[default]
    Nothing,
    /// Messages, bytes and time.
    Counts,
    /// These, and the latest events of each rank.
    Timelines {
        /// So many of each; 64 bytes of shared memory for each of them.
        events: u32,
    },
}

impl Observe {
    fn events(self) -> u32 {
        if let Self::Timelines { events } = self { events } else { 0 }
    }
}

/// A random job id, never 0.
pub(super) fn random_id() -> io::Result<u64> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes) | 1)
}

/// Creates the segment of a job and fills its header. It has no name.
///
/// The ranks share `cores` processors.
pub(super) fn job(id: u64, ranks: usize, cores: usize, tuning: &Tuning) -> Result<Job, LaunchError> {
    let geometry = Geometry::new(ranks);
    let failed = |source| LaunchError::Segment { ranks, source };
    let segment = segment(&geometry, tuning.observe.events()).map_err(failed)?;
    let bells = (0..ranks).map(|rank| bell(id, rank)).collect::<Result<_, _>>()?;
    let job = Job::new(segment, geometry, bells);
    fill_header(&job, id, cores, tuning);
    if tuning.observe != Observe::Nothing {
        job.begin_watching().map_err(failed)?;
    }
    Ok(job)
}

/// Says how the ranks are to behave, before there are any.
pub(super) fn set_modes(job: &Job, strict: bool, chaos: Option<u64>) {
    let strict = if strict { modes::STRICT } else { 0 };
    let takes_turns = if chaos.is_some() { modes::CHAOS } else { 0 };
    job.header().modes.store(strict | takes_turns, Relaxed);
    if let (Some(turns), Some(seed)) = (Turns::of(job), chaos) {
        turns.plant(seed);
    }
}

/// A job that starts no processes: of a process without a launcher, or of threads in a test.
pub(crate) fn in_process(ranks: usize) -> Result<Job, LaunchError> {
    in_process_tuned(ranks, &Tuning::of_environment())
}

/// [`in_process`] with ranks that observe themselves.
#[cfg(test)]
pub(crate) fn in_process_observed(ranks: usize, observe: Observe) -> Result<Job, LaunchError> {
    in_process_tuned(ranks, &Tuning { observe, ..Tuning::of_environment() })
}

fn in_process_tuned(ranks: usize, tuning: &Tuning) -> Result<Job, LaunchError> {
    let id = random_id().map_err(LaunchError::system("read /dev/urandom"))?;
    let job = job(id, ranks, cores::available(), tuning)?;
    unlink_bells(id, ranks);
    Ok(job)
}

/// Creates and drops the segment of a job of `ranks` ranks: what [`Event::Segment`] would say of it.
///
/// # Errors
///
/// As for the job.
pub fn try_segment(ranks: usize) -> Result<Event, LaunchError> {
    LaunchError::check_ranks(ranks)?;
    let segment =
        segment(&Geometry::new(ranks), 0).map_err(|source| LaunchError::Segment { ranks, source })?;
    Ok(event(&segment))
}

/// Whether the system has the calls by which processes copy from one to another, and no filter forbids them. Which
/// processes may use them on which others is another question.
pub fn copies_directly() -> bool {
    Remote::open(std::process::id(), Probe::of_this_process()).is_some()
}

/// What is told of a job's segment.
pub(super) fn event(segment: &Segment) -> Event {
    Event::Segment { bytes: segment.size(), anonymous: is_anonymous(segment.descriptor()) }
}

fn segment(geometry: &Geometry, events: u32) -> Result<Segment, SegmentError> {
    let segment = Segment::create_unnamed(NAME_PREFIX, geometry.size_with(events), JOB_FORMAT)?;
    segment.reserve(0..geometry.start())?;
    if events > 0 {
        segment.reserve(geometry.size()..geometry.size_with(events))?;
    }
    Ok(segment)
}

/// Whether a segment is anonymous memory, not a POSIX object.
fn is_anonymous(segment: BorrowedFd<'_>) -> bool {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", segment.as_raw_fd()));
    link.is_ok_and(|target| target.as_os_str().as_encoded_bytes().starts_with(b"/memfd:"))
}

fn bell(id: u64, rank: usize) -> Result<Bell, LaunchError> {
    Bell::create(&bell_name(id, rank)).map_err(|source| LaunchError::Bell { rank, source: source.into() })
}

fn fill_header(job: &Job, id: u64, cores: usize, tuning: &Tuning) {
    let pid = std::process::id();
    let header = job.header();
    header.ranks.store(job.geometry().ranks as u32, Relaxed);
    header.cores.store(cores as u32, Relaxed);
    header.job.store(id, Relaxed);
    header.launcher_pid.store(pid, Relaxed);
    header.launcher_start.store(proc::start_time(pid).unwrap_or(0), Relaxed);
    header.unexpected_bound.store(tuning.unexpected_bound, Relaxed);
    let direct_from = match tuning.direct {
        Some(true) => DIRECT_FROM,
        Some(false) => u64::MAX,
        None => direct_pays_from(time_to_copy(PROBED_BYTES)),
    };
    header.direct_from.store(direct_from, Relaxed);
    header.timeline_events.store(tuning.observe.events(), Relaxed);
}

/// From which length on messages are copied directly where the system takes this time for `PROBED_BYTES`.
fn direct_pays_from(time: Option<Duration>) -> u64 {
    match time {
        Some(time) if time <= FAST_COPY => DIRECT_FROM,
        _ => u64::MAX,
    }
}

/// The name of a rank's wake-up handle where it needs one; at most 31 bytes, as macOS demands.
pub(crate) fn bell_name(job: u64, rank: usize) -> String {
    const { assert!(MAX_RANKS <= 1000) };
    format!("/{NAME_PREFIX}-{job:016x}-{rank}")
}

/// Removes the names of the wake-up handles, where they have any.
pub(crate) fn unlink_bells(job: u64, ranks: usize) {
    for rank in 0..ranks {
        // One that is already gone is as it should be.
        let _ = Bell::unlink(&bell_name(job, rank));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_fast_the_system_copies_decides_what_is_copied_directly() {
        assert_eq!(direct_pays_from(Some(FAST_COPY)), DIRECT_FROM);
        assert_eq!(direct_pays_from(Some(FAST_COPY + Duration::from_nanos(1))), u64::MAX);
        assert_eq!(direct_pays_from(None), u64::MAX);
    }

    #[test]
    fn names_fit_into_31_bytes() {
        assert!(bell_name(u64::MAX, MAX_RANKS - 1).len() <= 31);
    }
}
