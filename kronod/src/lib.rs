//! The house: configuration, shards on their lcores, control, metrics.

#![forbid(unsafe_code)]

mod alarms;
pub mod bfd;
pub mod bird;
mod carrier;
mod changes;
pub mod cli;
pub mod config;
pub mod control;
mod held;
pub mod house;
mod housekeep;
mod input;
pub mod mailbox;
pub mod metrics;
mod output;
mod privileges;
pub mod run;
mod scr;
pub mod spare_cpus;
pub mod twin;
pub mod worker;
#[cfg(test)]
mod worker_tests;
