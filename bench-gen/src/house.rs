//! A command from its beginning to its exit status.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::bench::Bench;
use crate::cli::{Cli, Command, Common, ReportArgs};
use crate::engine::Engine;
use crate::live::{self, Held, Live, Stop};
use crate::load::Profile;
use crate::procedure::Procedure;
use crate::profile;
use crate::report::model::{Report, Verdict};
use crate::report::{html, text};
use crate::simulated::{self, Device, Simulated};

/// Mistakes in the profile or on the command line.
const EXIT_MISTAKES: u8 = 2;

/// Does what the command line asks for.
pub fn run(cli: &Cli) -> ExitCode {
    let done = match (&cli.command, cli.command.procedure()) {
        (Command::Report(args), _) => show_again(args),
        (_, Some((procedure, common))) => {
            let Some(profile) = load(&procedure, common) else {
                return ExitCode::from(EXIT_MISTAKES);
            };
            if common.check {
                return say_ok(common, &profile);
            }
            start_log(common.log_level);
            measure(&procedure, common, &profile)
        }
        (_, None) => Ok(Verdict::Passed),
    };
    match done {
        Ok(Verdict::Passed) => ExitCode::SUCCESS,
        Ok(Verdict::Failed | Verdict::Partial) => ExitCode::FAILURE,
        Err(error) => {
            live::leave();
            eprintln!("bench-gen: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The profile, if neither it nor what is asked of it has a mistake.
fn load(procedure: &Procedure, common: &Common) -> Option<Profile> {
    let mut profile = match &common.profile {
        None => simulated::profile(),
        Some(path) => match profile::load(path) {
            Ok((profile, warnings)) => {
                warnings.iter().for_each(|warning| eprintln!("{warning}"));
                profile
            }
            Err(mistakes) => {
                eprintln!("{mistakes}");
                return None;
            }
        },
    };
    profile.repeats = common.repeats.unwrap_or(profile.repeats);
    let mistakes = procedure.mistakes(&profile);
    mistakes.iter().for_each(|mistake| eprintln!("bench-gen {}: {mistake}", procedure.name()));
    mistakes.is_empty().then_some(profile)
}

fn say_ok(common: &Common, profile: &Profile) -> ExitCode {
    let name = common.profile.as_deref().unwrap_or(Path::new("simulated"));
    println!("{}: ok: {}", name.display(), profile.summary());
    ExitCode::SUCCESS
}

fn start_log(level: Option<log::LevelFilter>) {
    let mut log =
        env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"));
    if let Some(level) = level {
        log.filter_level(level);
    }
    let held = env_logger::Target::Pipe(Box::new(Held));
    log.format_target(false).target(held).init();
}

/// Measures, shows and writes the report.
fn measure(procedure: &Procedure, common: &Common, profile: &Profile) -> Result<Verdict> {
    let outputs = Outputs::open(common)?;
    // Before the EAL pins this thread: what is started later shares its CPU.
    let stop = Stop::listen().context("cannot listen for signals")?;
    let mut bench = start(procedure, common, profile)?;
    let mut live = Live::new(procedure.name(), common.quiet, stop);
    let mut report = procedure.carry_out(profile, bench.as_mut(), &mut live);
    drop(live);
    if common.simulate {
        let note = "SIMULATED: no packet was sent, the figures are those of a formula.";
        report.notes.insert(0, note.to_owned());
    }
    outputs.write(&report)?;
    Ok(report.verdict())
}

/// What measurements are made with.
fn start(procedure: &Procedure, common: &Common, profile: &Profile) -> Result<Box<dyn Bench>> {
    if common.simulate {
        let device = simulated_device(procedure, common);
        return Ok(Box::new(Simulated::new(device, profile)));
    }
    let engine = match procedure {
        Procedure::SelfCheck(options) => Engine::joined(profile, options.over.into()),
        _ => Engine::start(profile),
    };
    Ok(Box::new(engine?))
}

fn simulated_device(procedure: &Procedure, common: &Common) -> Device {
    let device = Device { real_time: !common.quiet, ..Device::default() };
    match procedure {
        Procedure::Outage(options) => {
            let outage = Some((options.at, Duration::from_millis(280)));
            Device { outage, lost: 0.004, ..device }
        }
        Procedure::SelfCheck(_) => {
            Device { capacity_pps: 1e12, establish_per_s: f64::INFINITY, ..device }
        }
        _ => device,
    }
}

/// Where the report goes; opened before the measurement, so that it is not for nothing.
struct Outputs {
    json: Option<(PathBuf, Option<File>)>,
    html: Option<(PathBuf, File)>,
}

impl Outputs {
    fn open(common: &Common) -> Result<Outputs> {
        let json = match &common.json {
            Some(path) if path == Path::new("-") => Some((path.clone(), None)),
            Some(path) => Some((path.clone(), Some(writable(path)?))),
            None => None,
        };
        let html = match &common.html {
            Some(path) => Some((path.clone(), writable(path)?)),
            None => None,
        };
        Ok(Outputs { json, html })
    }

    fn write(self, report: &Report) -> Result<()> {
        let json = serde_json::to_string(report).context("the report has no JSON form")? + "\n";
        let to_stdout = matches!(&self.json, Some((_, None)));
        if let Some((path, Some(file))) = self.json {
            replace(&path, file, &json)?;
        }
        if let Some((path, file)) = self.html {
            replace(&path, file, &html::page(report))?;
            eprintln!("{} written", path.display());
        }
        print(if to_stdout { json } else { text::summary(report) })
    }
}

/// A reader that has had enough is no failure.
fn print(text: String) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("stdout"),
        _ => Ok(()),
    }
}

/// Opens a file without harm to what is in it.
fn writable(path: &Path) -> Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
    file.with_context(|| format!("cannot write {}", path.display()))
}

fn replace(path: &Path, mut file: File, text: &str) -> Result<()> {
    let write = || {
        // A pipe or a device has no length to be set; what is written is all there is.
        if file.metadata()?.is_file() {
            file.set_len(0)?;
        }
        file.write_all(text.as_bytes())
    };
    let mut write = write;
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// `bench-gen report`.
fn show_again(args: &ReportArgs) -> Result<Verdict> {
    let name = args.file.display();
    let json =
        std::fs::read_to_string(&args.file).with_context(|| format!("cannot read {name}"))?;
    let report: Report =
        serde_json::from_str(&json).with_context(|| format!("{name} is no report of bench-gen"))?;
    if let Some(path) = &args.html {
        replace(path, writable(path)?, &html::page(&report))?;
    }
    print(text::summary(&report))?;
    Ok(Verdict::Passed)
}
