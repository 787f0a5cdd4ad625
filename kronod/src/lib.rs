//! The house: configuration, shards on their lcores, control, metrics.

#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod mailbox;
