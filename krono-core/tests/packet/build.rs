//! Packets by their parts. Lengths and checksums are etherparse's.

use std::net::Ipv4Addr;

use etherparse::checksum::Sum16BitWords;
use etherparse::{Ipv4Header, TcpHeader, UdpHeader};
use krono_core::packet::Endpoint;
use proptest::collection::vec;
use proptest::prelude::*;

pub(crate) const SHARD_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(crate) const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// An Ethernet frame with an IPv4 packet.
#[derive(Clone, Debug)]
pub(crate) struct Framed {
    pub vlan: Option<u16>,
    pub packet: Packet,
    pub padding: usize,
}

/// An IPv4 packet.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub tos: u8,
    pub id: u16,
    pub dont_fragment: bool,
    pub ttl: u8,
    pub options: Vec<u8>,
    pub body: Body,
}

#[derive(Clone, Debug)]
pub(crate) enum Body {
    Udp {
        ports: (u16, u16),
        checksum: bool,
        payload: Vec<u8>,
    },
    Tcp {
        ports: (u16, u16),
        flags: u8,
        options: Vec<u8>,
        payload: Vec<u8>,
    },
    /// An echo or timestamp; `rest` is the sequence number and what follows.
    Query {
        icmp_type: u8,
        identifier: u16,
        rest: Vec<u8>,
    },
    Error {
        icmp_type: u8,
        code: u8,
        word: [u8; 4],
        quoted: Box<Packet>,
        cut: usize,
        extension: Vec<u8>,
    },
}

impl Framed {
    pub(crate) fn new(packet: Packet) -> Self {
        Framed { vlan: None, packet, padding: 0 }
    }

    pub(crate) fn l3(&self) -> usize {
        if self.vlan.is_some() { 18 } else { 14 }
    }

    pub(crate) fn l4(&self) -> usize {
        self.l3() + self.packet.header_len()
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = [SHARD_MAC, PEER_MAC].concat();
        if let Some(vlan) = self.vlan {
            bytes.extend([0x81, 0x00]);
            bytes.extend(vlan.to_be_bytes());
        }
        bytes.extend([0x08, 0x00]);
        bytes.extend(self.packet.bytes());
        bytes.extend(vec![0xa5; self.padding]);
        bytes
    }
}

impl Packet {
    pub(crate) fn new(source: [u8; 4], destination: [u8; 4], body: Body) -> Self {
        Packet {
            source: source.into(),
            destination: destination.into(),
            tos: 0,
            id: 0x1234,
            dont_fragment: false,
            ttl: 64,
            options: vec![],
            body,
        }
    }

    pub(crate) fn udp(source: ([u8; 4], u16), destination: ([u8; 4], u16), payload: &[u8]) -> Self {
        let ports = (source.1, destination.1);
        let body = Body::Udp { ports, checksum: true, payload: payload.to_vec() };
        Packet::new(source.0, destination.0, body)
    }

    pub(crate) fn tcp(source: ([u8; 4], u16), destination: ([u8; 4], u16), flags: u8) -> Self {
        let ports = (source.1, destination.1);
        let body = Body::Tcp { ports, flags, options: vec![], payload: vec![1, 2, 3] };
        Packet::new(source.0, destination.0, body)
    }

    pub(crate) fn echo(
        icmp_type: u8,
        source: [u8; 4],
        destination: [u8; 4],
        identifier: u16,
    ) -> Self {
        let rest = vec![0, 1, b'a', b'b', b'c'];
        Packet::new(source, destination, Body::Query { icmp_type, identifier, rest })
    }

    /// Port unreachable about `quoted`, cut behind 8 bytes of transport.
    pub(crate) fn error(source: [u8; 4], destination: [u8; 4], quoted: Packet) -> Self {
        let cut = quoted.header_len() + 8;
        let body = Body::Error {
            icmp_type: 3,
            code: 3,
            word: [0; 4],
            quoted: Box::new(quoted),
            cut,
            extension: vec![],
        };
        Packet::new(source, destination, body)
    }

    pub(crate) fn header_len(&self) -> usize {
        20 + self.options.len()
    }

    /// The packet with its source and its destination replaced, as far as it has room for them.
    pub(crate) fn translated(
        &self,
        source: Option<Endpoint>,
        destination: Option<Endpoint>,
    ) -> Packet {
        let mut packet = self.clone();
        packet.source = source.map_or(self.source, |end| end.addr);
        packet.destination = destination.map_or(self.destination, |end| end.addr);
        match &mut packet.body {
            Body::Udp { ports, .. } | Body::Tcp { ports, .. } => {
                ports.0 = source.map_or(ports.0, |end| end.port);
                ports.1 = destination.map_or(ports.1, |end| end.port);
            }
            Body::Query { icmp_type, identifier, .. } => {
                let asking = if is_request(*icmp_type) { source } else { destination };
                *identifier = asking.map_or(*identifier, |end| end.port);
            }
            Body::Error { quoted, .. } => **quoted = quoted.translated(destination, source),
        }
        packet
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let body = self.body_bytes();
        let header_len = self.header_len();
        let mut bytes = vec![0x40 | (header_len / 4) as u8, self.tos];
        bytes.extend(((header_len + body.len()) as u16).to_be_bytes());
        bytes.extend(self.id.to_be_bytes());
        bytes.extend([u8::from(self.dont_fragment) << 6, 0, self.ttl, self.protocol(), 0, 0]);
        bytes.extend(self.source.octets());
        bytes.extend(self.destination.octets());
        bytes.extend(&self.options);
        let (header, _) = Ipv4Header::from_slice(&[&bytes[..], &body].concat()).unwrap();
        bytes[10..12].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
        bytes.extend(body);
        bytes
    }

    fn protocol(&self) -> u8 {
        match self.body {
            Body::Udp { .. } => 17,
            Body::Tcp { .. } => 6,
            Body::Query { .. } | Body::Error { .. } => 1,
        }
    }

    fn body_bytes(&self) -> Vec<u8> {
        let (from, to) = (self.source.octets(), self.destination.octets());
        match &self.body {
            Body::Udp { ports, checksum, payload } => {
                let length = (8 + payload.len()) as u16;
                let mut header = UdpHeader {
                    source_port: ports.0,
                    destination_port: ports.1,
                    length,
                    checksum: 0,
                };
                if *checksum {
                    header.checksum = header.calc_checksum_ipv4_raw(from, to, payload).unwrap();
                }
                [&header.to_bytes()[..], payload].concat()
            }
            Body::Tcp { ports, flags, options, payload } => {
                let mut header = TcpHeader::new(ports.0, ports.1, 0x0102_0304, 0xfffe);
                header.acknowledgment_number = 0x0506_0708;
                header.set_options_raw(options).unwrap();
                let mut bytes = header.to_bytes().to_vec();
                bytes[13] = *flags;
                let (header, _) = TcpHeader::from_slice(&bytes).unwrap();
                let checksum = header.calc_checksum_ipv4_raw(from, to, payload).unwrap();
                bytes[16..18].copy_from_slice(&checksum.to_be_bytes());
                bytes.extend(payload);
                bytes
            }
            Body::Query { icmp_type, identifier, rest } => {
                let identifier = identifier.to_be_bytes();
                icmp([&[*icmp_type, 0, 0, 0][..], &identifier, rest].concat())
            }
            Body::Error { icmp_type, code, word, quoted, cut, extension } => {
                let quoted = quoted.bytes();
                let quote = &quoted[..quoted.len().min(*cut)];
                icmp([&[*icmp_type, *code, 0, 0][..], word, quote, extension].concat())
            }
        }
    }

    /// Where this packet, at `l3`, has the checksum of an ICMP query of its own or quoted.
    pub(crate) fn query_checksum_at(&self, l3: usize) -> Option<usize> {
        let l4 = l3 + self.header_len();
        match &self.body {
            Body::Query { .. } => Some(l4 + 2),
            Body::Error { quoted, .. } => quoted.query_checksum_at(l4 + 8),
            _ => None,
        }
    }

    /// Chooses two bytes that nothing depends on so that the transport checksum comes out as
    /// `wanted`.
    pub(crate) fn steer(&mut self, wanted: u16) {
        self.free_word().copy_from_slice(&[0, 0]);
        let bytes = self.body_bytes();
        let at = self.checksum_offset();
        let without = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let sum = u32::from(!wanted) + u32::from(without);
        let word = (sum & 0xffff) + (sum >> 16);
        self.free_word().copy_from_slice(&(word as u16).to_be_bytes());
    }

    /// Two bytes of payload at an even offset.
    pub(crate) fn free_word(&mut self) -> &mut [u8] {
        match &mut self.body {
            Body::Udp { payload: word, .. }
            | Body::Tcp { payload: word, .. }
            | Body::Query { rest: word, .. } => {
                word.resize(word.len().max(2), 0);
                &mut word[..2]
            }
            Body::Error { word, .. } => &mut word[2..],
        }
    }

    /// Where in the transport header its checksum is.
    pub(crate) fn checksum_offset(&self) -> usize {
        match self.body {
            Body::Udp { .. } => 6,
            Body::Tcp { .. } => 16,
            Body::Query { .. } | Body::Error { .. } => 2,
        }
    }
}

pub(crate) fn is_request(icmp_type: u8) -> bool {
    matches!(icmp_type, 8 | 13)
}

fn icmp(mut message: Vec<u8>) -> Vec<u8> {
    let checksum = Sum16BitWords::new().add_slice(&message).ones_complement().to_be();
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    message
}

/// Any frame that krono forwards.
pub(crate) fn any_framed() -> impl Strategy<Value = Framed> {
    any_framed_of(any_packet())
}

pub(crate) fn any_framed_of(
    packet: impl Strategy<Value = Packet>,
) -> impl Strategy<Value = Framed> {
    let vlan = prop_oneof![3 => Just(None), 1 => (0..4096u16).prop_map(Some)];
    (vlan, packet, 0..20usize).prop_map(|(vlan, packet, padding)| Framed { vlan, packet, padding })
}

fn any_packet() -> impl Strategy<Value = Packet> {
    prop_oneof![
        2 => any_data(),
        1 => any_query(),
        2 => any_error(prop_oneof![2 => any_data(), 1 => any_query()]),
    ]
}

/// UDP or TCP.
pub(crate) fn any_data() -> impl Strategy<Value = Packet> {
    let fields = (any_port(), any_port(), any::<bool>(), any_tcp_flags());
    let body = (fields, any_tcp_options(), any_bytes(0..70));
    any_packet_of(body.prop_map(|((sport, dport, udp, flags), options, payload)| {
        let ports = (sport, dport);
        if udp {
            Body::Udp { ports, checksum: flags & 1 == 0, payload }
        } else {
            Body::Tcp { ports, flags, options, payload }
        }
    }))
}

pub(crate) fn any_query() -> impl Strategy<Value = Packet> {
    let icmp_type = prop_oneof![Just(0), Just(8), Just(13), Just(14)];
    let body = (icmp_type, any_word(), any_bytes(14..50));
    any_packet_of(body.prop_map(|(icmp_type, identifier, mut rest)| {
        if matches!(icmp_type, 0 | 8) {
            // An echo may be as short as its header.
            rest.truncate(rest.len() - 12);
        }
        Body::Query { icmp_type, identifier, rest }
    }))
}

pub(crate) fn any_error(
    quoted: impl Strategy<Value = Packet> + 'static,
) -> impl Strategy<Value = Packet> {
    let kind = (prop_oneof![Just(3u8), Just(11), Just(12)], 0..16u8, any::<[u8; 4]>());
    let extension = prop_oneof![Just(vec![]), any_bytes(1..30)];
    // At 17 bytes half of a TCP checksum is quoted, and left alone.
    let cut = prop_oneof![8..17usize, 18..100usize];
    let error = (kind, quoted, cut, extension);
    any_packet_of(error.prop_map(|((icmp_type, code, mut word), quoted, cut, mut extension)| {
        let mut cut = quoted.header_len() + cut;
        if !extension.is_empty() {
            // The quote before an extension fills at least 128 bytes, a multiple of 4, if need be
            // with zeros; their number in words stands in the header (RFC 4884, 4 and 5.1).
            cut = 128;
            let padding = 128usize.saturating_sub(quoted.bytes().len());
            extension.splice(0..0, vec![0; padding]);
            word[1] = 128 / 4;
        }
        Body::Error { icmp_type, code, word, quoted: Box::new(quoted), cut, extension }
    }))
}

/// Boxed, as the many parts of a packet would otherwise fill a test thread's stack.
fn any_packet_of(body: impl Strategy<Value = Body> + 'static) -> BoxedStrategy<Packet> {
    let fields = (any::<u8>(), any_word(), any::<bool>(), 1..=255u8);
    (any_addr(), any_addr(), fields, any_ip_options(), body)
        .prop_map(|(source, destination, (tos, id, dont_fragment, ttl), options, body)| Packet {
            source,
            destination,
            tos,
            id,
            dont_fragment,
            ttl,
            options,
            body,
        })
        .boxed()
}

/// Words and addresses sit at the corners of one's complement as often as anywhere else.
pub(crate) fn any_word() -> impl Strategy<Value = u16> {
    prop_oneof![Just(0), Just(1), Just(0xfffe), Just(0xffff), any::<u16>()]
}

pub(crate) fn any_port() -> impl Strategy<Value = u16> {
    any_word().prop_map(|port| port.max(1))
}

pub(crate) fn any_addr() -> impl Strategy<Value = Ipv4Addr> {
    (any_word(), any_word())
        .prop_map(|(high, low)| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
}

pub(crate) fn any_endpoint() -> impl Strategy<Value = Endpoint> {
    (any_addr(), any_port()).prop_map(|(addr, port)| Endpoint::new(addr, port))
}

fn any_bytes(len: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![3 => vec(any::<u8>(), len.clone()), 1 => vec(Just(0), len)]
}

fn any_tcp_flags() -> impl Strategy<Value = u8> {
    let possible = |flags: u8| if flags & 2 != 0 { flags & !5 } else { flags.max(1) };
    any::<u8>().prop_map(possible)
}

fn any_tcp_options() -> impl Strategy<Value = Vec<u8>> {
    let option = prop_oneof![
        Just(vec![1]),
        Just(vec![2, 4, 5, 0xb4]),
        any::<u8>().prop_map(|shift| vec![3, 3, shift]),
        Just(vec![8, 10, 0, 1, 2, 3, 4, 5, 6, 7]),
    ];
    vec(option, 0..4).prop_map(|options| options.concat())
}

/// No-operation, record route, timestamp, router alert; padded by end-of-list.
fn any_ip_options() -> impl Strategy<Value = Vec<u8>> {
    let option = prop_oneof![
        Just(vec![1]),
        Just(vec![7, 7, 4, 0, 0, 0, 0]),
        Just(vec![68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        Just(vec![148, 4, 0, 0]),
    ];
    prop_oneof![
        2 => Just(vec![]),
        1 => vec(option, 1..4).prop_map(|options| {
            let mut options = options.concat();
            options.resize(options.len().next_multiple_of(4), 0);
            options
        }),
    ]
}
