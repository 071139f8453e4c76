//! JSON bodies of a submit or a new volume.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| task::fuzz::bodies(data));
