//! See `reloader_fuzz::sse`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| reloader_fuzz::sse::run(input));
