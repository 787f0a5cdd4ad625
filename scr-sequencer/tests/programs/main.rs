//! Each program against a model that is slow and obvious, with random records; with any probe, on
//! twins and on copies. `KRONO_SEED=n` repeats the run that a failure prints.
#![forbid(unsafe_code)]

mod bucket;
mod conntrack;
mod ddos;
mod harness;
mod heavy;
mod knock;
mod settings;
