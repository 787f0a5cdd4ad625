//! Whether the parts of a profile fit together. What is already known to be mistaken is left out.

use ipnet::Ipv4Net;
use krono_config::mistake::{Place, Report, Wrong};
use krono_config::read::{Given, Marked};
use krono_config::values::{LCORES_MAX, ends, shown_size};
use krono_core::packet::Protocol;

use super::draft::{ChurnDraft, Draft, PortDraft, SubscribersDraft};
use crate::load::{End, Popularity, Sizes};

/// Ethernet's header and checksum, bytes.
const LINK_BYTES: u16 = 18;

/// Reports all mistakes of sense.
pub(super) fn check(draft: &Draft, report: &mut Report) {
    ports_are_two(draft, report);
    for port in [&draft.inside, &draft.outside].into_iter().flatten() {
        next_hop_is_on_link(port, report);
        frames_fit(draft, port, report);
    }
    networks_are_apart(draft, report);
    subscribers_fit(draft, report);
    lcores_are_distinct_and_mapped(draft, report);
    lcores_have_work(draft, report);
    flows_fit(draft, report);
    lengths_fit(draft, report);
    if let Given::Valid(churn) = &draft.churn {
        churn_adds_up(churn, draft, report);
    }
    end_comes(draft, report);
    ports_are_pseudo_random(draft, report);
    replay_is_alone(draft, report);
}

/// How many subscribers there are: as many as said, or one for every 16 flows.
pub(super) fn subscriber_count(draft: &SubscribersDraft, flows: u32) -> Option<u32> {
    const FLOWS_EACH: u32 = 16;
    let hosts = hosts(&draft.network.as_ref()?.value);
    match &draft.count {
        Given::Absent => Some(flows.div_ceil(FLOWS_EACH).min(hosts)),
        Given::Mistaken => None,
        Given::Valid(count) => Some(count.value),
    }
}

/// The lcores: those said, or those of the map, or lcore 0.
pub(super) fn lcores(draft: &Draft) -> Option<Vec<u16>> {
    match (&draft.lcores, draft.eal.as_ref().map(|eal| &eal.lcores)) {
        (Given::Valid(list), _) => {
            list.value.complete.then(|| list.value.items.iter().map(|lcore| lcore.value).collect())
        }
        (Given::Absent, Some(Given::Valid(map))) => Some(map.value.lcores.clone()),
        (Given::Absent, Some(Given::Absent)) => Some(vec![0]),
        _ => None,
    }
}

/// How many addresses hosts can have; a /31 and a /32 have no network and broadcast address.
fn hosts(network: &Ipv4Net) -> u32 {
    let addresses = 1u64 << (32 - network.prefix_len());
    let hosts = if network.prefix_len() >= 31 { addresses } else { addresses - 2 };
    u32::try_from(hosts).unwrap_or(u32::MAX)
}

fn ports_are_two(draft: &Draft, report: &mut Report) {
    let (Some(inside), Some(outside)) = (&draft.inside, &draft.outside) else { return };
    if let (Some(inside), Some(outside)) = (&inside.device, &outside.device)
        && inside.value.name() == outside.value.name()
    {
        let what = format!("{} is taken by {}", outside.value.name(), inside.place);
        report.mistake(&outside.place, Wrong::new(what, "a device of its own for each side"));
    }
    if let (Some(inside), Some(outside)) = (&inside.address, &outside.address)
        && inside.value.addr() == outside.value.addr()
    {
        let what = format!("{} is taken by {}", outside.value.addr(), inside.place);
        report.mistake(&outside.place, Wrong::new(what, "an address of its own for each side"));
    }
}

fn next_hop_is_on_link(port: &PortDraft, report: &mut Report) {
    let (Some(address), Some(next_hop)) = (&port.address, &port.next_hop) else { return };
    let (network, hop) = (address.value.trunc(), next_hop.value);
    let what = match ends(&network, hop) {
        _ if !network.contains(&hop) => format!("{hop} is not on-link"),
        _ if hop == address.value.addr() => format!("{hop} is our own address"),
        Some(end) => format!("{hop} is the {end} address"),
        None => return,
    };
    let expected = format!("the address of the device under test in {network}");
    report.mistake(&next_hop.place, Wrong::new(what, expected));
}

/// No frame is longer than a link's MTU allows.
fn frames_fit(draft: &Draft, port: &PortDraft, report: &mut Report) {
    let (Some(sizes), Some(mtu)) = (&draft.sizes, &port.mtu) else { return };
    let (longest, most) = (sizes.value.max(), mtu.value + LINK_BYTES);
    if matches!(draft.replay, Given::Absent) && longest > most {
        let what =
            format!("frames of {longest} bytes do not fit the mtu of {}, {}", mtu.value, mtu.place);
        let expected = format!("at most {most} bytes (mtu, 14 of header, 4 of checksum)");
        report.mistake(&sizes.place, Wrong::new(what, expected));
    }
}

/// Subscribers and servers are different hosts, behind the device under test.
fn networks_are_apart(draft: &Draft, report: &mut Report) {
    let subscribers = draft.subscribers.as_ref().and_then(|part| part.network.as_ref());
    let servers = draft.servers.as_ref().and_then(|part| part.network.as_ref());
    if let (Some(subscribers), Some(servers)) = (subscribers, servers)
        && overlap(&subscribers.value, &servers.value)
    {
        let what = format!("{} overlaps {}", servers.value, subscribers.place);
        report.mistake(&servers.place, Wrong::new(what, "addresses that no subscriber has"));
    }
    let links = [&draft.inside, &draft.outside].into_iter().flatten();
    for link in links.filter_map(|port| port.address.as_ref()) {
        for network in [subscribers, servers].into_iter().flatten() {
            if overlap(&link.value, &network.value) {
                let what = format!("{} overlaps the link of {}", network.value, link.place);
                let expected = "a network that the device under test routes to that address";
                report.mistake(&network.place, Wrong::new(what, expected));
            }
        }
    }
}

fn overlap(one: &Ipv4Net, other: &Ipv4Net) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}

fn subscribers_fit(draft: &Draft, report: &mut Report) {
    let Some(subscribers) = &draft.subscribers else { return };
    if let (Some(network), Given::Valid(count)) = (&subscribers.network, &subscribers.count)
        && count.value > hosts(&network.value)
    {
        let what = format!("{} has no addresses for {} subscribers", network.value, count.value);
        let expected = format!("at most {}, or a larger network", hosts(&network.value));
        report.mistake(&count.place, Wrong::new(what, expected));
    }
}

fn lcores_are_distinct_and_mapped(draft: &Draft, report: &mut Report) {
    let Given::Valid(list) = &draft.lcores else { return };
    if list.value.items.is_empty() && list.value.complete {
        let expected = format!("1 to {LCORES_MAX} lcores");
        report.mistake(&list.place, Wrong::new("the list is empty", expected));
    }
    let list = &list.value;
    for (index, lcore) in list.items.iter().enumerate() {
        let first = list.items[..index].iter().find(|other| other.value == lcore.value);
        if let Some(first) = first {
            let what = format!("{} is taken by {}", lcore.value, first.place);
            report.mistake(&lcore.place, Wrong::new(what, "each lcore once"));
        }
        if let Some(Given::Valid(map)) = draft.eal.as_ref().map(|eal| &eal.lcores)
            && !map.value.lcores.contains(&lcore.value)
        {
            let what = format!("lcore {} is not in {}", lcore.value, map.place);
            report.mistake(&lcore.place, Wrong::new(what, format!("one of {}", map.value.text)));
        }
    }
}

/// Each lcore has a share of subscribers and flows that is not empty.
fn lcores_have_work(draft: &Draft, report: &mut Report) {
    let (Some(flows), Some(lcores)) = (&draft.flows, lcores(draft)) else { return };
    let lcores = lcores.len() as u32;
    if lcores > flows.value {
        let what = format!("{} flows are too few for {lcores} lcores", flows.value);
        report.mistake(&flows.place, Wrong::new(what, format!("{lcores} or more")));
        return;
    }
    let Some(subscribers) = &draft.subscribers else { return };
    let Some(network) = &subscribers.network else { return };
    let Some(count) = subscriber_count(subscribers, flows.value) else { return };
    if count < lcores {
        let place = match &subscribers.count {
            Given::Valid(count) => &count.place,
            _ => &network.place,
        };
        let what = format!("{count} subscribers are too few for {lcores} lcores");
        report.mistake(place, Wrong::new(what, format!("{lcores} or more")));
    }
}

/// There are endpoints of subscribers for all flows.
fn flows_fit(draft: &Draft, report: &mut Report) {
    let (Some(flows), Some(subscribers)) = (&draft.flows, &draft.subscribers) else { return };
    let Some(ports) = &subscribers.ports else { return };
    let Some(count) = subscriber_count(subscribers, flows.value) else { return };
    let Some(shares) = draft.protocols else { return };
    let each = u64::from(ports.value.end() - ports.value.start()) + 1;
    let (most, shares_all) = (
        shares.iter().copied().max().map_or(0, u64::from),
        shares.iter().copied().map(u64::from).sum::<u64>(),
    );
    // Protocols have ports of their own; the largest share is the tightest.
    let endpoints = u64::from(count) * each;
    let room = endpoints.saturating_mul(shares_all) / most.max(1);
    if u64::from(flows.value) > room {
        let what = format!(
            "{} flows do not fit in {count} subscribers with {each} ports each",
            flows.value
        );
        report.mistake(&flows.place, Wrong::new(what, format!("at most {room}")));
    }
}

/// Measured lengths end flows, and measured sizes go by lengths.
fn lengths_fit(draft: &Draft, report: &mut Report) {
    let Some(popularity) = &draft.popularity else { return };
    let by_length = popularity.value == Popularity::Agh2015;
    if let Given::Valid(churn) = &draft.churn
        && by_length
    {
        let what = "flows end by their lengths with popularity: agh-2015";
        report.mistake(&churn.place, Wrong::new(what, "no churn, or another popularity"));
    }
    if let Some(sizes) = &draft.sizes
        && sizes.value == Sizes::Agh2015
        && !by_length
    {
        let what = "these sizes go by the lengths of flows";
        report.mistake(&sizes.place, Wrong::new(what, "popularity: agh-2015 beside it"));
    }
}

/// Flows that live are those that come in a lifetime (Little's law).
fn churn_adds_up(churn: &ChurnDraft, draft: &Draft, report: &mut Report) {
    if let (Given::Absent, Given::Absent) = (&churn.arrivals, &churn.lifetime) {
        let wrong = Wrong::new("nothing is said about it", "arrivals, or lifetime");
        report.mistake(&churn.place, wrong);
    }
    let (Given::Valid(arrivals), Given::Valid(lifetime), Some(flows)) =
        (&churn.arrivals, &churn.lifetime, &draft.flows)
    else {
        return;
    };
    let live = arrivals.value * lifetime.value.as_secs_f64();
    if (live / f64::from(flows.value) - 1.0).abs() > 0.1 {
        let what = format!(
            "{} a second that live {} s are {live:.0} flows, not the {} of {}",
            arrivals.value,
            lifetime.value.as_secs_f64(),
            flows.value,
            flows.place
        );
        report.mistake(&churn.place, Wrong::new(what, "one of the two, or what fits"));
    }
}

/// So many sessions are opened some time.
fn end_comes(draft: &Draft, report: &mut Report) {
    let (Given::Valid(end), Some(flows)) = (&draft.end, &draft.flows) else { return };
    let stays = matches!(draft.churn, Given::Absent)
        && draft
            .popularity
            .as_ref()
            .is_some_and(|popularity| popularity.value != Popularity::Agh2015);
    match end.value {
        End::Sessions(sessions) if stays && sessions > u64::from(flows.value) => {
            let sessions = shown_size(sessions);
            let what = format!("{sessions} sessions are never opened: flows stay");
            let expected = format!("at most {}, or churn", flows.value);
            report.mistake(&end.place, Wrong::new(what, expected));
        }
        End::Sessions(_) if matches!(draft.replay, Given::Valid(_)) => {
            let what = "sessions of a capture are not known";
            report.mistake(&end.place, Wrong::new(what, "after, or packets"));
        }
        _ => {}
    }
}

/// Warns of ports that are not as RFC 4814 has them.
fn ports_are_pseudo_random(draft: &Draft, report: &mut Report) {
    let icmp_only = draft.protocols.is_some_and(|shares| {
        shares[Protocol::Udp as usize] == 0 && shares[Protocol::Tcp as usize] == 0
    });
    let mut warn = |ports: Option<&Marked<std::ops::RangeInclusive<u16>>>, first, last| {
        if let Some(Marked { value, place }) = ports
            && *value != (first..=last)
            && !icmp_only
        {
            let what = format!("{}-{} is not the range of RFC 4814, 4", value.start(), value.end());
            warning(place, what, format!("{first}-{last}, for results that compare"), report);
        }
    };
    warn(draft.subscribers.as_ref().and_then(|part| part.ports.as_ref()), 1024, 65_535);
    warn(draft.servers.as_ref().and_then(|part| part.ports.as_ref()), 1, 49_151);
}

/// Warns of what is said about packets and is not used where a capture is sent.
fn replay_is_alone(draft: &Draft, report: &mut Report) {
    if let Given::Valid(_) = draft.replay {
        for place in &draft.unused {
            let what = "a capture is sent as it is";
            warning(place, what.to_owned(), "replay without it".to_owned(), report);
        }
    }
}

fn warning(place: &Place, what: String, expected: String, report: &mut Report) {
    report.warning(place, Wrong::new(what, expected));
}
