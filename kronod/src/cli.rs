//! kronod's command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::config;

const AFTER_HELP: &str = "\
EXAMPLES:
    kronod --config configs/cgnat.yaml --check
        Say whether the file is valid; needs neither root nor devices.

    sudo kronod --config /etc/kronod.yaml
        Translate until SIGINT or SIGTERM. \"kronod ready\" is logged when all shards poll.

    kronod --config configs/pcap.yaml --exit-when-idle 2s
        Replay captures and stop behind their last packet.

SIGNALS:
    SIGINT, SIGTERM    stop cleanly: ports closed, nothing left behind
    SIGHUP             read the file again, apply what can be applied to a running shard
                       (firewall, nat.timeouts, nat.filtering, nat.static …), and log what
                       needs a restart

EXIT STATUS:
    0    stopped as asked; with --check: the configuration is valid
    1    could not start, or failed while running; one sentence on stderr says why
    2    mistakes in the configuration or on the command line; every one is a line on stderr:
         FILE:LINE: field.path: what is wrong; expected …

Logs go to stderr. \"kronoctl\" shows what a running kronod does.";

/// Carrier-grade NAT and stateful firewall on DPDK, in the foreground.
#[derive(Clone, Debug, PartialEq, Eq, Parser)]
#[command(name = "kronod", version, after_help = AFTER_HELP)]
pub struct Cli {
    /// Configuration file, YAML
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,

    /// Only validate the configuration, without root or devices
    #[arg(long)]
    pub check: bool,

    /// Stop after so long without a packet, such as 2s, 500ms or 1m30s
    #[arg(long, value_name = "DUR", value_parser = config::duration)]
    pub exit_when_idle: Option<Duration>,

    /// What to log: off, error, warn, info, debug or trace; RUST_LOG if it is not given, else info
    #[arg(long, value_name = "L", value_parser = log_level)]
    pub log_level: Option<log::LevelFilter>,

    /// Fix hash keys and port choice, which makes ports predictable: for tests only
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

fn log_level(text: &str) -> Result<log::LevelFilter, String> {
    text.parse().map_err(|_| "expected off, error, warn, info, debug or trace".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn all_options_are_read() {
        let words =
            "kronod --config a.yaml --check --exit-when-idle 1m500ms --log-level warn --seed 7";
        let cli = Cli::try_parse_from(words.split(' ')).unwrap();
        assert_eq!(
            cli,
            Cli {
                config: "a.yaml".into(),
                check: true,
                exit_when_idle: Some(Duration::from_millis(60_500)),
                log_level: Some(log::LevelFilter::Warn),
                seed: Some(7),
            }
        );
    }

    #[test]
    fn usage_errors_are_exit_2() {
        for words in ["kronod", "kronod --config a --exit-when-idle 5", "kronod --config a --bad"] {
            let error = Cli::try_parse_from(words.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{words}");
        }
    }
}
