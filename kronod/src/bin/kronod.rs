//! The daemon: `kronod --config FILE`.

#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use kronod::cli::Cli;
use kronod::config::{self, Config, Memory, Mistakes};

/// The exit code for mistakes in the configuration, as for those on the command line.
const EXIT_MISTAKES: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let config = match load(&cli.config) {
        Ok(config) => config,
        Err(mistakes) => {
            eprintln!("{mistakes}");
            return ExitCode::from(EXIT_MISTAKES);
        }
    };
    if cli.check {
        println!("{}: ok: {}", cli.config.display(), config.summary());
        return ExitCode::SUCCESS;
    }
    eprintln!("kronod: running shards is not in this build; only --check is");
    ExitCode::FAILURE
}

/// The configuration; its warnings go to stderr.
fn load(path: &Path) -> Result<Config, Mistakes> {
    let (config, warnings) = config::load(path, &Memory::of_this_machine())?;
    for warning in warnings {
        eprintln!("{warning}");
    }
    Ok(config)
}
