//! What a NAT made of a plan: which packets came out, and as whom.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, VecDeque};
use std::hash::{Hash, Hasher};

use super::file::Frame;
use super::ipv4::{End, Endpoint, ICMP, IcmpKind, Packet};
use super::plan::{Planned, Side};

/// The public endpoint through which each packet of a plan reaches its subscriber, as far as it
/// is known; by the packet's number.
pub type PublicEndpoints = Vec<Option<Endpoint>>;

/// The packet as it must be sent to the NAT.
pub fn entering(planned: &Planned, public: Option<Endpoint>, nowhere: Endpoint) -> Packet {
    let mut packet = planned.packet.clone();
    if planned.side == Side::Inside {
        return packet;
    }
    let public = public.unwrap_or(nowhere);
    match planned.quote {
        Some(quote) => {
            packet.set_address(End::Destination, public.0);
            packet.set_quoted_endpoint(quote, End::Source, public);
        }
        None => packet.set_endpoint(End::Destination, public),
    }
    packet
}

/// What came out of one side, packet by packet.
#[derive(Debug, Default)]
pub struct Matched {
    /// For each packet of the plan, its form on the other side, if it came out: the frame's
    /// number in the output file, and the packet.
    pub outputs: HashMap<usize, (usize, Packet)>,
    /// Frames that are no packet of the plan, which the NAT made itself.
    pub originated: usize,
}

/// Finds the packets of a plan that entered at `side` in the frames that left at the other.
///
/// The NAT keeps the order, so a frame is the first packet after the one before it that has all
/// in common with it which translation leaves as it is, one hop on.
pub fn match_outputs(plan: &[Planned], side: Side, frames: &[Frame]) -> Matched {
    let local = side.local_end();
    let mut waiting: HashMap<u64, VecDeque<usize>> = HashMap::new();
    for (number, planned) in plan.iter().enumerate().filter(|(_, p)| p.side == side) {
        let mut packet = planned.packet.clone();
        packet.decrement_ttl();
        waiting.entry(fingerprint(&packet, local)).or_default().push_back(number);
    }
    let mut matched = Matched::default();
    let mut next = 0;
    for (frame_number, frame) in frames.iter().enumerate() {
        let packet = Packet::in_frame(&frame.bytes).ok();
        let number = packet.as_ref().and_then(|packet| {
            let candidates = waiting.get_mut(&fingerprint(packet, local))?;
            while *candidates.front()? < next {
                candidates.pop_front();
            }
            candidates.pop_front()
        });
        match (number, packet) {
            (Some(number), Some(packet)) => {
                next = number + 1;
                matched.outputs.insert(number, (frame_number, packet));
            }
            _ => matched.originated += 1,
        }
    }
    matched
}

fn fingerprint(packet: &Packet, local: End) -> u64 {
    let mut hasher = DefaultHasher::new();
    packet.unchanged_by_translation(local).hash(&mut hasher);
    hasher.finish()
}

/// Reads the public endpoints of a plan's subscribers off what came out on the outside.
pub fn public_endpoints(plan: &[Planned], outside: &Matched) -> PublicEndpoints {
    let mut current: HashMap<(u8, Endpoint), Endpoint> = HashMap::new();
    let mut found = vec![None; plan.len()];
    for (number, planned) in plan.iter().enumerate() {
        let is_error =
            planned.packet.protocol() == ICMP && planned.packet.icmp_kind() == IcmpKind::Error;
        if let Some((_, packet)) = outside.outputs.get(&number).filter(|_| !is_error) {
            current.insert(planned.subscriber, packet.endpoint(End::Source));
        }
        found[number] = current.get(&planned.subscriber).copied();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::ipv4::UDP;
    use super::super::ipv4::tests::{udp, unreachable};
    use super::super::plan::Plan;
    use super::*;
    use std::net::Ipv4Addr;

    const CLIENT: Endpoint = (Ipv4Addr::new(192, 168, 1, 2), 4000);
    const SERVER: Endpoint = (Ipv4Addr::new(203, 0, 113, 9), 80);
    const PUBLIC: Endpoint = (Ipv4Addr::new(198, 51, 100, 1), 7777);
    const NOWHERE: Endpoint = (Ipv4Addr::new(198, 51, 100, 0), 1);

    fn plan(frames: &[Vec<u8>]) -> Vec<Planned> {
        let mut plan = Plan::default();
        let frame = |bytes: &Vec<u8>| Frame { time_us: 0, bytes: bytes.clone() };
        plan.add(&frames.iter().map(frame).collect::<Vec<_>>());
        plan.packets
    }

    /// What a NAT sends for a packet that enters on the inside.
    fn translated(planned: &Planned) -> Frame {
        let mut packet = planned.packet.clone();
        packet.decrement_ttl();
        packet.set_endpoint(End::Source, PUBLIC);
        Frame { time_us: 0, bytes: packet.frame([0; 6], [0; 6]) }
    }

    #[test]
    fn what_came_out_shows_the_public_endpoint() {
        let plan = plan(&[
            udp(CLIENT, SERVER, b"lost"),
            udp(SERVER, CLIENT, b"too early"),
            udp(CLIENT, SERVER, b"passed"),
            udp(SERVER, CLIENT, b"answer"),
        ]);
        let own = Frame { time_us: 0, bytes: udp(PUBLIC, SERVER, b"the NAT's own") };
        let outputs = [own, translated(&plan[2])];
        let matched = match_outputs(&plan, Side::Inside, &outputs);
        assert_eq!(matched.originated, 1);
        assert_eq!(matched.outputs.keys().collect::<Vec<_>>(), [&2]);
        assert_eq!(matched.outputs[&2].0, 1);
        let public = public_endpoints(&plan, &matched);
        assert_eq!(public, [None, None, Some(PUBLIC), Some(PUBLIC)]);
        assert_eq!(plan[2].subscriber.0, UDP);
    }

    #[test]
    fn packets_enter_from_outside_at_the_public_endpoint() {
        let question = udp(CLIENT, SERVER, b"?");
        let error = unreachable(SERVER.0, CLIENT.0, &question);
        let plan = plan(&[question, udp(SERVER, CLIENT, b"!"), error]);
        assert_eq!(entering(&plan[0], Some(PUBLIC), NOWHERE), plan[0].packet);
        let answer = entering(&plan[1], Some(PUBLIC), NOWHERE);
        assert_eq!(answer.endpoint(End::Destination), PUBLIC);
        assert_eq!(entering(&plan[1], None, NOWHERE).endpoint(End::Destination), NOWHERE);
        let error = entering(&plan[2], Some(PUBLIC), NOWHERE);
        assert_eq!(error.address(End::Destination), PUBLIC.0);
        assert_eq!(error.quote().map(|quote| quote.source), Some(PUBLIC));
        assert!(error.icmp_checksum_is_right());
    }

    #[test]
    fn packets_that_look_alike_are_told_apart_by_their_order() {
        let (twin, other) = (udp(CLIENT, SERVER, b"twin"), udp(CLIENT, SERVER, b"other"));
        let plan = plan(&[twin.clone(), other, twin]);
        let outputs = [translated(&plan[1]), translated(&plan[2])];
        let matched = match_outputs(&plan, Side::Inside, &outputs);
        assert_eq!(matched.outputs.len(), 2);
        assert!(matched.outputs.contains_key(&1) && matched.outputs.contains_key(&2));
    }

    #[test]
    fn a_packet_whose_hop_was_not_counted_is_not_recognised() {
        let plan = plan(&[udp(CLIENT, SERVER, b"x")]);
        let unchanged = Frame { time_us: 0, bytes: plan[0].packet.frame([0; 6], [0; 6]) };
        assert_eq!(match_outputs(&plan, Side::Inside, &[unchanged]).originated, 1);
    }
}
