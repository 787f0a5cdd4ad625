#![no_main]

#[allow(dead_code)]
#[path = "../../krono-core/tests/packet/bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::bfd(data));
