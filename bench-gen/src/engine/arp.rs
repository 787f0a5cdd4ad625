//! ARP (RFC 826) over frames: who has our own address, and where the next hop is.

use std::net::Ipv4Addr;

use krono_core::packet::Mac;

/// The length of an ARP frame with a VLAN tag, padded to Ethernet's least, without its checksum.
pub(super) const FRAME_LEN: usize = 64;

const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const ETHERTYPE_VLAN: [u8; 2] = [0x81, 0x00];
/// Ethernet, IPv4, and how long their addresses are.
const KIND: [u8; 6] = [0, 1, 8, 0, 6, 4];
const REQUEST: u8 = 1;
const REPLY: u8 = 2;
const ARP_LEN: usize = 28;

/// We as a station on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Station {
    pub mac: Mac,
    pub address: Ipv4Addr,
    pub vlan: Option<u16>,
}

/// What an ARP message tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    /// Where its sender is.
    pub sender: (Ipv4Addr, Mac),
    /// It asks for our own address.
    pub asks_us: bool,
}

/// Where the ARP message begins, if the frame is one.
#[inline]
pub(super) fn is_arp(frame: &[u8]) -> Option<usize> {
    match frame.get(12..14)?.try_into().ok()? {
        ETHERTYPE_ARP => Some(14),
        ETHERTYPE_VLAN => (frame.get(16..18)? == ETHERTYPE_ARP).then_some(18),
        _ => None,
    }
}

impl Station {
    /// What an ARP frame tells; `None` if it is damaged, or of another VLAN.
    pub(super) fn hear(&self, frame: &[u8]) -> Option<Heard> {
        let start = is_arp(frame)?;
        let vlan = (start == 18).then(|| u16::from_be_bytes([frame[14], frame[15]]) & 0xfff);
        let arp = frame.get(start..start + ARP_LEN)?;
        if vlan != self.vlan || arp[..6] != KIND || arp[6] != 0 {
            return None;
        }
        let (mac, from) = address_at(arp, 8);
        let (_, to) = address_at(arp, 18);
        let asks_us = arp[7] == REQUEST && to == self.address;
        Some(Heard { sender: (from, mac), asks_us })
    }

    /// Writes a request for `address`, to all.
    pub(super) fn ask(&self, address: Ipv4Addr, buffer: &mut [u8]) -> usize {
        self.write(REQUEST, Mac::BROADCAST, (Mac([0; 6]), address), buffer)
    }

    /// Writes a reply that our address is here.
    pub(super) fn answer(&self, heard: &Heard, buffer: &mut [u8]) -> usize {
        let (address, mac) = heard.sender;
        self.write(REPLY, mac, (mac, address), buffer)
    }

    fn write(&self, what: u8, to: Mac, target: (Mac, Ipv4Addr), buffer: &mut [u8]) -> usize {
        buffer[..FRAME_LEN].fill(0);
        buffer[..6].copy_from_slice(&to.0);
        buffer[6..12].copy_from_slice(&self.mac.0);
        let mut at = 12;
        if let Some(vlan) = self.vlan {
            buffer[12..14].copy_from_slice(&ETHERTYPE_VLAN);
            buffer[14..16].copy_from_slice(&vlan.to_be_bytes());
            at = 16;
        }
        buffer[at..at + 2].copy_from_slice(&ETHERTYPE_ARP);
        let arp = &mut buffer[at + 2..];
        arp[..6].copy_from_slice(&KIND);
        arp[7] = what;
        for (at, (mac, address)) in [(8, (self.mac, self.address)), (18, target)] {
            arp[at..at + 6].copy_from_slice(&mac.0);
            arp[at + 6..at + 10].copy_from_slice(&address.octets());
        }
        60 + (at - 12)
    }
}

fn address_at(arp: &[u8], at: usize) -> (Mac, Ipv4Addr) {
    let mut mac = [0; 6];
    mac.copy_from_slice(&arp[at..at + 6]);
    let [a, b, c, d] = [arp[at + 6], arp[at + 7], arp[at + 8], arp[at + 9]];
    (Mac(mac), Ipv4Addr::new(a, b, c, d))
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{ArpEthIpv4Packet, SlicedPacket};

    const US: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);
    const HOP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

    fn station(last: u8, address: Ipv4Addr, vlan: Option<u16>) -> Station {
        Station { mac: Mac([2, 0, 0, 0, 0, last]), address, vlan }
    }

    #[test]
    fn one_asks_the_other_answers_tagged_or_not() {
        for vlan in [None, Some(100)] {
            let (us, hop) = (station(1, US, vlan), station(2, HOP, vlan));
            let mut request = [0xaa; 128];
            let len = us.ask(HOP, &mut request);
            assert_eq!(len, if vlan.is_some() { 64 } else { 60 });
            let heard = hop.hear(&request[..len]).unwrap();
            assert_eq!(heard, Heard { sender: (US, us.mac), asks_us: true });
            let mut reply = [0xaa; 128];
            let len = hop.answer(&heard, &mut reply);
            let heard = us.hear(&reply[..len]).unwrap();
            assert_eq!(heard, Heard { sender: (HOP, hop.mac), asks_us: false });
            assert_eq!(station(3, US, Some(7)).hear(&reply[..len]), None);
        }
    }

    #[test]
    fn others_read_what_is_written() {
        let mut frame = [0; FRAME_LEN];
        let us = station(1, US, None);
        let len = us.answer(&Heard { sender: (HOP, Mac([4; 6])), asks_us: true }, &mut frame);
        let packet = SlicedPacket::from_ethernet(&frame[..len]).unwrap();
        let Some(etherparse::NetSlice::Arp(arp)) = packet.net else { panic!("not ARP") };
        let arp = ArpEthIpv4Packet::try_from(arp.to_packet()).unwrap();
        assert_eq!(arp.operation.0, 2);
        assert_eq!((arp.sender_mac, arp.sender_ipv4), (us.mac.0, US.octets()));
        assert_eq!((arp.target_mac, arp.target_ipv4), ([4; 6], HOP.octets()));
    }

    #[test]
    fn damaged_and_other_frames_tell_nothing() {
        let mut frame = [0; 128];
        let us = station(1, US, None);
        let len = us.ask(HOP, &mut frame);
        for cut in 0..42 {
            assert_eq!(us.hear(&frame[..cut]), None, "{cut} bytes");
        }
        for at in 12..20 {
            let mut frame = frame;
            frame[at] ^= 0x40;
            assert_eq!(us.hear(&frame[..len]), None, "byte {at}");
        }
    }
}
