//! A second opinion: smoltcp reads every frame that a shard sends.

use smoltcp::wire::{
    ArpPacket, EthernetFrame, EthernetProtocol, Icmpv4Message, Icmpv4Packet, IpAddress, IpProtocol,
    Ipv4Packet, TcpPacket, UdpPacket,
};

/// Checks that a frame is what it says: all lengths fit and all checksums hold.
#[track_caller]
pub(crate) fn assert_well_formed(bytes: &[u8]) {
    let frame = EthernetFrame::new_checked(bytes).expect("an Ethernet header");
    let (ether_type, packet) = match frame.ethertype() {
        EthernetProtocol::Unknown(0x8100) => {
            let (tag, packet) = frame.payload().split_at(4);
            (u16::from_be_bytes([tag[2], tag[3]]).into(), packet)
        }
        ether_type => (ether_type, frame.payload()),
    };
    match ether_type {
        EthernetProtocol::Arp => {
            ArpPacket::new_checked(packet).expect("a whole ARP packet");
        }
        EthernetProtocol::Ipv4 => {
            let ip = Ipv4Packet::new_checked(packet).expect("a whole IPv4 packet");
            assert!(ip.verify_checksum(), "the IP checksum is wrong");
            assert_transport(&ip, ip.payload());
        }
        other => panic!("the shard sends {other}"),
    }
}

#[track_caller]
fn assert_transport(ip: &Ipv4Packet<&[u8]>, payload: &[u8]) {
    let ends = (IpAddress::from(ip.src_addr()), IpAddress::from(ip.dst_addr()));
    match ip.next_header() {
        IpProtocol::Udp => {
            let udp = UdpPacket::new_checked(payload).expect("a whole UDP datagram");
            assert!(udp.verify_checksum(&ends.0, &ends.1), "the UDP checksum is wrong");
        }
        IpProtocol::Tcp => {
            let tcp = TcpPacket::new_checked(payload).expect("a whole TCP segment");
            assert!(tcp.verify_checksum(&ends.0, &ends.1), "the TCP checksum is wrong");
        }
        IpProtocol::Icmp => {
            let icmp = Icmpv4Packet::new_checked(payload).expect("a whole ICMP message");
            assert!(icmp.verify_checksum(), "the ICMP checksum is wrong");
            let is_error = matches!(
                icmp.msg_type(),
                Icmpv4Message::DstUnreachable | Icmpv4Message::TimeExceeded
            );
            if is_error {
                assert_quote(icmp.data());
            }
        }
        other => panic!("the shard sends {other}"),
    }
}

/// A quoted packet may be cut short; what is whole of it must hold.
#[track_caller]
fn assert_quote(quote: &[u8]) {
    let ip = Ipv4Packet::new_unchecked(quote);
    assert!(ip.verify_checksum(), "the quoted IP checksum is wrong");
    if usize::from(ip.total_len()) <= quote.len() {
        assert_transport(&ip, ip.payload());
    }
}
