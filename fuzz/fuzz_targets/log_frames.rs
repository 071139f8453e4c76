//! A log as the kubelet sends it, in arbitrary fragments.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| executor::fuzz::frames(data));
