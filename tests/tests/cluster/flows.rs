//! What subscribers and servers do: flows, and what each of their packets must come to.

use std::net::Ipv4Addr;

use krono_core::packet::{Endpoint, FlowMeta, Kind, PacketMeta, Protocol, TcpFlags, TcpMeta};
use rand::{Rng, RngExt};

/// Where a TCP flow stands, or how far a UDP one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The subscriber has begun, and has had no answer.
    Opening,
    /// Both have sent.
    Open,
    /// It says no more, and its session may end.
    Over,
}

/// A subscriber's flow with a server.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    pub(crate) shard: usize,
    pub(crate) protocol: Protocol,
    pub(crate) inside: Endpoint,
    pub(crate) remote: Endpoint,
    pub(crate) stage: Stage,
    /// The public endpoint that the server knows; which place last passed a packet of it on, and
    /// since when.
    pub(crate) public: Option<Endpoint>,
    pub(crate) node: usize,
    pub(crate) opened_at: u64,
    /// Up to when the other knew all, as the place said before it went.
    pub(crate) told: Option<u64>,
    /// When a packet of the subscriber's was last passed on, by place.
    pub(crate) passed_at: [u64; 2],
    /// When it sends next.
    pub(crate) due: u64,
}

impl Flow {
    /// One of few subscribers, to one of few servers; UDP endpoints come again, those of TCP do
    /// not, since a SYN in a session of before would not prolong it.
    pub(crate) fn random(shard: usize, number: u16, now: u64, random: &mut impl Rng) -> Flow {
        let subscriber = 0x6440_0000 + (shard as u32) * 256 + random.random_range(1..6);
        let server = 0xcb00_7100 + random.random_range(1..4);
        let is_tcp = random.random_ratio(1, 2);
        let port = if is_tcp { 6000 + number } else { 5000 + random.random_range(0..6) };
        Flow {
            shard,
            protocol: if is_tcp { Protocol::Tcp } else { Protocol::Udp },
            inside: Endpoint::new(Ipv4Addr::from(subscriber), port),
            remote: Endpoint::new(Ipv4Addr::from(server), 443 + random.random_range(0..2)),
            stage: Stage::Opening,
            public: None,
            node: 0,
            opened_at: now,
            told: None,
            passed_at: [0; 2],
            due: now,
        }
    }

    pub(crate) fn is_between(&self, other: &Flow) -> bool {
        (self.protocol, self.inside, self.remote) == (other.protocol, other.inside, other.remote)
    }

    /// The subscriber's next packet.
    pub(crate) fn request(&self, random: &mut impl Rng) -> PacketMeta {
        let flags = match self.stage {
            Stage::Opening => TcpFlags::SYN,
            Stage::Open => TcpFlags::ACK,
            Stage::Over => [TcpFlags::RST, TcpFlags(0x11)][random.random_range(0..2)],
        };
        let ack = if self.stage == Stage::Opening { 0 } else { 9001 };
        packet(self.protocol, self.inside, self.remote, flags, 1001, ack)
    }

    /// The server's answer to that, to the public endpoint that it knows.
    pub(crate) fn answer(&self, public: Endpoint) -> PacketMeta {
        let flags = match self.stage {
            Stage::Opening => TcpFlags::SYN.with(TcpFlags::ACK),
            Stage::Open => TcpFlags::ACK,
            Stage::Over => TcpFlags(0x11),
        };
        let seq = if self.stage == Stage::Opening { 9000 } else { 9001 };
        packet(self.protocol, self.remote, public, flags, seq, 1002)
    }
}

fn packet(
    protocol: Protocol,
    src: Endpoint,
    dst: Endpoint,
    flags: TcpFlags,
    seq: u32,
    ack: u32,
) -> PacketMeta {
    let is_tcp = protocol == Protocol::Tcp;
    let segment =
        TcpMeta { seq, ack, window: 1000, payload_len: 0, flags, window_scale: TcpMeta::NO_SCALE };
    let flow = FlowMeta {
        tcp: if is_tcp { segment } else { TcpMeta::default() },
        src,
        dst,
        kind: if is_tcp { Kind::Tcp } else { Kind::Udp },
        protocol,
    };
    PacketMeta { flow, from: src.addr, to: dst.addr, ttl: 64, ..PacketMeta::default() }
}
