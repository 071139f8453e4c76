//! A log as the server sends it to the CLI.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cli::fuzz::log_lines(data));
