//! Environments of ranks, and of processes that may belong to a job.
#![no_main]

libfuzzer_sys::fuzz_target!(|block: &[u8]| ranks::fuzzing::environment(block));
