//! Objects of the namespace.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| executor::fuzz::objects(data));
