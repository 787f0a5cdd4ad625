//! Who is inside, who is outside, and which packets a NAT must let through.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use super::file::Frame;
use super::ipv4::{End, Endpoint, ICMP, IcmpKind, Packet, Quote, TCP, UDP, Unfit};

/// Gaps between packets are cut to this, microseconds: some captures are several put together,
/// years apart, and some run backwards.
const GAP_MAX_US: u64 = 30_000_000;

/// When a plan's time begins, in microseconds since 1970.
const START_US: u64 = 1_000_000_000_000_000;

/// The first subscriber's address less one: the shared address space of RFC 6598.
const SUBSCRIBERS: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 0);

/// Stand-ins for remote addresses that no router forwards to, less one (RFC 2544's benchmarks).
const STAND_INS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);

/// A side of the NAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The subscribers'.
    Inside,
    /// The Internet's.
    Outside,
}

impl Side {
    /// The end of a packet that enters here which the NAT translates.
    pub const fn local_end(self) -> End {
        match self {
            Side::Inside => End::Source,
            Side::Outside => End::Destination,
        }
    }
}

/// Why a packet need not come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Excuse {
    /// Its flow has not been opened by a packet from inside that is itself without excuse.
    NotOpen,
    /// From or to a multicast or broadcast address.
    NotUnicast,
    /// Its time to live ends at the NAT.
    TtlEnds,
    /// Its TCP flags never occur in a connection.
    Flags,
    /// A port is 0.
    PortZero,
    /// It carries a source route.
    SourceRoute,
    /// An ICMP message that is neither a query nor an error.
    IcmpType,
    /// An ICMP error with a wrong checksum, or that quotes a bad packet.
    BadError,
}

impl Excuse {
    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Excuse::NotOpen => "flow not opened",
            Excuse::NotUnicast => "not unicast",
            Excuse::TtlEnds => "TTL ends here",
            Excuse::Flags => "impossible TCP flags",
            Excuse::PortZero => "port 0",
            Excuse::SourceRoute => "source route",
            Excuse::IcmpType => "other ICMP type",
            Excuse::BadError => "bad ICMP error",
        }
    }
}

/// A packet to be sent to the NAT.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Which capture it is from, by the order of [`Plan::add`].
    pub capture: usize,
    /// When, in microseconds since 1970; strictly increasing.
    pub time_us: u64,
    /// Where it enters.
    pub side: Side,
    /// The packet with the subscriber's inside endpoint, whichever way it goes: as it must look
    /// on the inside.
    pub packet: Packet,
    /// The subscriber's inside endpoint, and the protocol.
    pub subscriber: (u8, Endpoint),
    /// The packet that it quotes, if it is an ICMP error.
    pub quote: Option<Quote>,
    /// Why it need not come out, if so.
    pub excuse: Option<Excuse>,
}

/// One conversation, as the sender of its first packet sees it.
#[derive(Debug)]
struct Flow {
    inside: Endpoint,
    outside: Endpoint,
    is_open: bool,
}

/// A conversation whoever speaks: protocol and both ends, the lower one first.
type FlowKey = (u8, Endpoint, Endpoint);

/// All captures made ready, one after the other, with disjoint subscribers.
#[derive(Debug, Default)]
pub struct Plan {
    /// What to send, in order.
    pub packets: Vec<Planned>,
    /// How many frames cannot be sent, and why.
    pub unfit: HashMap<Unfit, usize>,
    /// How many captures were added.
    pub captures: usize,
    /// How many frames they held.
    pub frames: usize,
    /// How many flows were found.
    pub flows: usize,
    subscribers: u32,
    stand_ins: HashMap<Ipv4Addr, Ipv4Addr>,
    now_us: u64,
}

/// What belongs to the capture that is being added.
#[derive(Default)]
struct Current {
    flows: HashMap<FlowKey, Flow>,
    subscribers: HashMap<Ipv4Addr, Ipv4Addr>,
}

impl Plan {
    /// Adds the frames of one capture.
    pub fn add(&mut self, frames: &[Frame]) {
        let mut current = Current::default();
        let mut before_us = frames.first().map_or(0, |frame| frame.time_us);
        self.now_us = self.now_us.max(START_US) + GAP_MAX_US;
        for frame in frames {
            let gap_us = frame.time_us.saturating_sub(before_us).clamp(1, GAP_MAX_US);
            (before_us, self.now_us) = (frame.time_us, self.now_us + gap_us);
            match Packet::in_frame(&frame.bytes) {
                Ok(packet) => self.add_packet(packet, &mut current),
                Err(unfit) => *self.unfit.entry(unfit).or_default() += 1,
            }
        }
        self.frames += frames.len();
        self.flows += current.flows.len();
        self.captures += 1;
    }

    fn add_packet(&mut self, mut packet: Packet, current: &mut Current) {
        let is_error = packet.protocol() == ICMP && packet.icmp_kind() == IcmpKind::Error;
        let quote = packet.quote().filter(|_| is_error);
        let (key, speaker) = flow_of(&packet, quote.as_ref());
        let flow = current.flows.entry(key).or_insert_with(|| {
            let outside = if key.1 == speaker { key.2 } else { key.1 };
            Flow { inside: speaker, outside, is_open: false }
        });
        let side = if speaker == flow.inside { Side::Inside } else { Side::Outside };
        let mut excuse = own_excuse(&packet, quote.as_ref());
        if excuse.is_none() {
            flow.is_open |= side == Side::Inside && opens(&packet);
            let passes = flow.is_open && !is_query_backwards(&packet, side);
            excuse = (!passes).then_some(Excuse::NotOpen);
        }
        let (inside, outside) = (flow.inside, flow.outside);
        let subscriber = self.subscriber(inside.0, current);
        self.readdress(&mut packet, quote, side, subscriber, outside.0, current);
        self.packets.push(Planned {
            capture: self.captures,
            time_us: self.now_us,
            side,
            quote: packet.quote().filter(|_| is_error),
            packet,
            subscriber: (key.0, (subscriber, inside.1)),
            excuse,
        });
    }

    /// Gives a packet the subscriber's new address, and the remote end one that can be reached.
    fn readdress(
        &mut self,
        packet: &mut Packet,
        quote: Option<Quote>,
        side: Side,
        subscriber: Ipv4Addr,
        outside: Ipv4Addr,
        current: &mut Current,
    ) {
        let local = side.local_end();
        let remote = if local == End::Source { End::Destination } else { End::Source };
        let remote_address = self.reachable(packet.address(remote));
        // A router may report what it saw of a subscriber's packet: it is inside, too.
        let local_address = match quote {
            Some(_) => self.subscriber(packet.address(local), current),
            None => subscriber,
        };
        packet.set_address(remote, remote_address);
        packet.set_address(local, local_address);
        if let Some(quote) = quote {
            packet.set_quoted_address(quote, remote, subscriber);
            packet.set_quoted_address(quote, local, self.reachable(outside));
        }
        // Many captures hold headers as they were before the hardware completed them.
        packet.correct_header_checksum();
    }

    /// The address that stands for this inside host of the current capture.
    fn subscriber(&mut self, host: Ipv4Addr, current: &mut Current) -> Ipv4Addr {
        let next = &mut self.subscribers;
        *current.subscribers.entry(host).or_insert_with(|| {
            *next += 1;
            Ipv4Addr::from(SUBSCRIBERS.to_bits() + *next)
        })
    }

    /// `remote`, or what stands for it if a router would not forward to it, or if it is one of
    /// the addresses around the NAT. Groups are left alone: they are not to be forwarded to.
    fn reachable(&mut self, remote: Ipv4Addr) -> Ipv4Addr {
        let [first, second, ..] = remote.octets();
        let is_taken = matches!((first, second), (100, 64..128) | (198, 18 | 19 | 51) | (192, 0));
        let is_martian = first == 0 || first == 127 || first >= 240 || remote.is_link_local();
        if is_group(remote) || !(is_taken || is_martian) {
            return remote;
        }
        let next = self.stand_ins.len() as u32 + 1;
        *self.stand_ins.entry(remote).or_insert(Ipv4Addr::from(STAND_INS.to_bits() + next))
    }
}

fn is_group(address: Ipv4Addr) -> bool {
    address.is_multicast() || address.is_broadcast()
}

/// The flow that a packet belongs to, and which end of it sent the packet. An error about a
/// packet belongs to that packet's flow, and to the end that received the packet.
fn flow_of(packet: &Packet, quote: Option<&Quote>) -> (FlowKey, Endpoint) {
    let (protocol, speaker, other) = match quote {
        Some(quote) => (quote.protocol, quote.destination, quote.source),
        None => {
            (packet.protocol(), packet.endpoint(End::Source), packet.endpoint(End::Destination))
        }
    };
    ((protocol, speaker.min(other), speaker.max(other)), speaker)
}

/// Why the packet need not come out, whatever happened before it.
fn own_excuse(packet: &Packet, quote: Option<&Quote>) -> Option<Excuse> {
    let (source, destination) = (packet.endpoint(End::Source), packet.endpoint(End::Destination));
    let protocol = packet.protocol();
    let is_error = protocol == ICMP && packet.icmp_kind() == IcmpKind::Error;
    let has_ports = protocol != ICMP;
    let is_bad_error = || {
        !packet.icmp_checksum_is_right()
            || quote.is_none_or(|quote| {
                !quote.checksum_is_right || !matches!(quote.protocol, ICMP | TCP | UDP)
            })
    };
    if is_group(source.0) || is_group(destination.0) {
        Some(Excuse::NotUnicast)
    } else if packet.ttl() <= 1 {
        Some(Excuse::TtlEnds)
    } else if packet.is_source_routed() {
        Some(Excuse::SourceRoute)
    } else if protocol == TCP && packet.has_impossible_flags() {
        Some(Excuse::Flags)
    } else if has_ports && (source.1 == 0 || destination.1 == 0) {
        Some(Excuse::PortZero)
    } else if protocol == ICMP && packet.icmp_kind() == IcmpKind::Other {
        Some(Excuse::IcmpType)
    } else if is_error && is_bad_error() {
        Some(Excuse::BadError)
    } else {
        None
    }
}

/// Whether this is an answer from inside or a query from outside, which belong to no flow that was
/// opened from inside, though with the identifier 0 they look as if they did.
fn is_query_backwards(packet: &Packet, side: Side) -> bool {
    let wrong = if side == Side::Inside { IcmpKind::Reply } else { IcmpKind::Request };
    packet.protocol() == ICMP && packet.icmp_kind() == wrong
}

/// Whether a packet from inside opens a flow.
fn opens(packet: &Packet) -> bool {
    match packet.protocol() {
        TCP => packet.is_tcp_opening(),
        UDP => true,
        _ => packet.icmp_kind() == IcmpKind::Request,
    }
}

#[cfg(test)]
mod tests {
    use super::super::ipv4::tests::{icmp, tcp, udp, unreachable};
    use super::*;
    use etherparse::{IcmpEchoHeader, Icmpv4Type};

    const CLIENT: Endpoint = (Ipv4Addr::new(192, 168, 1, 2), 4000);
    const SERVER: Endpoint = (Ipv4Addr::new(203, 0, 113, 9), 80);
    const FIRST_SUBSCRIBER: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);

    fn plan(captures: &[&[Vec<u8>]]) -> Plan {
        let mut plan = Plan::default();
        for capture in captures {
            // Time stands still, then jumps by years.
            let frame = |(i, bytes): (usize, &Vec<u8>)| Frame {
                time_us: if i < 2 { 7 } else { 1 << 50 },
                bytes: bytes.clone(),
            };
            plan.add(&capture.iter().enumerate().map(frame).collect::<Vec<_>>());
        }
        plan
    }

    fn fates(plan: &Plan) -> Vec<(Side, Option<Excuse>)> {
        plan.packets.iter().map(|planned| (planned.side, planned.excuse)).collect()
    }

    #[test]
    fn the_first_sender_is_inside_and_gets_a_subscribers_address() {
        let frames = [
            tcp(CLIENT, SERVER, |header| header.syn = true),
            tcp(SERVER, CLIENT, |header| (header.syn, header.ack) = (true, true)),
            tcp(CLIENT, SERVER, |header| header.ack = true),
        ];
        let plan = plan(&[&frames, &frames]);
        assert_eq!((plan.captures, plan.frames, plan.flows), (2, 6, 2));
        let [inside, outside] = [(Side::Inside, None), (Side::Outside, None)];
        assert_eq!(fates(&plan), [inside, outside, inside, inside, outside, inside]);
        for (planned, host) in plan.packets.iter().zip([1, 1, 1, 2, 2, 2]) {
            let subscriber = (Ipv4Addr::new(100, 64, 0, host), CLIENT.1);
            assert_eq!(planned.subscriber, (TCP, subscriber));
            assert_eq!(planned.packet.endpoint(planned.side.local_end()), subscriber);
        }
        let times: Vec<u64> = plan.packets.iter().map(|planned| planned.time_us).collect();
        let gap_is_sane = |pair: &[u64]| (1..=2 * GAP_MAX_US).contains(&(pair[1] - pair[0]));
        assert!(times.windows(2).all(gap_is_sane), "{times:?}");
    }

    #[test]
    fn a_flow_seen_from_its_middle_is_not_open_until_it_opens() {
        let plan = plan(&[&[
            tcp(SERVER, CLIENT, |header| header.ack = true),
            tcp(CLIENT, SERVER, |header| header.syn = true),
            tcp(SERVER, CLIENT, |header| header.syn = true),
            tcp(CLIENT, SERVER, |header| header.ack = true),
        ]]);
        let closed = Some(Excuse::NotOpen);
        let expected = [
            (Side::Inside, closed),
            (Side::Outside, closed),
            (Side::Inside, None),
            (Side::Outside, None),
        ];
        assert_eq!(fates(&plan), expected);
    }

    #[test]
    fn an_error_belongs_to_the_flow_that_it_is_about() {
        let router = Ipv4Addr::new(198, 18, 5, 5);
        let question = udp(CLIENT, SERVER, b"?");
        let answer = udp(SERVER, CLIENT, b"!");
        let plan = plan(&[&[
            question.clone(),
            unreachable(router, CLIENT.0, &question),
            unreachable(CLIENT.0, SERVER.0, &answer),
            unreachable(router, CLIENT.0, &udp(CLIENT, (SERVER.0, 81), b"never sent")),
        ]]);
        let expected = [
            (Side::Inside, None),
            (Side::Outside, None),
            (Side::Inside, None),
            (Side::Inside, Some(Excuse::NotOpen)),
        ];
        assert_eq!(fates(&plan)[..3], expected[..3]);
        assert_eq!(fates(&plan)[3].1, expected[3].1);
        let subscriber = (FIRST_SUBSCRIBER, CLIENT.1);
        let from_outside = &plan.packets[1];
        assert_eq!(from_outside.packet.address(End::Destination), FIRST_SUBSCRIBER);
        assert_eq!(from_outside.quote.unwrap().source, subscriber);
        // 198.18.0.0/15 holds the stand-ins, so the router has one.
        assert_eq!(from_outside.packet.address(End::Source), Ipv4Addr::new(198, 18, 0, 1));
        let from_inside = &plan.packets[2];
        assert_eq!(from_inside.packet.address(End::Source), FIRST_SUBSCRIBER);
        assert_eq!(from_inside.quote.unwrap().destination, subscriber);
        assert!(
            plan.packets.iter().all(|planned| planned.packet.protocol() != ICMP
                || planned.packet.icmp_checksum_is_right())
        );
    }

    #[test]
    fn an_error_about_a_query_keeps_its_identifier() {
        let echo = Icmpv4Type::EchoRequest(IcmpEchoHeader { id: 9, seq: 1 });
        let query = icmp(CLIENT.0, SERVER.0, echo, b"x");
        let plan = plan(&[&[query.clone(), unreachable(SERVER.0, CLIENT.0, &query)]]);
        assert_eq!(fates(&plan), [(Side::Inside, None), (Side::Outside, None)]);
        let quote = plan.packets[1].quote.unwrap();
        assert_eq!((quote.source, quote.destination), ((FIRST_SUBSCRIBER, 9), (SERVER.0, 0)));
    }

    #[test]
    fn a_query_is_a_flow_of_whoever_asked() {
        let (host, other) = (CLIENT.0, SERVER.0);
        let echo = IcmpEchoHeader { id: 9, seq: 1 };
        let plan = plan(&[&[
            icmp(host, other, Icmpv4Type::EchoRequest(echo), b"x"),
            icmp(other, host, Icmpv4Type::EchoReply(echo), b"x"),
            icmp(other, host, Icmpv4Type::EchoRequest(echo), b"x"),
            icmp(host, other, Icmpv4Type::EchoReply(IcmpEchoHeader { id: 8, seq: 1 }), b"x"),
        ]]);
        let expected = [
            (Side::Inside, None),
            (Side::Outside, None),
            (Side::Inside, None),
            (Side::Inside, Some(Excuse::NotOpen)),
        ];
        assert_eq!(fates(&plan), expected);
    }

    #[test]
    fn an_answer_does_not_follow_its_own_query() {
        let (host, other, echo) = (CLIENT.0, SERVER.0, IcmpEchoHeader { id: 0, seq: 1 });
        let plan = plan(&[&[
            icmp(host, other, Icmpv4Type::EchoRequest(echo), b"x"),
            icmp(host, other, Icmpv4Type::EchoReply(echo), b"x"),
            icmp(other, host, Icmpv4Type::EchoReply(echo), b"x"),
        ]]);
        let expected =
            [(Side::Inside, None), (Side::Inside, Some(Excuse::NotOpen)), (Side::Outside, None)];
        assert_eq!(fates(&plan), expected);
    }

    #[test]
    fn packets_that_no_router_forwards_are_excused() {
        let excuse = |frame: Vec<u8>| fates(&plan(&[&[frame]]))[0].1;
        let group = (Ipv4Addr::new(224, 0, 0, 251), 5353);
        assert_eq!(excuse(udp(CLIENT, group, b"x")), Some(Excuse::NotUnicast));
        assert_eq!(excuse(udp(CLIENT, (SERVER.0, 0), b"x")), Some(Excuse::PortZero));
        assert_eq!(excuse(tcp(CLIENT, SERVER, |_| ())), Some(Excuse::Flags));
        let mut last_hop = udp(CLIENT, SERVER, b"x");
        last_hop[14 + 8] = 1;
        assert_eq!(excuse(last_hop), Some(Excuse::TtlEnds));
        let mut wrong = unreachable(SERVER.0, CLIENT.0, &udp(CLIENT, SERVER, b"x"));
        *wrong.last_mut().unwrap() ^= 1;
        assert_eq!(excuse(wrong), Some(Excuse::BadError));
        let mut quoted = udp(CLIENT, SERVER, b"x");
        quoted[14 + 10] ^= 1;
        assert_eq!(excuse(unreachable(SERVER.0, CLIENT.0, &quoted)), Some(Excuse::BadError));
        // Where only the address is impossible, another stands for it.
        assert_eq!(excuse(udp(CLIENT, (Ipv4Addr::LOCALHOST, 53), b"x")), None);
    }
}
