#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bench_gen::profile::fuzz_profile(data));
