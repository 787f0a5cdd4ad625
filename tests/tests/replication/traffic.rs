//! What arrives at the sequencer.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::LazyLock;

use krono_core::packet::{Endpoint, FlowMeta, Kind, PacketMeta, Protocol, Side, TcpFlags, TcpMeta};
use krono_core::parse::parse;
use krono_core::time::Moment;
use krono_tests::capture::file;
use rand::{Rng, RngExt};

/// A packet as the sequencer meets it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arriving {
    /// None if it has a number and cannot be parsed, as behind a sequencer that did not look.
    pub(crate) packet: Option<(PacketMeta, Side)>,
    pub(crate) moment: Moment,
    /// Whether the core that gets it finds it to be for the program: others count, but have no
    /// verdict.
    pub(crate) is_for_program: bool,
}

/// Packets, and what they are.
pub(crate) struct Traffic {
    name: &'static str,
    packets: Vec<Arriving>,
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} packets of {}", self.packets.len(), self.name)
    }
}

impl Traffic {
    pub(crate) fn packets(&self) -> &[Arriving] {
        &self.packets
    }

    /// Of any kind and length.
    pub(crate) fn any(random: &mut impl Rng) -> Traffic {
        let count = random.random_range(50..600);
        match random.random_range(0..4) {
            3 if !CAPTURED.is_empty() => Traffic::captured(count, random),
            0 => Traffic::made("one flow", count, random, |_| 0),
            1 => Traffic::made("a few flows by Zipf's law", count, random, zipf),
            _ => Traffic::made("random flows", count, random, |random| random.random_range(0..99)),
        }
    }

    /// A part of a capture, of 50 packets at least, as all traffic has.
    fn captured(count: usize, random: &mut impl Rng) -> Traffic {
        let (name, capture) = &CAPTURED[random.random_range(0..CAPTURED.len())];
        let begin = random.random_range(0..=capture.len().saturating_sub(50));
        let packets = capture.iter().skip(begin).take(count).copied().collect();
        Traffic { name, packets }
    }

    fn made<R: Rng>(
        name: &'static str,
        count: usize,
        random: &mut R,
        flow: impl Fn(&mut R) -> u32,
    ) -> Traffic {
        let mut now = random.random_range(0..1 << 40);
        let servers = if random.random() { Side::Outside } else { Side::Inside };
        let packets = (0..count).map(|_| {
            // Mostly many packets a tick, and now and then a pause.
            now += random.random_range(0..2_000_000);
            if random.random_ratio(1, 200) {
                now += random.random_range(0..30_000_000_000);
            }
            let flow = flow(random);
            let packet = (!random.random_ratio(1, 100)).then(|| packet(flow, servers, random));
            let is_for_program = packet.is_some() && !random.random_ratio(1, 50);
            Arriving { packet, moment: Moment(now), is_for_program }
        });
        Traffic { name, packets: packets.collect() }
    }
}

/// Captures of floods and scans, where `KRONO_CAPTURES` says that there are any.
static CAPTURED: LazyLock<Vec<(&'static str, Vec<Arriving>)>> = LazyLock::new(|| {
    let Ok(directory) = std::env::var("KRONO_CAPTURES") else {
        println!("KRONO_CAPTURES is not set: no captures of floods and scans among the traffic");
        return Vec::new();
    };
    let names = ["flood-syn-cicddos-part1", "flood-syn-trex", "scan-port", "scan-syn-1994-ports"];
    let read = |name: &'static str| {
        let path = Path::new(&directory).join(name).with_extension("pcap");
        let frames = file::read(&path).expect("a capture");
        (name, frames.iter().map(arriving).collect())
    };
    names.into_iter().map(read).collect()
});

/// A captured frame; what cannot be parsed has a number all the same.
fn arriving(frame: &file::Frame) -> Arriving {
    let side = |meta: &PacketMeta| if meta.from < meta.to { Side::Inside } else { Side::Outside };
    let meta = parse(&frame.bytes, frame.bytes.len() as u32).ok().map(|(meta, _)| meta);
    let packet = meta.map(|meta| (meta, side(&meta)));
    let is_for_program = packet.is_some();
    Arriving { packet, moment: Moment(frame.time_us * 1000), is_for_program }
}

/// Half of all are 0, a third of the rest 1 …
fn zipf(random: &mut impl Rng) -> u32 {
    (0..30).find(|rank| random.random_ratio(1, rank + 2)).unwrap_or(30)
}

/// A packet of a flow between a client and a server, mostly TCP, in either direction.
fn packet(flow: u32, servers: Side, random: &mut impl Rng) -> (PacketMeta, Side) {
    let client = Endpoint::new(Ipv4Addr::from(0x6440_0001 + flow % 7), 1024 + flow as u16);
    let server = Endpoint::new(Ipv4Addr::from(0xc633_6401 + flow % 3), 100 + flow as u16 % 4);
    let (side, src, dst) = match random.random_ratio(2, 3) {
        true => (servers.opposite(), client, server),
        false => (servers, server, client),
    };
    let is_tcp = random.random_ratio(4, 5);
    let flags = [0x02, 0x12, 0x10, 0x10, 0x10, 0x18, 0x11, 0x04][random.random_range(0..8)];
    let tcp = TcpMeta {
        seq: random.random_range(0..5000),
        ack: random.random_range(0..5000),
        window: random.random(),
        payload_len: random.random_range(0..100),
        flags: TcpFlags(flags),
        window_scale: TcpMeta::NO_SCALE,
    };
    let flow = FlowMeta {
        tcp: if is_tcp { tcp } else { TcpMeta::default() },
        src,
        dst,
        kind: if is_tcp { Kind::Tcp } else { Kind::Udp },
        protocol: if is_tcp { Protocol::Tcp } else { Protocol::Udp },
    };
    let ip_len = random.random_range(40..1500);
    let meta =
        PacketMeta { flow, from: src.addr, to: dst.addr, ip_len, ttl: 64, ..Default::default() };
    (meta, side)
}
