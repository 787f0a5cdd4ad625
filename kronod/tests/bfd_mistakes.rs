//! What is wrong with `bfd` of a side is said at once, with its line.

use std::time::Duration;

use kronod::config::{BfdConfig, Memory, load_text};

/// A shard with this `bfd` outside, in line 8, and these further lines.
fn text(bfd: &str, more: &str) -> String {
    format!(
        "ports: [ {{ name: in, device: net_null0 }}, {{ name: out, device: net_null1 }} ]
shards:
  - id: 0
    lcore: 0
    inside: {{ port: in, address: 10.0.0.1/24 }}
    outside:
      port: out
      bfd: {bfd}
      address: 192.0.2.1/24
{more}"
    )
}

const NAT: &str = "    nat: { pool: [ 198.51.100.0/28 ] }\n";

fn mistakes_of(text: &str) -> Vec<String> {
    match load_text("k.yaml", text, &Memory::unlimited()) {
        Ok(_) => Vec::new(),
        Err(mistakes) => mistakes.to_string().lines().map(str::to_owned).collect(),
    }
}

fn check(bfd: &str, more: &str, expected: &[&str]) {
    let expected: Vec<_> =
        expected.iter().map(|line| format!("k.yaml:8: shards[0].outside.bfd{line}")).collect();
    assert_eq!(mistakes_of(&text(bfd, more)), expected, "{bfd}");
}

#[test]
fn a_neighbour_is_enough_and_the_rest_may_be_said() {
    let of = |bfd: &str| {
        let (config, warnings) =
            load_text("k.yaml", &text(bfd, NAT), &Memory::unlimited()).unwrap();
        assert_eq!(warnings, []);
        config.shards[0].outside.bfd.clone()
    };
    let ms = Duration::from_millis;
    let default = BfdConfig {
        neighbour: [192, 0, 2, 254].into(),
        transmit: ms(50),
        receive: ms(50),
        multiplier: 3,
    };
    assert_eq!(of("[ { neighbour: 192.0.2.254 } ]"), [default]);
    let other = BfdConfig {
        neighbour: [192, 0, 2, 253].into(),
        transmit: ms(5),
        receive: ms(60_000),
        multiplier: 255,
    };
    let both = "[ { neighbour: 192.0.2.254 }, \
                { neighbour: 192.0.2.253, transmit: 5ms, receive: 1m, multiplier: 255 } ]";
    assert_eq!(of(both), [default, other]);
    assert_eq!(of("[]"), []);
}

#[test]
fn values_beyond_what_they_can_be() {
    check(
        "[ { neighbour: 192.0.2, transmit: 4ms, receive: 61s, multiplier: 0 } ]",
        NAT,
        &[
            "[0].multiplier: 0 is out of range; expected a number from 1 to 255",
            "[0].neighbour: 192.0.2 is not an address that a host can have; expected an IPv4 \
             address such as 192.0.2.254",
            "[0].receive: 61s is out of range; expected a duration from 5ms to 1m",
            "[0].transmit: 4ms is out of range; expected a duration from 5ms to 1m",
        ],
    );
    check(
        "[ { transmit: fast, multiplier: 256, echo: 1 } ]",
        NAT,
        &[
            "[0].echo: echo is not a key here; expected one of neighbour, transmit, receive, \
             multiplier",
            "[0].multiplier: 256 is out of range; expected a number from 1 to 255",
            "[0].neighbour: missing; expected an IPv4 address such as 192.0.2.254",
            "[0].transmit: fast is not a duration; expected a duration from 5ms to 1m",
        ],
    );
    check(
        "192.0.2.254",
        NAT,
        &[": not a list; expected a list, such as [ a, b ] or one item a line behind dashes"],
    );
}

#[test]
fn neighbours_that_cannot_be_ones() {
    let neighbours = "[ { neighbour: 192.0.3.1 }, { neighbour: 192.0.2.1 }, \
                      { neighbour: 192.0.2.255 }, { neighbour: 192.0.2.9 }, \
                      { neighbour: 192.0.2.9 } ]";
    check(
        neighbours,
        NAT,
        &[
            "[0].neighbour: 192.0.3.1 is not on-link; expected a neighbour's address in \
             192.0.2.0/24",
            "[1].neighbour: 192.0.2.1 is the shard's own; expected a neighbour's address in \
             192.0.2.0/24",
            "[2].neighbour: 192.0.2.255 is the broadcast address; expected a neighbour's address \
             in 192.0.2.0/24",
            "[4].neighbour: 192.0.2.9 is taken by shards[0].outside.bfd[3].neighbour (line 8); \
             expected each neighbour once",
        ],
    );
    let pool = "    nat: { pool: [ 192.0.2.8/29 ] }\n";
    assert_eq!(
        mistakes_of(&text("[ { neighbour: 192.0.2.9 } ]", pool)),
        ["k.yaml:10: shards[0].nat.pool[0]: 192.0.2.8/29 overlaps the address 192.0.2.9, \
          shards[0].outside.bfd[0].neighbour (line 8); expected addresses that nobody else has"],
    );
}

#[test]
fn where_nobody_could_hold_a_session() {
    let one = "[ { neighbour: 192.0.2.254 } ]";
    check(
        one,
        "    scr: { program: ddos, workers: [ 1 ] }\n",
        &[": a shard with scr has a router on each core, and none speaks for all; expected no bfd"],
    );
    check("[]", "    scr: { program: ddos, workers: [ 1 ] }\n", &[]);
    check(
        one,
        &format!("{NAT}clock: capture\n"),
        &[": clock: capture lets no time pass between packets; expected no bfd, or clock: tsc"],
    );
}
