//! See `reloader_fuzz::kvs_plugin`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| reloader_fuzz::kvs_plugin::run(input));
