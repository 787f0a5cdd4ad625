//! ICMP errors in transit, with the packets that they quote.

use krono_core::drop::DropReason;
use krono_core::packet::Side::{Inside, Outside};

use crate::bed::Bed;
use crate::packet::Segment::{Data, Syn};
use crate::packet::{Packet, echo_reply, echo_request, icmp, other, tcp, udp};
use crate::{HOST, PUBLIC, SERVER};

/// A router on the way, and the type, code and second word of what it has to say.
const ROUTER: &str = "203.0.113.254";
const ERRORS: [(u8, u8, [u8; 4]); 5] = [
    (3, 1, [0; 4]),
    (3, 3, [0; 4]),
    // Fragmentation needed, next-hop MTU 1280 (RFC 1191).
    (3, 4, [0, 0, 5, 0]),
    (11, 0, [0; 4]),
    // Parameter problem at byte 20.
    (12, 0, [20, 0, 0, 0]),
];

/// Sends `packet` from HOST; it leaves as `public`.
fn opened(packet: Packet, public: Packet) -> Bed {
    let mut bed = Bed::new();
    bed.forwards(Inside, packet, public.ttl(63));
    bed
}

fn opened_udp() -> Bed {
    opened(udp(HOST, SERVER), udp(PUBLIC, SERVER))
}

#[test]
fn rfc5508_req4_errors_from_outside_reach_the_sender_of_what_they_quote() {
    for (kind, code, word) in ERRORS {
        let error = |to| icmp(ROUTER, to, kind, code).word(word);
        let pairs = [
            (udp(HOST, SERVER), udp(PUBLIC, SERVER)),
            (udp(HOST, SERVER).no_checksum(), udp(PUBLIC, SERVER).no_checksum()),
            (tcp(HOST, SERVER, Syn), tcp(PUBLIC, SERVER, Syn)),
        ];
        for (inside, outside) in pairs {
            let bed = &mut opened(inside.clone(), outside.clone());
            let (inside, outside) = (inside.ttl(9), outside.ttl(9));
            let received = error("198.51.100.1").quoting(&outside);
            bed.forwards(Outside, received, error("100.64.0.5").quoting(&inside).ttl(63));
            let received = error("198.51.100.1").quoting_all(&outside);
            bed.forwards(Outside, received, error("100.64.0.5").quoting_all(&inside).ttl(63));
        }
    }
}

#[test]
fn rfc5508_req4_errors_about_queries() {
    let bed = &mut Bed::new();
    let ping = echo_request("100.64.0.5", 77, "203.0.113.9");
    let id = bed.public_identifier(ping.clone());
    let public = echo_request("198.51.100.1", id, "203.0.113.9").ttl(1);
    for (kind, code, word) in ERRORS {
        let error = |to| icmp(ROUTER, to, kind, code).word(word);
        let received = error("198.51.100.1").quoting_all(&public);
        let passed = error("100.64.0.5").quoting_all(&ping.clone().ttl(1));
        bed.forwards(Outside, received, passed.ttl(63));
    }
    // From inside, about the answer.
    let error = |from| icmp(from, "203.0.113.9", 3, 1);
    let received = error("100.64.0.5").quoting(&echo_reply("203.0.113.9", "100.64.0.5", 77));
    let passed = error("198.51.100.1").quoting(&echo_reply("203.0.113.9", "198.51.100.1", id));
    bed.forwards(Inside, received, passed.ttl(63));
}

#[test]
fn rfc5508_req3_a_bad_checksum_ends_an_error() {
    let bed = &mut opened_udp();
    let error = icmp(ROUTER, "198.51.100.1", 3, 3);
    let quoted = udp(PUBLIC, SERVER);
    let damaged = error.clone().quoting(&quoted).frame().damage(20 + 8 + 4);
    bed.drops(Outside, damaged, DropReason::IcmpChecksumBad);
    // REQ-3 a: that of the quoted IP header.
    let mut quote = quoted.ip_bytes();
    quote[8] ^= 1;
    bed.drops(Outside, error.payload(&quote), DropReason::QuotedHeaderBad);
}

#[test]
fn rfc5508_req3b_options_of_the_quoted_packet_are_walked() {
    let options = [7, 11, 12, 1, 2, 3, 4, 5, 6, 7, 8, 0];
    let bed = &mut opened_udp();
    let (inside, outside) =
        (udp(HOST, SERVER).options(&options), udp(PUBLIC, SERVER).options(&options));
    let received = icmp(ROUTER, "198.51.100.1", 11, 0).quoting(&outside);
    let passed = icmp(ROUTER, "100.64.0.5", 11, 0).quoting(&inside);
    bed.forwards(Outside, received, passed.ttl(63));
    // And those of the error itself.
    let received = icmp(ROUTER, "198.51.100.1", 11, 0).options(&options).quoting_all(&outside);
    let passed = icmp(ROUTER, "100.64.0.5", 11, 0).options(&options).quoting_all(&inside);
    bed.forwards(Outside, received, passed.ttl(63));
}

#[test]
fn rfc5508_req3c_the_quoted_transport_checksum_is_not_judged() {
    let bed = &mut opened_udp();
    let damaged = |packet: Packet| {
        let mut bytes = packet.ip_bytes();
        *bytes.last_mut().expect("it has bytes") ^= 0xff;
        bytes
    };
    let received = icmp(ROUTER, "198.51.100.1", 3, 3).payload(&damaged(udp(PUBLIC, SERVER)));
    let passed = icmp(ROUTER, "100.64.0.5", 3, 3).payload(&damaged(udp(HOST, SERVER)));
    bed.forwards(Outside, received, passed.ttl(63).frame().unverified());
}

/// RFC 4884, section 3: the quote filled up to 128 bytes, its length in the header, and behind it
/// an extension that is none of the quoted packet.
#[test]
fn rfc5508_req3d_extensions_are_carried_and_count_for_nothing() {
    let extension = [0x20, 0, 0x5b, 0x93, 0, 8, 1, 1, 0, 1, 0x41, 0xff];
    let error = |to: &str, quoted: &Packet| {
        let mut quote = quoted.ip_bytes();
        quote.resize(128, 0);
        quote.extend(extension);
        icmp(ROUTER, to, 11, 0).word([0, 128 / 4, 0, 0]).payload(&quote)
    };
    for payload in [&b"payload."[..], b""] {
        let bed = &mut opened_udp();
        let quoted = |from| udp(from, SERVER).payload(payload);
        let received = error("198.51.100.1", &quoted(PUBLIC));
        bed.forwards(Outside, received, error("100.64.0.5", &quoted(HOST)).ttl(63));
    }
    let bed = &mut opened(tcp(HOST, SERVER, Syn), tcp(PUBLIC, SERVER, Syn));
    let received = error("198.51.100.1", &tcp(PUBLIC, SERVER, Data));
    bed.forwards(Outside, received, error("100.64.0.5", &tcp(HOST, SERVER, Data)).ttl(63));
    // A first fragment so short that the TCP checksum is not in it.
    let fragment = |from: &str| {
        let header = &tcp(from, SERVER, Data).ip_bytes()[20..28];
        let (from, _) = from.split_once(':').expect("ADDRESS:PORT");
        other(from, "203.0.113.9", 6).payload(header).fragment(0, true)
    };
    let received = error("198.51.100.1", &fragment(PUBLIC));
    let passed = error("100.64.0.5", &fragment(HOST)).ttl(63);
    bed.forwards(Outside, received, passed.frame().unverified());
}

#[test]
fn rfc5508_req4_an_error_about_nothing_known_is_dropped() {
    let bed = &mut opened_udp();
    let error = icmp(ROUTER, "198.51.100.1", 3, 3);
    for unknown in
        [udp("198.51.100.1:40001", SERVER), udp(PUBLIC, "203.0.113.9:54"), tcp(PUBLIC, SERVER, Syn)]
    {
        let about = error.clone().quoting(&unknown);
        bed.drops(Outside, about, DropReason::IcmpErrorNoSession);
    }
    // To another address than the quoted packet came from.
    let stray = icmp("100.64.0.5", "203.0.113.10", 3, 3).quoting(&udp(SERVER, HOST));
    bed.drops(Inside, stray, DropReason::IcmpErrorNoSession);
    let about_error = error.clone().quoting(&error);
    bed.drops(Outside, about_error, DropReason::QuotedProtocolUnsupported);
    let short = error.payload(&udp(PUBLIC, SERVER).ip_bytes()[..27]);
    bed.drops(Outside, short, DropReason::QuotedHeaderBad);
}

#[test]
fn rfc4787_req12_an_error_ends_no_mapping() {
    let bed = &mut opened_udp();
    let received = icmp("203.0.113.9", "198.51.100.1", 3, 3).quoting(&udp(PUBLIC, SERVER));
    let passed = icmp("203.0.113.9", "100.64.0.5", 3, 3).quoting(&udp(HOST, SERVER));
    bed.forwards(Outside, received, passed.ttl(63));
    bed.forwards(Outside, udp(SERVER, PUBLIC), udp(SERVER, HOST).ttl(63));
}

#[test]
fn rfc5508_req5_errors_from_inside_leave_with_the_public_address() {
    let bed = &mut opened_udp();
    // The subscriber itself, and a router in its network.
    for from in ["100.64.0.5", "100.64.0.77"] {
        for (kind, code, word) in ERRORS {
            let error = |from| icmp(from, "203.0.113.9", kind, code).word(word);
            let received = error(from).quoting_all(&udp(SERVER, HOST).ttl(3));
            let passed = error("198.51.100.1").quoting_all(&udp(SERVER, PUBLIC).ttl(3));
            bed.forwards(Inside, received, passed.ttl(63));
        }
    }
}

#[test]
fn rfc5508_req7_errors_about_hairpinned_packets() {
    let bed = &mut Bed::new();
    let (peer, peer_public) = ("100.64.0.20:53", "198.51.100.1:5300");
    bed.hairpins(udp(HOST, peer_public), udp(PUBLIC, peer).ttl(63));
    // The peer, about what it saw; HOST hears of what it sent, from the address it sent to.
    let received =
        icmp("100.64.0.20", "198.51.100.1", 3, 3).quoting_all(&udp(PUBLIC, peer).ttl(62));
    let passed = icmp("198.51.100.1", "100.64.0.5", 3, 3);
    bed.hairpins(received, passed.quoting_all(&udp(HOST, peer_public).ttl(62)).ttl(63));
    // And the other way, about the answer.
    bed.hairpins(udp(peer, PUBLIC), udp(peer_public, HOST).ttl(63));
    let received =
        icmp("100.64.0.5", "198.51.100.1", 3, 3).quoting_all(&udp(peer_public, HOST).ttl(62));
    let passed = icmp("198.51.100.1", "100.64.0.20", 3, 3);
    bed.hairpins(received, passed.quoting_all(&udp(peer, PUBLIC).ttl(62)).ttl(63));
}

#[test]
fn rfc6888_req6_errors_about_excluded_destinations_stay_as_they_are() {
    let bed = &mut Bed::new();
    let cache = "192.168.100.7:53";
    bed.forwards(Inside, udp(HOST, cache), udp(HOST, cache).ttl(63));
    let error = icmp("192.168.100.7", "100.64.0.5", 3, 3).quoting_all(&udp(HOST, cache).ttl(60));
    bed.forwards(Outside, error.clone(), error.ttl(63));
    // The subscriber itself, and a router in its network.
    for from in ["100.64.0.5", "100.64.0.77"] {
        let error = icmp(from, "192.168.100.7", 3, 3).quoting_all(&udp(cache, HOST).ttl(60));
        bed.forwards(Inside, error.clone(), error.ttl(63));
    }
}

/// RFC 1812, 4.3.2.7.
#[test]
fn no_error_is_answered_with_an_error() {
    let bed = &mut opened_udp();
    let error = icmp(ROUTER, "198.51.100.1", 3, 3).quoting(&udp(PUBLIC, SERVER));
    bed.drops(Outside, error.ttl(1), DropReason::TtlExceeded);
    let error = icmp("100.64.0.5", "203.0.113.9", 3, 3).quoting(&udp(SERVER, HOST));
    bed.drops(Inside, error.ttl(1), DropReason::TtlExceeded);
    let to_shard = icmp(ROUTER, "192.0.2.1", 3, 3).quoting(&udp("192.0.2.1:68", SERVER));
    bed.drops(Outside, to_shard, DropReason::LocalUnsupported);
}
