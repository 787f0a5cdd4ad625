//! A translator as simple as can be: two hash maps, checksums summed anew.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use krono_core::checksum::{self, Sum};
use krono_core::packet::{Endpoint, Side};

use crate::share::LinkHeader;

/// Endpoint-independent mapping and filtering.
pub(super) struct Nat {
    links: [LinkHeader; 2],
    public: HashMap<(u8, Endpoint, Endpoint), Endpoint>,
    inside: HashMap<(u8, Endpoint), Endpoint>,
    /// What is put in place of an endpoint that it chose for an inside one.
    pub(super) alias: Box<dyn FnMut(Endpoint, Endpoint) -> Endpoint>,
    /// Mappings are of one destination each (RFC 4787, REQ-1 forbids that).
    pub(super) by_destination: bool,
    chosen: u32,
}

impl Nat {
    pub(super) fn new(links: &[LinkHeader; 2]) -> Nat {
        Nat {
            links: *links,
            public: HashMap::new(),
            inside: HashMap::new(),
            alias: Box::new(|_, public| public),
            by_destination: false,
            chosen: 0,
        }
    }

    /// The MAC address of the tester on a side.
    pub(super) fn own(&self, side: Side) -> [u8; 6] {
        self.links[side as usize].source.0
    }

    /// What becomes of a frame that came in by `side`, and where it comes out.
    pub(super) fn translate(&mut self, side: Side, frame: Vec<u8>) -> Option<(Side, Vec<u8>)> {
        let mut packet = Packet(frame);
        let protocol = packet.protocol();
        let out = side.opposite();
        match side {
            Side::Inside => {
                let to = packet.endpoint(End::To);
                let to = if self.by_destination { to } else { Endpoint::default() };
                let public = self.map(protocol, packet.endpoint(End::From), to);
                packet.set_endpoint(End::From, public);
            }
            Side::Outside => {
                let inside = *self.inside.get(&(protocol, packet.endpoint(End::To)))?;
                packet.set_endpoint(End::To, inside);
            }
        }
        packet.sum();
        let link = &self.links[out as usize];
        packet.0[..6].copy_from_slice(&link.source.0);
        packet.0[6..12].copy_from_slice(&link.destination.0);
        Some((out, packet.0))
    }

    fn map(&mut self, protocol: u8, inside: Endpoint, to: Endpoint) -> Endpoint {
        let known = self.public.get(&(protocol, inside, to)).copied();
        let public = known.unwrap_or_else(|| {
            self.chosen += 1;
            let addr = Ipv4Addr::from(0xcb00_7100 + self.chosen / 60_000);
            (self.alias)(inside, Endpoint::new(addr, 1024 + (self.chosen % 60_000) as u16))
        });
        self.public.insert((protocol, inside, to), public);
        self.inside.insert((protocol, public), inside);
        public
    }

    /// What an inside endpoint was mapped to.
    pub(super) fn public_of(&self, protocol: u8, inside: Endpoint) -> Endpoint {
        self.public[&(protocol, inside, Endpoint::default())]
    }

    /// Forgets all mappings; new ones get other ports.
    pub(super) fn forget(&mut self) {
        self.public.clear();
    }
}

/// An untagged frame with an IPv4 header without options.
pub(super) struct Packet(pub Vec<u8>);

#[derive(Clone, Copy, PartialEq)]
pub(super) enum End {
    From,
    To,
}

impl Packet {
    pub(super) fn protocol(&self) -> u8 {
        self.0[23]
    }

    /// Where a port lies; of echo the identifier is that of the end that asks.
    fn port_at(&self, end: End) -> Option<usize> {
        match (self.protocol(), end) {
            (1, End::From) => (self.0[34] == 8).then_some(38),
            (1, End::To) => (self.0[34] == 0).then_some(38),
            (_, End::From) => Some(34),
            (_, End::To) => Some(36),
        }
    }

    pub(super) fn endpoint(&self, end: End) -> Endpoint {
        let at = if end == End::From { 26 } else { 30 };
        let addr: [u8; 4] = self.0[at..at + 4].try_into().unwrap();
        let port =
            self.port_at(end).map_or(0, |at| u16::from_be_bytes([self.0[at], self.0[at + 1]]));
        Endpoint::new(addr.into(), port)
    }

    pub(super) fn set_endpoint(&mut self, end: End, to: Endpoint) {
        let at = if end == End::From { 26 } else { 30 };
        self.0[at..at + 4].copy_from_slice(&to.addr.octets());
        if let Some(at) = self.port_at(end) {
            self.0[at..at + 2].copy_from_slice(&to.port.to_be_bytes());
        }
    }

    /// Sums everything anew.
    pub(super) fn sum(&mut self) {
        self.0[24..26].fill(0);
        let sum = Sum::default().add_bytes(&self.0[14..34]).checksum();
        self.0[24..26].copy_from_slice(&sum.to_be_bytes());
        let end = 14 + usize::from(u16::from_be_bytes([self.0[16], self.0[17]]));
        let (at, pseudo) = match self.protocol() {
            17 => (40, true),
            6 => (50, true),
            _ => (36, false),
        };
        self.0[at..at + 2].fill(0);
        let mut sum = Sum::default().add_bytes(&self.0[34..end]);
        if pseudo {
            sum = sum.add_bytes(&self.0[26..34]);
            sum = sum.add_u16(self.protocol().into()).add_u16((end - 34) as u16);
        }
        let sum = sum.checksum().to_be_bytes();
        self.0[at..at + 2].copy_from_slice(&if at == 40 { checksum::nonzero(sum) } else { sum });
    }
}
