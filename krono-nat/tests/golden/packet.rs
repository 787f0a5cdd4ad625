//! Packets as they are written in a table: what is not said has its usual value. Headers, lengths
//! and checksums are etherparse's, made anew for each packet.

use std::net::Ipv4Addr;

use etherparse::{
    ArpEthIpv4Packet, ArpOperation, ArpPacket, Icmpv4Header, Icmpv4Type, IpDscp, IpEcn, IpNumber,
    Ipv4Header, TcpHeader, UdpHeader,
};
use krono_core::packet::Mac;

use crate::common::{addr, ep};

/// An IPv4 packet: TTL 64, DSCP and ECN 0, DF clear, no options, eight bytes of payload.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    header: Ipv4Header,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    Udp { ports: (u16, u16), payload: Vec<u8>, checksum: bool },
    Tcp { header: Box<TcpHeader>, payload: Vec<u8> },
    Icmp { kind: u8, code: u8, word: [u8; 4], payload: Vec<u8> },
    Other(Vec<u8>),
}

const PAYLOAD: &[u8] = b"payload.";

/// A UDP datagram between two endpoints, `ADDRESS:PORT`.
pub(crate) fn udp(from: &str, to: &str) -> Packet {
    let (from, to) = (ep(from), ep(to));
    let body = Body::Udp { ports: (from.port, to.port), payload: PAYLOAD.to_vec(), checksum: true };
    Packet::new(from.addr, to.addr, IpNumber::UDP, body)
}

/// What a TCP segment is for: its flags, sequence and acknowledgement numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Segment {
    Syn,
    SynAck,
    Ack,
    Data,
}

/// A TCP segment between two endpoints; the one that sends SYN begins at 1000, the other at 5000.
pub(crate) fn tcp(from: &str, to: &str, segment: Segment) -> Packet {
    let (from, to) = (ep(from), ep(to));
    let mut header = TcpHeader::new(from.port, to.port, 1000, 8192);
    let mut payload = Vec::new();
    match segment {
        Segment::Syn => {
            header.syn = true;
            // MSS 1460, window scale 7.
            header.set_options_raw(&[2, 4, 5, 0xb4, 1, 3, 3, 7]).expect("they fit");
        }
        Segment::SynAck => {
            (header.syn, header.ack) = (true, true);
            (header.sequence_number, header.acknowledgment_number) = (5000, 1001);
        }
        Segment::Ack | Segment::Data => {
            header.ack = true;
            (header.sequence_number, header.acknowledgment_number) = (1001, 5001);
        }
    }
    if let Segment::Data = segment {
        header.psh = true;
        payload = PAYLOAD.to_vec();
    }
    let body = Body::Tcp { header: Box::new(header), payload };
    Packet::new(from.addr, to.addr, IpNumber::TCP, body)
}

/// An echo request with this identifier, sequence number 1.
pub(crate) fn echo_request(from: &str, identifier: u16, to: &str) -> Packet {
    icmp(from, to, 8, 0).word(echo_word(identifier))
}

/// An echo reply with this identifier, sequence number 1.
pub(crate) fn echo_reply(from: &str, to: &str, identifier: u16) -> Packet {
    icmp(from, to, 0, 0).word(echo_word(identifier))
}

fn echo_word(identifier: u16) -> [u8; 4] {
    let [high, low] = identifier.to_be_bytes();
    [high, low, 0, 1]
}

/// An ICMP message of this type and code.
pub(crate) fn icmp(from: &str, to: &str, kind: u8, code: u8) -> Packet {
    let body = Body::Icmp { kind, code, word: [0; 4], payload: PAYLOAD.to_vec() };
    Packet::new(addr(from), addr(to), IpNumber::ICMP, body)
}

/// An ICMP error that a shard makes: internetwork control (RFC 1812, 4.3.2.5), atomic.
pub(crate) fn error_of_shard(from: &str, to: &str, kind: u8, code: u8) -> Packet {
    icmp(from, to, kind, code).dscp_ecn(48, 0).identification(0).dont_fragment()
}

/// A packet of another IP protocol.
pub(crate) fn other(from: &str, to: &str, protocol: u8) -> Packet {
    Packet::new(addr(from), addr(to), IpNumber(protocol), Body::Other(PAYLOAD.to_vec()))
}

impl Packet {
    fn new(from: Ipv4Addr, to: Ipv4Addr, protocol: IpNumber, body: Body) -> Packet {
        let mut header = Ipv4Header::new(0, 64, protocol, from.octets(), to.octets())
            .expect("an empty payload fits");
        header.identification = 0x4711;
        header.dont_fragment = false;
        Packet { header, body }
    }

    pub(crate) fn ttl(mut self, ttl: u8) -> Packet {
        self.header.time_to_live = ttl;
        self
    }

    /// The differentiated services code point and the two bits of ECN.
    pub(crate) fn dscp_ecn(mut self, dscp: u8, ecn: u8) -> Packet {
        self.header.dscp = IpDscp::try_new(dscp).expect("six bits");
        self.header.ecn = IpEcn::try_new(ecn).expect("two bits");
        self
    }

    pub(crate) fn identification(mut self, identification: u16) -> Packet {
        self.header.identification = identification;
        self
    }

    pub(crate) fn dont_fragment(mut self) -> Packet {
        self.header.dont_fragment = true;
        self
    }

    /// A fragment at this offset, in units of 8 bytes.
    pub(crate) fn fragment(mut self, offset: u16, more: bool) -> Packet {
        self.header.fragment_offset = offset.try_into().expect("13 bits");
        self.header.more_fragments = more;
        self
    }

    /// IP options, a multiple of 4 bytes.
    pub(crate) fn options(mut self, options: &[u8]) -> Packet {
        self.header.options = options.try_into().expect("they fit");
        self
    }

    pub(crate) fn payload(mut self, bytes: &[u8]) -> Packet {
        match &mut self.body {
            Body::Udp { payload, .. }
            | Body::Tcp { payload, .. }
            | Body::Icmp { payload, .. }
            | Body::Other(payload) => *payload = bytes.to_vec(),
        }
        self
    }

    /// Makes the IP packet exactly so long.
    pub(crate) fn ip_len(self, len: usize) -> Packet {
        let rest = len - self.clone().payload(&[]).ip_bytes().len();
        let payload: Vec<u8> = (0..rest).map(|index| index as u8).collect();
        self.payload(&payload)
    }

    /// UDP without a checksum.
    pub(crate) fn no_checksum(mut self) -> Packet {
        if let Body::Udp { checksum, .. } = &mut self.body {
            *checksum = false;
        }
        self
    }

    /// The second four bytes of the ICMP header.
    pub(crate) fn word(mut self, bytes: [u8; 4]) -> Packet {
        if let Body::Icmp { word, .. } = &mut self.body {
            *word = bytes;
        }
        self
    }

    /// Makes an ICMP error quote a packet: its IP header and 8 bytes of its transport header.
    pub(crate) fn quoting(self, quoted: &Packet) -> Packet {
        let bytes = quoted.ip_bytes();
        let len = quoted.header.header_len() + 8;
        self.payload(&bytes[..len])
    }

    /// Makes an ICMP error quote a packet as a whole.
    pub(crate) fn quoting_all(self, quoted: &Packet) -> Packet {
        self.payload(&quoted.ip_bytes())
    }

    /// The IP packet.
    pub(crate) fn ip_bytes(&self) -> Vec<u8> {
        let (from, to) = (self.header.source, self.header.destination);
        let body = match &self.body {
            Body::Udp { ports, payload, checksum } => {
                let length = (8 + payload.len()) as u16;
                let (source_port, destination_port) = *ports;
                let mut header = UdpHeader { source_port, destination_port, length, checksum: 0 };
                if *checksum {
                    header.checksum =
                        header.calc_checksum_ipv4_raw(from, to, payload).expect("it fits");
                }
                [&header.to_bytes(), &payload[..]].concat()
            }
            Body::Tcp { header, payload } => {
                let mut header = header.clone();
                header.checksum =
                    header.calc_checksum_ipv4_raw(from, to, payload).expect("it fits");
                [&header.to_bytes(), &payload[..]].concat()
            }
            Body::Icmp { kind, code, word, payload } => {
                let (type_u8, code_u8, bytes5to8) = (*kind, *code, *word);
                let message = Icmpv4Type::Unknown { type_u8, code_u8, bytes5to8 };
                let header = Icmpv4Header::with_checksum(message, payload);
                [&header.to_bytes(), &payload[..]].concat()
            }
            Body::Other(payload) => payload.clone(),
        };
        let mut header = self.header.clone();
        header.set_payload_len(body.len()).expect("it fits");
        header.header_checksum = header.calc_header_checksum();
        [&header.to_bytes(), &body[..]].concat()
    }

    pub(crate) fn frame(&self) -> Frame {
        Frame::new(0x0800, self.ip_bytes())
    }
}

/// An Ethernet frame; if nothing else is said, from the router on the shard's side to the shard,
/// or the other way.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    from: Option<Mac>,
    to: Option<Mac>,
    tag: Option<u16>,
    ether_type: u16,
    packet: Vec<u8>,
    padding: Vec<u8>,
    pub(crate) verifies: bool,
}

impl From<Packet> for Frame {
    fn from(packet: Packet) -> Frame {
        packet.frame()
    }
}

impl Frame {
    pub(crate) fn new(ether_type: u16, packet: Vec<u8>) -> Frame {
        let (from, to, tag, padding) = (None, None, None, Vec::new());
        Frame { from, to, tag, ether_type, packet, padding, verifies: true }
    }

    pub(crate) fn from(mut self, mac: Mac) -> Frame {
        self.from = Some(mac);
        self
    }

    pub(crate) fn to(mut self, mac: Mac) -> Frame {
        self.to = Some(mac);
        self
    }

    /// With an 802.1Q tag of this priority and VLAN.
    pub(crate) fn tag(mut self, priority: u16, vlan: u16) -> Frame {
        self.tag = Some(priority << 13 | vlan);
        self
    }

    /// With bytes behind the packet.
    pub(crate) fn padding(mut self, bytes: &[u8]) -> Frame {
        self.padding = bytes.to_vec();
        self
    }

    /// With one byte of the IP packet changed behind all checksums' back.
    pub(crate) fn damage(mut self, at: usize) -> Frame {
        self.packet[at] ^= 0x40;
        self.unverified()
    }

    /// Not every checksum in it holds.
    pub(crate) fn unverified(mut self) -> Frame {
        self.verifies = false;
        self
    }

    /// The frame's bytes; `from` and `to` if it has no addresses of its own.
    pub(crate) fn bytes(&self, from: Mac, to: Mac) -> Vec<u8> {
        let mut bytes = self.to.unwrap_or(to).0.to_vec();
        bytes.extend(self.from.unwrap_or(from).0);
        if let Some(tag) = self.tag {
            bytes.extend(0x8100_u16.to_be_bytes());
            bytes.extend(tag.to_be_bytes());
        }
        bytes.extend(self.ether_type.to_be_bytes());
        bytes.extend(&self.packet);
        bytes.extend(&self.padding);
        bytes
    }
}

/// "Who has `target`?", to everybody, of the 60 bytes that a frame has at least.
pub(crate) fn arp_request(sender: (Mac, &str), target: &str) -> Frame {
    arp(ArpOperation::REQUEST, sender, (Mac::default(), target)).from(sender.0).to(Mac::BROADCAST)
}

/// "It is me", to who asked.
pub(crate) fn arp_reply(sender: (Mac, &str), target: (Mac, &str)) -> Frame {
    arp(ArpOperation::REPLY, sender, target).from(sender.0).to(target.0)
}

fn arp(operation: ArpOperation, sender: (Mac, &str), target: (Mac, &str)) -> Frame {
    let packet = ArpEthIpv4Packet {
        operation,
        sender_mac: sender.0.0,
        sender_ipv4: addr(sender.1).octets(),
        target_mac: target.0.0,
        target_ipv4: addr(target.1).octets(),
    };
    Frame::new(0x0806, ArpPacket::from(packet).to_bytes().to_vec()).padding(&[0; 18])
}
