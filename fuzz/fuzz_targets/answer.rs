#![no_main]
// The list of reasons needs no daemon, so it is not shown here.
#![allow(dead_code)]

#[path = "../../kronod/src/bin/kronoctl/figures.rs"]
mod figures;
#[path = "../../kronod/src/bin/kronoctl/fuzz.rs"]
mod fuzz;
#[path = "../../kronod/src/bin/kronoctl/lists.rs"]
mod lists;
#[path = "../../kronod/src/bin/kronoctl/table.rs"]
mod table;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz::fuzz_answer(data);
});
