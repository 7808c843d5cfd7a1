//! See `reloader_fuzz::http_plugin`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| reloader_fuzz::http_plugin::run(input));
