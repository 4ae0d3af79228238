//! `shmrun` from outside: real processes, with everything printed when an expectation fails.

mod binding;
mod chaos;
mod death;
mod exit_codes;
mod hand_over;
mod hangs;
mod harness;
mod options;
mod output;
mod refusals;
mod reports;
mod signals;
mod streams;
mod terminal;
