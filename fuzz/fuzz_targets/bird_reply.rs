#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kronod::bird::fuzz_bird_reply(data));
