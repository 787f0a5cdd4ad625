//! The house: configuration, shards on their lcores, control, metrics.

#![forbid(unsafe_code)]

mod alarms;
mod changes;
pub mod cli;
pub mod config;
mod held;
pub mod house;
mod housekeep;
mod input;
pub mod mailbox;
mod output;
mod privileges;
pub mod run;
pub mod worker;
