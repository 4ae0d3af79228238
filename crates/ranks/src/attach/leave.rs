//! Ceasing to be a rank, in several ways.

use std::sync::atomic::Ordering::Relaxed;

use super::claim::Attachment;
use super::hooks;
use crate::error::Error;
use crate::job::Job;
use crate::last_words;
use crate::launch::Record;
use crate::layout::rank_state;

/// The exit code of a Rust program that ended by a panic.
const PANIC_CODE: i32 = 101;

/// Leaves the job in good order: the rank will not send any more. Does not block.
pub(crate) fn detach(attachment: &Attachment) {
    attachment.job.depart(attachment.rank, rank_state::DETACHED);
}

/// Tells launcher and peers that this rank has failed by a panic, whose message the hook has recorded.
pub(crate) fn fail(attachment: &Attachment) {
    leave_failed(attachment, PANIC_CODE, "failed while a panic unwound");
}

/// Tells launcher and peers that this rank has failed, and why.
pub(crate) fn fail_with(attachment: &Attachment, reason: &str) {
    hooks::record(attachment, reason);
    leave_failed(attachment, 1, reason);
}

/// Ends the job: this process exits with `code`, or with 1 if `code` is 0, and the launcher stops the others.
pub(crate) fn abort(attachment: &Attachment, code: i32, reason: &str) -> ! {
    let code = if code & 0xff == 0 { 1 } else { code & 0xff };
    hooks::record(attachment, reason);
    attachment.job.control(attachment.rank).life.aborts.store(1, Relaxed);
    leave_failed(attachment, code, reason);
    std::process::exit(code)
}

/// Ends the job from within the library, where its segment is damaged in such a way that this process must not return
/// to its user.
pub(crate) fn abort_damaged(job: &'static Job, rank: usize, what: String) -> ! {
    let attachment = Attachment { job, rank, control: hooks::control() };
    abort(&attachment, 1, &Error::Damaged { what }.to_string())
}

/// The claim to be the first comes before the departure, since that makes others fail.
fn leave_failed(attachment: &Attachment, code: i32, reason: &str) {
    let Attachment { job, rank, .. } = *attachment;
    let control = job.control(rank);
    if last_words::read(control).is_none() {
        hooks::record(attachment, reason);
    }
    job.claim_first_failure(rank);
    control.life.exit_code.store(code as u32, Relaxed);
    job.depart(rank, rank_state::FAILED);
    attachment.report(Record::Failed { rank: job.place(rank) as u32 });
}
