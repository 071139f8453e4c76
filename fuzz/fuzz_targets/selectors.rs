//! Selectors of labels and of fields.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| embedded::fuzz::selectors(data));
