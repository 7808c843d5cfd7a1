//! See `reloader_fuzz::endpoint`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| reloader_fuzz::endpoint::run(input));
