//! YAML task files.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| cli::fuzz::task_files(data));
