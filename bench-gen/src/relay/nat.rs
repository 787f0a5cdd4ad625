//! A translator as simple as can be: hash maps, and checksums that are summed anew.
//!
//! It is here to be tested against, so it shares no code with krono's.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use krono_core::checksum::{Sum, nonzero};
use krono_core::packet::{Endpoint, Side};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const IP: usize = 14;
const L4: usize = 34;

/// The first port that is given.
const PORT_MIN: u32 = 1024;
const PORTS: u32 = 64_512;

/// How an endpoint is translated wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mistake {
    /// An answer goes to an endpoint of another subscriber.
    OtherSubscriber,
    /// A packet gets another public endpoint than those before.
    SecondEndpoint,
    /// A new mapping gets the public endpoint of another subscriber.
    SharedEndpoint,
}

/// Endpoint-independent mapping and filtering (RFC 4787), without timeouts.
#[derive(Debug)]
pub struct Nat {
    /// The first public address; more follow as ports run out.
    pool: Ipv4Addr,
    chosen: u32,
    public: HashMap<(u8, Endpoint), Endpoint>,
    inside: HashMap<(u8, Endpoint), Endpoint>,
    /// By protocol: the inside endpoints of the newest mappings of two subscribers.
    newest: HashMap<u8, [Option<Endpoint>; 2]>,
}

impl Nat {
    /// A translator that has nothing translated.
    pub fn new(pool: Ipv4Addr) -> Nat {
        let (public, inside) = (HashMap::new(), HashMap::new());
        Nat { pool, chosen: 0, public, inside, newest: HashMap::new() }
    }

    /// Whether the frame, which came in by `side`, would make a new mapping.
    pub(super) fn is_new(&self, side: Side, frame: &[u8]) -> bool {
        let Some(packet) = Packet::of(frame) else { return false };
        side == Side::Inside && !self.public.contains_key(&(packet.protocol, packet.from))
    }

    /// Translates a frame; false if there is no mapping for it, or it is nothing that can be
    /// translated.
    pub(super) fn translate(
        &mut self,
        side: Side,
        frame: &mut [u8],
        mistake: Option<Mistake>,
    ) -> bool {
        let Some(packet) = Packet::of(frame) else { return false };
        let protocol = packet.protocol;
        match side {
            Side::Inside => {
                let public = match mistake {
                    Some(Mistake::SecondEndpoint) => self.second(protocol, packet.from),
                    Some(Mistake::SharedEndpoint) => self.shared(protocol, packet.from),
                    _ => self.mapping(protocol, packet.from),
                };
                packet.set_from(frame, public);
            }
            Side::Outside => {
                let Some(inside) = self.inside.get(&(protocol, packet.to)) else { return false };
                let wrong = mistake.and_then(|_| self.other(protocol, *inside));
                packet.set_to(frame, wrong.unwrap_or(*inside));
            }
        }
        sum(frame);
        true
    }

    /// Whether there is somebody else to take for the subscriber.
    pub(super) fn has_other(&self, side: Side, frame: &[u8]) -> bool {
        let Some(packet) = Packet::of(frame) else { return false };
        let inside = match side {
            Side::Inside => Some(packet.from),
            Side::Outside => self.inside.get(&(packet.protocol, packet.to)).copied(),
        };
        inside.is_some_and(|inside| self.other(packet.protocol, inside).is_some())
    }

    fn mapping(&mut self, protocol: u8, inside: Endpoint) -> Endpoint {
        if let Some(public) = self.public.get(&(protocol, inside)) {
            return *public;
        }
        let public = self.second(protocol, inside);
        self.enter(protocol, inside, public);
        public
    }

    fn enter(&mut self, protocol: u8, inside: Endpoint, public: Endpoint) {
        self.public.insert((protocol, inside), public);
        let newest = self.newest.entry(protocol).or_default();
        if !newest.iter().flatten().any(|newest| newest.addr == inside.addr) {
            *newest = [Some(inside), newest[0]];
        }
    }

    /// One more public endpoint for an inside one.
    fn second(&mut self, protocol: u8, inside: Endpoint) -> Endpoint {
        let (address, port) = (self.chosen / PORTS, self.chosen % PORTS);
        self.chosen += 1;
        let address = Ipv4Addr::from_bits(self.pool.to_bits() + address);
        let public = Endpoint::new(address, (PORT_MIN + port) as u16);
        self.inside.insert((protocol, public), inside);
        public
    }

    /// That of another subscriber.
    fn shared(&mut self, protocol: u8, inside: Endpoint) -> Endpoint {
        let Some(other) = self.other(protocol, inside) else {
            return self.mapping(protocol, inside);
        };
        let public = self.public[&(protocol, other)];
        self.enter(protocol, inside, public);
        public
    }

    /// An endpoint of another subscriber, of the same protocol.
    fn other(&self, protocol: u8, inside: Endpoint) -> Option<Endpoint> {
        let newest = self.newest.get(&protocol)?;
        newest.iter().flatten().copied().find(|endpoint| endpoint.addr != inside.addr)
    }
}

/// What a frame says that is translated.
struct Packet {
    protocol: u8,
    from: Endpoint,
    to: Endpoint,
    /// Where the ports lie, if they do.
    from_port: Option<usize>,
    to_port: Option<usize>,
}

impl Packet {
    /// Untagged IPv4 without options, of a known protocol. Of an echo the identifier stands for
    /// the port of who asks.
    fn of(frame: &[u8]) -> Option<Packet> {
        let is_ipv4 = frame.len() >= L4 + 8 && frame[12..15] == [0x08, 0x00, 0x45];
        let protocol = if is_ipv4 { frame[IP + 9] } else { 0 };
        let (from_port, to_port) = match (protocol, frame.get(L4)) {
            (TCP | UDP, _) => (Some(L4), Some(L4 + 2)),
            (ICMP, Some(8)) => (Some(L4 + 4), None),
            (ICMP, Some(0)) => (None, Some(L4 + 4)),
            _ => return None,
        };
        let endpoint = |at: usize, port: Option<usize>| {
            let address = Ipv4Addr::new(frame[at], frame[at + 1], frame[at + 2], frame[at + 3]);
            let port = port.map_or(0, |at| u16::from_be_bytes([frame[at], frame[at + 1]]));
            Endpoint::new(address, port)
        };
        let (from, to) = (endpoint(IP + 12, from_port), endpoint(IP + 16, to_port));
        Some(Packet { protocol, from, to, from_port, to_port })
    }

    fn set_from(&self, frame: &mut [u8], from: Endpoint) {
        put(frame, IP + 12, self.from_port, from);
    }

    fn set_to(&self, frame: &mut [u8], to: Endpoint) {
        put(frame, IP + 16, self.to_port, to);
    }
}

fn put(frame: &mut [u8], at: usize, port: Option<usize>, endpoint: Endpoint) {
    frame[at..at + 4].copy_from_slice(&endpoint.addr.octets());
    if let Some(at) = port {
        frame[at..at + 2].copy_from_slice(&endpoint.port.to_be_bytes());
    }
}

/// Where the transport checksum lies; `None` if the frame is none that is translated.
pub(super) fn checksum_at(frame: &[u8]) -> Option<usize> {
    Packet::of(frame).map(|packet| match packet.protocol {
        TCP => L4 + 16,
        UDP => L4 + 6,
        _ => L4 + 2,
    })
}

/// Where the IP packet ends.
pub(super) fn end(frame: &[u8]) -> usize {
    let len = usize::from(u16::from_be_bytes([frame[IP + 2], frame[IP + 3]]));
    (IP + len).min(frame.len())
}

/// Sums both headers' checksums anew.
pub(super) fn sum(frame: &mut [u8]) {
    let Some(at) = checksum_at(frame) else { return };
    let (end, protocol) = (end(frame), frame[IP + 9]);
    frame[IP + 10..IP + 12].fill(0);
    let ip = Sum::default().add_bytes(&frame[IP..L4]).checksum();
    frame[IP + 10..IP + 12].copy_from_slice(&ip.to_be_bytes());
    frame[at..at + 2].fill(0);
    let mut sum = Sum::default().add_bytes(&frame[L4..end]);
    if protocol != ICMP {
        sum = sum.add_bytes(&frame[IP + 12..L4]);
        sum = sum.add_u16(protocol.into()).add_u16((end - L4) as u16);
    }
    let sum = sum.checksum().to_be_bytes();
    frame[at..at + 2].copy_from_slice(&if protocol == UDP { nonzero(sum) } else { sum });
}
