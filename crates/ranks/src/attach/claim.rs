//! Becoming a rank.

use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use shm_core::{Bell, Segment, SegmentError};

use super::hand_over::{HandOver, refuse_foreign};
use super::{AttachError, hooks};
use crate::job::Job;
use crate::launch::environment::{CONTROL_FD, JOB, SEGMENT_FD, SIZE, job_text};
use crate::launch::{self, Record, proc, process};
use crate::layout::{Geometry, JOB_FORMAT, rank_state};
use crate::turns::Turns;

/// This process as a rank of a job.
#[derive(Clone, Copy)]
pub(crate) struct Attachment {
    /// The job's segment; mapped until the process ends.
    pub(crate) job: &'static Job,
    /// The rank, less than the job's number of ranks.
    pub(crate) rank: usize,
    /// To the launcher; `None` in a world of size 1 without one.
    pub(super) control: Option<&'static OwnedFd>,
}

/// Set when this process has become a rank: once for its life.
static ATTACHED: AtomicBool = AtomicBool::new(false);

/// Makes this process a rank: of the job whose variables it finds, or the only one of its own job.
pub(crate) fn attach() -> Result<Attachment, AttachError> {
    if ATTACHED.swap(true, AcqRel) {
        return Err(AttachError::Again);
    }
    // A failed attempt changed nothing: it may be repeated.
    attach_once().inspect_err(|_| ATTACHED.store(false, Release))
}

fn attach_once() -> Result<Attachment, AttachError> {
    let lookup = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    let (job, rank, control) = match HandOver::read(&lookup)? {
        Some(hand_over) => {
            let (job, control) = inherit(&hand_over)?;
            (job, hand_over.rank, Some(control))
        }
        None => {
            refuse_foreign(&lookup)?;
            (launch::in_process(1).map_err(AttachError::Alone)?, 0, None)
        }
    };
    hooks::follow_launcher(&job)?;
    claim(&job, rank)?;
    // Mapped for the life of the process: messages may be received until its very end.
    let control = control.map(|control| &*Box::leak(Box::new(control)));
    let attachment = Attachment { job: Box::leak(Box::new(job)), rank, control };
    hooks::arm(attachment)?;
    attachment.report(Record::Attached { rank: rank as u32, pid: std::process::id() });
    if let Some(turns) = Turns::of(attachment.job) {
        turns.join(rank);
    }
    Ok(attachment)
}

impl Attachment {
    /// A rank that is a thread of a test.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn of_thread(job: &'static Job, rank: usize) -> Self {
        let life = &job.control(rank).life;
        life.pid.store(std::process::id(), Relaxed);
        job.introduce(rank);
        life.state.store(rank_state::ATTACHED, Release);
        Self { job, rank, control: None }
    }

    pub(super) fn report(&self, record: Record) {
        if let Some(control) = self.control {
            record.send(control);
        }
    }
}

/// Takes over the inherited descriptors, after checking that they are what the variables say.
fn inherit(hand_over: &HandOver) -> Result<(Job, OwnedFd), AttachError> {
    let &HandOver { segment: number, size, job: id, .. } = hand_over;
    let segment =
        Segment::from_descriptor(duplicate(SEGMENT_FD, number)?, JOB_FORMAT).map_err(
            |source| match source {
                SegmentError::WrongLayout { found, expected, .. } => {
                    AttachError::OtherBuild { found, known: expected }
                }
                source => AttachError::Segment { number, source },
            },
        )?;
    let geometry = Geometry::new(size);
    check_job(&segment, &geometry, id)?;
    let control = duplicate(CONTROL_FD, hand_over.control)?;
    check_control(hand_over.control, &control)?;
    // From here on the numbers are known to be ours: no program that this process executes gets them.
    for number in [number, hand_over.control] {
        process::close_on_exec(number).map_err(AttachError::system("mark a descriptor close-on-exec"))?;
    }
    let bell =
        |rank| Bell::open(&launch::bell_name(id, rank)).map_err(|source| AttachError::Bell { rank, source });
    let bells = (0..size).map(bell).collect::<Result<_, _>>()?;
    let job = Job::new(segment, geometry, bells);
    drop_bell_names(&job, id);
    Ok((job, control))
}

/// The last rank that has opened the wake-up handles removes their names: nothing is left of them then, however
/// the job ends.
fn drop_bell_names(job: &Job, id: u64) {
    let ranks = job.geometry().ranks;
    // SYNC bells-opened: the last one comes after all others have opened theirs.
    if job.header().semaphores_opened.fetch_add(1, AcqRel) as usize + 1 == ranks {
        launch::unlink_bells(id, ranks);
    }
}

fn duplicate(name: &'static str, number: i32) -> Result<OwnedFd, AttachError> {
    process::duplicate_inherited(number).map_err(|error| AttachError::Descriptor {
        name,
        number,
        problem: error.to_string(),
    })
}

fn check_job(segment: &Segment, geometry: &Geometry, id: u64) -> Result<(), AttachError> {
    let other = |name, value, found| Err(AttachError::OtherJob { name, value, found });
    if segment.size() < geometry.start() {
        return other(SIZE, geometry.ranks.to_string(), format!("{} bytes", segment.size()));
    }
    let header: &crate::layout::JobHeader = segment.at(geometry.header());
    let (found_id, found_ranks) = (header.job.load(Relaxed), header.ranks.load(Relaxed));
    if found_id != id {
        return other(JOB, job_text(id), format!("job {}", job_text(found_id)));
    }
    if found_ranks as usize != geometry.ranks || segment.size() < geometry.size() {
        return other(
            SIZE,
            geometry.ranks.to_string(),
            format!("{found_ranks} ranks, {} bytes", segment.size()),
        );
    }
    Ok(())
}

fn check_control(number: i32, control: &OwnedFd) -> Result<(), AttachError> {
    let failed =
        |problem: &str| AttachError::Descriptor { name: CONTROL_FD, number, problem: problem.to_owned() };
    let stat = fstat(control).map_err(AttachError::system("examine the control pipe"))?;
    let flags = fcntl_getfl(control).map_err(AttachError::system("examine the control pipe"))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Fifo {
        return Err(failed("it is no pipe"));
    }
    match flags & OFlags::ACCMODE {
        OFlags::WRONLY => Ok(()),
        _ => Err(failed("it is not the end of a pipe that can be written to")),
    }
}

/// Claims the rank for this process, once and for all.
fn claim(job: &Job, rank: usize) -> Result<(), AttachError> {
    let life = &job.control(rank).life;
    let pid = std::process::id();
    let start = proc::start_time(pid).unwrap_or(0);
    if let Err(pid) = life.pid.compare_exchange(0, pid, Relaxed, Relaxed) {
        return Err(taken(job, rank, pid));
    }
    life.start_time.store(start, Relaxed);
    job.introduce(rank);
    shm_core::direct::admit(job.header().launcher_pid.load(Relaxed));
    // SYNC attach: who reads the new state finds pid, start time and probe.
    let claimed = life.state.compare_exchange(rank_state::EMPTY, rank_state::ATTACHED, Release, Acquire);
    claimed.map(drop).map_err(|_| taken(job, rank, pid))
}

fn taken(job: &Job, rank: usize, pid: u32) -> AttachError {
    let how = match job.state(rank) {
        rank_state::EMPTY => "is just attaching",
        rank_state::ATTACHED => "is attached",
        rank_state::DETACHED => "was attached and has finished",
        _ => "was attached and has failed",
    };
    AttachError::Taken { rank, pid, how }
}
