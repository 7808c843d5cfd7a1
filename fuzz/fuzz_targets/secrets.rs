//! See `reloader_fuzz::secrets`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| reloader_fuzz::secrets::run(input));
