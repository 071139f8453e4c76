//! Quantities of memory and CPU, durations, and times.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| task::fuzz::amounts(data));
