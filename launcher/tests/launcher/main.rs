//! `shmrun` from outside: real processes, with everything printed when an expectation fails.

mod death;
mod exit_codes;
mod hand_over;
mod harness;
mod output;
mod refusals;
mod signals;
mod terminal;
