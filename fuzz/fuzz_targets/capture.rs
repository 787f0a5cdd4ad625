#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bench_gen::capture::fuzz_capture(data));
