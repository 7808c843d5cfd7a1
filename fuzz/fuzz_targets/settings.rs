//! See `reloader_fuzz::settings`.
#![no_main]

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    reloader_fuzz::settings::mutate(data, size, max_size, seed)
});
libfuzzer_sys::fuzz_target!(|input: &[u8]| reloader_fuzz::settings::run(input));
