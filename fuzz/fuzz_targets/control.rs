#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kronod::control::protocol::fuzz_control(data));
