//! Frames as the stations around a shard send and see them; built and read by another library
//! than the one under test.

use std::net::{IpAddr, Ipv4Addr};

use etherparse::{
    ArpHardwareId, ArpOperation, ArpPacket, EtherType, NetSlice, PacketBuilder, SlicedPacket,
    TransportSlice,
};
use krono_core::packet::{Endpoint, Side};

/// The shard's own addresses.
pub(super) const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
pub(super) const ADDRESSES: [Ipv4Addr; 2] =
    [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(192, 0, 2, 1)];

/// The gateways on both sides.
pub(super) const GATEWAY_MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 1, 0xfe], [2, 0, 0, 0, 2, 0xfe]];
pub(super) const GATEWAYS: [Ipv4Addr; 2] =
    [Ipv4Addr::new(10, 0, 0, 254), Ipv4Addr::new(192, 0, 2, 254)];

const BROADCAST: [u8; 6] = [0xff; 6];

/// An Ethernet frame to the shard from the gateway of a side, so far without its payload.
fn link(side: Side) -> etherparse::PacketBuilderStep<etherparse::Ethernet2Header> {
    PacketBuilder::ethernet2(GATEWAY_MACS[side as usize], MACS[side as usize])
}

pub(super) fn udp(side: Side, from: Endpoint, to: Endpoint, payload: &[u8]) -> Vec<u8> {
    udp_with_ttl(side, from, to, payload, 64)
}

pub(super) fn udp_with_ttl(
    side: Side,
    from: Endpoint,
    to: Endpoint,
    payload: &[u8],
    ttl: u8,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let ip = link(side).ipv4(from.addr.octets(), to.addr.octets(), ttl);
    ip.udp(from.port, to.port).write(&mut bytes, payload).unwrap();
    bytes
}

pub(super) fn tcp(
    side: Side,
    from: Endpoint,
    to: Endpoint,
    flags: &str,
    numbers: (u32, u32),
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let ip = link(side).ipv4(from.addr.octets(), to.addr.octets(), 64);
    let mut tcp = ip.tcp(from.port, to.port, numbers.0, 1000);
    if flags.contains('S') {
        tcp = tcp.syn();
    }
    if flags.contains('A') {
        tcp = tcp.ack(numbers.1);
    }
    if flags.contains('F') {
        tcp = tcp.fin();
    }
    if flags.contains('R') {
        tcp = tcp.rst();
    }
    tcp.write(&mut bytes, b"").unwrap();
    bytes
}

/// An echo request; the port of `from` is its identifier.
pub(super) fn echo(side: Side, from: Endpoint, to: Ipv4Addr) -> Vec<u8> {
    let mut bytes = Vec::new();
    let ip = link(side).ipv4(from.addr.octets(), to.octets(), 64);
    ip.icmpv4_echo_request(from.port, 1).write(&mut bytes, &[0x5a; 30]).unwrap();
    bytes
}

/// "Port unreachable" from `from`, about a packet as its receiver got it (`frame`).
pub(super) fn unreachable(side: Side, from: Ipv4Addr, frame: &[u8]) -> Vec<u8> {
    let quoted = &frame[14..frame.len().min(14 + 28)];
    let to = Ipv4Addr::from_octets(quoted[12..16].try_into().unwrap());
    let mut bytes = Vec::new();
    let port = etherparse::icmpv4::DestUnreachableHeader::Port;
    let kind = etherparse::Icmpv4Type::DestinationUnreachable(port);
    let ip = link(side).ipv4(from.octets(), to.octets(), 64);
    ip.icmpv4(kind).write(&mut bytes, quoted).unwrap();
    bytes
}

pub(super) fn arp_request(side: Side, from: ([u8; 6], Ipv4Addr), target: Ipv4Addr) -> Vec<u8> {
    arp(side, ArpOperation::REQUEST, from, ([0; 6], target))
}

/// What the station `from` answers to the shard.
pub(super) fn arp_reply(side: Side, from: ([u8; 6], Ipv4Addr)) -> Vec<u8> {
    let shard = (MACS[side as usize], ADDRESSES[side as usize]);
    arp(side, ArpOperation::REPLY, from, shard)
}

fn arp(
    side: Side,
    operation: ArpOperation,
    from: ([u8; 6], Ipv4Addr),
    to: ([u8; 6], Ipv4Addr),
) -> Vec<u8> {
    let link_to = if operation == ArpOperation::REQUEST { BROADCAST } else { MACS[side as usize] };
    let packet = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        operation,
        &from.0,
        &from.1.octets(),
        &to.0,
        &to.1.octets(),
    )
    .unwrap();
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(from.0, link_to).arp(packet).write(&mut bytes).unwrap();
    bytes.resize(bytes.len().max(60), 0);
    bytes
}

/// The frame in a VLAN.
pub(super) fn tagged(mut frame: Vec<u8>, vlan: u16) -> Vec<u8> {
    let [high, low] = vlan.to_be_bytes();
    frame.splice(12..12, [0x81, 0x00, high, low]);
    frame
}

/// What a station sees of a frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// To and from.
    pub(super) macs: ([u8; 6], [u8; 6]),
    pub(super) vlan: Option<u16>,
    pub(super) what: What,
    pub(super) ttl: u8,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum What {
    #[default]
    Other,
    /// Who has this address?
    ArpRequest(Ipv4Addr),
    /// This MAC address has this address.
    ArpReply([u8; 6], Ipv4Addr),
    /// From, to, payload.
    Udp(Endpoint, Endpoint, Vec<u8>),
    /// From, to.
    Tcp(Endpoint, Endpoint),
    /// From, to, type and code.
    Icmp(Ipv4Addr, Ipv4Addr, u8, u8),
}

impl What {
    /// Where a UDP or TCP packet comes from.
    pub(super) fn source(&self) -> Endpoint {
        match self {
            What::Udp(from, ..) | What::Tcp(from, _) => *from,
            other => panic!("no ports: {other:?}"),
        }
    }
}

/// Reads a frame, all of whose checksums must be right.
pub(super) fn read(frame: &[u8]) -> Seen {
    let packet = SlicedPacket::from_ethernet(frame).expect("a frame that can be read");
    let Some(etherparse::LinkSlice::Ethernet2(link)) = &packet.link else { panic!("no Ethernet") };
    let vlan = packet.vlan_ids().first().map(|id| id.value());
    let (what, ttl) = match &packet.net {
        Some(NetSlice::Arp(arp)) => {
            let arp = arp.to_packet().try_eth_ipv4().expect("ARP of IPv4 over Ethernet");
            let what = match arp.operation {
                ArpOperation::REQUEST => What::ArpRequest(arp.target_ipv4.into()),
                _ => What::ArpReply(arp.sender_mac, arp.sender_ipv4.into()),
            };
            (what, 0)
        }
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum(), "IP checksum");
            let (from, to) = (ip.header().source_addr(), ip.header().destination_addr());
            let addresses = (IpAddr::from(from), IpAddr::from(to));
            (transport(&packet, addresses, &header), header.time_to_live)
        }
        _ => (What::Other, 0),
    };
    Seen { macs: (link.destination(), link.source()), vlan, what, ttl }
}

fn transport(
    packet: &SlicedPacket<'_>,
    (from, to): (IpAddr, IpAddr),
    ip: &etherparse::Ipv4Header,
) -> What {
    let (IpAddr::V4(from), IpAddr::V4(to)) = (from, to) else { return What::Other };
    match &packet.transport {
        Some(TransportSlice::Udp(udp)) => {
            let right = udp.to_header().calc_checksum_ipv4(ip, udp.payload()).unwrap();
            assert_eq!(udp.checksum(), right, "UDP checksum");
            let (source, destination) = (udp.source_port(), udp.destination_port());
            let ends = (Endpoint::new(from, source), Endpoint::new(to, destination));
            What::Udp(ends.0, ends.1, udp.payload().to_vec())
        }
        Some(TransportSlice::Tcp(tcp)) => {
            let right = tcp.to_header().calc_checksum_ipv4(ip, tcp.payload()).unwrap();
            assert_eq!(tcp.checksum(), right, "TCP checksum");
            let (source, destination) = (tcp.source_port(), tcp.destination_port());
            What::Tcp(Endpoint::new(from, source), Endpoint::new(to, destination))
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            let right = icmp.icmp_type().calc_checksum(icmp.payload());
            assert_eq!(icmp.checksum(), right, "ICMP checksum");
            What::Icmp(from, to, icmp.type_u8(), icmp.code_u8())
        }
        _ => What::Other,
    }
}
