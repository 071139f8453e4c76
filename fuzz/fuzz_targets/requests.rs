//! Requests to the embedded engine.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| embedded::fuzz::requests(data));
