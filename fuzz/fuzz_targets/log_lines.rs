//! A log as the server sends it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cli::fuzz::log_lines(data));
