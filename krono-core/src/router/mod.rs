//! The router that each shard is: an identity on each side, static routes, neighbours, and the
//! checks of RFC 1812. A state machine over values: it sees no bytes and no clock.

mod admit;
pub mod bfd;
mod neighbours;
mod rate;
mod routes;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod way;

use std::hint::cold_path;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

pub use self::admit::Admitted;
use self::admit::Ordinary;
pub use self::neighbours::{NEIGHBOURS_MAX, NeighbourId};
use self::neighbours::{Neighbours, Reach};
use self::rate::TokenBucket;
use self::routes::Prefixes;
pub(crate) use self::way::Way;
use crate::drop::DropReason;
use crate::packet::{Kind, Layout, Mac, PacketMeta, Side};
use crate::program::IcmpError;
use crate::rewrite::LinkHeader;
use crate::time::{Moment, Ticks};

/// ICMP errors that a shard sends on one side: per tick of 100 ms, and at once after a pause
/// (RFC 1812, 4.3.2.8, asks for a limit; this one is 100 a second).
const ICMP_ERRORS_PER_TICK: u32 = 10;
const ICMP_ERRORS_BURST: u32 = 50;

/// A static route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The destinations it leads to.
    pub prefix: Ipv4Net,
    /// The gateway, a neighbour of the shard on the route's side.
    pub via: Ipv4Addr,
}

/// A shard as a router on one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SideConfig {
    /// Its own Ethernet address.
    pub mac: Mac,
    /// Its own address, and the network that it is connected to.
    pub address: Ipv4Net,
    /// The VLAN of its frames; `None`: they carry no tag, or one that is a priority only.
    pub vlan: Option<u16>,
    /// The longest IP packet that may leave, bytes.
    pub mtu: u16,
    /// Ways beyond the connected network. Of equal prefixes the first one counts, and the
    /// connected network before them all.
    pub routes: Vec<Route>,
    /// Neighbours whose address is fixed: never asked for, never learned.
    pub neighbours: Vec<(Ipv4Addr, Mac)>,
    /// Neighbours that a BFD session is held with.
    pub bfd: Vec<bfd::SessionConfig>,
}

impl SideConfig {
    /// What the shard puts in front of what it sends to everybody.
    fn own_link(&self) -> LinkHeader {
        LinkHeader { to: Mac::BROADCAST, from: self.mac, vlan: self.vlan }
    }

    /// The ways to where packets may be sent on this side.
    fn next_hops(&self, side: Side, neighbours: &Neighbours) -> Prefixes<NextHop> {
        let connected = (self.address, NextHop::Connected);
        let routes = self.routes.iter().filter_map(|route| {
            Some((route.prefix, NextHop::Gateway(neighbours.find(side, route.via)?)))
        });
        Prefixes::new([connected].into_iter().chain(routes))
    }
}

/// A shard as a router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterConfig {
    /// Towards the subscribers. Its connected network and its routes are also what their
    /// packets' sources must lie in.
    pub inside: SideConfig,
    /// Towards the Internet.
    pub outside: SideConfig,
    /// The shard's public addresses. Those in the outside connected network are answered for by
    /// ARP; others are routed to the shard. An interface's own address is never translated, so
    /// it should not be here.
    pub pool: Vec<Ipv4Net>,
}

/// Why a packet is not taken or not sent on, and what to tell its sender, if anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The drop that this is.
    pub reason: DropReason,
    /// The ICMP error for its sender.
    pub error: Option<IcmpError>,
}

impl From<DropReason> for Refusal {
    fn from(reason: DropReason) -> Self {
        Refusal { reason, error: None }
    }
}

/// How a packet gets to its next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// Now, behind the link header to this neighbour ([`Router::link`]).
    Ready(NeighbourId),
    /// When this neighbour has told its address. One frame at most waits for a neighbour: a
    /// newer one takes the place of an older.
    Wait(NeighbourId),
}

/// What an ARP packet was good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArpAction {
    /// What becomes of it.
    pub fate: ArpFate,
    /// The frame that waits for this neighbour may go.
    pub released: Option<NeighbourId>,
}

/// What becomes of an ARP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArpFate {
    /// It is a request to be answered with the side's own MAC address.
    Answer,
    /// It has done its work.
    Consume,
    /// It is of no use.
    Drop(DropReason),
}

/// What the router asks for when time has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Send an ARP request.
    Request {
        /// Where.
        side: Side,
        /// The address asked for.
        target: Ipv4Addr,
        /// The Ethernet destination: everybody while resolving, the neighbour while refreshing.
        to: Mac,
    },
    /// The neighbour does not answer: drop the frame that waits for it, if there is one.
    GiveUp(NeighbourId),
    /// Send a BFD Control packet.
    Bfd {
        /// Where.
        side: Side,
        /// To whom; its link header is known.
        neighbour: NeighbourId,
        /// Its address.
        to: Ipv4Addr,
        /// The UDP port that it comes from.
        source_port: u16,
        /// What it says.
        control: bfd::Control,
    },
}

/// The router that a shard is.
#[derive(Debug)]
pub struct Router {
    interfaces: [Interface; 2],
    pool: Prefixes<()>,
    /// Where a packet may be forwarded to without a closer look.
    destinations: Ordinary,
    neighbours: Neighbours,
    bfd: bfd::Sessions,
}

/// A side of the router.
#[derive(Debug)]
struct Interface {
    mac: Mac,
    address: Ipv4Net,
    /// The connected network's first and last address: the broadcasts of 4.2BSD and of today (RFC
    /// 1812, 4.2.3.1). A link of two addresses has but the limited broadcast (RFC 3021).
    broadcasts: [Ipv4Addr; 2],
    /// [`Layout::UNTAGGED`] if it has none.
    vlan: u16,
    mtu: u16,
    routes: Prefixes<NextHop>,
    /// Where a packet may come from without a closer look.
    sources: Ordinary,
    errors: TokenBucket,
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NextHop {
    /// To the destination itself.
    Connected,
    /// To a gateway.
    Gateway(NeighbourId),
}

impl Router {
    /// A router of this configuration, which is taken as it is: whether it makes sense is for
    /// the configuration's own checks. A gateway outside the connected network is asked for on
    /// the link all the same. Nothing is allocated after this.
    pub fn new(config: &RouterConfig) -> Self {
        let sides = [(Side::Inside, &config.inside), (Side::Outside, &config.outside)];
        let neighbours = Neighbours::new(
            sides.map(|(_, config)| config.own_link()),
            sides.into_iter().flat_map(|(side, config)| {
                config.neighbours.iter().map(move |(addr, mac)| (side, *addr, *mac))
            }),
            sides.into_iter().flat_map(|(side, config)| {
                let vias = config.routes.iter().map(|route| route.via);
                let watched = config.bfd.iter().map(|session| session.neighbour);
                vias.chain(watched).map(move |addr| (side, addr))
            }),
        );
        let pool = Prefixes::new(config.pool.iter().map(|prefix| (*prefix, ())));
        let destinations = Ordinary::destinations(sides.map(|(_, side)| side.address));
        let interfaces = sides.map(|(side, config)| {
            let routes = config.next_hops(side, &neighbours);
            let sources = match side {
                Side::Inside => destinations.sources(routes.gaps()),
                Side::Outside => destinations.sources(pool.covered()),
            };
            Interface::new(config, routes, sources)
        });
        let bfd = bfd::Sessions::new(
            sides
                .into_iter()
                .flat_map(|(side, config)| config.bfd.iter().map(move |session| (side, *session))),
        );
        Router { interfaces, pool, destinations, neighbours, bfd }
    }

    /// The shard's own address on a side.
    #[inline]
    pub fn address(&self, side: Side) -> Ipv4Addr {
        self.interface(side).address.addr()
    }

    /// The longest IP packet that may leave through a side, bytes.
    #[inline]
    pub fn mtu(&self, side: Side) -> u16 {
        self.interface(side).mtu
    }

    /// The link header of what the shard sends to everybody on a side; with another `to` that of
    /// what it sends to one station.
    #[inline]
    pub fn own_link(&self, side: Side) -> LinkHeader {
        let here = self.interface(side);
        let vlan = Some(here.vlan).filter(|vlan| *vlan != Layout::UNTAGGED);
        LinkHeader { to: Mac::BROADCAST, from: here.mac, vlan }
    }

    /// The bound of [`NeighbourId::index`], for arrays of what is kept per neighbour.
    pub fn neighbours_max(&self) -> usize {
        self.neighbours.capacity()
    }

    /// The way to `destination` through `side`.
    ///
    /// # Errors
    /// No route, a next hop that does not answer or may not be asked, or no room to ask for one.
    #[inline]
    pub fn route(&mut self, side: Side, destination: Ipv4Addr, now: Ticks) -> Result<Hop, Refusal> {
        let id = match self.interface(side).routes.lookup(destination) {
            Some(NextHop::Gateway(id)) => id,
            Some(NextHop::Connected) => match self.neighbours.find(side, destination) {
                Some(id) => id,
                None => self.meet(side, destination)?,
            },
            None => {
                let error = Some(IcmpError::NET_UNREACHABLE);
                return Err(Refusal { reason: DropReason::NoRoute, error });
            }
        };
        match self.neighbours.reach(id, now) {
            Reach::Ready => Ok(Hop::Ready(id)),
            Reach::Wait => {
                cold_path();
                Ok(Hop::Wait(id))
            }
            Reach::Unreachable => Err(UNREACHABLE),
        }
    }

    /// The link header to a neighbour whose address is known, which it is from the moment that
    /// [`Router::on_arp`] releases its frame; before that the destination is a placeholder.
    #[inline]
    pub fn link(&self, neighbour: NeighbourId) -> &LinkHeader {
        self.neighbours.link(neighbour)
    }

    /// Works on an ARP packet that was admitted at `side`; `sender` is the MAC address in it.
    ///
    /// RFC 826 with the caution that has become customary: an address that is already known is
    /// updated by whatever its owner says, but only one who asks for this shard becomes known,
    /// and a request about the sender's own address (RFC 5227, 3) is not answered.
    pub fn on_arp(&mut self, side: Side, meta: &PacketMeta, sender: Mac, now: Ticks) -> ArpAction {
        // RFC 1812, 3.3.2: a router must not believe that a group address is somebody's.
        if sender.is_group() {
            return ArpAction { fate: ArpFate::Drop(DropReason::ArpMalformed), released: None };
        }
        if self.answers_for(side, meta.from) || sender == self.interface(side).mac {
            return ArpAction { fate: ArpFate::Drop(DropReason::ArpConflict), released: None };
        }
        let for_us = self.answers_for(side, meta.to);
        let fate = match meta.kind {
            Kind::ArpRequest if for_us => ArpFate::Answer,
            _ if for_us || meta.from == meta.to => ArpFate::Consume,
            _ => ArpFate::Drop(DropReason::ArpNotOurs),
        };
        let released = match fate {
            ArpFate::Answer => self.learn(side, meta.from, sender, now),
            _ => self.update(side, meta.from, sender, now),
        };
        ArpAction { fate, released }
    }

    /// What time asks for; to be called until it is `None`, at every housekeeping: it costs next
    /// to nothing while nothing is due. Requests are limited to 1000 a second in all and one a
    /// second to a neighbour (RFC 1122, 2.3.2.1).
    #[inline]
    pub fn duty(&mut self, now: Moment) -> Option<Duty> {
        while let Some(bfd::Transmission { side, neighbour: to, port, control }) =
            self.bfd.duty(now)
        {
            // While its MAC address is not known, which this asks for, nothing can be said to it.
            let id = self.neighbours.find(side, to).expect("one with a session is never forgotten");
            if self.neighbours.reach(id, now.ticks()) == Reach::Ready {
                return Some(Duty::Bfd { side, neighbour: id, to, source_port: port, control });
            }
        }
        self.neighbours.duty(now.ticks())
    }

    /// Whether a BFD session is held with any neighbour.
    #[inline]
    pub fn speaks_bfd(&self) -> bool {
        !self.bfd.is_empty()
    }

    /// Takes the payload of a datagram for [`bfd::PORT`] that was admitted at `side`.
    ///
    /// # Errors
    /// Why it is discarded.
    pub fn on_bfd(
        &mut self,
        side: Side,
        meta: &PacketMeta,
        payload: &[u8],
        now: Moment,
    ) -> Result<(), DropReason> {
        self.bfd.receive((side, meta.from), meta.ttl, payload, now)
    }

    /// Packets are no longer forwarded: what is due next tells that to neighbours with BFD
    /// sessions (RFC 5880, 6.8.17).
    pub fn retire(&mut self, now: Moment) {
        self.bfd.reset(now);
    }

    /// Holds those BFD sessions down that `is_meant` says, of a side and a neighbour, or no longer. How
    /// many those are.
    pub fn hold_bfd_down(
        &mut self,
        is_meant: impl Fn(Side, Ipv4Addr) -> bool,
        is_held: bool,
        now: Moment,
    ) -> usize {
        self.bfd.hold_down(is_meant, is_held, now)
    }

    /// What may be seen of BFD sessions, always in the same order: those of the inside first.
    pub fn bfd_sessions(&self) -> impl Iterator<Item = bfd::View> {
        self.bfd.views()
    }

    /// Whether anything of that may have changed since this was last asked.
    #[inline]
    pub fn bfd_has_changed(&mut self) -> bool {
        self.bfd.has_changed()
    }

    /// Whether one more ICMP error may be sent on `side` now (RFC 1812, 4.3.2.8); if so, it is
    /// counted as sent.
    pub fn error_allowed(&mut self, side: Side, now: Ticks) -> bool {
        self.interfaces[side as usize].errors.take(now)
    }

    #[inline]
    fn interface(&self, side: Side) -> &Interface {
        &self.interfaces[side as usize]
    }

    /// Whether ARP requests for `addr` are answered on `side`: the shard's own address there,
    /// and public addresses that lie in the outside connected network.
    fn answers_for(&self, side: Side, addr: Ipv4Addr) -> bool {
        let here = self.interface(side);
        let pooled = side == Side::Outside && self.pool.contains(addr);
        here.address.addr() == addr || pooled && here.address.contains(&addr)
    }

    /// Makes an entry for a station of the connected network that was not known so far. The
    /// shard's own addresses are no neighbours, and nobody has the network's broadcast address.
    #[cold]
    fn meet(&mut self, side: Side, addr: Ipv4Addr) -> Result<NeighbourId, Refusal> {
        if self.interface(side).is_broadcast(addr) {
            return Err(DropReason::MulticastUnsupported.into());
        }
        if self.answers_for(side, addr) {
            return Err(UNREACHABLE);
        }
        Ok(self.neighbours.add(side, addr).ok_or(DropReason::NeighboursFull)?)
    }

    /// Takes note of the MAC address of a neighbour that need not have been known before, if it
    /// can be one and there is room. `Some`: the frame that waits for it may go.
    fn learn(&mut self, side: Side, addr: Ipv4Addr, mac: Mac, now: Ticks) -> Option<NeighbourId> {
        let on_link = self.interface(side).address.contains(&addr);
        if on_link && self.neighbours.find(side, addr).is_none() {
            self.meet(side, addr).ok()?;
        }
        self.update(side, addr, mac, now)
    }

    /// Takes note of the MAC address of a neighbour that has an entry, unless it is static.
    fn update(&mut self, side: Side, addr: Ipv4Addr, mac: Mac, now: Ticks) -> Option<NeighbourId> {
        let id = self.neighbours.find(side, addr)?;
        self.neighbours.confirm(id, mac, now).then_some(id)
    }
}

impl Interface {
    fn new(config: &SideConfig, routes: Prefixes<NextHop>, sources: Ordinary) -> Self {
        Interface {
            mac: config.mac,
            address: config.address,
            broadcasts: match config.address.prefix_len() {
                31.. => [Ipv4Addr::BROADCAST; 2],
                _ => [config.address.network(), config.address.broadcast()],
            },
            vlan: config.vlan.unwrap_or(Layout::UNTAGGED),
            mtu: config.mtu,
            routes,
            sources,
            errors: TokenBucket::new(ICMP_ERRORS_PER_TICK, ICMP_ERRORS_BURST),
        }
    }

    /// Whether `addr` stands for all stations of the connected network.
    #[inline]
    fn is_broadcast(&self, addr: Ipv4Addr) -> bool {
        self.broadcasts.contains(&addr)
    }
}

/// The next hop cannot be reached (RFC 1812, 4.3.3.1).
const UNREACHABLE: Refusal =
    Refusal { reason: DropReason::NeighbourUnreachable, error: Some(IcmpError::HOST_UNREACHABLE) };
