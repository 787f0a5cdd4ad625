//! RFC 4787 (UDP), requirement by requirement, and what RFC 7857 changed of it.

mod common;

use common::*;
use krono_core::drop::DropReason;
use krono_core::packet::{Protocol, Side};
use krono_core::time::{TICKS_PER_SECOND, Ticks};
use krono_nat::Change;
use krono_nat::config::{Config, Filtering, Policy};

const HOST: &str = "100.64.0.1:5000";
const SERVER: &str = "203.0.113.1:53";
const OTHER: &str = "203.0.113.2:99";

#[test]
fn rfc4787_req1_mapping_is_endpoint_independent() {
    let mut bed = Bed::new(&config());
    let public = bed.out(HOST, SERVER).unwrap();
    assert_eq!(bed.out(HOST, OTHER), Ok(public));
    assert_eq!(bed.out(HOST, "203.0.113.1:54"), Ok(public));
    assert_eq!(bed.nat.counts().mappings, 1);
    assert_eq!(bed.nat.counts().sessions, 3);
}

#[test]
fn rfc4787_req2_all_ports_of_a_host_are_at_one_address() {
    let mut bed = Bed::new(&config());
    for host in 1..=20 {
        let public = |bed: &mut Bed, port: u16| {
            bed.out(&format!("100.64.0.{host}:{port}"), SERVER).unwrap().addr
        };
        let first = public(&mut bed, 2000);
        assert!((2001..2009).all(|port| public(&mut bed, port) == first));
    }
}

#[test]
fn rfc4787_req3_no_port_has_two_owners() {
    let mut bed = Bed::new(&Config { sessions: 2000, ..config() });
    let mut seen = std::collections::HashSet::new();
    for host in 1..=10 {
        for port in 2000..2150 {
            let public = bed.out(&format!("100.64.1.{host}:{port}"), SERVER).unwrap();
            assert!(seen.insert(public), "{public} was given twice");
        }
    }
}

#[test]
fn rfc4787_req3a_port_class_is_kept_where_both_classes_exist() {
    let mut bed = Bed::new(&Config { ports: 1..=65535, ..config() });
    for host in 1..=50 {
        assert!(bed.out(&format!("100.64.0.{host}:500"), SERVER).unwrap().port < 1024);
        assert!(bed.out(&format!("100.64.0.{host}:5000"), SERVER).unwrap().port >= 1024);
    }
}

#[test]
fn rfc4787_req5_a_mapping_lives_as_long_as_configured_and_no_longer() {
    let mut bed = Bed::new(&config());
    let public = bed.out(HOST, SERVER).unwrap();
    bed.wait(300);
    assert!(bed.back(SERVER, public).is_ok(), "300 s have not certainly passed");
    bed.wait_ticks(1 + TICKS_PER_SECOND / 2);
    assert_eq!(bed.back(SERVER, public), Err(dropped(DropReason::NoMapping)));
    assert_eq!(bed.nat.counts().mappings, 0);
}

#[test]
fn rfc4787_req6_outbound_packets_refresh_and_inbound_ones_do_not() {
    let mut bed = Bed::new(&config());
    let public = bed.out(HOST, SERVER).unwrap();
    for _ in 0..3 {
        bed.wait(250);
        assert_eq!(bed.out(HOST, SERVER), Ok(public));
    }
    bed.wait(250);
    assert!(bed.back(SERVER, public).is_ok());
    bed.wait(51);
    assert_eq!(bed.back(SERVER, public), Err(dropped(DropReason::NoMapping)));
}

#[test]
fn rfc4787_req6_a_session_opened_from_outside_does_not_prolong_its_mapping() {
    let mut bed = Bed::new(&filtering(Filtering::EndpointIndependent));
    let public = bed.out(HOST, SERVER).unwrap();
    bed.wait(200);
    assert!(bed.back(OTHER, public).is_ok());
    bed.wait(101);
    assert_eq!(bed.back(OTHER, public), Err(dropped(DropReason::NoMapping)));
    assert_eq!(bed.nat.counts().sessions, 0);
}

#[test]
fn rfc4787_req8_filtering_admits_what_its_mode_says() {
    let same_address = "203.0.113.1:1234";
    for (mode, address, anybody) in [
        (Filtering::EndpointIndependent, true, true),
        (Filtering::AddressDependent, true, false),
        (Filtering::AddressAndPortDependent, false, false),
    ] {
        let mut bed = Bed::new(&filtering(mode));
        let public = bed.out(HOST, SERVER).unwrap();
        let mut admitted = |from| match bed.back(from, public) {
            Ok(inside) => inside == ep(HOST),
            Err(verdict) => {
                assert_eq!(verdict, dropped(DropReason::Filtered));
                false
            }
        };
        assert!(admitted(SERVER), "{mode:?}");
        assert_eq!(admitted(same_address), address, "{mode:?}");
        assert_eq!(admitted(OTHER), anybody, "{mode:?}");
    }
}

#[test]
fn rfc4787_req8_an_address_is_admitted_while_any_session_with_it_lives() {
    let mut bed = Bed::new(&filtering(Filtering::AddressDependent));
    let public = bed.out(HOST, SERVER).unwrap();
    bed.wait(200);
    bed.out(HOST, "203.0.113.1:1").unwrap();
    bed.wait(200);
    assert!(bed.back("203.0.113.1:9", public).is_ok());
    bed.wait(102);
    let public = bed.out(HOST, OTHER).unwrap();
    assert_eq!(bed.back("203.0.113.1:9", public), Err(dropped(DropReason::Filtered)));
}

#[test]
fn rfc4787_req9_hairpinned_packets_come_from_the_public_endpoint() {
    let mut bed = Bed::new(&config());
    let (a, b) = ("100.64.0.1:1000", "100.64.0.2:2000");
    let (public_a, public_b) = (bed.out(a, SERVER).unwrap(), bed.out(b, SERVER).unwrap());
    // B has not sent to A yet, so B's filter forbids.
    let to_b = udp(ep(a), public_b);
    assert_eq!(bed.pass(Side::Inside, &to_b), Err(dropped(DropReason::Filtered)));
    let to_a = udp(ep(b), public_a);
    let passed = bed.pass(Side::Inside, &to_a).expect("A has sent to B's endpoint");
    assert_eq!(passed, Passed { to: Side::Inside, src: public_b, dst: ep(a) });
    let passed = bed.pass(Side::Inside, &to_b).unwrap();
    assert_eq!(passed, Passed { to: Side::Inside, src: public_a, dst: ep(b) });
}

#[test]
fn rfc4787_req9_hairpinning_can_be_switched_off_and_reaches_oneself() {
    let mut bed = Bed::new(&filtering(Filtering::EndpointIndependent));
    let public = bed.out(HOST, SERVER).unwrap();
    let to_self = udp(ep(HOST), public);
    let passed = bed.pass(Side::Inside, &to_self).unwrap();
    assert_eq!(passed, Passed { to: Side::Inside, src: public, dst: ep(HOST) });

    let off = Config { policy: Policy { hairpinning: false, ..policy() }, ..config() };
    let mut bed = Bed::new(&off);
    let public = bed.out(HOST, SERVER).unwrap();
    let to_self = udp(ep(HOST), public);
    assert_eq!(bed.pass(Side::Inside, &to_self), Err(dropped(DropReason::HairpinOff)));
}

#[test]
fn rfc4787_req11_behaviour_does_not_change_with_load() {
    let mut bed = Bed::new(&Config { sessions: 3000, ports_per_subscriber: 2000, ..config() });
    for port in 2000..3000 {
        let source = format!("100.64.0.9:{port}");
        let public = bed.out(&source, SERVER).unwrap();
        assert_eq!(bed.out(&source, OTHER), Ok(public));
        assert_eq!(bed.back("203.0.113.3:1", public), Err(dropped(DropReason::Filtered)));
    }
}

#[test]
fn rfc4787_req12_icmp_errors_never_end_a_mapping() {
    let mut bed = Bed::new(&config());
    let public = bed.out(HOST, SERVER).unwrap();
    let (before, events) = (bed.nat.counts(), bed.events.len());
    for _ in 0..5 {
        let error = error("9.9.9.9", Protocol::Udp, public, ep(SERVER));
        let passed = bed.pass(Side::Outside, &error).expect("errors pass whoever sends them");
        assert_eq!((passed.to, passed.dst), (Side::Inside, ep(HOST)));
    }
    assert_eq!((bed.nat.counts(), bed.events.len()), (before, events));
    assert!(bed.back(SERVER, public).is_ok());
}

#[test]
fn rfc7857_s7_filtered_packets_do_not_refresh() {
    let mut bed = Bed::new(&config());
    let public = bed.out(HOST, SERVER).unwrap();
    for _ in 0..301 {
        bed.wait(1);
        let _ = bed.back(OTHER, public);
    }
    assert_eq!(bed.back(SERVER, public), Err(dropped(DropReason::NoMapping)));
}

#[test]
fn rfc7857_s9_ports_are_chosen_at_random() {
    let mut bed = Bed::new(&config());
    let ports: Vec<u16> = (2000..2100)
        .map(|port| bed.out(&format!("100.64.0.1:{port}"), SERVER).unwrap().port)
        .collect();
    let ascending = ports.windows(2).filter(|pair| pair[1] > pair[0]).count();
    assert!((30..70).contains(&ascending), "{ascending} of 99 steps go up: {ports:?}");
    assert!(ports.iter().max().unwrap() - ports.iter().min().unwrap() > 40_000);
    let mut again = Bed::new(&Config { seed: [8; 32], ..config() });
    assert_ne!(again.out("100.64.0.1:2000", SERVER).unwrap().port, ports[0]);
}

#[test]
fn events_tell_every_change_in_order() {
    let mut bed = Bed::new(&config());
    bed.out(HOST, SERVER).unwrap();
    bed.out(HOST, OTHER).unwrap();
    bed.wait(302);
    let changes: Vec<Change> = bed.events.iter().map(|event| event.change).collect();
    use Change::*;
    assert_eq!(
        changes,
        [
            MappingCreated,
            SessionCreated,
            SessionCreated,
            SessionDeleted,
            SessionDeleted,
            MappingDeleted
        ]
    );
}

#[test]
fn a_session_that_is_over_is_dead_to_packets_before_any_sweep() {
    let settings = filtering(Filtering::EndpointIndependent);
    for from_inside in [true, false] {
        let mut bed = Bed::new(&settings);
        let public = bed.out(HOST, SERVER).unwrap();
        bed.now = Ticks(bed.now.0.wrapping_add(300 * TICKS_PER_SECOND + 1));
        if from_inside {
            assert_ne!(bed.out(HOST, SERVER), Ok(public), "the old port is held");
        } else {
            assert_eq!(bed.back(SERVER, public), Err(dropped(DropReason::NoMapping)));
        }
        let ended = bed.events.iter().filter(|e| e.change == Change::MappingDeleted).count();
        assert_eq!(ended, 1);
        bed.nat.assert_consistent();
    }
}

#[test]
fn a_mapping_is_over_with_its_last_session_before_any_sweep() {
    let mut bed = Bed::new(&filtering(Filtering::EndpointIndependent));
    let public = bed.out(HOST, SERVER).unwrap();
    bed.out(HOST, OTHER).unwrap();
    bed.now = Ticks(bed.now.0.wrapping_add(300 * TICKS_PER_SECOND + 1));
    let events = bed.events.len();
    for remote in ["203.0.113.9:9", "203.0.113.9:9", SERVER] {
        assert_eq!(bed.back(remote, public), Err(dropped(DropReason::NoMapping)));
    }
    assert!(bed.events[events..].iter().all(|event| event.change != Change::SessionCreated));
}
