//! The log file of a container.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| embedded::fuzz::log_records(data));
