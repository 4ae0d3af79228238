//! The environment variables by which the launcher hands a job to its ranks.

/// The rank of the process, from 0.
pub(crate) const RANK: &str = "SHMRUN_RANK";
/// The number of ranks.
pub(crate) const SIZE: &str = "SHMRUN_SIZE";
/// The rank among those of this machine: the same as the rank.
pub(crate) const LOCAL_RANK: &str = "SHMRUN_LOCAL_RANK";
/// The job's id: 16 hexadecimal digits.
pub(crate) const JOB: &str = "SHMRUN_JOB";
/// The launcher: its process id and its start time in clock ticks since boot, with a colon between. For
/// `shmrun ps` and `clean`.
pub(crate) const LAUNCHER: &str = "SHMRUN_LAUNCHER";
/// Ids of the jobs that this job was started in, separated by colons: their clean-up ends this job too.
pub(crate) const OUTER_JOBS: &str = "SHMRUN_JOB_OUTER";
/// The number of the inherited descriptor of the segment.
pub(crate) const SEGMENT_FD: &str = "SHMRUN_SEGMENT_FD";
/// The number of the inherited descriptor of the control pipe.
pub(crate) const CONTROL_FD: &str = "SHMRUN_CONTROL_FD";
/// Version of this hand-over.
pub(crate) const PROTOCOL: &str = "SHMRUN_PROTOCOL";

/// The value of [`PROTOCOL`]; grows with every change that an older library would misread.
pub(crate) const PROTOCOL_VERSION: u32 = 1;

/// The number of the descriptor that a rank of [`crate::spawn()`] takes as its standard output.
pub(crate) const SPAWN_OUTPUT_FD: &str = "RANKS_SPAWN_OUTPUT_FD";

/// Set to 1 to run a world of size 1 although another launcher's variables speak of several ranks.
pub(crate) const SINGLETON: &str = "SHMRUN_SINGLETON";

/// Read by the launcher: `off` sends all messages through shared memory, none directly from process to process; `on`
/// sends long ones directly; otherwise a measurement decides.
pub(crate) const DIRECT: &str = "SHMRUN_DIRECT";

/// The number of ranks as other launchers tell it: Open MPI, PMI (MPICH, Intel), Slurm, MVAPICH, Flux.
pub(crate) const FOREIGN_SIZES: [&str; 6] = [
    "OMPI_COMM_WORLD_SIZE",
    "PMI_SIZE",
    "PMIX_SIZE",
    "SLURM_STEP_NUM_TASKS",
    "MV2_COMM_WORLD_SIZE",
    "FLUX_JOB_SIZE",
];

/// The job's id as it stands in the environment.
pub(crate) fn job_text(job: u64) -> String {
    format!("{job:016x}")
}

/// Whether a process with this environment block (variables separated by NUL) belongs to the job, directly or
/// through a job started inside it.
pub(crate) fn belongs(environment: &[u8], job: &str) -> bool {
    environment.split(|&byte| byte == 0).any(|variable| {
        let mut halves = variable.splitn(2, |&byte| byte == b'=');
        let name = halves.next().unwrap_or_default();
        let value = halves.next().unwrap_or_default();
        (name == JOB.as_bytes() || name == OUTER_JOBS.as_bytes())
            && value.split(|&byte| byte == b':').any(|id| id == job.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_owns_its_ranks_and_the_jobs_inside_it() {
        let id = job_text(0xabc);
        assert_eq!(id, "0000000000000abc");
        assert!(belongs(b"A=1\0SHMRUN_JOB=0000000000000abc\0", &id));
        assert!(belongs(b"SHMRUN_JOB=1\0SHMRUN_JOB_OUTER=7:0000000000000abc\0", &id));
        assert!(!belongs(b"SHMRUN_JOB=1000000000000abc\0X=0000000000000abc\0", &id));
        assert!(!belongs(b"", &id));
    }
}
