//! Starting, watching and ending the processes of a job: what `shmrun` and [`crate::spawn()`] have in common.
//!
//! [`run`] takes a [`Plan`], creates the job's segment, starts the ranks and supervises them in one loop until
//! the last process of the job is gone. It returns an [`Outcome`]: how the job ended and what to say about it.
//!
//! # How a job ends
//!
//! When all ranks have ended well, or soon after the first one failed. A rank fails when it exits with a code
//! other than 0, is killed by a signal, says so itself (a panic, `abort`), or attached to the job and ends
//! without detaching, with exit code 0 too. A program that never attached and exits with 0 did not fail. After
//! the first failure the other ranks get SIGTERM, [`GRACE`] later SIGKILL, and then every process that still
//! carries the job's id in its environment is killed.
//!
//! # What is left when something is killed
//!
//! The segment has no name at any time, so nothing can be left in /dev/shm. Processes end because
//! - direct children get SIGKILL from the kernel when the launcher's supervising thread ends;
//! - ranks that attached below a wrapper watch the launcher themselves;
//! - other descendants (`sh -c './app; true'`) are found by the job's id in their environment and killed by the
//!   launcher or, when that was killed, by its guard process.
//!
//! When launcher and guard are both killed by SIGKILL, descendants of a wrapper that never attached live on
//! until they end by themselves; so do, in any case, processes that removed the job's variables from their
//! environment and processes of another user.

mod cleanup;
mod control;
mod cores;
mod create;
pub(crate) mod environment;
mod error;
mod execute;
mod guard;
mod hang;
mod input;
mod jobs;
mod label;
mod leftovers;
mod lines;
mod lookout;
mod memory;
mod observation;
mod output;
mod plan;
mod position;
pub(crate) mod proc;
pub(crate) mod process;
mod program;
mod rank;
mod report;
mod scene;
mod signals;
mod start;
mod streams;
mod supervise;
mod terminal;
mod watch;

pub(crate) use control::Record;
pub use cores::{allowed as allowed_cores, available as available_cores};
#[cfg(test)]
pub(crate) use create::in_process_observed;
pub use create::{Observe, Tuning, copies_directly, try_segment};
pub(crate) use create::{bell_name, in_process, unlink_bells};
pub use error::LaunchError;
pub use jobs::{Member, RunningJob, running};
pub use label::{Label, LabelPart};
pub use leftovers::leftover_names;
#[cfg(any(test, fuzzing))]
pub(crate) use lookout::now as snapshot;
pub use observation::{Count, EventKind, Observation, RankObservation, SiteObservation, TimelineEvent};
pub use plan::{
    Event, Hang, HangAction, Input, Limits, Memory, OnFailure, Output, Plan, RankPlan, StreamPlan,
};
#[cfg(any(test, fuzzing))]
pub(crate) use position::of_all as positions;
pub use position::{Doing, Position, Wait};
pub use report::{Ended, Failure, Outcome};
pub(crate) use report::{RETURNED_ERROR, positions_text};
pub use shm_core::limit::free_bytes as free_memory;
pub use start::run;
pub use supervise::GRACE;
pub use watch::{Look, RankLook, Watch, WatchError};
