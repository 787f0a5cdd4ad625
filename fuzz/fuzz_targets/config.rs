#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kronod::config::fuzz_config(data));
