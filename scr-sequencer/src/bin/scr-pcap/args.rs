//! The command line.

use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use krono_core::packet::{Mac, Side};
use scr_sequencer::sequencer::CORES_MAX;
use scr_sequencer::wire::{Format, Variant};

const ABOUT: &str = "\
Writes captures of packets that a sequencer has numbered, from ordinary ones, and shows what such
packets carry.

State-Compute Replication sprays the packets of one flow over N cores. In front of each packet is the
history: the records of the N - 1 packets before it, which the other cores got. With a capture from
scr-pcap, a device that replays captures takes the place of the NIC or the switch that would put it
there.";

const AFTER_HELP: &str = "\
EXAMPLES:
    scr-pcap sequence --program ddos --cores 4 flood.pcap sequenced.pcap
        One file for four cores. A NIC tells them apart by the source address
        10:10:10:10:10:<core>.

    scr-pcap sequence --program conntrack --cores 2 --per-core web.pcap web-scr.pcap
        web-scr-0.pcap and web-scr-1.pcap, one for each queue.

    scr-pcap sequence --program knock --cores 3 --lose 0.01 --seed 7 in.pcap out.pcap
        Leaves out every hundredth packet, always the same ones: they were
        lost between the sequencer and the core.

    scr-pcap show --program ddos --cores 4 sequenced.pcap --limit 10
        What the first ten packets carry. Program, cores, variant, numbers
        and moments must be those that the capture was written with.

LAYOUT:
    ring     Ethernet 14 | number 4 | moment 8 | N - 1 records, as a ring
             holds them | place of the oldest 1 | the frame
    shift    Ethernet 14 | number 4 | moment 8 | N - 1 records, oldest first
             | the frame
    Number and moment are little-endian, each if it is asked for. A record has
    4 bytes for ddos, 18 for heavy and bucket, 8 for knock, 30 for conntrack.

EXIT STATUS:
    0    done
    1    a file cannot be read or written, or is no capture of such packets
    2    the command line is wrong";

/// Puts numbers and histories into captures, and shows them
#[derive(Debug, Parser)]
#[command(name = "scr-pcap", version, about = ABOUT, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    /// What to do
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a sequenced capture from an ordinary one
    Sequence(SequenceArgs),
    /// Print what the packets of a sequenced capture carry
    Show(ShowArgs),
}

impl Command {
    pub(crate) fn format(&self) -> &FormatArgs {
        match self {
            Command::Sequence(args) => &args.format,
            Command::Show(args) => &args.format,
        }
    }

    /// What is in front of each frame.
    pub(crate) fn wire_format(&self) -> Format {
        let args = self.format();
        let padding = match self {
            Command::Sequence(args) => args.pad,
            Command::Show(_) => None,
        };
        let knows_time = matches!(args.program, Program::Bucket | Program::Conntrack);
        Format {
            variant: match args.variant {
                Order::Ring => Variant::Ring,
                Order::Shift => Variant::Shift,
            },
            cores: args.cores as usize,
            sequence: !args.no_sequence,
            moment: args.moment || knows_time && !args.no_moment,
            padding,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct FormatArgs {
    /// Whose records the packets carry
    #[arg(long)]
    pub(crate) program: Program,

    /// Over how many cores packets are sprayed
    #[arg(
        long, value_name = "N",
        value_parser = RangedU64ValueParser::<u64>::new().range(1..=CORES_MAX as u64)
    )]
    pub(crate) cores: u64,

    /// The order of records
    #[arg(long, value_name = "ORDER", default_value = "shift")]
    pub(crate) variant: Order,

    /// With the packet's number: the default
    #[arg(long, overrides_with = "no_sequence")]
    pub(crate) sequence: bool,

    /// Without the packet's number: cores count, and cannot notice what was lost
    #[arg(long, overrides_with = "sequence")]
    pub(crate) no_sequence: bool,

    /// With the moment of the packet: the default for bucket and conntrack
    #[arg(long, overrides_with = "no_moment")]
    pub(crate) moment: bool,

    /// Without it: what bucket and conntrack then do is not what they should
    #[arg(long, overrides_with = "moment")]
    pub(crate) no_moment: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SequenceArgs {
    #[command(flatten)]
    pub(crate) format: FormatArgs,

    /// Write a file for each core: OUTPUT with the core's number before its extension
    #[arg(long)]
    pub(crate) per_core: bool,

    /// Pad frames to so many bytes, with what is in front of them
    #[arg(long, value_name = "BYTES")]
    pub(crate) pad: Option<u16>,

    /// The address that is 10:10:10:10:10:<core>, for the NIC to steer by
    #[arg(long, value_name = "ADDRESS", default_value = "source")]
    pub(crate) steer: Steer,

    /// The other address
    #[arg(long, value_name = "MAC", default_value = "02:00:00:00:00:02", value_parser = mac)]
    pub(crate) mac: Mac,

    /// The side where packets arrive: ddos and knock look at those from outside
    #[arg(long, default_value = "outside", value_parser = side)]
    pub(crate) side: Side,

    /// Leave out this share of the packets, 0 to 1, behind their numbering; never one of the first
    /// and the last 1024
    #[arg(
        long, value_name = "SHARE", default_value = "0", value_parser = share,
        conflicts_with = "no_sequence"
    )]
    pub(crate) lose: f64,

    /// Which packets those are: the same with the same number
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub(crate) seed: u64,

    /// An ordinary capture: pcap with Ethernet
    pub(crate) input: PathBuf,

    /// The sequenced one, which is overwritten
    pub(crate) output: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    pub(crate) format: FormatArgs,

    /// Stop after so many packets
    #[arg(long, value_name = "PACKETS")]
    pub(crate) limit: Option<u64>,

    /// A line for each packet, without records
    #[arg(long)]
    pub(crate) brief: bool,

    /// Sequenced captures
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Program {
    /// Blocks sources of floods
    Ddos,
    /// Counts bytes of flows
    Heavy,
    /// Limits the rates of flows
    Bucket,
    /// Opens to those that knock at the right ports
    Knock,
    /// Tracks TCP connections
    Conntrack,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Order {
    /// As hardware has them
    Ring,
    /// Oldest first
    Shift,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Steer {
    /// The source address
    Source,
    /// The destination address
    Destination,
}

fn mac(text: &str) -> Result<Mac, &'static str> {
    text.parse().map_err(|()| "expected six bytes in hexadecimal, as 02:00:00:00:00:02")
}

fn side(text: &str) -> Result<Side, &'static str> {
    let named = Side::BOTH.into_iter().find(|side| side.name() == text);
    named.ok_or("expected inside or outside")
}

fn share(text: &str) -> Result<f64, &'static str> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or("expected a number from 0 to 1")
}
