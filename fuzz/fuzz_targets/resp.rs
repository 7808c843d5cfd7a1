//! See `reloader_fuzz::resp`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| reloader_fuzz::resp::run(input));
