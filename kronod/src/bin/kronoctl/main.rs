//! The command-line client of kronod: `kronoctl [--socket PATH] [--json] COMMAND`.

#![forbid(unsafe_code)]

mod args;
mod cluster;
mod figures;
#[cfg(test)]
mod fuzz;
mod group;
mod lists;
mod table;
mod watch;

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use krono_core::drop::DropReason;
use kronod::control::Client;
use kronod::control::protocol::{
    BfdChange, BfdRequest, GroupRequest, LookupRequest, Owners, Request, Sessions, SessionsRequest,
    Text,
};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use args::{BfdArgs, Cli, Command, GroupArgs, SessionsArgs, Target};

fn main() -> ExitCode {
    match krono_core::cpu::check() {
        Ok(()) => start(),
        Err(error) => {
            eprintln!("kronoctl: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Apart, so that nothing that the CPU may lack runs before it was asked.
#[inline(never)]
fn start() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(code) => code,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kronoctl: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    match &cli.command {
        Command::Reasons => reasons(cli.json)?,
        Command::Status => {
            let answer = connect(cli)?.ask(&Request::Status)?;
            show(cli, &answer, figures::status)?;
        }
        Command::Stats { watch: false } => {
            let answer = connect(cli)?.ask(&Request::Stats)?;
            show(cli, &answer, figures::stats)?;
        }
        Command::Stats { watch: true } => watch::run(&mut connect(cli)?, cli.json)?,
        Command::Sessions(args) => sessions(cli, args)?,
        Command::Lookup { target } => return lookup(cli, *target),
        Command::Bfd(args) => hold_bfd(cli, args)?,
        Command::Cluster => {
            show(cli, &connect(cli)?.ask(&Request::Cluster)?, cluster::cluster)?;
        }
        Command::Shard { order } => return cluster::order(cli, order),
        Command::Group(args) => {
            let GroupArgs { shard, join, leave, limit } = *args;
            let request = GroupRequest { shard, join, leave, limit };
            let answer = connect(cli)?.ask(&Request::Group(request))?;
            show(cli, &answer, group::group)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn hold_bfd(cli: &Cli, args: &BfdArgs) -> anyhow::Result<()> {
    let BfdArgs { hold, release: _, shard, neighbour } = *args;
    let answer = connect(cli)?.ask(&Request::Bfd(BfdRequest { shard, neighbour, hold }))?;
    show(cli, &answer, |change: &BfdChange| {
        let sessions = if change.sessions == 1 { "session" } else { "sessions" };
        let what = if hold { "held down" } else { "released" };
        format!("{} BFD {sessions} {what}\n", change.sessions)
    })
}

fn connect(cli: &Cli) -> anyhow::Result<Client> {
    Ok(Client::connect(&cli.socket)?)
}

/// Prints an answer: as it came, or for people.
fn show<T: DeserializeOwned>(
    cli: &Cli,
    answer: &RawValue,
    for_people: impl FnOnce(&T) -> String,
) -> anyhow::Result<()> {
    if cli.json {
        return print(&format!("{answer}\n"));
    }
    print(&for_people(&understood(answer)?))
}

fn understood<T: DeserializeOwned>(answer: &RawValue) -> anyhow::Result<T> {
    serde_json::from_str(answer.get())
        .context("the answer is not understood; kronoctl and kronod must be of one version")
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Whether the reader of our output has seen enough, as `head` does.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

fn reasons(json: bool) -> anyhow::Result<()> {
    let each = DropReason::ALL.iter().map(|reason| (reason.name(), reason.describe()));
    if json {
        let reasons: serde_json::Map<_, _> =
            each.map(|(name, sentence)| (name.to_owned(), sentence.into())).collect();
        return print(&format!("{}\n", serde_json::json!({ "reasons": reasons })));
    }
    print(&lists::reasons(each))
}

/// Asks as often as it takes to find as many sessions as wanted, and prints as they come.
fn sessions(cli: &Cli, args: &SessionsArgs) -> anyhow::Result<()> {
    let mut client = connect(cli)?;
    let mut found = Sessions { sessions: Vec::new(), cursor: args.cursor.map(Text) };
    loop {
        let left = args.limit.saturating_sub(found.sessions.len() as u32);
        let request = SessionsRequest {
            shard: args.shard,
            protocol: args.protocol.map(Text),
            inside: args.inside.map(Text),
            outside: args.outside.map(Text),
            remote: args.remote.map(Text),
            state: args.state.clone(),
            limit: Some(left),
            cursor: found.cursor,
        };
        let answer: Sessions = understood(&client.ask(&Request::Sessions(request))?)?;
        found.sessions.extend(answer.sessions);
        found.cursor = answer.cursor;
        if found.cursor.is_none() || found.sessions.len() >= args.limit as usize {
            break;
        }
    }
    if cli.json {
        return print(&format!("{}\n", serde_json::to_string(&found)?));
    }
    print(&lists::sessions(&found))
}

fn lookup(cli: &Cli, target: Target) -> anyhow::Result<ExitCode> {
    let Target { outside, protocol } = target;
    let request = LookupRequest { outside, protocol: protocol.map(Text) };
    let answer = connect(cli)?.ask(&Request::Lookup(request))?;
    show(cli, &answer, lists::owners)?;
    if !understood::<Owners>(&answer)?.owners.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("kronoctl: nobody has {target}");
    Ok(ExitCode::FAILURE)
}

/// Whether people look at our output right now.
fn is_watched() -> bool {
    io::stdout().is_terminal()
}
