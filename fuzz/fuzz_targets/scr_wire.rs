#![no_main]

#[path = "../../scr-sequencer/tests/wire/bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::scr_wire(data));
