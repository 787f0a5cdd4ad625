//! The way that one packet went, kept for the next ones.

use std::net::Ipv4Addr;

use super::{NeighbourId, NextHop, Router};
use crate::packet::{Mac, Side};
use crate::rewrite::LinkHeader;

/// Where packets to a class of destinations go: nearly all of a burst go to the same gateway, so
/// what was found for one of them need not be looked for again.
///
/// It holds while no time passes and no neighbour is heard of: within a burst, from one frame that
/// is not for the program to the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    to: Side,
    class: u32,
    /// The largest IP packet that goes this way, bytes.
    mtu: u16,
    /// The first 12 bytes of the Ethernet header, behind which the EtherType follows.
    addresses: [u8; 12],
}

impl Way {
    /// None is known.
    pub(crate) const NONE: Way =
        Way { to: Side::Inside, class: u32::MAX, mtu: 0, addresses: [0; 12] };

    /// What stands in front of the EtherType.
    #[inline]
    pub(crate) fn addresses(&self) -> &[u8; 12] {
        &self.addresses
    }
}

impl Router {
    /// The way of a packet to `destination` that goes to this neighbour, for other packets. None is
    /// kept where each destination has a neighbour of its own, or where the link is tagged.
    pub(crate) fn way(&self, to: Side, destination: Ipv4Addr, neighbour: NeighbourId) -> Way {
        let here = self.interface(to);
        let next_hop = here.routes.lookup(destination);
        let LinkHeader { to: Mac(next), from: Mac(own), vlan } = *self.link(neighbour);
        if next_hop != Some(NextHop::Gateway(neighbour)) || vlan.is_some() {
            return Way::NONE;
        }
        let mut addresses = [0; 12];
        addresses[..6].copy_from_slice(&next);
        addresses[6..].copy_from_slice(&own);
        Way { to, class: here.routes.class(destination), mtu: here.mtu, addresses }
    }

    /// Whether an IP packet of so many bytes to `destination` may go this way.
    #[inline]
    pub(crate) fn goes(&self, way: &Way, to: Side, destination: Ipv4Addr, ip_len: u16) -> bool {
        let class = self.interface(to).routes.class(destination);
        class == way.class && to == way.to && ip_len <= way.mtu
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{addr, mac, side};
    use super::super::{Hop, RouterConfig};
    use super::*;
    use crate::time::Ticks;

    const NOW: Ticks = Ticks(7);

    fn router(vlan: Option<u16>) -> Router {
        let routes = [("0.0.0.0/0", "192.0.2.254"), ("203.0.113.0/24", "192.0.2.253")];
        let mut outside = side("192.0.2.1/24", 2, &routes);
        outside.vlan = vlan;
        outside.neighbours = [254, 253, 7].map(|n| (addr(&format!("192.0.2.{n}")), mac(n))).into();
        let mut inside = side("10.0.0.1/24", 1, &[("0.0.0.0/0", "10.0.0.254")]);
        inside.neighbours = vec![(addr("10.0.0.254"), mac(9))];
        Router::new(&RouterConfig { inside, outside, pool: Vec::new() })
    }

    fn way(router: &mut Router, to: Side, destination: &str) -> Way {
        match router.route(to, addr(destination), NOW) {
            Ok(Hop::Ready(neighbour)) => router.way(to, addr(destination), neighbour),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn others_go_the_way_that_have_the_same_gateway_and_fit_the_link() {
        let router = &mut router(None);
        let known = way(router, Side::Outside, "8.8.8.8");
        let goes = |to, destination, len| router.goes(&known, to, addr(destination), len);
        assert_eq!(known.addresses(), &[2, 0, 0, 0, 0, 254, 2, 0, 0, 0, 0, 2]);
        assert!(goes(Side::Outside, "223.255.255.255", 1500));
        assert!(!goes(Side::Outside, "223.255.255.255", 1501), "it is too large");
        assert!(!goes(Side::Outside, "203.0.113.9", 100), "another gateway's");
        assert!(!goes(Side::Outside, "192.0.2.254", 100), "on the link");
        assert!(!goes(Side::Inside, "8.8.8.8", 100), "through the other side");
        assert!(!router.goes(&Way::NONE, Side::Inside, addr("8.8.8.8"), 0));
    }

    #[test]
    fn no_way_is_kept_to_the_link_itself_or_behind_a_tag() {
        for (vlan, destination) in [(None, "192.0.2.7"), (Some(5), "8.8.8.8")] {
            let router = &mut router(vlan);
            let none = way(router, Side::Outside, destination);
            assert!(!router.goes(&none, Side::Outside, addr(destination), 100), "{destination}");
        }
    }
}
