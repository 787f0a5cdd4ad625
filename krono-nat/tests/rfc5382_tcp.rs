//! RFC 5382 (TCP), requirement by requirement, and what RFC 7857 changed of it.

mod common;

use common::*;
use krono_core::drop::DropReason;
use krono_core::packet::{Protocol, Side};
use krono_nat::config::{Config, Filtering, Policy, StaticMapping};

const HOST: &str = "100.64.0.1:5000";
const SERVER: &str = "203.0.113.1:80";
const OTHER: &str = "203.0.113.2:99";

fn is_alive(bed: &mut Bed, public: krono_core::packet::Endpoint) -> bool {
    bed.tcp_back(SERVER, public, ack(501, 101)).is_ok()
}

#[test]
fn rfc5382_req1_mapping_is_endpoint_independent() {
    let mut bed = Bed::new(&config());
    let public = bed.connect(HOST, SERVER);
    assert_eq!(bed.connect(HOST, OTHER), public);
}

#[test]
fn rfc5382_req2_connections_open_from_both_sides() {
    let mut bed = Bed::new(&filtering(Filtering::EndpointIndependent));
    let public = bed.connect(HOST, SERVER);
    assert_eq!(bed.tcp_back(OTHER, public, syn(1)), Ok(ep(HOST)));
    assert_eq!(bed.tcp_out(HOST, OTHER, syn_ack(7, 2)), Ok(public));
    assert_eq!(bed.tcp_back(OTHER, public, ack(2, 8)), Ok(ep(HOST)));
}

#[test]
fn rfc5382_req2a_simultaneous_open_through_the_strictest_filter() {
    let mut bed = Bed::new(&config());
    let public = bed.tcp_out(HOST, SERVER, syn(100)).unwrap();
    assert_eq!(bed.tcp_back(SERVER, public, syn(500)), Ok(ep(HOST)));
    assert_eq!(bed.tcp_out(HOST, SERVER, syn_ack(100, 501)), Ok(public));
    assert_eq!(bed.tcp_back(SERVER, public, syn_ack(500, 101)), Ok(ep(HOST)));
    bed.wait(7000);
    assert!(is_alive(&mut bed, public));
}

#[test]
fn rfc5382_req4_an_unsolicited_syn_is_dropped_silently() {
    let mut bed = Bed::new(&config());
    let public = bed.connect(HOST, SERVER);
    for _ in 0..100 {
        // Silently: a `Drop`, never a `Reject`, and forgotten at once.
        assert_eq!(bed.tcp_back(OTHER, public, syn(1)), Err(dropped(DropReason::Filtered)));
        bed.wait_ticks(1);
    }
    // The SYN from inside that crosses it opens the connection.
    assert_eq!(bed.tcp_out(HOST, OTHER, syn(9)), Ok(public));
    assert_eq!(bed.tcp_back(OTHER, public, syn(1)), Ok(ep(HOST)));
}

#[test]
fn rfc5382_req5_an_idle_connection_lives_2h04() {
    let mut bed = Bed::new(&config());
    let public = bed.connect(HOST, SERVER);
    bed.wait(7440);
    assert!(is_alive(&mut bed, public));
    bed.wait(2);
    assert!(!is_alive(&mut bed, public));
}

#[test]
fn rfc5382_req5_an_opening_connection_lives_4_minutes() {
    let mut bed = Bed::new(&config());
    let public = bed.tcp_out(HOST, SERVER, syn(100)).unwrap();
    bed.wait(240);
    assert!(is_alive(&mut bed, public));
    bed.wait(2);
    assert!(!is_alive(&mut bed, public));
}

#[test]
fn rfc7857_s2_1_opening_and_closing_have_timers_of_their_own() {
    let mut settings = config();
    settings.policy.timeouts.tcp_opening = krono_core::time::Span::from_secs(10);
    settings.policy.timeouts.tcp_closing = krono_core::time::Span::from_secs(20);
    let mut bed = Bed::new(&settings);
    let opening = bed.tcp_out("100.64.0.1:1111", SERVER, syn(100)).unwrap();
    let closing = bed.connect(HOST, SERVER);
    bed.tcp_out(HOST, SERVER, fin(101, 501)).unwrap();
    bed.tcp_back(SERVER, closing, fin(501, 102)).unwrap();
    bed.wait(11);
    assert!(!is_alive(&mut bed, opening) && is_alive(&mut bed, closing));
    bed.wait(10);
    assert!(!is_alive(&mut bed, closing));
}

#[test]
fn rfc7857_s2_a_half_closed_connection_stays_established() {
    let mut bed = Bed::new(&config());
    let public = bed.connect(HOST, SERVER);
    bed.tcp_out(HOST, SERVER, fin(101, 501)).unwrap();
    bed.wait(7000);
    assert!(is_alive(&mut bed, public));
    assert!(bed.tcp_out(HOST, SERVER, ack(102, 900)).is_ok());
    bed.wait(7000);
    assert!(is_alive(&mut bed, public));
}

#[test]
fn rfc7857_s2_2_a_reset_is_translated_and_the_state_kept_for_4_minutes() {
    let mut bed = Bed::new(&config());
    let public = bed.connect(HOST, SERVER);
    assert_eq!(bed.tcp_back(SERVER, public, rst(501)), Ok(ep(HOST)));
    bed.wait(239);
    assert!(bed.tcp_back(SERVER, public, rst(501)).is_ok());
    bed.wait(3);
    assert!(!is_alive(&mut bed, public));
}

#[test]
fn rfc7857_s2_2_a_reset_outside_the_window_is_translated_but_ends_nothing() {
    let mut bed = Bed::new(&config());
    let public = bed.connect(HOST, SERVER);
    assert_eq!(bed.tcp_back(SERVER, public, rst(90_000)), Ok(ep(HOST)));
    bed.wait(7000);
    assert!(is_alive(&mut bed, public));
}

#[test]
fn a_forged_fin_cuts_no_half_closed_connection_short() {
    let mut bed = Bed::new(&config());
    let public = bed.connect(HOST, SERVER);
    bed.tcp_back(SERVER, public, fin(90_000, 101)).unwrap();
    bed.tcp_out(HOST, SERVER, fin(101, 501)).unwrap();
    bed.wait(1000);
    assert!(is_alive(&mut bed, public), "the server is still sending");
    bed.tcp_back(SERVER, public, fin(501, 102)).unwrap();
    bed.wait(242);
    assert!(!is_alive(&mut bed, public));
}

#[test]
fn rfc7857_s2_data_from_inside_after_a_reset_revives_the_connection() {
    let mut bed = Bed::new(&config());
    let public = bed.connect(HOST, SERVER);
    bed.tcp_back(SERVER, public, rst(501)).unwrap();
    bed.wait(100);
    bed.tcp_out(HOST, SERVER, ack(101, 501)).unwrap();
    bed.wait(7000);
    assert!(is_alive(&mut bed, public));
}

#[test]
fn rfc7857_s7_1_resets_from_inside_do_not_refresh() {
    let mut bed = Bed::new(&config());
    let public = bed.connect(HOST, SERVER);
    bed.tcp_out(HOST, SERVER, rst(101)).unwrap();
    for _ in 0..24 {
        bed.wait(10);
        bed.tcp_out(HOST, SERVER, rst(101)).unwrap();
    }
    bed.wait(3);
    assert!(!is_alive(&mut bed, public));
}

#[test]
fn a_closed_session_opens_again_on_the_same_mapping() {
    let mut bed = Bed::new(&config());
    let public = bed.connect(HOST, SERVER);
    bed.tcp_out(HOST, SERVER, fin(101, 501)).unwrap();
    bed.tcp_back(SERVER, public, fin(501, 102)).unwrap();
    bed.wait(100);
    assert_eq!(bed.connect(HOST, SERVER), public);
    bed.wait(7000);
    assert!(is_alive(&mut bed, public));
}

#[test]
fn a_segment_of_no_connection_opens_none() {
    let mut bed = Bed::new(&config());
    for stray in [ack(1, 1), syn_ack(1, 1), fin(1, 1), rst(1)] {
        assert_eq!(bed.tcp_out(HOST, SERVER, stray), Err(dropped(DropReason::TcpNoSession)));
    }
    assert_eq!(bed.nat.counts(), krono_nat::Counts::default());
}

#[test]
fn rfc5382_req7_ports_are_not_overloaded_between_protocols_and_hosts() {
    let mut bed = Bed::new(&config());
    let one = bed.connect(HOST, SERVER);
    let two = bed.connect("100.64.0.2:5000", SERVER);
    assert_ne!(one, two);
}

#[test]
fn rfc5382_req8_hairpinned_connections_come_from_the_public_endpoint() {
    let server = StaticMapping {
        protocol: Protocol::Tcp,
        inside: ep("100.64.0.2:80"),
        outside: ep("198.51.100.1:8080"),
    };
    let mut bed =
        Bed::new(&Config { policy: Policy { statics: vec![server], ..policy() }, ..config() });
    let open = tcp_packet(ep(HOST), server.outside, syn(100));
    let passed = bed.pass(Side::Inside, &open).unwrap();
    assert_eq!((passed.to, passed.dst), (Side::Inside, server.inside));
    let public = passed.src;
    assert_ne!(public.addr, ep(HOST).addr);
    let answer = tcp_packet(server.inside, public, syn_ack(500, 101));
    let passed = bed.pass(Side::Inside, &answer).unwrap();
    assert_eq!(passed, Passed { to: Side::Inside, src: server.outside, dst: ep(HOST) });
}

#[test]
fn rfc5382_req10_icmp_errors_end_no_connection() {
    let mut bed = Bed::new(&config());
    let public = bed.connect(HOST, SERVER);
    let error = error("203.0.113.1", Protocol::Tcp, public, ep(SERVER));
    assert_eq!(bed.pass(Side::Outside, &error).unwrap().dst, ep(HOST));
    bed.wait(7000);
    assert!(is_alive(&mut bed, public));
}
