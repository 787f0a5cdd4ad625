#![no_main]

#[path = "../../bench-gen/tests/take/bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::take(data));
