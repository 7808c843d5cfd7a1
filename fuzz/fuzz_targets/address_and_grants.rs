//! See `reloader_fuzz::address_and_grants`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| reloader_fuzz::address_and_grants::run(input));
