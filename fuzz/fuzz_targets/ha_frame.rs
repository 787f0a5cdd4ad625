#![no_main]

#[path = "../../krono-ha/tests/frames/bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::frame(data));
