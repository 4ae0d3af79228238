//! Messages that are to be objects.
#![no_main]

libfuzzer_sys::fuzz_target!(|message: &[u8]| ranks::fuzzing::object(message));
