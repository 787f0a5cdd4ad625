//! What is to be sent: valid values. `profile` makes them of a file.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use krono_core::packet::{Mac, Protocol};
use krono_io::EalConfig;

/// Everything a measurement needs to know: a profile that was found valid.
#[derive(Clone, Debug)]
pub struct Profile {
    /// How DPDK is started.
    pub eal: EalConfig,
    /// Where the subscribers are.
    pub inside: PortSetup,
    /// Where the servers are.
    pub outside: PortSetup,
    /// The lcores; each has its own share of subscribers and flows, and a queue of either port.
    pub lcores: Vec<u16>,
    /// Whether an lcore that finds nothing to do gives its CPU to others.
    pub yields: bool,
    /// What is sent.
    pub load: Load,
    /// How fast, at most; by both ports together, answers not counted.
    pub rate: Rate,
    /// When a plain run ends.
    pub end: End,
    /// How often each measurement is repeated.
    pub repeats: u32,
    /// Seed of everything that is random.
    pub seed: u64,
}

/// A port, and who is there on its link.
#[derive(Clone, Debug)]
pub struct PortSetup {
    /// A vdev string or a PCI address, as for kronod.
    pub device: String,
    /// The largest IP packet on the link, bytes.
    pub mtu: u16,
    /// Our own MAC address; `None`: the device's.
    pub mac: Option<Mac>,
    /// Our own address, which answers ARP, and its network.
    pub address: IpNet,
    /// The device under test, to which all packets are sent.
    pub next_hop: IpAddr,
    /// Its MAC address; `None`: it is asked by ARP.
    pub next_hop_mac: Option<Mac>,
    /// The VLAN of an 802.1Q tag.
    pub vlan: Option<u16>,
}

/// Who talks to whom, and how. IPv6 has its place in the types; a profile with it is refused today.
#[derive(Clone, Debug)]
pub struct Load {
    /// The shares of UDP, TCP and ICMP echo in flows, by [`Protocol`] index; they need not add up
    /// to anything.
    pub protocols: [u32; Protocol::COUNT],
    /// The network that the subscribers' addresses are in.
    pub subscribers: IpNet,
    /// How many subscribers there are, from the network's first host address on.
    pub subscriber_count: u32,
    /// The network that the servers' addresses are in.
    pub servers: IpNet,
    /// Ports of subscribers; drawn pseudo-randomly (RFC 4814, 4).
    pub sports: RangeInclusive<u16>,
    /// Ports of servers; likewise.
    pub dports: RangeInclusive<u16>,
    /// Flows that are live at a time, over all lcores.
    pub flows: u32,
    /// How the packets spread over the live flows.
    pub popularity: Popularity,
    /// How flows come and go; `None`: they stay.
    pub churn: Option<Churn>,
    /// How long frames are.
    pub sizes: Sizes,
    /// How many packets the outside sends for each that arrives there, in hundredths: 100 answers
    /// each packet once, 0 none.
    pub answers_percent: u32,
    /// A capture to send instead of generated packets; what comes out is counted, not checked.
    pub replay: Option<Replay>,
}

/// Which flow the next packet belongs to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Popularity {
    /// All flows alike, one after the other.
    Uniform,
    /// By Zipf's law with this exponent.
    Zipf(f64),
    /// By the flow lengths measured on a campus link (AGH 2015; Jurkiewicz, Rzym, Borylo,
    /// *Computer Communications* 167, 2021): each flow ends after so many packets, and another
    /// takes its place.
    Agh2015,
}

/// How flows come and go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Churn {
    /// New flows per second, over all lcores; each takes the place of the oldest.
    pub arrivals_per_s: f64,
    /// How long a flow is used.
    pub lifetime: Duration,
}

/// The length of Ethernet frames, with their checksum (which the device adds): 64 is the least.
#[derive(Clone, Debug, PartialEq)]
pub enum Sizes {
    /// All alike.
    Fixed(u16),
    /// A list of (bytes, weight), drawn at random; IMIX is 7:4:1 of 64, 594 and 1518.
    Mix(Vec<(u16, u32)>),
    /// By the mean packet size of flows of the flow's length (AGH 2015).
    Agh2015,
}

/// How fast to send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// Packets a second.
    Packets(f64),
    /// Bits a second on the wire, preamble and gap included (20 bytes a frame).
    Bits(f64),
    /// As fast as the ports take them.
    Max,
}

/// When a run ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    /// After so long.
    After(Duration),
    /// After so many packets of the inside.
    Packets(u64),
    /// After so many flows were opened.
    Sessions(u64),
}

/// A capture to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Replay {
    /// A pcap or pcapng file of Ethernet frames.
    pub file: PathBuf,
    /// When its packets are sent.
    pub timing: Timing,
    /// How often it is sent from end to end.
    pub times: u32,
}

/// When the packets of a capture are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Timing {
    /// As it was captured, so many times as fast.
    Scaled(f64),
    /// At the profile's rate.
    Rate,
}
