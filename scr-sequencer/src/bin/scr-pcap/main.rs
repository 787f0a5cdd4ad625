//! `scr-pcap`: puts numbers and histories into captures, and shows them; see `scr-pcap --help`.
#![forbid(unsafe_code)]

mod args;
mod capture;
mod sequence;
mod show;

use std::io::{self, ErrorKind};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use scr_sequencer::Replicable;
use scr_sequencer::programs::bucket::Policer;
use scr_sequencer::programs::conntrack::Conntrack;
use scr_sequencer::programs::ddos::Ddos;
use scr_sequencer::programs::heavy::Heavy;
use scr_sequencer::programs::knock::Knock;
use scr_sequencer::wire::Codec;

use args::{Cli, Command, Program};

fn main() -> ExitCode {
    match krono_core::cpu::check() {
        Ok(()) => start(),
        Err(error) => {
            eprintln!("scr-pcap: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Apart, so that nothing that the CPU may lack runs before it was asked.
#[inline(never)]
fn start() -> ExitCode {
    let cli = Cli::parse();
    let run = match cli.command.format().program {
        Program::Ddos => run::<Ddos>,
        Program::Heavy => run::<Heavy>,
        Program::Bucket => run::<Policer>,
        Program::Knock => run::<Knock>,
        Program::Conntrack => run::<Conntrack>,
    };
    match run(&cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scr-pcap: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run<P: Replicable>(command: &Command) -> anyhow::Result<()> {
    let codec = match Codec::<P::Record>::new(command.wire_format()) {
        Ok(codec) => codec,
        Err(unfit) => Cli::command().error(clap::error::ErrorKind::ValueValidation, unfit).exit(),
    };
    match command {
        Command::Sequence(args) => sequence::run::<P>(&codec, args),
        Command::Show(args) => show::run::<P>(&codec, args),
    }
}

/// Whether who reads the output has seen enough.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}
