//! Objects of the namespace, which other applications may have written.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| executor::fuzz::objects(data));
