//! Ranks whose segment is written over.
#![no_main]

libfuzzer_sys::fuzz_target!(|script: &[u8]| ranks::fuzzing::segment(script));
