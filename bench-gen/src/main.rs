//! `bench-gen`: see `bench-gen --help`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use bench_gen::cli::Cli;
use bench_gen::house;
use clap::Parser;

fn main() -> ExitCode {
    match krono_core::cpu::check() {
        Ok(()) => start(),
        Err(error) => {
            eprintln!("bench-gen: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Apart, so that nothing that the CPU may lack runs before it was asked.
#[inline(never)]
fn start() -> ExitCode {
    house::run(&Cli::parse())
}
