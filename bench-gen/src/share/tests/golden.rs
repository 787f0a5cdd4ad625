//! Frames as others read them, and the bytes of a few.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};

use super::*;

/// Reads a frame with etherparse and checks all checksums.
fn read(frame: &[u8]) -> SlicedPacket<'_> {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(NetSlice::Ipv4(ip)) = &packet.net else { panic!("no IPv4") };
    let header = ip.header().to_header();
    assert_eq!(header.header_checksum, header.calc_header_checksum());
    assert!(header.dont_fragment && header.time_to_live == 64);
    match packet.transport.as_ref().unwrap() {
        TransportSlice::Udp(udp) => {
            let sum = udp.to_header().calc_checksum_ipv4(&header, udp.payload()).unwrap();
            assert_eq!(udp.checksum(), sum);
        }
        TransportSlice::Tcp(tcp) => {
            let sum = tcp.to_header().calc_checksum_ipv4(&header, tcp.payload()).unwrap();
            assert_eq!(tcp.checksum(), sum);
        }
        TransportSlice::Icmpv4(icmp) => {
            let sum = icmp.header().icmp_type.calc_checksum(icmp.payload());
            assert_eq!(icmp.header().checksum, sum);
        }
        other => panic!("{other:?} is not sent"),
    }
    packet
}

#[test]
fn every_frame_reads_well_with_right_checksums_and_the_wanted_length() {
    for (protocols, least) in [([1, 0, 0], 64), ([0, 1, 0], 88), ([0, 0, 1], 64)] {
        for vlan in [None, Some(7)] {
            for len in [64, 65, 127, 594, 1518, 9000] {
                let mut setup = setup(load(protocols, 10));
                setup.links.iter_mut().for_each(|link| link.vlan = vlan);
                setup.load.sizes = Sizes::Fixed(len);
                back_to_back(&setup, usize::from(len.max(least)) - 4);
            }
        }
    }
}

/// All frames of a cable from one side to the other are right.
fn back_to_back(setup: &ShareSetup, len: usize) {
    let mut share = Share::new(setup).unwrap();
    // What one side sends to is the other.
    let [inside, outside] = setup.links;
    let crossed =
        |own: LinkHeader, other: LinkHeader| LinkHeader { destination: other.source, ..own };
    share.set_link(Side::Inside, &crossed(inside, outside));
    share.set_link(Side::Outside, &crossed(outside, inside));
    let mut buffer = [0; FRAME_MAX + 4];
    for (stage, count) in [(open(10), 10), (traffic(Ways::Both), 30), (close(), 10)] {
        share.begin(&stage, 1);
        for now in 0..count {
            let Some((side, mut sent)) = share.next(now * 1000, &mut buffer) else { break };
            let mut side = side.opposite();
            loop {
                let vlan = read(&buffer[..sent]).vlan_ids().first().map(|id| id.value());
                assert_eq!(vlan, setup.links[0].vlan);
                let tag = if setup.links[0].vlan.is_some() { 4 } else { 0 };
                // A TCP segment without payload is shorter.
                assert!(sent == len + tag || sent == 66 + tag, "{sent} for {len}");
                match share.take(side, &mut buffer[..sent], now * 1000 + 500) {
                    Taken::Answer(len) => (sent, side) = (len, side.opposite()),
                    Taken::Done => break,
                    Taken::Foreign(_) => panic!("there is one share"),
                }
            }
        }
        assert_right(&share.finish());
    }
}

#[test]
fn a_udp_frame_of_64_bytes_byte_by_byte() {
    let mut share = Share::new(&setup(load([1, 0, 0], 10))).unwrap();
    share.begin(&traffic(Ways::Both), 0);
    let mut buffer = [0xee; 64];
    let (side, len) = share.next(1_000_000_000, &mut buffer).unwrap();
    assert_eq!((side, len, buffer[60..] == [0xee; 4]), (Side::Inside, 60, true));
    let who = share.who(0);
    let (from, to) = (who.subscriber, who.server);
    assert_eq!(from.addr.octets(), [100, 64, 0, 1]);
    assert_eq!(&buffer[..16], [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0]);
    assert_eq!(&buffer[16..24], [0, 46, 0, 0, 0x40, 0, 64, 17]);
    assert_eq!(
        (&buffer[26..30], &buffer[30..34]),
        (&from.addr.octets()[..], &to.addr.octets()[..])
    );
    let ports = [from.port.to_be_bytes(), to.port.to_be_bytes()].concat();
    assert_eq!(&buffer[34..40], [&ports[..], &[0, 26]].concat());
    // Flow 0, packet 0, one second in units of 8 ns, share 0, up and generation 0, digest.
    assert_eq!(&buffer[42..54], [0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0x59, 0x73, 0x07]);
    assert_eq!(&buffer[54..56], [0, 0]);
}
