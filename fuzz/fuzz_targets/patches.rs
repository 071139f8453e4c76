//! Strategic merge patches.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| embedded::fuzz::patches(data));
