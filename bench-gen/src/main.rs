//! `bench-gen`: see `bench-gen --help`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use bench_gen::cli::Cli;
use bench_gen::house;
use clap::Parser;

fn main() -> ExitCode {
    house::run(&Cli::parse())
}
