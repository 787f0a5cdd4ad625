//! The daemon: `kronod --config FILE`.

#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use kronod::cli::Cli;
use kronod::config::{self, Config, Memory, Mistakes};
use kronod::run::{self, Options};

/// The exit code for mistakes in the configuration, as for those on the command line.
const EXIT_MISTAKES: u8 = 2;

fn main() -> ExitCode {
    match krono_core::cpu::check() {
        Ok(()) => start(),
        Err(error) => {
            eprintln!("kronod: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Apart, so that nothing that the CPU may lack runs before it was asked.
#[inline(never)]
fn start() -> ExitCode {
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
    start_log(cli.log_level);
    let options = Options { exit_when_idle: cli.exit_when_idle, seed: cli.seed };
    match run::run(&cli.config, config, &options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kronod: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Logs to stderr at the level of the command line, of RUST_LOG, or info.
fn start_log(level: Option<log::LevelFilter>) {
    let mut log =
        env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"));
    if let Some(level) = level {
        log.filter_level(level);
    }
    log.format_target(false).init();
}

/// The configuration; its warnings go to stderr.
fn load(path: &Path) -> Result<Config, Mistakes> {
    let (config, warnings) = config::load(path, &Memory::of_this_machine())?;
    for warning in warnings {
        eprintln!("{warning}");
    }
    Ok(config)
}
