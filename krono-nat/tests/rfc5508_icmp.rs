//! RFC 5508 (ICMP), requirement by requirement. What concerns bytes (checksums, options of quoted
//! headers: REQ-3) is tested where bytes are: in `golden`.

mod common;

use common::*;
use krono_core::drop::DropReason;
use krono_core::packet::{Endpoint, Protocol, Side};
use krono_nat::config::Filtering;

const HOST: &str = "100.64.0.1:5000";
const SERVER: &str = "203.0.113.1:53";

#[test]
fn rfc5508_req1_queries_pass_and_their_identifier_is_mapped_independently_of_endpoint() {
    let mut bed = Bed::new(&config());
    let first = bed.pass(Side::Inside, &ping("100.64.0.1", 7, "203.0.113.1")).unwrap();
    let second = bed.pass(Side::Inside, &ping("100.64.0.1", 7, "203.0.113.2")).unwrap();
    assert_eq!(first.src, second.src);
    let back = bed.pass(Side::Outside, &pong("203.0.113.2", first.src)).unwrap();
    assert_eq!(
        back,
        Passed { to: Side::Inside, src: ep("203.0.113.2:0"), dst: ep("100.64.0.1:7") }
    );
}

#[test]
fn rfc5508_req2_a_query_session_lives_60_s() {
    let mut bed = Bed::new(&config());
    let query = bed.pass(Side::Inside, &ping("100.64.0.1", 7, "203.0.113.1")).unwrap();
    bed.wait(60);
    assert!(bed.pass(Side::Outside, &pong("203.0.113.1", query.src)).is_ok());
    bed.wait(1);
    let late = bed.pass(Side::Outside, &pong("203.0.113.1", query.src));
    assert_eq!(late, Err(dropped(DropReason::NoMapping)));
}

#[test]
fn rfc5508_req4_an_error_without_mapping_is_dropped_silently() {
    let mut bed = Bed::new(&config());
    let public = bed.out(HOST, SERVER).unwrap();
    let nobody = Endpoint::new(public.addr, public.port ^ 1);
    for (src, dst) in [(nobody, ep(SERVER)), (public, ep("203.0.113.9:53"))] {
        assert_eq!(
            bed.pass(Side::Outside, &error("203.0.113.1", Protocol::Udp, src, dst)),
            Err(dropped(DropReason::IcmpErrorNoSession))
        );
    }
}

#[test]
fn rfc5508_req4_an_error_reaches_the_sender_of_the_quoted_packet() {
    let mut bed = Bed::new(&config());
    let public = bed.out(HOST, SERVER).unwrap();
    // From a router on the way, about the packet as it left.
    let error = error("192.0.2.77", Protocol::Udp, public, ep(SERVER));
    let passed = bed.pass(Side::Outside, &error).unwrap();
    assert_eq!((passed.to, passed.dst), (Side::Inside, ep(HOST)));
}

#[test]
fn rfc5508_req4_an_error_that_goes_elsewhere_than_its_quote_is_dropped() {
    let mut bed = Bed::new(&config());
    let public = bed.out(HOST, SERVER).unwrap();
    let mut error = error("192.0.2.77", Protocol::Udp, public, ep(SERVER));
    error.to = addr("198.51.100.3");
    assert_eq!(bed.pass(Side::Outside, &error), Err(dropped(DropReason::IcmpErrorNoSession)));
}

#[test]
fn rfc5508_req5_an_error_from_inside_leaves_with_the_public_address() {
    let mut bed = Bed::new(&config());
    let public = bed.out(HOST, SERVER).unwrap();
    // The subscriber refuses the server's answer.
    let error = error("100.64.0.1", Protocol::Udp, ep(SERVER), ep(HOST));
    let passed = bed.pass(Side::Inside, &error).unwrap();
    assert_eq!(passed, Passed { to: Side::Outside, src: public, dst: ep(SERVER) });
}

#[test]
fn rfc5508_req6_an_error_about_a_query_neither_refreshes_nor_ends_it() {
    let mut bed = Bed::new(&config());
    let query = bed.pass(Side::Inside, &ping("100.64.0.1", 7, "203.0.113.1")).unwrap();
    let about = error("9.9.9.9", Protocol::Icmp, query.src, ep("203.0.113.1:0"));
    bed.wait(59);
    assert!(bed.pass(Side::Outside, &about).is_ok());
    assert!(bed.pass(Side::Outside, &pong("203.0.113.1", query.src)).is_ok());
    bed.wait(2);
    assert!(bed.pass(Side::Outside, &pong("203.0.113.1", query.src)).is_err());
}

#[test]
fn rfc5508_req7_errors_about_hairpinned_packets_find_their_way() {
    let mut bed = Bed::new(&filtering(Filtering::EndpointIndependent));
    let (a, b) = ("100.64.0.1:1000", "100.64.0.2:2000");
    let (public_a, public_b) = (bed.out(a, SERVER).unwrap(), bed.out(b, SERVER).unwrap());
    bed.pass(Side::Inside, &udp(ep(a), public_b)).unwrap();
    // B saw a packet from A's public endpoint and refuses it.
    let refusal = error("100.64.0.2", Protocol::Udp, public_a, ep(b));
    let passed = bed.pass(Side::Inside, &refusal).unwrap();
    assert_eq!(passed, Passed { to: Side::Inside, src: public_b, dst: ep(a) });
}

#[test]
fn rfc5508_req7_queries_to_a_public_address_reach_nobody() {
    let mut bed = Bed::new(&config());
    let public = bed.out(HOST, SERVER).unwrap().addr.to_string();
    let from_inside = bed.pass(Side::Inside, &ping("100.64.0.2", 3, &public));
    let from_outside = bed.pass(Side::Outside, &ping("203.0.113.1", 3, &public));
    for refused in [from_inside, from_outside] {
        assert_eq!(refused, Err(dropped(DropReason::IcmpQueryUnsolicited)));
    }
}

#[test]
fn replies_that_nobody_asked_for_are_dropped() {
    let mut bed = Bed::new(&filtering(Filtering::EndpointIndependent));
    let query = bed.pass(Side::Inside, &ping("100.64.0.1", 7, "203.0.113.1")).unwrap();
    assert_eq!(
        bed.pass(Side::Outside, &pong("203.0.113.2", query.src)),
        Err(dropped(DropReason::IcmpReplyUnasked))
    );
    assert_eq!(
        bed.pass(Side::Inside, &pong("100.64.0.1", ep("203.0.113.1:7"))),
        Err(dropped(DropReason::IcmpReplyUnasked))
    );
    // Not even if the identifier 0 of a query makes it look like one of its packets.
    bed.pass(Side::Inside, &ping("100.64.0.1", 0, "203.0.113.1")).unwrap();
    assert_eq!(
        bed.pass(Side::Inside, &pong("100.64.0.1", ep("203.0.113.1:0"))),
        Err(dropped(DropReason::IcmpReplyUnasked))
    );
    // An untranslated query is answered.
    let asker = "192.168.100.9";
    bed.pass(Side::Outside, &ping(asker, 0, "100.64.0.1")).unwrap();
    assert!(bed.pass(Side::Inside, &pong("100.64.0.1", ep("192.168.100.9:0"))).is_ok());
}
