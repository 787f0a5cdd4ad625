//! The checks of a router before anything is decided about a packet: is it for this shard, and
//! may its addresses be what they are? In the order of RFC 1812, 5.2.1, but for the source, which
//! is checked first because a martian is not delivered locally either (RFC 1122, 3.2.1.3).

use std::hint::cold_path;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use ipnet::Ipv4Net;

use super::{Interface, Refusal, Router};
use crate::drop::DropReason;
use crate::packet::{Kind, Layout, Mac, PacketMeta, Side};
use crate::program::IcmpError;

/// What an admitted packet is to the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// To be forwarded, if the program says so.
    Transit,
    /// For an address of the shard's own interfaces.
    Local,
    /// ARP, to be given to [`Router::on_arp`].
    Arp,
}

impl Router {
    /// Checks a packet that arrived at `side`. Changes nothing, and looks at the tables of this
    /// side alone where it can, for both sides may use the same addresses (RFC 4787, REQ-7).
    ///
    /// # Errors
    /// The first check that the packet fails, and what to tell its sender.
    #[inline]
    pub fn admit(
        &self,
        side: Side,
        meta: &PacketMeta,
        layout: &Layout,
    ) -> Result<Admitted, Refusal> {
        let is_arp = matches!(meta.kind, Kind::ArpRequest | Kind::ArpReply);
        self.interface(side).check_link(&meta.link_to, layout.vlan, is_arp)?;
        if is_arp {
            cold_path();
            return Ok(Admitted::Arp);
        }
        if !self.is_ordinary(side, meta.from, meta.to) {
            cold_path();
            if self.check_addresses(side, meta.from, meta.to)? {
                return Ok(Admitted::Local);
            }
        }
        if meta.ttl <= 1 {
            cold_path();
            let error = Some(IcmpError::TTL_EXCEEDED);
            return Err(Refusal { reason: DropReason::TtlExceeded, error });
        }
        Ok(Admitted::Transit)
    }

    /// Whether [`Router::check_addresses`] would find nothing, as for nearly all packets.
    #[inline]
    pub(super) fn is_ordinary(&self, side: Side, from: Ipv4Addr, to: Ipv4Addr) -> bool {
        from != to && self.interface(side).sources.hold(from) && self.destinations.hold(to)
    }

    /// What is to be said of the two addresses of a packet. True: it is for the shard itself.
    #[inline(never)]
    pub(super) fn check_addresses(
        &self,
        side: Side,
        from: Ipv4Addr,
        to: Ipv4Addr,
    ) -> Result<bool, DropReason> {
        self.check_source(side, from)?;
        if from == to {
            return Err(DropReason::Land);
        }
        // Before the time to live: 5.3.1 forbids to check that of a packet for the router.
        let [inside, outside] = &self.interfaces;
        if to == inside.address.addr() || to == outside.address.addr() {
            return Ok(true);
        }
        self.check_destination(to)?;
        // RFC 3927, 2.7: a router must not forward a packet with a link-local address in it.
        if from.is_link_local() {
            return Err(DropReason::MartianSource);
        }
        Ok(false)
    }

    /// RFC 1812, 5.3.7 (martians).
    fn check_source(&self, side: Side, from: Ipv4Addr) -> Result<(), DropReason> {
        let here = self.interface(side);
        let never_a_host =
            is_this_network(from) || from.is_loopback() || is_group_or_reserved(from);
        if never_a_host || here.is_broadcast(from) || here.address.addr() == from {
            return Err(DropReason::MartianSource);
        }
        self.check_origin(side, from)
    }

    /// RFC 1812, 5.3.8 (source address validation; RFC 2827), and nobody outside has an address of
    /// the pool.
    fn check_origin(&self, side: Side, from: Ipv4Addr) -> Result<(), DropReason> {
        let here = self.interface(side);
        match side {
            Side::Inside if !here.routes.contains(from) => Err(DropReason::SpoofedSource),
            Side::Outside if self.pool.contains(from) => Err(DropReason::MartianSource),
            _ => Ok(()),
        }
    }

    /// RFC 1812, 5.3.7 (martians), 4.2.3.1 and 5.3.5 (broadcasts), RFC 2644 (directed broadcasts
    /// onto a connected network are not forwarded), RFC 3927, 2.7 (link-local).
    fn check_destination(&self, to: Ipv4Addr) -> Result<(), DropReason> {
        let [inside, outside] = &self.interfaces;
        let directed = inside.is_broadcast(to) || outside.is_broadcast(to);
        if to.is_multicast() || to.is_broadcast() || directed {
            return Err(DropReason::MulticastUnsupported);
        }
        if is_this_network(to) || to.is_loopback() || to.is_link_local() || is_group_or_reserved(to)
        {
            return Err(DropReason::MartianDestination);
        }
        Ok(())
    }
}

impl Interface {
    /// Whether a frame is for this interface. IPv4 is taken only if sent to it alone: what came
    /// as a link-layer broadcast is not forwarded (RFC 1812, 5.3.4) nor delivered (RFC 1122,
    /// 3.3.6), and multicast is not implemented.
    #[inline]
    fn check_link(&self, to: &Mac, vlan: u16, is_arp: bool) -> Result<(), DropReason> {
        if vlan != self.vlan {
            cold_path();
            // A tag of VLAN 0 carries only a priority.
            if vlan != 0 || self.vlan != Layout::UNTAGGED {
                return Err(DropReason::VlanUnknown);
            }
        }
        if to.is(&self.mac) {
            return Ok(());
        }
        cold_path();
        match *to {
            Mac::BROADCAST if is_arp => Ok(()),
            to if to.is_group() && !is_arp => Err(DropReason::MulticastUnsupported),
            _ => Err(DropReason::MacNotOurs),
        }
    }
}

/// A set of /16s, a bit for each, of whose addresses nothing special is to be said.
#[derive(Clone, Debug)]
pub(super) struct Ordinary(Box<[u64; Self::WORDS]>);

impl Ordinary {
    const WORDS: usize = (1 << 16) / 64;

    /// All but the networks of special use, and those that the shard is connected to, in which lie
    /// its own addresses and its links' broadcasts.
    pub(super) fn destinations(connected: [Ipv4Net; 2]) -> Self {
        let mut ordinary = Ordinary(Box::new([u64::MAX; Self::WORDS]));
        for block in (0..1 << 16).map(|high: u32| Ipv4Addr::from_bits(high << 16)) {
            let is_special = is_this_network(block)
                || block.is_loopback()
                || block.is_link_local()
                || is_group_or_reserved(block);
            if is_special {
                ordinary.remove(block..=block);
            }
        }
        for net in connected {
            ordinary.remove(net.network()..=net.broadcast());
        }
        ordinary
    }

    /// Those of them from all of whose addresses a packet may come: `refused` are the ranges from
    /// which it may not.
    pub(super) fn sources(&self, refused: impl Iterator<Item = RangeInclusive<Ipv4Addr>>) -> Self {
        let mut ordinary = self.clone();
        refused.for_each(|range| ordinary.remove(range));
        ordinary
    }

    /// Takes out every block with an address in the range.
    fn remove(&mut self, range: RangeInclusive<Ipv4Addr>) {
        for high in range.start().to_bits() >> 16..=range.end().to_bits() >> 16 {
            let (word, bit) = Self::place(Ipv4Addr::from_bits(high << 16));
            self.0[word] &= !bit;
        }
    }

    /// Whether the address is ordinary for certain.
    #[inline(always)]
    fn hold(&self, addr: Ipv4Addr) -> bool {
        let (word, bit) = Self::place(addr);
        self.0[word] & bit != 0
    }

    /// By the first two bytes as they lie in memory, so that they need not be swapped.
    #[inline(always)]
    fn place(addr: Ipv4Addr) -> (usize, u64) {
        let [a, b, ..] = addr.octets();
        let block = usize::from(u16::from_ne_bytes([a, b]));
        (block / 64, 1 << (block % 64))
    }
}

/// 0.0.0.0/8 (RFC 1122, 3.2.1.3).
fn is_this_network(addr: Ipv4Addr) -> bool {
    addr.octets()[0] == 0
}

/// Class D, class E and limited broadcast: 224.0.0.0/3.
fn is_group_or_reserved(addr: Ipv4Addr) -> bool {
    addr.octets()[0] >= 224
}
