//! The command line.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};
use krono_core::packet::Protocol;
use kronod::config::CONTROL_SOCKET;
use kronod::control::protocol::Cursor;
use kronod::mailbox::EndpointFilter;

const AFTER_HELP: &str = "\
EXAMPLES:
    kronoctl status
        Is it running, since when, and does every shard answer?

    kronoctl stats --watch
        Rates, refreshed every second until Ctrl-C.

    kronoctl sessions --inside 10.0.0.7 --protocol tcp
        What one subscriber has open.

    kronoctl lookup 198.51.100.1:4000/udp
        Who has this public port, as for an abuse report.

    kronoctl group --join 3
        One core more for a shard that is on several, while packets flow.

    kronoctl bfd --hold --shard 0
        Have routers take another way, and end nothing.

    kronoctl shard drain 0
        Have the other server serve shard 0, before this one is taken down.

    kronoctl --json stats | jq '.shards[] | {id, received, sent, drops}'
        Figures for other programs. In each shard, always:
        received = sent + consumed + held + the sum of drops.

EXIT STATUS:
    0    answered
    1    no kronod answers on the socket, it refuses, or lookup found nobody
    2    the command line is wrong";

/// Shows what a running kronod does.
#[derive(Debug, Parser)]
#[command(name = "kronoctl", version, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    /// The control socket, control.socket in the configuration
    #[arg(long, value_name = "PATH", default_value = CONTROL_SOCKET, global = true)]
    pub(crate) socket: PathBuf,

    /// Print the answer as one line of JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// What to show
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// What runs, since when, in which state
    Status,
    /// What was counted, by shard and by port, with every drop by its reason
    Stats {
        /// Show rates, every second until Ctrl-C
        #[arg(long)]
        watch: bool,
    },
    /// Live sessions; those that all filters admit
    Sessions(SessionsArgs),
    /// Who has a public port
    Lookup {
        /// The public endpoint, with /udp, /tcp or /icmp (an identifier) if only that is meant
        #[arg(value_name = "ADDR:PORT[/PROTO]")]
        target: Target,
    },
    /// A shard whose state is on several cores (scr): who gets packets, and what is in the state
    Group(GroupArgs),
    /// Hold BFD sessions down, so that neighbours send nothing more here; or no longer
    Bfd(BfdArgs),
    /// The halves of shards here and what they know of those on other servers: who serves, how far
    /// behind the other is, and whether it is safe to fail over
    Cluster,
    /// Have the other server serve a shard, or make sure that it cannot
    Shard {
        /// What to do
        #[command(subcommand)]
        order: ShardOrder,
    },
    /// All reasons for which frames are dropped, each with its sentence; needs no kronod
    Reasons,
}

#[derive(Debug, Args)]
pub(crate) struct SessionsArgs {
    /// Only of this shard
    #[arg(long, value_name = "ID")]
    pub(crate) shard: Option<u16>,

    /// Only this protocol: udp, tcp or icmp
    #[arg(long, value_name = "PROTO")]
    pub(crate) protocol: Option<Protocol>,

    /// Only with this subscriber, or subscribers in this network
    #[arg(long, value_name = "ADDR[/LEN][:PORT]")]
    pub(crate) inside: Option<EndpointFilter>,

    /// Only with this public endpoint, or public addresses
    #[arg(long, value_name = "ADDR[/LEN][:PORT]")]
    pub(crate) outside: Option<EndpointFilter>,

    /// Only with this endpoint in the Internet, or network
    #[arg(long, value_name = "ADDR[/LEN][:PORT]")]
    pub(crate) remote: Option<EndpointFilter>,

    /// Only in this state, such as established
    #[arg(long, value_name = "STATE")]
    pub(crate) state: Option<String>,

    /// At most so many
    #[arg(
        long, value_name = "N", default_value_t = 1000,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub(crate) limit: u32,

    /// Go on where an earlier answer left off
    #[arg(long, value_name = "CURSOR")]
    pub(crate) cursor: Option<Cursor>,
}

#[derive(Debug, Args)]
pub(crate) struct GroupArgs {
    /// The shard, by default the first of this kind
    #[arg(long, value_name = "ID")]
    pub(crate) shard: Option<u16>,

    /// Let this core get packets from now on, while others go on
    #[arg(long, value_name = "CORE", conflicts_with = "leave")]
    pub(crate) join: Option<usize>,

    /// Let this core get no more packets
    #[arg(long, value_name = "CORE")]
    pub(crate) leave: Option<usize>,

    /// So many blocked sources, heavy flows, buckets, knockers or connections at most
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u32>,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("change").required(true))]
pub(crate) struct BfdArgs {
    /// Hold them down (AdminDown), until they are released or kronod is started anew
    #[arg(long, group = "change")]
    pub(crate) hold: bool,

    /// Let them come up
    #[arg(long, group = "change")]
    pub(crate) release: bool,

    /// Only those of this shard
    #[arg(long, value_name = "ID")]
    pub(crate) shard: Option<u16>,

    /// Only those with this neighbour
    #[arg(long, value_name = "ADDR")]
    pub(crate) neighbour: Option<Ipv4Addr>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ShardOrder {
    /// Have the other server serve: wait until it has caught up, both serve while routes converge,
    /// then this one follows. No packet and no session is lost
    Drain {
        /// The shard
        #[arg(value_name = "ID")]
        shard: u16,
        /// Do not wait until that is done
        #[arg(long)]
        no_wait: bool,
    },
    /// The same, if the other server is the one that is named
    Move {
        /// The shard
        #[arg(value_name = "ID")]
        shard: u16,
        /// The node that is to serve
        #[arg(long, value_name = "NODE")]
        to: u32,
        /// Do not wait until that is done
        #[arg(long)]
        no_wait: bool,
    },
    /// Take an order to drain back, as long as the other server does not serve
    Keep {
        /// The shard
        #[arg(value_name = "ID")]
        shard: u16,
    },
    /// Say that the other server does not run, and will have started anew when it does: this one
    /// serves whatever it knows, and after the hold time all ports are its own. Only say so of a
    /// server that is off: else two subscribers may get the same public port
    Fence {
        /// The shard
        #[arg(value_name = "ID")]
        shard: u16,
    },
}

/// A public endpoint, of one protocol or of any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) outside: SocketAddrV4,
    pub(crate) protocol: Option<Protocol>,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (endpoint, protocol) = match text.split_once('/') {
            Some((endpoint, protocol)) => (endpoint, Some(protocol.parse()?)),
            None => (text, None),
        };
        let outside = endpoint.parse().map_err(|_| "expected ADDR:PORT[/PROTO]")?;
        Ok(Target { outside, protocol })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.outside)?;
        self.protocol.map_or(Ok(()), |protocol| write!(f, "/{protocol}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound_and_the_help_fits_a_terminal() {
        Cli::command().debug_assert();
        let help = Cli::command().term_width(100).render_long_help().to_string();
        assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
        assert!(help.contains("EXIT STATUS"));
    }

    #[test]
    fn targets_are_read_as_they_are_written() {
        for text in ["198.51.100.1:4000", "198.51.100.1:0/icmp", "198.51.100.1:65535/tcp"] {
            assert_eq!(text.parse::<Target>().map(|target| target.to_string()), Ok(text.into()));
        }
        for text in ["", "198.51.100.1", "198.51.100.1:70000", "198.51.100.1:1/sctp", "a:1/tcp"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
