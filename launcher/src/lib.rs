//! `shmrun`: starts, watches and cleans up the ranks of a job.
//!
//! Words become options ([`arguments`]), options become a [`arguments::Job`] (what was decided), and [`job::run`] hands
//! its plan to `ranks::launch` together with the signals to forward.
//!
//! # Exit codes
//!
//! | code | meaning |
//! |------|---------|
//! | 0 | all ranks ended well |
//! | of the first rank that failed; 128 + signal | a rank failed or was killed |
//! | 123 | a deadlock ended the job, with `--hang=kill` |
//! | 124 | the time limit is over |
//! | 125 | the arguments are wrong, or the launcher itself is in trouble |
//! | 126 | the program cannot be executed |
//! | 127 | the program does not exist |
//! | 141 | nobody reads the output any more |

pub mod arguments;
pub mod build;
pub mod job;
mod placement;
mod seeing;
mod signals;
pub mod tools;
