//! Settings: all mistakes are said at once; and what a packet's record is.

use std::net::Ipv4Addr;

use krono_core::packet::{Endpoint, Kind, PacketMeta, Protocol, Side, TcpFlags};
use krono_core::program::Program;
use krono_core::time::{Moment, Span};
use scr_sequencer::Replicable;
use scr_sequencer::programs::{Mistake, bucket, conntrack, ddos, heavy, knock};

fn fields<P>(made: Result<P, Vec<Mistake>>) -> Vec<&'static str> {
    made.err().unwrap_or_default().into_iter().map(|mistake| mistake.field).collect()
}

#[test]
fn all_mistakes_are_said_at_once() {
    let config = ddos::Config { sources: 0, one_in: 1, window: 0, ..Default::default() };
    assert_eq!(fields(ddos::Ddos::new(&config)), ["sources", "window", "one_in"]);
    let config = heavy::Config { flows: (1 << 26) + 1, threshold: 0, idle: 0, seed: [0; 32] };
    assert_eq!(fields(heavy::Heavy::new(&config)), ["flows", "threshold", "idle"]);
    let config = bucket::Config { flows: 0, rate: 0, burst: 0, seed: [0; 32] };
    assert_eq!(fields(bucket::Policer::new(&config)), ["flows", "rate", "burst"]);
    let config = knock::Config {
        sequence: vec![0; 16],
        protected: vec![0..=5, std::ops::RangeInclusive::new(9, 8)],
        ..Default::default()
    };
    assert_eq!(fields(knock::Knock::new(&config)), ["sequence", "sequence", "protected"]);
    let mut config = conntrack::Config { connections: 0, ..Default::default() };
    config.timeouts.reset = Span(0);
    config.timeouts.opening = Span(Span::MAX.0 + 1);
    let mistakes = fields(conntrack::Conntrack::new(&config));
    assert_eq!(mistakes, ["connections", "timeouts.opening", "timeouts.reset"]);
}

#[test]
fn the_defaults_can_be_taken() {
    assert_eq!(fields(ddos::Ddos::new(&Default::default())), [""; 0]);
    assert_eq!(fields(heavy::Heavy::new(&Default::default())), [""; 0]);
    assert_eq!(fields(bucket::Policer::new(&Default::default())), [""; 0]);
    assert_eq!(fields(knock::Knock::new(&Default::default())), [""; 0]);
    assert_eq!(fields(conntrack::Conntrack::new(&Default::default())), [""; 0]);
}

fn packet(kind: Kind, protocol: Protocol) -> PacketMeta {
    let mut meta = PacketMeta { ip_len: 1400, ..Default::default() };
    (meta.kind, meta.protocol) = (kind, protocol);
    meta.src = Endpoint::new(Ipv4Addr::new(192, 0, 2, 1), 4000);
    meta.dst = Endpoint::new(Ipv4Addr::new(10, 0, 0, 1), 80);
    (meta.from, meta.to) = (meta.src.addr, meta.dst.addr);
    meta.tcp.flags = TcpFlags::SYN.with(TcpFlags::ACK).with(TcpFlags::FIN);
    (meta.tcp.seq, meta.tcp.ack) = (77, 88);
    meta
}

#[test]
fn records_say_what_the_packet_is() {
    let now = Moment(5_000_000_123_000);
    let tcp = packet(Kind::Tcp, Protocol::Tcp);
    let (source, outside) = (0xc000_0201, Side::Outside);
    assert_eq!(ddos::Ddos::record(&tcp, outside, now).source.get(), source);
    let knock = knock::Knock::record(&tcp, outside, now);
    assert_eq!((knock.source.get(), knock.port.get()), (source, 80));
    assert_eq!((knock.marks.syn, knock.marks.fin), (3, 3));
    let heavy = heavy::Heavy::record(&tcp, outside, now);
    let tuple = heavy.tuple;
    assert_eq!((tuple.src.get(), tuple.sport.get()), (source, 4000));
    assert_eq!((tuple.dst.get(), tuple.dport.get()), (0x0a00_0001, 80));
    assert_eq!((heavy.length.get(), heavy.marks), (1400, knock.marks));
    let bucket = bucket::Policer::record(&tcp, Side::Inside, now);
    assert_eq!((bucket.tuple, bucket.marks), (tuple, knock.marks));
    assert_eq!(bucket.time.get(), 705_032_827, "5,000,000,123 microseconds modulo 2^32");
    let conntrack = conntrack::Conntrack::record(&tcp, Side::Inside, now);
    assert_eq!((conntrack.tuple, conntrack.protocol, conntrack.flags), (tuple, 6, 0x13));
    assert_eq!((conntrack.seq.get(), conntrack.ack.get()), (77, 88));
    assert_eq!(conntrack.time.get(), now.0);
}

#[test]
fn packets_that_a_program_does_not_follow_are_the_default_record() {
    let nothing = <ddos::Ddos as Program>::Record::default();
    let tcp = packet(Kind::Tcp, Protocol::Tcp);
    assert_eq!(ddos::Ddos::record(&tcp, Side::Inside, Moment(1)), nothing);
    assert_eq!(knock::Knock::record(&tcp, Side::Inside, Moment(1)), Default::default());
    let error = packet(Kind::IcmpError, Protocol::Tcp);
    assert_ne!(ddos::Ddos::record(&error, Side::Outside, Moment(1)), nothing);
    assert_eq!(knock::Knock::record(&error, Side::Outside, Moment(1)), Default::default());
    assert_eq!(heavy::Heavy::record(&error, Side::Outside, Moment(1)), Default::default());
    assert_eq!(bucket::Policer::record(&error, Side::Outside, Moment(1)), Default::default());
    let udp = packet(Kind::Udp, Protocol::Udp);
    assert_eq!(conntrack::Conntrack::record(&error, Side::Outside, Moment(1)), Default::default());
    assert_eq!(conntrack::Conntrack::record(&udp, Side::Outside, Moment(1)), Default::default());
    let echo = packet(Kind::IcmpRequest, Protocol::Icmp);
    assert_eq!(knock::Knock::record(&echo, Side::Outside, Moment(1)), Default::default());
    for (kind, protocol, syn) in
        [(Kind::Udp, Protocol::Udp, 4), (Kind::IcmpRequest, Protocol::Icmp, 6)]
    {
        let record = heavy::Heavy::record(&packet(kind, protocol), Side::Inside, Moment(1));
        assert_eq!((record.marks.syn, record.marks.fin), (syn, 0));
        let mut heavy = heavy::Heavy::new(&Default::default()).expect("good settings");
        heavy.step(&record, &Default::default(), &mut ());
        assert_eq!(heavy.top(1)[0].flow.protocol, protocol);
    }
}

#[test]
fn programs_have_names_of_their_own() {
    let names = [
        ddos::Ddos::NAME,
        heavy::Heavy::NAME,
        bucket::Policer::NAME,
        knock::Knock::NAME,
        conntrack::Conntrack::NAME,
    ];
    assert_eq!(names, ["ddos", "heavy", "bucket", "knock", "conntrack"]);
}
