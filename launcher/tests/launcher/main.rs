//! `shmrun` from outside: real processes, with everything printed when an expectation fails.

mod binding;
mod chaos;
mod containers;
mod death;
mod endings;
mod exit_codes;
mod hand_over;
mod hangs;
mod harness;
mod leftovers;
mod options;
mod other_user;
mod output;
mod refusals;
mod reliability;
mod reports;
mod seeing;
mod signals;
mod streams;
mod terminal;
mod tools;
