//! RFC 6888 (carrier-grade NAT), requirement by requirement; static mappings, firewall, reload.

mod common;

use common::*;
use krono_core::drop::DropReason;
use krono_core::packet::{Endpoint, Protocol, Side};
use krono_core::time::Span;
use krono_nat::config::{Config, Filtering, Firewall, Policy, Rule, StaticMapping};

const HOST: &str = "100.64.0.1:5000";
const SERVER: &str = "203.0.113.1:53";

#[test]
fn rfc6888_req2_pooling_is_paired_across_protocols() {
    let mut bed = Bed::new(&config());
    for host in 1..=20 {
        let source = format!("100.64.0.{host}");
        let udp = bed.out(&format!("{source}:9"), SERVER).unwrap().addr;
        let tcp = bed.connect(&format!("{source}:9"), SERVER).addr;
        let icmp = bed.pass(Side::Inside, &ping(&source, 9, "203.0.113.1")).unwrap().src.addr;
        assert!(udp == tcp && tcp == icmp);
    }
}

#[test]
fn rfc6888_req4_a_subscriber_at_its_limit_is_told_while_others_go_on() {
    let mut bed = Bed::new(&Config { ports_per_subscriber: 10, ..config() });
    for port in 2000..2010 {
        bed.out(&format!("100.64.0.1:{port}"), SERVER).unwrap();
    }
    let refused = bed.out("100.64.0.1:3000", SERVER);
    assert_eq!(refused, Err(unreachable(DropReason::SubscriberPorts)));
    // Told once a second, not for every packet (RFC 6888, REQ-11; RFC 5508, REQ-10).
    assert_eq!(bed.out("100.64.0.1:3000", SERVER), Err(dropped(DropReason::SubscriberPorts)));
    bed.wait(1);
    assert_eq!(bed.out("100.64.0.1:3000", SERVER), Err(unreachable(DropReason::SubscriberPorts)));
    assert!(bed.out("100.64.0.2:3000", SERVER).is_ok());
    // The limit is per protocol, and new sessions of old mappings need no port.
    assert!(bed.tcp_out("100.64.0.1:3000", SERVER, syn(1)).is_ok());
    assert!(bed.out("100.64.0.1:2000", "203.0.113.2:1").is_ok());
}

#[test]
fn rfc6888_req6_excluded_destinations_are_not_translated() {
    let mut bed = Bed::new(&config());
    let excluded = "192.168.100.9:80";
    assert_eq!(bed.out(HOST, excluded), Ok(ep(HOST)));
    assert_eq!(bed.back(excluded, ep(HOST)), Ok(ep(HOST)));
    let public = bed.out(HOST, SERVER).unwrap();
    assert_ne!(public, ep(HOST));
    assert_eq!(bed.out(HOST, excluded), Ok(ep(HOST)));
    // The excluded network may open sessions too; nobody else reaches an inside address.
    assert_eq!(bed.back("192.168.100.8:1", ep("100.64.0.3:4")), Ok(ep("100.64.0.3:4")));
    assert_eq!(bed.back(SERVER, ep(HOST)), Err(dropped(DropReason::NotOurs)));
    assert_eq!(bed.back("192.168.100.8:1", ep("203.0.113.3:4")), Err(dropped(DropReason::NotOurs)));
    bed.wait(302);
    assert_eq!(bed.nat.counts(), krono_nat::Counts::default());
}

#[test]
fn two_endpoints_have_one_session_translated_or_not() {
    for sessions in [1, 2] {
        let mut bed = Bed::new(&filtering(Filtering::EndpointIndependent));
        let public = bed.out(HOST, SERVER).unwrap();
        if sessions == 2 {
            bed.out(HOST, "203.0.113.2:2").unwrap();
        }
        // An untranslated session is not open to the mapping's public endpoint.
        let excluded = "192.168.100.9:80";
        assert_eq!(bed.out(HOST, excluded), Ok(ep(HOST)));
        assert_eq!(bed.back(excluded, public), Err(dropped(DropReason::Filtered)));
        assert_eq!(bed.out(HOST, excluded), Ok(ep(HOST)));
        let about = |from: Endpoint| error("9.9.9.9", Protocol::Udp, from, ep(excluded));
        assert!(bed.pass(Side::Outside, &about(public)).is_err());
        assert_eq!(bed.pass(Side::Outside, &about(ep(HOST))).unwrap().dst, ep(HOST));
        // Nor is a translated one to the inside endpoint.
        let other = "192.168.100.7:80";
        assert_eq!(bed.back(other, public), Ok(ep(HOST)));
        for remote in [SERVER, "203.0.113.2:2", other] {
            assert_eq!(bed.back(remote, ep(HOST)), Err(dropped(DropReason::NotOurs)));
            let about = error("9.9.9.9", Protocol::Udp, ep(HOST), ep(remote));
            assert!(bed.pass(Side::Outside, &about).is_err());
        }
        assert_eq!(bed.out(HOST, other), Ok(public));
        bed.nat.assert_consistent();
        // Either way is open again when the session is over.
        bed.wait(302);
        assert_eq!(bed.out(HOST, other), Ok(ep(HOST)));
        assert_eq!(bed.back(other, ep(HOST)), Ok(ep(HOST)));
    }
}

#[test]
fn rfc6888_req8_a_freed_port_rests_for_the_hold_time() {
    // Ten ports at one address, all in use by one host, then all freed.
    let small =
        Config { pool: vec!["198.51.100.0/32".parse().unwrap()], ports: 2000..=2009, ..config() };
    let mut bed = Bed::new(&small);
    let fill = |bed: &mut Bed, host: &str| {
        (1..=10).filter(|port| bed.out(&format!("{host}:{port}"), SERVER).is_ok()).count()
    };
    assert_eq!(fill(&mut bed, "100.64.0.1"), 10);
    assert_eq!(bed.out("100.64.0.2:1", SERVER), Err(unreachable(DropReason::PortsExhausted)));
    bed.wait(302);
    assert_eq!(bed.nat.counts().mappings, 0);
    assert_eq!(fill(&mut bed, "100.64.0.2"), 0, "all ports are held");
    bed.wait(117);
    assert_eq!(fill(&mut bed, "100.64.0.2"), 0, "120 s have not passed");
    bed.wait(5);
    assert_eq!(fill(&mut bed, "100.64.0.2"), 10);
}

#[test]
fn rfc6888_req8_the_hold_time_is_configurable_down_to_none() {
    let mut settings =
        Config { pool: vec!["198.51.100.0/32".parse().unwrap()], ports: 2000..=2000, ..config() };
    settings.policy.timeouts.port_hold = Span(0);
    let mut bed = Bed::new(&settings);
    for host in 1..=5 {
        assert_eq!(bed.out(&format!("100.64.0.{host}:1"), SERVER).unwrap().port, 2000);
        bed.wait(302);
    }
}

#[test]
fn rfc6888_req11_exhaustion_never_ends_existing_mappings() {
    let mut bed = Bed::new(&Config { sessions: 50, ..config() });
    let old: Vec<Endpoint> = (0..50)
        .map(|port| bed.out(&format!("100.64.0.1:{}", 2000 + port), SERVER).unwrap())
        .collect();
    for port in 3000..3100 {
        let refused = bed.out(&format!("100.64.0.2:{port}"), SERVER).unwrap_err();
        assert!(
            refused == unreachable(DropReason::SessionsFull)
                || refused == dropped(DropReason::SessionsFull)
        );
        assert!(bed.out("100.64.0.1:2000", "203.0.113.7:7").is_err());
    }
    for (port, public) in old.iter().enumerate() {
        assert_eq!(bed.out(&format!("100.64.0.1:{}", 2000 + port), SERVER), Ok(*public));
        assert!(bed.back(SERVER, *public).is_ok());
    }
    bed.wait(302);
    assert!(bed.out("100.64.0.2:3000", SERVER).is_ok());
}

#[test]
fn rfc6888_req11_of_a_crowd_only_some_are_told_at_once() {
    let mut bed = Bed::new(&Config { sessions: 200, subscribers: 200, ..config() });
    for host in 0..200 {
        bed.out(&format!("100.64.1.{host}:2000"), SERVER).unwrap();
    }
    let told_of = |bed: &mut Bed| {
        let refused = |host| bed.out(&format!("100.64.1.{host}:3000"), SERVER).unwrap_err();
        let refused: Vec<_> = (0..200).map(refused).collect();
        let told = refused.iter().filter(|r| **r == unreachable(DropReason::SessionsFull)).count();
        let dropped = refused.iter().filter(|r| **r == dropped(DropReason::SessionsFull)).count();
        assert_eq!(told + dropped, 200);
        told
    };
    assert_eq!(told_of(&mut bed), 64);
    assert_eq!(told_of(&mut bed), 0);
    bed.wait(1);
    assert_eq!(told_of(&mut bed), 64, "others, or the same after a second");
}

#[test]
fn rfc6888_req11_sessions_without_room_for_a_permit_go_on() {
    let mut bed = Bed::new(&Config { sessions: 10, ..config() });
    let old: Vec<Endpoint> = (0..10)
        .map(|port| bed.out(&format!("100.64.0.1:{}", 2000 + port), SERVER).unwrap())
        .collect();
    let mut next = Policy { filtering: Filtering::AddressDependent, ..policy() };
    bed.nat.swap_policy(&mut next, bed.now, &mut bed.events).unwrap();
    for (port, public) in old.iter().enumerate() {
        assert_eq!(bed.out(&format!("100.64.0.1:{}", 2000 + port), SERVER), Ok(*public));
        assert!(bed.back(SERVER, *public).is_ok());
        bed.nat.assert_consistent();
    }
    bed.wait(200);
    assert_eq!(bed.out("100.64.0.1:2000", SERVER), Ok(old[0]));
    bed.wait(102);
    // There is room now, so the next packet opens the filter for the address.
    assert_eq!(bed.out("100.64.0.1:2000", SERVER), Ok(old[0]));
    assert!(bed.back("203.0.113.1:9", old[0]).is_ok());
}

#[test]
fn a_static_mapping_has_room_for_its_first_session_from_either_side() {
    let mut settings = with_static();
    settings.sessions = 5;
    let mut bed = Bed::new(&settings);
    for port in 1..5 {
        bed.out(&format!("100.64.0.1:{port}"), SERVER).unwrap();
    }
    assert!(bed.out("100.64.0.1:5", SERVER).is_err(), "the table is full");
    assert_eq!(bed.out("100.64.0.9:53", SERVER), Ok(web().outside));
    bed.wait(302);
    assert_eq!(bed.back(SERVER, web().outside), Ok(web().inside));
}

#[test]
fn subscribers_are_limited_too_and_forgotten_with_their_last_mapping() {
    let mut bed = Bed::new(&Config { subscribers: 3, ..config() });
    for host in 1..=3 {
        bed.out(&format!("100.64.0.{host}:1"), SERVER).unwrap();
    }
    let refused = bed.out("100.64.0.4:1", SERVER);
    assert_eq!(refused, Err(unreachable(DropReason::SubscribersFull)));
    bed.wait(302);
    assert_eq!(bed.nat.counts().subscribers, 0);
    assert!(bed.out("100.64.0.4:1", SERVER).is_ok());
}

fn web() -> StaticMapping {
    StaticMapping {
        protocol: Protocol::Udp,
        inside: ep("100.64.0.9:53"),
        outside: ep("198.51.100.2:53"),
    }
}

fn with_static() -> Config {
    Config { policy: Policy { statics: vec![web()], ..policy() }, ..config() }
}

#[test]
fn static_mappings_admit_everybody_and_never_end() {
    let mut bed = Bed::new(&with_static());
    for _ in 0..3 {
        assert_eq!(bed.back(SERVER, web().outside), Ok(web().inside));
        assert_eq!(bed.out("100.64.0.9:53", "203.0.113.8:8"), Ok(web().outside));
        bed.wait(1000);
    }
    assert_eq!(bed.nat.counts().mappings, 1);
    // The host's other ports are at the same public address (paired pooling).
    assert_eq!(bed.out("100.64.0.9:4000", SERVER).unwrap().addr, web().outside.addr);
}

#[test]
fn a_static_mapping_wins_over_a_dynamic_one_that_holds_its_port() {
    let one_port =
        Config { pool: vec!["198.51.100.2/32".parse().unwrap()], ports: 5353..=5353, ..config() };
    let mut bed = Bed::new(&one_port);
    let taken = bed.out(HOST, SERVER).unwrap();
    bed.out(HOST, "203.0.113.2:2").unwrap();
    let wanted = StaticMapping { outside: taken, ..web() };
    let mut reloaded = Policy { statics: vec![wanted], ..policy() };
    let now = bed.now;
    bed.nat.swap_policy(&mut reloaded, now, &mut bed.events).unwrap();
    assert_eq!(bed.back(SERVER, taken), Ok(wanted.inside));
    assert_eq!(bed.out(HOST, SERVER), Err(unreachable(DropReason::PortsExhausted)));
    assert_eq!(bed.nat.counts().mappings, 1);
    // And back: the port rests, then serves dynamic mappings again.
    bed.nat.swap_policy(&mut reloaded, now, &mut bed.events).unwrap();
    bed.wait(430);
    assert_eq!(bed.out(HOST, SERVER), Ok(taken));
}

#[test]
fn a_static_mapping_that_comes_back_finds_its_sessions_alive() {
    let mut bed = Bed::new(&with_static());
    bed.back(SERVER, web().outside).unwrap();
    bed.out("100.64.0.9:53", "203.0.113.8:8").unwrap();
    let mut other = policy();
    bed.nat.swap_policy(&mut other, bed.now, &mut bed.events).unwrap();
    assert_eq!(bed.back(SERVER, web().outside), Ok(web().inside), "open sessions stay open");
    assert_eq!(bed.back("203.0.113.9:9", web().outside), Err(dropped(DropReason::Filtered)));
    let events = bed.events.len();
    bed.nat.swap_policy(&mut other, bed.now, &mut bed.events).unwrap();
    assert_eq!(bed.events.len(), events, "nothing ended");
    assert_eq!(bed.back("203.0.113.9:9", web().outside), Ok(web().inside));
    bed.wait(400);
    assert_eq!(bed.nat.counts().mappings, 1);
}

#[test]
fn a_static_mapping_that_found_no_room_is_made_by_the_next_reload() {
    let mut bed = Bed::new(&Config { sessions: 5, ..config() });
    for port in 1..=5 {
        bed.out(&format!("100.64.0.1:{port}"), SERVER).unwrap();
    }
    let mut wanted = with_static().policy;
    let refused = bed.nat.swap_policy(&mut wanted, bed.now, &mut bed.events);
    assert_eq!(refused, Err(DropReason::SessionsFull));
    bed.wait(302);
    // A dynamic mapping of the endpoint has come to be in between.
    bed.out("100.64.0.9:53", SERVER).unwrap();
    let mut again = with_static().policy;
    bed.nat.swap_policy(&mut again, bed.now, &mut bed.events).unwrap();
    assert_eq!(bed.back("203.0.113.9:9", web().outside), Ok(web().inside));
    bed.nat.assert_consistent();
}

#[test]
fn a_static_mapping_of_a_host_with_every_port_of_an_address_is_refused_not_miscounted() {
    let mut bed = Bed::new(&Config {
        sessions: 70_000,
        ports: 1..=65535,
        ports_per_subscriber: u16::MAX,
        ..config()
    });
    let host = "100.64.0.9";
    let first = bed.out(&format!("{host}:1024"), SERVER).unwrap().addr;
    for port in (1..=65535).filter(|port| *port != 1024) {
        bed.out(&format!("{host}:{port}"), SERVER).unwrap();
    }
    let elsewhere =
        if first == addr("198.51.100.0") { "198.51.100.1:53" } else { "198.51.100.0:53" };
    let wanted = StaticMapping { inside: ep("100.64.0.9:0"), outside: ep(elsewhere), ..web() };
    let mut reloaded = Policy { statics: vec![wanted], ..policy() };
    let refused = bed.nat.swap_policy(&mut reloaded, bed.now, &mut bed.events);
    assert_eq!(refused, Err(DropReason::SubscriberPorts));
    bed.nat.assert_consistent();
}

#[test]
fn a_reload_leaves_open_sessions_alone() {
    let mut bed = Bed::new(&config());
    let public = bed.out(HOST, SERVER).unwrap();
    let strict = Firewall {
        drop_inbound: true,
        rules: vec![rule(false, Side::Inside, None, "0.0.0.0/0", 0..=65535)],
    };
    let now = bed.now;
    let mut next = Policy { firewall: strict, ..policy() };
    bed.nat.swap_policy(&mut next, now, &mut bed.events).unwrap();
    assert_eq!(bed.out(HOST, SERVER), Ok(public));
    assert!(bed.back(SERVER, public).is_ok());
    assert_eq!(bed.out("100.64.0.1:5001", SERVER), Err(dropped(DropReason::FirewallRule)));
}

#[test]
fn a_reload_to_another_filtering_serves_open_sessions_too() {
    let mut bed = Bed::new(&config());
    let public = bed.out(HOST, SERVER).unwrap();
    let same_address = "203.0.113.1:9";
    assert!(bed.back(same_address, public).is_err());
    let now = bed.now;
    let mut next = Policy { filtering: Filtering::AddressDependent, ..policy() };
    bed.nat.swap_policy(&mut next, now, &mut bed.events).unwrap();
    bed.out(HOST, SERVER).unwrap();
    assert!(bed.back(same_address, public).is_ok());
    bed.nat.assert_consistent();
}

fn rule(
    allow: bool,
    opened_from: Side,
    protocol: Option<Protocol>,
    to: &str,
    port: std::ops::RangeInclusive<u16>,
) -> Rule {
    Rule {
        allow,
        opened_from,
        protocol,
        from: "0.0.0.0/0".parse().unwrap(),
        to: to.parse().unwrap(),
        source_port: 0..=65535,
        port,
    }
}

#[test]
fn the_first_firewall_rule_that_matches_decides() {
    let rules = vec![
        rule(true, Side::Inside, Some(Protocol::Udp), "203.0.113.1/32", 25..=25),
        rule(false, Side::Inside, None, "0.0.0.0/0", 25..=25),
        rule(true, Side::Outside, Some(Protocol::Udp), "100.64.0.9/32", 53..=53),
    ];
    let firewall = Firewall { drop_inbound: true, rules };
    let policy = Policy {
        firewall,
        filtering: Filtering::EndpointIndependent,
        statics: vec![web()],
        ..policy()
    };
    let mut bed = Bed::new(&Config { policy, ..config() });
    let forbidden = Err(dropped(DropReason::FirewallRule));
    assert!(bed.out(HOST, "203.0.113.1:25").is_ok());
    assert_eq!(bed.out(HOST, "203.0.113.2:25"), forbidden);
    assert_eq!(bed.tcp_out(HOST, "203.0.113.1:25", syn(1)), forbidden);
    // Pings have no port, so a rule for ports does not look at theirs.
    let ping = bed.pass(Side::Inside, &ping("100.64.0.1", 25, "203.0.113.2"));
    assert_eq!(ping.map(|passed| passed.src), Err(dropped(DropReason::FirewallRule)));
    let public = bed.out(HOST, SERVER).unwrap();
    assert_eq!(bed.back("203.0.113.5:5", public), forbidden);
    // Inbound rules see the subscriber's own address.
    assert_eq!(bed.back("203.0.113.5:5", web().outside), Ok(web().inside));
    assert!(bed.back(SERVER, public).is_ok(), "answers are no new sessions");
}

#[test]
fn subscribers_do_not_reach_each_other_by_inside_addresses() {
    let mut bed = Bed::new(&config());
    assert_eq!(bed.out(HOST, "100.64.0.2:1"), Err(dropped(DropReason::NotOurs)));
}

#[test]
fn memory_stays_bounded_under_churn_while_ports_are_held() {
    let mut bed = Bed::new(&Config { sessions: 20, ..config() });
    for round in 0..2000u32 {
        let source = format!("100.64.{}.{}:{}", round % 4, round % 251 + 1, 1024 + round % 999);
        bed.out(&source, SERVER).unwrap_or_else(|verdict| panic!("round {round}: {verdict:?}"));
        bed.wait(31);
    }
    assert!(bed.nat.counts().sessions <= 20);
}
