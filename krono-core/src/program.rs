//! What a program is: a deterministic state machine over values.

use crate::checksum::{Delta, Sum};
use crate::drop::DropReason;
use crate::packet::{Endpoint, PacketMeta, Side};
use crate::time::{Moment, Ticks};

/// A stateful packet program: NAT, firewall, load balancer …
///
/// It never sees bytes, clocks, sockets, threads or DPDK. Time comes from the record alone, and
/// seeds are drawn once and handed in, so that replicas which step on the same records hold the
/// same state.
///
/// The verbs are run over a whole burst each, to hide memory latency. **A probe is a hint**:
/// earlier packets of the burst insert, delete and displace, so `step` must decide the same with
/// any stale probe, the default one included.
pub trait Program {
    /// The few bytes of a packet that the state depends on.
    type Record: Copy + Default;
    /// What `probe` and `touch` found out about where the state for a record lies.
    type Probe: Copy + Default;
    /// A change of the state, for replication, logs and live views.
    type Event;

    /// The record of a packet that arrived at `side`.
    fn record(meta: &PacketMeta, side: Side, now: Moment) -> Self::Record;

    /// Hashes the record's key and prefetches the first line of its place in the table.
    fn probe(&self, record: &Self::Record) -> Self::Probe;

    /// Matches tags and prefetches the entry itself. True if there is more to fetch, which can be
    /// known only when what was asked for now has come: then it is called once more, after the rest
    /// of the burst. That must end soon. `look` counts the calls for a packet, from 0. A program
    /// whose state lies in the lines that `probe` fetched has nothing to do here.
    #[inline]
    fn touch(&self, _record: &Self::Record, _probe: &mut Self::Probe, _look: u32) -> bool {
        false
    }

    /// Decides the packet and changes the state.
    fn step(
        &mut self,
        record: &Self::Record,
        probe: &Self::Probe,
        events: &mut impl Events<Self::Event>,
    ) -> Verdict;

    /// [`Program::step`] for most packets that arrive at a side: UDP and TCP that changes nothing but
    /// its session's time and numbers, and leaves on the other side with its inside end translated.
    /// The translation of that end; `None`, and nothing done, if it is another packet, or may be.
    ///
    /// `step` decides the same if it is asked instead.
    #[inline]
    fn pass(&mut self, _side: Side, _record: &Self::Record, _probe: &Self::Probe) -> Option<Slot> {
        None
    }

    /// The translation that a verdict of the latest `step` or `pass` named.
    ///
    /// # Panics
    /// If none did, as with a program that translates nothing, which need not have this.
    fn translation(&self, slot: Slot) -> &Translation {
        unreachable!("{slot:?}: this program translates nothing")
    }

    /// Lets time pass: expires a bounded number of entries. True if there may be more that are
    /// due by now, so that the caller comes again soon.
    fn tick(&mut self, now: Ticks, events: &mut impl Events<Self::Event>) -> bool;
}

/// Where a program's changes go, in order. `()` throws them away, as in replay of history.
pub trait Events<E> {
    /// Takes one change.
    fn emit(&mut self, event: E);
}

impl<E> Events<E> for () {
    #[inline]
    fn emit(&mut self, _: E) {}
}

impl<E> Events<E> for Vec<E> {
    fn emit(&mut self, event: E) {
        self.push(event);
    }
}

/// What is to become of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send it on through this side, translated as its source and as its destination ask for
    /// ([`Slot::NONE`]: left alone). Both are named for a hairpinned packet.
    Forward {
        /// Where it leaves.
        to: Side,
        /// The translation of its source: the source becomes `outside`.
        source: Slot,
        /// The translation of its destination: the destination becomes `inside`.
        destination: Slot,
    },
    /// Send it on through the side that it did not come from, as it is.
    Pass,
    /// Drop it.
    Drop(DropReason),
    /// Drop it and tell its sender.
    Reject(DropReason, IcmpError),
    /// It has done its work.
    Consume,
}

/// Names a translation within a program's state, from one `step` to the `apply` behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot(pub u32);

impl Slot {
    /// No translation.
    pub const NONE: Slot = Slot(u32::MAX);

    /// The translations of source and destination if this one is that of the inside end of a packet
    /// that arrived at `side`, and the other end stays as it is.
    #[inline]
    pub const fn inside_end(self, side: Side) -> (Slot, Slot) {
        match side {
            Side::Inside => (self, Slot::NONE),
            Side::Outside => (Slot::NONE, self),
        }
    }

    /// Whether a translation is named.
    #[inline]
    pub const fn is_some(self) -> bool {
        self.0 != u32::MAX
    }
}

/// A translation is data made once per session: two endpoints and what exchanging them does to
/// checksums. It is never changed while its session lives.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
)]
#[repr(C)]
pub struct Translation {
    /// Inside address, as in a packet.
    inside_addr: [u8; 4],
    /// Outside address, as in a packet.
    outside_addr: [u8; 4],
    /// Inside port.
    inside_port: u16,
    /// Outside port.
    outside_port: u16,
    /// What a one's complement sum over the address gains from inside to outside (RFC 1624).
    addr_delta: Delta,
    /// The same over the address and the port.
    flow_delta: Delta,
}

impl Translation {
    /// The translation between these two.
    pub fn new(inside: Endpoint, outside: Endpoint) -> Self {
        let addr = |endpoint: Endpoint| Sum::default().add_u32(endpoint.addr.to_bits());
        let flow = |endpoint: Endpoint| addr(endpoint).add_u16(endpoint.port);
        Translation {
            inside_addr: inside.addr.octets(),
            outside_addr: outside.addr.octets(),
            inside_port: inside.port,
            outside_port: outside.port,
            addr_delta: Delta::between(addr(inside), addr(outside)),
            flow_delta: Delta::between(flow(inside), flow(outside)),
        }
    }

    /// The subscriber's endpoint.
    #[inline]
    pub fn inside(&self) -> Endpoint {
        Endpoint::new(self.inside_addr.into(), self.inside_port)
    }

    /// The public endpoint.
    #[inline]
    pub fn outside(&self) -> Endpoint {
        Endpoint::new(self.outside_addr.into(), self.outside_port)
    }

    /// What the sum over an address gains by translating inside to outside.
    #[inline]
    pub fn addr_delta(&self) -> Delta {
        self.addr_delta
    }

    /// What the sum over address and port gains by translating inside to outside.
    #[inline]
    pub fn flow_delta(&self) -> Delta {
        self.flow_delta
    }
}

/// An ICMP error to be sent to a packet's sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError {
    /// ICMP type: 3 unreachable, 11 time exceeded, 12 parameter problem.
    pub kind: u8,
    /// ICMP code.
    pub code: u8,
    /// Next-hop MTU of "fragmentation needed" (RFC 1191), bytes; else 0.
    pub mtu: u16,
}

impl IcmpError {
    /// Time to live exceeded in transit.
    pub const TTL_EXCEEDED: IcmpError = IcmpError { kind: 11, code: 0, mtu: 0 };
    /// Network unreachable: no route.
    pub const NET_UNREACHABLE: IcmpError = IcmpError { kind: 3, code: 0, mtu: 0 };
    /// Host unreachable: the next hop does not answer, or no port is left (RFC 6888, REQ-11).
    pub const HOST_UNREACHABLE: IcmpError = IcmpError { kind: 3, code: 1, mtu: 0 };
    /// Port unreachable: nobody listens.
    pub const PORT_UNREACHABLE: IcmpError = IcmpError { kind: 3, code: 3, mtu: 0 };
    /// Communication administratively prohibited (RFC 1812, 5.2.7.1).
    pub const PROHIBITED: IcmpError = IcmpError { kind: 3, code: 13, mtu: 0 };

    /// Fragmentation needed and DF set, with the MTU of the way out (RFC 1191).
    pub const fn fragmentation_needed(mtu: u16) -> IcmpError {
        IcmpError { kind: 3, code: 4, mtu }
    }
}
