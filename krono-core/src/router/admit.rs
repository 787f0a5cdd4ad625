//! The checks of a router before anything is decided about a packet: is it for this shard, and
//! may its addresses be what they are? In the order of RFC 1812, 5.2.1, but for the source, which
//! is checked first because a martian is not delivered locally either (RFC 1122, 3.2.1.3).

use std::hint::cold_path;
use std::net::Ipv4Addr;

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
        let here = self.interface(side);
        let is_arp = matches!(meta.kind, Kind::ArpRequest | Kind::ArpReply);
        here.check_link(meta.link_to, layout.vlan, is_arp)?;
        if is_arp {
            cold_path();
            return Ok(Admitted::Arp);
        }
        if !self.is_ordinary(meta.from, meta.to) {
            cold_path();
            if self.check_addresses(side, meta)? {
                return Ok(Admitted::Local);
            }
        }
        self.check_origin(side, meta.from)?;
        if meta.ttl <= 1 {
            cold_path();
            let error = Some(IcmpError::TTL_EXCEEDED);
            return Err(Refusal { reason: DropReason::TtlExceeded, error });
        }
        Ok(Admitted::Transit)
    }

    /// Whether [`Router::check_addresses`] would find nothing: both addresses are some host's in
    /// the wide world, far from the shard's own links. So are nearly all packets'.
    #[inline]
    fn is_ordinary(&self, from: Ipv4Addr, to: Ipv4Addr) -> bool {
        let [inside, outside] = &self.interfaces;
        let is_near = |addr| inside.is_on_link(addr) || outside.is_on_link(addr);
        from != to && is_common(from) && is_common(to) && !is_near(from) && !is_near(to)
    }

    /// What is to be said of the two addresses of a packet, the sender's origin aside. True: it is
    /// for the shard itself.
    #[inline(never)]
    fn check_addresses(&self, side: Side, meta: &PacketMeta) -> Result<bool, DropReason> {
        self.check_source(side, meta.from)?;
        if meta.from == meta.to {
            return Err(DropReason::Land);
        }
        // Before the time to live: 5.3.1 forbids to check that of a packet for the router.
        let [inside, outside] = &self.interfaces;
        if meta.to == inside.address.addr() || meta.to == outside.address.addr() {
            return Ok(true);
        }
        self.check_destination(meta.to)?;
        // RFC 3927, 2.7: a router must not forward a packet with a link-local address in it.
        if meta.from.is_link_local() {
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
    #[inline]
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
    /// Whether an address lies in the connected network.
    #[inline]
    fn is_on_link(&self, addr: Ipv4Addr) -> bool {
        u32::from_ne_bytes(addr.octets()) & self.mask == self.network
    }

    /// Whether a frame is for this interface. IPv4 is taken only if sent to it alone: what came
    /// as a link-layer broadcast is not forwarded (RFC 1812, 5.3.4) nor delivered (RFC 1122,
    /// 3.3.6), and multicast is not implemented.
    #[inline]
    fn check_link(&self, to: Mac, vlan: u16, is_arp: bool) -> Result<(), DropReason> {
        let vlan_fits = match self.vlan {
            Some(own) => vlan == own,
            None => vlan == Layout::UNTAGGED || vlan == 0,
        };
        if !vlan_fits {
            return Err(DropReason::VlanUnknown);
        }
        match to {
            to if to == self.mac => Ok(()),
            Mac::BROADCAST if is_arp => Ok(()),
            to if to.is_group() && !is_arp => Err(DropReason::MulticastUnsupported),
            _ => Err(DropReason::MacNotOurs),
        }
    }
}

/// Whether an address is of a kind that needs no closer look: not this network (0/8), nor
/// loopback (127/8), link-local (169.254/16, with all of 169/8), multicast or reserved (224/3).
#[inline]
fn is_common(addr: Ipv4Addr) -> bool {
    const CLOSER_LOOK: [bool; 256] = {
        let mut table = [false; 256];
        (table[0], table[127], table[169]) = (true, true, true);
        let mut octet = 224;
        while octet < 256 {
            table[octet] = true;
            octet += 1;
        }
        table
    };
    !CLOSER_LOOK[usize::from(addr.octets()[0])]
}

/// 0.0.0.0/8 (RFC 1122, 3.2.1.3).
fn is_this_network(addr: Ipv4Addr) -> bool {
    addr.octets()[0] == 0
}

/// Class D, class E and limited broadcast: 224.0.0.0/3.
fn is_group_or_reserved(addr: Ipv4Addr) -> bool {
    addr.octets()[0] >= 224
}
