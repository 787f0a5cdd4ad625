//! Every mistake that a configuration can have: what is said about it, and in which line.

use kronod::config::{self, Config, Memory, Mistakes, TableSizes, Warning, load_text};

/// A valid configuration of two shards for the tests to spoil.
const GOOD: &str = "\
eal:
  memory: 512M
  lcores: \"0@0,1@0\"
  args: [ --log-level=8 ]
ports:
  - { name: in0, device: net_null0 }
  - { name: out0, device: net_null1 }
  - { name: in1, device: \"0000:3b:00.1\" }
  - { name: out1, device: net_null3, mtu: 1500 }
shards:
  - id: 0
    lcore: 0
    inside:
      port: in0
      address: 10.0.0.1/24
      routes: [ { prefix: 100.64.0.0/16, via: 10.0.0.254 } ]
      neighbours: [ { address: 10.0.0.254, mac: \"02:00:00:00:00:fe\" } ]
    outside:
      port: out0
      address: 192.0.2.1/24
      routes: [ { prefix: 0.0.0.0/0, via: 192.0.2.254 } ]
    nat:
      pool: [ 198.51.100.0/28 ]
  - id: 1
    lcore: 1
    inside:
      port: in1
      address: 10.0.1.1/24
    outside:
      port: out1
      address: 192.0.2.2/24
      routes: [ { prefix: 0.0.0.0/0, via: 192.0.2.254 } ]
    nat:
      pool: [ 203.0.113.0/28 ]
nat:
  sessions: 64K
  ports: 1024-65535
  ports_per_subscriber: 2048
  timeouts: { udp: 5m, port_hold: 120s }
  exclude: [ 192.168.100.0/24 ]
  static: [ { protocol: tcp, inside: \"10.0.0.5:80\", outside: \"198.51.100.1:8080\" } ]
firewall:
  inbound: allow
  rules: [ { action: drop, direction: out, protocol: tcp, to: any, port: 25 } ]
clock: tsc
control: { socket: /run/kronod.sock }
metrics: { listen: \"127.0.0.1:9105\" }
";

/// [`GOOD`] with each of the edits, whose left side occurs exactly once.
fn edited(edits: &[(&str, &str)]) -> String {
    edits.iter().fold(GOOD.to_owned(), |text, (old, new)| {
        assert_eq!(text.matches(old).count(), 1, "{old}");
        text.replace(old, new)
    })
}

fn load(text: &str) -> Result<(Config, Vec<Warning>), Mistakes> {
    load_text("f.yaml", text, &Memory::unlimited())
}

/// What is said about [`GOOD`] with these edits.
fn complaints(edits: &[(&str, &str)]) -> String {
    load(&edited(edits)).map_or_else(|mistakes| mistakes.to_string(), |_| String::new())
}

/// Checks that the edits make exactly these complaints.
#[track_caller]
fn check(edits: &[(&str, &str)], expected: &[&str]) {
    let said = complaints(edits);
    let said: Vec<_> = said.lines().map(|line| line.strip_prefix("f.yaml:").unwrap()).collect();
    assert_eq!(said, expected);
}

/// Checks that `text` makes exactly these complaints.
#[track_caller]
fn check_text(text: &str, expected: &[&str]) {
    let said = load(text).unwrap_err().to_string();
    let said: Vec<_> = said.lines().map(|line| line.strip_prefix("f.yaml:").unwrap()).collect();
    assert_eq!(said, expected);
}

/// Checks that the edits leave it valid.
#[track_caller]
fn valid(edits: &[(&str, &str)]) -> Config {
    load(&edited(edits)).unwrap_or_else(|mistakes| panic!("{mistakes}")).0
}

/// Checks that the edits leave it valid with exactly these warnings.
#[track_caller]
fn warned(edits: &[(&str, &str)], expected: &[&str]) {
    let (_, warnings) = load(&edited(edits)).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let said: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(said, expected);
}

mod shape {
    use super::*;

    #[test]
    fn the_base_of_these_tests_is_valid() {
        warned(&[], &[]);
    }

    #[test]
    fn prefix() {
        check(
            &[("[ 198.51.100.0/28 ]", "\n      - 198.51.100.0/28\n      - 10.0.0.0/33")],
            &["25: shards[0].nat.pool[1]: 10.0.0.0/33 is not a prefix; expected an IPv4 prefix \
                 such as 198.51.100.0/28"],
        );
        check(
            &[("192.168.100.0/24", "192.168.100.0")],
            &["40: nat.exclude[0]: 192.168.100.0 is not a prefix; expected an IPv4 prefix such \
                 as 198.51.100.0/28"],
        );
        check(
            &[("192.168.100.0/24", "192.168.100.1/24")],
            &["40: nat.exclude[0]: 192.168.100.1/24 has bits set behind its length; expected \
                 192.168.100.0/24 or a longer prefix"],
        );
        check(
            &[("203.0.113.0/28", "224.0.0.0/28")],
            &["34: shards[1].nat.pool[0]: 224.0.0.0/28 has addresses that no host can have; \
                 expected a prefix outside 0.0.0.0/8, 127.0.0.0/8 and 224.0.0.0/3"],
        );
    }

    #[test]
    fn unknown_key_with_the_nearest_name() {
        check(
            &[("  sessions: 64K", "  sesions: 64K")],
            &["36: nat.sesions: sesions is not a key here; expected sessions, which is the \
                 nearest name"],
        );
        check(
            &[("  sessions: 64K", "  color: red")],
            &["36: nat.color: color is not a key here; expected one of sessions, mapping, \
                 filtering, ports, ports_per_subscriber, hairpinning, timeouts, exclude, static"],
        );
        check(
            &[("clock: tsc", "clocks: tsc")],
            &["45: clocks: clocks is not a key here; expected clock, which is the nearest name"],
        );
    }

    #[test]
    fn misspelled_key_is_not_missing_too() {
        check(
            &[("    lcore: 0", "    lcor: 0")],
            &["12: shards[0].lcor: lcor is not a key here; expected lcore, which is the nearest \
                 name"],
        );
        check(
            &[("shards:", "shard:")],
            &["10: shard: shard is not a key here; expected shards, which is the nearest name"],
        );
    }

    #[test]
    fn duplicate_key() {
        check(
            &[("  inbound: allow", "  inbound: allow\n  inbound: drop")],
            &["44: firewall.inbound: the key is there already, in line 43; expected each key once"],
        );
        check(
            &[("      port: in0", "      port: in0\n      port: { a: [ 1 ] }")],
            &["15: shards[0].inside.port: the key is there already, in line 14; expected each \
                 key once"],
        );
    }

    #[test]
    fn unknown_key_twice() {
        check(
            &[("  inbound: allow", "  color: red\n  color: red")],
            &[
                "43: firewall.color: color is not a key here; expected one of inbound, rules",
                "44: firewall.color: the key is there already, in line 43; expected each key once",
            ],
        );
    }

    #[test]
    fn missing_key() {
        check(
            &[("  - id: 0\n    lcore: 0", "  - lcore: 0")],
            &["11: shards[0].id: missing; expected a number from 0 to 65535"],
        );
        check(
            &[(", device: net_null0", "")],
            &["6: ports[0].device: missing; expected a PCI address such as \"0000:3b:00.1\" or \
                 a virtual device such as \"net_af_packet0,iface=eth1\""],
        );
        check(
            &[("    nat:\n      pool: [ 203.0.113.0/28 ]\n", "")],
            &["24: shards[1].nat: missing; expected a mapping with keys of pool, sessions, \
                 mapping, filtering, ports, ports_per_subscriber, hairpinning, timeouts, exclude, \
                 static"],
        );
        check(
            &[("    nat:\n      pool: [ 203.0.113.0/28 ]\n", "    nat: {}\n")],
            &["33: shards[1].nat.pool: missing; expected a list of 1 to 4096 items"],
        );
        check(
            &[("      address: 10.0.1.1/24\n", "")],
            &["26: shards[1].inside.address: missing; expected an address with its network's \
                 length, such as 192.0.2.1/24"],
        );
        check_text(
            "ports:\n",
            &[
                "1: ports: missing; expected a list of 1 to 32 items",
                "1: shards: missing; expected a list of 1 to 128 items",
            ],
        );
        check_text(
            "",
            &["1: yaml: empty; expected a mapping with keys of eal, ports, shards, nat, \
                 firewall, clock, cluster, control, metrics"],
        );
        check_text(
            "# nothing\n",
            &["1: yaml: empty; expected a mapping with keys of eal, ports, shards, nat, \
                 firewall, clock, cluster, control, metrics"],
        );
    }

    #[test]
    fn wrong_kind_of_value() {
        check(
            &[("[ 203.0.113.0/28 ]", "203.0.113.0/28")],
            &["34: shards[1].nat.pool: not a list; expected a list, such as [ a, b ] or one \
                 item a line behind dashes"],
        );
        check(
            &[("[ 203.0.113.0/28 ]", "[ [ 203.0.113.0/28 ] ]")],
            &["34: shards[1].nat.pool[0]: a list, not a single value; expected an IPv4 prefix \
                 such as 198.51.100.0/28"],
        );
        check(
            &[("[ 203.0.113.0/28 ]", "[]")],
            &["34: shards[1].nat.pool: the list is empty; expected a list of 1 to 4096 items"],
        );
        check(
            &[("[ 203.0.113.0/28 ]", "[ ~ ]")],
            &["34: shards[1].nat.pool[0]: empty; expected an IPv4 prefix such as 198.51.100.0/28"],
        );
        check(
            &[("  memory: 512M", "  memory: [ 512M ]")],
            &["2: eal.memory: a list, not a single value; expected a size from 16M to 16T (K, \
                 M, G and T are powers of 1024)"],
        );
        check(
            &[("clock: tsc", "clock: { tsc: 1 }")],
            &["45: clock: a mapping, not a single value; expected tsc or capture"],
        );
        check(
            &[("{ socket: /run/kronod.sock }", "/run/kronod.sock")],
            &["46: control: not a mapping; expected a mapping with keys of socket"],
        );
        check_text(
            "just text\n",
            &["1: yaml: not a mapping; expected a mapping with keys of eal, ports, shards, nat, \
                 firewall, clock, cluster, control, metrics"],
        );
        check_text(
            "- 1\n",
            &["1: yaml: not a mapping; expected a mapping with keys of eal, ports, shards, nat, \
                 firewall, clock, cluster, control, metrics"],
        );
    }

    #[test]
    fn size() {
        check(
            &[("512M", "512MB")],
            &["2: eal.memory: 512MB is not a size; expected a size from 16M to 16T (K, M, G and \
                 T are powers of 1024)"],
        );
        check(
            &[("512M", "1M")],
            &["2: eal.memory: 1M is out of range; expected a size from 16M to 16T (K, M, G and \
                 T are powers of 1024)"],
        );
        check(
            &[("512M", "-1")],
            &["2: eal.memory: -1 is not a size; expected a size from 16M to 16T (K, M, G and T \
                 are powers of 1024)"],
        );
        check(
            &[("512M", "99999999999999999999G")],
            &["2: eal.memory: 99999999999999999999G is out of range; expected a size from 16M \
                 to 16T (K, M, G and T are powers of 1024)"],
        );
        check(
            &[("64K", "512M")],
            &["36: nat.sessions: 512M is out of range; expected a size from 16 to 256M (K, M, G \
                 and T are powers of 1024)"],
        );
        assert_eq!(valid(&[("512M", "1g")]).eal.memory, 1 << 30);
        assert_eq!(valid(&[("64K", "1000")]).shards[1].nat.clone().unwrap().sessions, 1000);
    }

    #[test]
    fn duration() {
        check(
            &[("udp: 5m", "udp: 300")],
            &["39: nat.timeouts.udp: 300 is not a duration; expected a duration such as 5m, \
                 60s, 2h4m or 500ms (units d, h, m, s, ms)"],
        );
        check(
            &[("udp: 5m", "udp: 4m2h")],
            &["39: nat.timeouts.udp: 4m2h is not a duration; expected a duration such as 5m, \
                 60s, 2h4m or 500ms (units d, h, m, s, ms)"],
        );
        check(
            &[("udp: 5m", "udp: 0s")],
            &["39: nat.timeouts.udp: 0s is out of range; expected a duration from 100ms to \
                 1242d18h9m42s400ms"],
        );
        check(
            &[("udp: 5m", "udp: 2000d")],
            &["39: nat.timeouts.udp: 2000d is out of range; expected a duration from 100ms to \
                 1242d18h9m42s400ms"],
        );
        check(
            &[("udp: 5m", "udp: 99999999999999999999h")],
            &["39: nat.timeouts.udp: 99999999999999999999h is not a duration; expected a \
                 duration such as 5m, 60s, 2h4m or 500ms (units d, h, m, s, ms)"],
        );
        let timeouts = |text| valid(&[("udp: 5m", text)]).shards[0].nat.clone().unwrap().timeouts;
        assert_eq!(timeouts("udp: 2h4m").udp.as_millis(), 7_440_000);
        assert_eq!(timeouts("tcp_opening: 1500ms").tcp_opening.as_millis(), 1500);
        assert_eq!(timeouts("udp: 1d2h3m4s5ms").udp.as_millis(), 93_784_100);
    }

    #[test]
    fn port_hold_is_bounded_by_the_clock_of_the_allocator() {
        check(
            &[("port_hold: 120s", "port_hold: 3601s")],
            &["39: nat.timeouts.port_hold: 3601s is out of range; expected a duration from 0s \
                 to 1h"],
        );
        valid(&[("port_hold: 120s", "port_hold: 1h")]);
    }

    #[test]
    fn number() {
        check(
            &[("    lcore: 1", "    lcore: 128")],
            &["25: shards[1].lcore: 128 is out of range; expected a number from 0 to 127"],
        );
        check(
            &[("  - id: 1", "  - id: one")],
            &["24: shards[1].id: one is not a number; expected a number from 0 to 65535"],
        );
        check(
            &[("  - id: 1", "  - id: 65536")],
            &["24: shards[1].id: 65536 is out of range; expected a number from 0 to 65535"],
        );
        check(
            &[("mtu: 1500", "mtu: 67")],
            &["9: ports[3].mtu: 67 is out of range; expected a number from 68 to 9600"],
        );
        check(
            &[("mtu: 1500", "mtu: 9601")],
            &["9: ports[3].mtu: 9601 is out of range; expected a number from 68 to 9600"],
        );
        check(
            &[("ports_per_subscriber: 2048", "ports_per_subscriber: 0")],
            &["38: nat.ports_per_subscriber: 0 is out of range; expected a number from 1 to 65535"],
        );
        check(
            &[("      port: in1", "      port: in1\n      vlan: 4095")],
            &["28: shards[1].inside.vlan: 4095 is out of range; expected a number from 1 to 4094"],
        );
        check(
            &[("      port: in1", "      port: in1\n      queue: 256")],
            &["28: shards[1].inside.queue: 256 is out of range; expected a number from 0 to 255"],
        );
    }

    #[test]
    fn choice() {
        check(
            &[("clock: tsc", "clock: hpet")],
            &["45: clock: hpet is unknown here; expected tsc or capture"],
        );
        check(
            &[("  memory: 512M", "  hugepages: yes")],
            &["2: eal.hugepages: yes is unknown here; expected auto, required or off"],
        );
        check(
            &[("  memory: 512M", "  idle: sleep")],
            &["2: eal.idle: sleep is unknown here; expected busy or yield"],
        );
        check(
            &[("  sessions: 64K", "  mapping: address-dependent")],
            &["36: nat.mapping: address-dependent is unknown here; expected endpoint-independent"],
        );
        check(
            &[("  sessions: 64K", "  filtering: none")],
            &["36: nat.filtering: none is unknown here; expected address-and-port-dependent, \
                 address-dependent or endpoint-independent"],
        );
        check(
            &[("  sessions: 64K", "  hairpinning: on")],
            &["36: nat.hairpinning: on is unknown here; expected true or false"],
        );
        check(
            &[("inbound: allow", "inbound: deny")],
            &["43: firewall.inbound: deny is unknown here; expected allow or drop"],
        );
    }

    #[test]
    fn name_and_device() {
        check(
            &[("name: in0,", "name: in 0,"), ("port: in0", "port: in1")],
            &[
                "6: ports[0].name: in 0 is not a name; expected 1 to 32 letters, digits, \"_\", \
                 \"-\" and \".\"",
                "27: shards[1].inside.port: this queue of the port is also read by \
                 shards[0].inside (line 13); expected a port or a queue of its own for each shard",
            ],
        );
        check(
            &[("device: net_null0", "device: eth0")],
            &["6: ports[0].device: eth0 is not a device; expected a PCI address such as \
                 \"0000:3b:00.1\" or a virtual device such as \"net_af_packet0,iface=eth1\""],
        );
        check(
            &[("0000:3b:00.1", "0000:3b:20.1")],
            &["8: ports[2].device: 0000:3b:20.1 is not a device; expected a PCI address such as \
                 \"0000:3b:00.1\" or a virtual device such as \"net_af_packet0,iface=eth1\""],
        );
        let config = valid(&[("0000:3b:00.1", "3B:00.1,rx=1")]);
        assert_eq!(config.ports[2].device, config::Device::Pci("0000:3b:00.1,rx=1".into()));
    }

    #[test]
    fn mac() {
        check(
            &[("02:00:00:00:00:fe", "02:00:00:00:00")],
            &["17: shards[0].inside.neighbours[0].mac: 02:00:00:00:00 is not an Ethernet \
                 address; expected a station's Ethernet address such as \"02:00:00:00:00:01\""],
        );
        check(
            &[("02:00:00:00:00:fe", "03:00:00:00:00:fe")],
            &["17: shards[0].inside.neighbours[0].mac: 03:00:00:00:00:fe is a group's address; \
                 expected a station's Ethernet address such as \"02:00:00:00:00:01\""],
        );
        check(
            &[("02:00:00:00:00:fe", "00:00:00:00:00:00")],
            &["17: shards[0].inside.neighbours[0].mac: 00:00:00:00:00:00 is the null address; \
                 expected a station's Ethernet address such as \"02:00:00:00:00:01\""],
        );
        check(
            &[("02:00:00:00:00:fe", "02:00:00:00:00:+e")],
            &["17: shards[0].inside.neighbours[0].mac: 02:00:00:00:00:+e is not an Ethernet \
                 address; expected a station's Ethernet address such as \"02:00:00:00:00:01\""],
        );
    }

    #[test]
    fn interface_address() {
        check(
            &[("10.0.1.1/24", "10.0.1.1")],
            &["28: shards[1].inside.address: 10.0.1.1 is not an address in a network; expected \
                 an address with its network's length, such as 192.0.2.1/24"],
        );
        check(
            &[("10.0.1.1/24", "10.0.1.0/24")],
            &["28: shards[1].inside.address: 10.0.1.0/24 is the network address of its network; \
                 expected an address with its network's length, such as 192.0.2.1/24"],
        );
        check(
            &[("10.0.1.1/24", "10.0.1.255/24")],
            &["28: shards[1].inside.address: 10.0.1.255/24 is the broadcast address of its \
                 network; expected an address with its network's length, such as 192.0.2.1/24"],
        );
        check(
            &[("10.0.1.1/24", "10.0.1.1/32")],
            &["28: shards[1].inside.address: 10.0.1.1/32 leaves no neighbours on-link; expected \
                 an address with its network's length, such as 192.0.2.1/24"],
        );
        check(
            &[("10.0.1.1/24", "10.0.1.1/4")],
            &["28: shards[1].inside.address: 10.0.1.1/4 is too large a network to be on-link; \
                 expected an address with its network's length, such as 192.0.2.1/24"],
        );
        check(
            &[("10.0.1.1/24", "127.0.0.1/24")],
            &["28: shards[1].inside.address: 127.0.0.1/24 is not an address that a host can \
                 have; expected an address with its network's length, such as 192.0.2.1/24"],
        );
        valid(&[("10.0.1.1/24", "10.0.1.0/31")]);
    }

    #[test]
    fn port_range() {
        check(
            &[("1024-65535", "65535-1024")],
            &["37: nat.ports: 65535-1024 ends before it begins; expected one port or a range \
                 within 1-65535, such as 25 or 1024-65535"],
        );
        check(
            &[("1024-65535", "0-65535")],
            &["37: nat.ports: 0-65535 is not a range of ports; expected one port or a range \
                 within 1-65535, such as 25 or 1024-65535"],
        );
        check(
            &[("1024-65535", "1024-65536")],
            &["37: nat.ports: 1024-65536 is not a range of ports; expected one port or a range \
                 within 1-65535, such as 25 or 1024-65535"],
        );
        check(
            &[("1024-65535", "many")],
            &["37: nat.ports: many is not a range of ports; expected one port or a range within \
                 1-65535, such as 25 or 1024-65535"],
        );
        assert_eq!(
            valid(&[("1024-65535", "1-65535")]).shards[0].nat.clone().unwrap().ports,
            1..=65535
        );
    }

    #[test]
    fn endpoint() {
        check(
            &[("\"10.0.0.5:80\"", "10.0.0.5")],
            &["41: nat.static[0].inside: 10.0.0.5 is not an address with a port; expected an \
                 address and a port such as \"10.0.0.5:80\""],
        );
        check(
            &[("\"10.0.0.5:80\"", "\"10.0.0.5:0\"")],
            &["41: nat.static[0].inside: 10.0.0.5:0 is not an address with a port; expected an \
                 address and a port such as \"10.0.0.5:80\""],
        );
        check(
            &[("static: [ { protocol: tcp", "static: [ { protocol: icmp")],
            &["41: nat.static[0].protocol: icmp is unknown here; expected tcp or udp"],
        );
    }

    #[test]
    fn firewall_rules() {
        check(
            &[("protocol: tcp, to", "protocol: icmp, to")],
            &["44: firewall.rules[0].port: only TCP and UDP have ports; expected protocol: tcp \
                 or protocol: udp in the same rule"],
        );
        check(
            &[("protocol: tcp, to: any, port: 25", "sport: 25")],
            &["44: firewall.rules[0].sport: only TCP and UDP have ports; expected protocol: tcp \
                 or protocol: udp in the same rule"],
        );
        check(
            &[("port: 25", "port: 25-20")],
            &["44: firewall.rules[0].port: 25-20 ends before it begins; expected one port or a \
                 range within 1-65535, such as 25 or 1024-65535"],
        );
        check(
            &[("to: any", "to: all")],
            &["44: firewall.rules[0].to: all is not a prefix; expected any, or an IPv4 prefix \
                 such as 198.51.100.0/28"],
        );
        check(
            &[("direction: out, ", "")],
            &["44: firewall.rules[0].direction: missing; expected out or in"],
        );
        check(
            &[("protocol: tcp, to", "protocol: sctp, to")],
            &["44: firewall.rules[0].protocol: sctp is unknown here; expected any, tcp, udp or \
                 icmp"],
        );
        let rule = &valid(&[("port: 25", "sport: 5, port: 20-25")]).firewall.rules[0];
        assert_eq!((&rule.source_ports, &rule.destination_ports), (&Some(5..=5), &Some(20..=25)));
    }

    #[test]
    fn control_socket_path_length() {
        let path = |len: usize| format!("socket: /{}", "s".repeat(len - 1));
        check(
            &[("socket: /run/kronod.sock", &path(108))],
            &["46: control.socket: the path has 108 bytes; expected a path of at most 107 bytes"],
        );
        valid(&[("socket: /run/kronod.sock", &path(107))]);
        check(
            &[("socket: /run/kronod.sock", "socket: \"\"")],
            &["46: control.socket: the path is empty; expected a path of at most 107 bytes"],
        );
    }

    #[test]
    fn metrics_listen_address() {
        check(
            &[("127.0.0.1:9105", "localhost:9105")],
            &["47: metrics.listen: localhost:9105 is not an address with a port; expected an \
                 address and a port such as \"127.0.0.1:9105\""],
        );
        valid(&[("127.0.0.1:9105", "[::1]:0")]);
    }

    #[test]
    fn lcores_in_the_syntax_of_the_eal() {
        let lcores = |map: &str| {
            let config = valid(&[("\"0@0,1@0\"", map)]);
            config.eal.lcores.unwrap().lcores
        };
        assert_eq!(lcores("\"0,1\""), [0, 1]);
        assert_eq!(lcores("\"1-3@0,(0,5)@(1,3-5)\""), [0, 1, 2, 3, 5]);
        check(
            &[("\"0@0,1@0\"", "\"0@0,(1@0\"")],
            &["3: eal.lcores: 0@0,(1@0 is not a map of lcores; expected lcores below 128, each \
                 once, on CPUs in EAL syntax such as 0@0,1@0 or (2-4)@(0,1)"],
        );
        check(
            &[("\"0@0,1@0\"", "\"1-0@0\"")],
            &["3: eal.lcores: 1-0@0 is not a map of lcores; expected lcores below 128, each \
                 once, on CPUs in EAL syntax such as 0@0,1@0 or (2-4)@(0,1)"],
        );
        check(
            &[("\"0@0,1@0\"", "\"0@0,0-1@0\"")],
            &["3: eal.lcores: 0@0,0-1@0 has an lcore twice; expected lcores below 128, each \
                 once, on CPUs in EAL syntax such as 0@0,1@0 or (2-4)@(0,1)"],
        );
        check(
            &[("\"0@0,1@0\"", "\"0@0,1@0,128@0\"")],
            &["3: eal.lcores: 0@0,1@0,128@0 has an lcore that is out of range; expected lcores \
                 below 128, each once, on CPUs in EAL syntax such as 0@0,1@0 or (2-4)@(0,1)"],
        );
        check(
            &[("\"0@0,1@0\"", "\"0@0,,1@0\"")],
            &["3: eal.lcores: 0@0,,1@0 is not a map of lcores; expected lcores below 128, each \
                 once, on CPUs in EAL syntax such as 0@0,1@0 or (2-4)@(0,1)"],
        );
    }

    #[test]
    fn eal_arguments_that_krono_gives_itself() {
        check(
            &[("--log-level=8", "--lcores=0@0")],
            &["4: eal.args[0]: --lcores=0@0 is krono's own to give; expected eal.lcores instead"],
        );
        check(
            &[("--log-level=8", "--log-level=8, -m, \"1\"")],
            &["4: eal.args[1]: -m is krono's own to give; expected eal.memory instead"],
        );
    }

    #[test]
    fn too_many_ports_and_shards() {
        let ports: String =
            (4..33).map(|i| format!("  - {{ name: p{i}, device: net_null{i} }}\n")).collect();
        check(
            &[("shards:\n", &format!("{ports}shards:\n"))],
            &["5: ports: the list has 33 items; expected at most 32 items"],
        );
    }
}

mod yaml {
    use super::*;

    #[test]
    fn syntax_is_one_mistake() {
        check(
            &[("[ 203.0.113.0/28 ]", "[ 203.0.113.0/28")],
            &["35: yaml: invalid indentation; expected well-formed YAML"],
        );
        check(
            &[("clock: tsc", "clock: \"tsc")],
            &["45: yaml: invalid indentation in quoted scalar; expected well-formed YAML"],
        );
    }

    #[test]
    fn anchors_aliases_and_tags() {
        check(
            &[("clock: tsc", "clock: &c tsc")],
            &["45: clock: an anchor is not supported; expected the value alone"],
        );
        check(
            &[("inbound: allow", "inbound: *a")],
            &["43: yaml: while parsing node, found unknown anchor; expected well-formed YAML"],
        );
        check(
            &[("inbound: allow", "inbound: &a allow"), ("clock: tsc", "clock: *a")],
            &[
                "43: firewall.inbound: an anchor is not supported; expected the value alone",
                "45: clock: an alias is not supported; expected the value itself",
            ],
        );
        check(
            &[("clock: tsc", "clock: !!str tsc")],
            &["45: clock: a tag is not supported; expected the value alone"],
        );
        check(
            &[("clock: tsc", "<<: { clock: tsc }")],
            &["45: <<: << is not a key here; expected one of eal, ports, shards, nat, firewall, \
                 clock, cluster, control, metrics"],
        );
        check(
            &[("clock: tsc", "? [ a ]\n: b")],
            &["45: yaml: a mapping or list as a key is not supported; expected a name"],
        );
    }

    #[test]
    fn laughs_do_not_multiply() {
        let laughs: String = (1..30)
            .map(|i| format!("a{i}: &a{i} [ {} ]\n", vec![format!("*a{}", i - 1); 9].join(", ")))
            .collect();
        let said = load(&format!("a0: &a0 lol\n{laughs}")).unwrap_err();
        assert!(said.list.len() < 400, "{}", said.list.len());
    }

    #[test]
    fn one_document() {
        check(
            &[("clock: tsc", "---\nclock: tsc")],
            &["45: yaml: a second document begins; expected one document in the file"],
        );
        valid(&[("eal:\n", "---\neal:\n")]);
    }

    #[test]
    fn nesting_is_bounded() {
        check(
            &[("clock: tsc", &format!("clock: {}{}", "[".repeat(20), "]".repeat(20)))],
            &["45: yaml: mappings and lists are nested too deeply; expected at most 16 levels"],
        );
    }

    #[test]
    fn a_file_that_is_too_large_or_not_text() {
        let said = |bytes: &[u8]| {
            config::load_bytes("f.yaml", bytes, &Memory::unlimited()).unwrap_err().to_string()
        };
        assert_eq!(
            said(&vec![b'#'; config::FILE_SIZE_MAX + 1]),
            "f.yaml:1: file: the file is too large; expected at most 1048576 bytes"
        );
        assert_eq!(
            said(b"clock: tsc\nports: \xff\n"),
            "f.yaml:2: file: this is not UTF-8; expected text in UTF-8"
        );
    }

    #[test]
    fn a_file_that_is_not_there() {
        let path = std::path::Path::new("/nonexistent.yaml");
        let said = config::load(path, &Memory::unlimited()).unwrap_err().to_string();
        assert_eq!(
            said,
            "/nonexistent.yaml:1: file: the file cannot be read: No such file or directory (os \
             error 2); expected a file that can be read"
        );
    }

    #[test]
    fn text_from_the_file_stays_on_one_line() {
        check(
            &[("clock: tsc", "clock: \"a\\nb\\e[31m\"")],
            &["45: clock: a\\nb\\u{1b}[31m is unknown here; expected tsc or capture"],
        );
        check(
            &[("clock: tsc", &format!("clock: {}", "x".repeat(100)))],
            &["45: clock: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx… is \
                 unknown here; expected tsc or capture"],
        );
    }

    #[test]
    fn a_key_without_a_value_has_its_default() {
        let config = valid(&[("clock: tsc", "clock:"), ("  memory: 512M", "  memory: ~")]);
        assert_eq!((config.clock, config.eal.memory), (config::Clock::Tsc, 512 << 20));
    }
}

mod sense {
    use super::*;

    #[test]
    fn overlapping_pools_of_two_shards() {
        check(
            &[("203.0.113.0/28", "198.51.100.8/29")],
            &["34: shards[1].nat.pool[0]: 198.51.100.8/29 overlaps 198.51.100.0/28, \
                 shards[0].nat.pool[0] (line 23); expected addresses that are in no other pool"],
        );
        // The one further down is reported, whichever contains the other.
        check(
            &[("203.0.113.0/28", "198.51.100.0/24")],
            &["34: shards[1].nat.pool[0]: 198.51.100.0/24 overlaps 198.51.100.0/28, \
                 shards[0].nat.pool[0] (line 23); expected addresses that are in no other pool"],
        );
    }

    #[test]
    fn overlapping_pools_within_a_shard() {
        check(
            &[("203.0.113.0/28", "203.0.113.0/28, 203.0.113.4/30, 203.0.113.15/32")],
            &[
                "34: shards[1].nat.pool[1]: 203.0.113.4/30 overlaps 203.0.113.0/28, \
                 shards[1].nat.pool[0] (line 34); expected addresses that are in no other pool",
                "34: shards[1].nat.pool[2]: 203.0.113.15/32 overlaps 203.0.113.0/28, \
                 shards[1].nat.pool[0] (line 34); expected addresses that are in no other pool",
            ],
        );
        check(
            &[("203.0.113.0/28", "203.0.113.4/30, 203.0.113.15/32, 203.0.113.0/28")],
            &["34: shards[1].nat.pool[2]: 203.0.113.0/28 overlaps 203.0.113.4/30, \
                 shards[1].nat.pool[0] (line 34); expected addresses that are in no other pool"],
        );
    }

    #[test]
    fn an_address_on_two_shards() {
        check(
            &[("192.0.2.2/24", "192.0.2.1/24")],
            &["31: shards[1].outside.address: 192.0.2.1/24 is taken by \
                 shards[0].outside.address (line 20); expected an address of its own for each \
                 side of each shard"],
        );
        check(
            &[("10.0.1.1/24", "10.0.0.1/16")],
            &["28: shards[1].inside.address: 10.0.0.1/16 is taken by shards[0].inside.address \
                 (line 15); expected an address of its own for each side of each shard"],
        );
    }

    #[test]
    fn an_address_on_both_sides_of_a_shard() {
        check(
            &[("10.0.1.1/24", "192.0.2.2/25")],
            &["31: shards[1].outside.address: 192.0.2.2/24 is taken by shards[1].inside.address \
                 (line 28); expected an address of its own for each side of each shard"],
        );
    }

    #[test]
    fn a_pool_inside_an_inside_network() {
        check(
            &[("203.0.113.0/28", "10.0.0.64/28")],
            &["34: shards[1].nat.pool[0]: 10.0.0.64/28 overlaps the inside network 10.0.0.0/24, \
                 shards[0].inside.address (line 15); expected addresses that nobody else has"],
        );
        check(
            &[("203.0.113.0/28", "10.0.0.0/16")],
            &[
                "34: shards[1].nat.pool[0]: 10.0.0.0/16 overlaps the inside network 10.0.0.0/24, \
                 shards[0].inside.address (line 15); expected addresses that nobody else has",
                "34: shards[1].nat.pool[0]: the pool has 65536 addresses with 10.0.0.0/16; \
                 expected at most 16384 in a shard",
            ],
        );
    }

    #[test]
    fn a_pool_that_overlaps_inside_routes() {
        check(
            &[("203.0.113.0/28", "100.64.1.0/28")],
            &["34: shards[1].nat.pool[0]: 100.64.1.0/28 overlaps the inside network \
                 100.64.0.0/16, shards[0].inside.routes[0].prefix (line 16); expected addresses \
                 that nobody else has"],
        );
        check(
            &[("prefix: 100.64.0.0/16", "prefix: 203.0.113.8/30")],
            &["34: shards[1].nat.pool[0]: 203.0.113.0/28 overlaps the inside network \
                 203.0.113.8/30, shards[0].inside.routes[0].prefix (line 16); expected addresses \
                 that nobody else has"],
        );
        check(
            &[("prefix: 100.64.0.0/16", "prefix: 0.0.0.0/0")],
            &[
                "23: shards[0].nat.pool[0]: 198.51.100.0/28 overlaps the inside network \
                 0.0.0.0/0, shards[0].inside.routes[0].prefix (line 16); expected addresses that \
                 nobody else has",
                "34: shards[1].nat.pool[0]: 203.0.113.0/28 overlaps the inside network 0.0.0.0/0, \
                 shards[0].inside.routes[0].prefix (line 16); expected addresses that nobody else \
                 has",
            ],
        );
    }

    #[test]
    fn a_pool_with_an_address_that_somebody_has() {
        check(
            &[("203.0.113.0/28", "192.0.2.0/28")],
            &["34: shards[1].nat.pool[0]: 192.0.2.0/28 overlaps the address 192.0.2.1, \
                 shards[0].outside.address (line 20); expected addresses that nobody else has"],
        );
        check(
            &[("203.0.113.0/28", "192.0.2.254/32")],
            &["34: shards[1].nat.pool[0]: 192.0.2.254/32 overlaps the address 192.0.2.254, \
                 shards[0].outside.routes[0].via (line 21); expected addresses that nobody else \
                 has"],
        );
        valid(&[("203.0.113.0/28", "192.0.2.16/28")]);
    }

    #[test]
    fn a_pool_that_is_too_large() {
        check(
            &[("203.0.113.0/28", "203.0.113.0/28, 20.0.0.0/18")],
            &["34: shards[1].nat.pool[1]: the pool has 16400 addresses with 20.0.0.0/18; \
                 expected at most 16384 in a shard"],
        );
    }

    #[test]
    fn an_lcore_used_twice() {
        check(
            &[("    lcore: 1", "    lcore: 0")],
            &["25: shards[1].lcore: 0 is taken by shards[0].lcore (line 12); expected an lcore \
                 of its own for each shard"],
        );
    }

    #[test]
    fn an_lcore_that_is_not_mapped() {
        check(
            &[("    lcore: 1", "    lcore: 2")],
            &["25: shards[1].lcore: lcore 2 is not in eal.lcores (line 3); expected one of \
                 0@0,1@0"],
        );
    }

    #[test]
    fn a_duplicate_shard_id() {
        check(
            &[("  - id: 1", "  - id: 0")],
            &["24: shards[1].id: 0 is taken by shards[0].id (line 11); expected an id of its \
                 own for each shard"],
        );
    }

    #[test]
    fn a_port_that_is_not_declared() {
        check(
            &[("port: in1", "port: in2")],
            &["27: shards[1].inside.port: in2 is not declared under ports; expected one of in0, \
                 out0, in1, out1"],
        );
    }

    #[test]
    fn a_duplicate_port_name() {
        check(
            &[
                ("name: in1", "name: in0"),
                ("port: in1", "port: out1"),
                (
                    "      port: out1\n      address: 192",
                    "      port: out1\n      vlan: 7\n      address: 192",
                ),
            ],
            &["8: ports[2].name: in0 is taken by ports[0].name (line 6); expected a name of its \
                 own for each port"],
        );
    }

    #[test]
    fn a_duplicate_device() {
        check(
            &[("device: net_null3", "device: \"net_null1,copy=1\"")],
            &["9: ports[3].device: net_null1,copy=1 is taken by ports[1].device (line 7); \
                 expected a device of its own for each port"],
        );
        check(
            &[("device: net_null3", "device: \"3b:00.1\"")],
            &["9: ports[3].device: 0000:3b:00.1 is taken by ports[2].device (line 8); expected \
                 a device of its own for each port"],
        );
    }

    #[test]
    fn a_queue_that_two_shards_read() {
        check(
            &[("port: in1", "port: in0")],
            &["27: shards[1].inside.port: this queue of the port is also read by \
                 shards[0].inside (line 13); expected a port or a queue of its own for each shard"],
        );
        check(
            &[("port: in1", "port: in0\n      vlan: 5\n      mac: \"02:00:00:00:00:05\"")],
            &["27: shards[1].inside.port: this queue of the port is also read by \
                 shards[0].inside (line 13); expected a port or a queue of its own for each shard"],
        );
    }

    #[test]
    fn a_port_where_two_shards_have_the_same_vlan_and_mac() {
        check(
            &[("port: in1", "port: in0\n      queue: 1")],
            &["27: shards[1].inside.port: the port, vlan and mac are also those of \
                 shards[0].inside (line 13); expected another port, or a mac or vlan of its own \
                 for each shard"],
        );
        valid(&[("port: in1", "port: in0\n      queue: 1\n      vlan: 5")]);
        valid(&[("port: in1", "port: in0\n      queue: 1\n      mac: \"02:00:00:00:00:05\"")]);
    }

    #[test]
    fn one_port_for_both_sides_needs_two_vlans() {
        check(
            &[("port: in1", "port: out1")],
            &["30: shards[1].outside.port: the port and its vlan are also those of \
                 shards[1].inside (line 26); expected another port, or another vlan on each side"],
        );
        check(
            &[("port: in1", "port: out1\n      mac: \"02:00:00:00:00:05\"")],
            &["31: shards[1].outside.port: the port and its vlan are also those of \
                 shards[1].inside (line 26); expected another port, or another vlan on each side"],
        );
        valid(&[("port: in1", "port: out1\n      vlan: 5")]);
    }

    #[test]
    fn captures_of_both_sides_are_two_ports() {
        check(
            &[("port: in1", "port: out1\n      vlan: 5"), ("clock: tsc", "clock: capture")],
            &["31: shards[1].outside.port: clock: capture merges the captures of two ports, and \
                 this is one; expected a port of its own for each side"],
        );
    }

    #[test]
    fn a_gateway_that_is_not_on_link() {
        check(
            &[("prefix: 100.64.0.0/16, via: 10.0.0.254", "prefix: 100.64.0.0/16, via: 10.0.1.254")],
            &["16: shards[0].inside.routes[0].via: 10.0.1.254 is not on-link; expected a \
                 neighbour's address in 10.0.0.0/24"],
        );
        check(
            &[("prefix: 100.64.0.0/16, via: 10.0.0.254", "prefix: 100.64.0.0/16, via: 10.0.0.1")],
            &["16: shards[0].inside.routes[0].via: 10.0.0.1 is the shard's own; expected a \
                 neighbour's address in 10.0.0.0/24"],
        );
        check(
            &[("prefix: 100.64.0.0/16, via: 10.0.0.254", "prefix: 100.64.0.0/16, via: 10.0.0.255")],
            &["16: shards[0].inside.routes[0].via: 10.0.0.255 is the broadcast address; \
                 expected a neighbour's address in 10.0.0.0/24"],
        );
    }

    #[test]
    fn a_static_neighbour_that_is_not_on_link() {
        check(
            &[("{ address: 10.0.0.254", "{ address: 10.0.1.254")],
            &["17: shards[0].inside.neighbours[0].address: 10.0.1.254 is not on-link; expected \
                 a neighbour's address in 10.0.0.0/24"],
        );
    }

    #[test]
    fn a_neighbour_or_a_route_twice() {
        let twice = "{ address: 10.0.0.254, mac: \"02:00:00:00:00:fd\" }, { address: 10.0.0.254";
        check(
            &[("{ address: 10.0.0.254", twice)],
            &["17: shards[0].inside.neighbours[1].address: 10.0.0.254 is taken by \
                 shards[0].inside.neighbours[0].address (line 17); expected each neighbour once"],
        );
        let twice = "{ prefix: 100.64.0.0/16, via: 10.0.0.7 }, { prefix: 100.64.0.0/16";
        check(
            &[("{ prefix: 100.64.0.0/16", twice)],
            &["16: shards[0].inside.routes[1].prefix: 100.64.0.0/16 is taken by \
                 shards[0].inside.routes[0].prefix (line 16); expected each prefix once"],
        );
        check(
            &[("prefix: 100.64.0.0/16", "prefix: 10.0.0.0/24")],
            &["16: shards[0].inside.routes[0].prefix: 10.0.0.0/24 is on-link; expected a \
                 network behind a neighbour"],
        );
    }

    #[test]
    fn sizes_that_do_not_fit_in_memory() {
        let said = |available: u64, edits: &[(&str, &str)]| {
            let memory = Memory {
                available: Some(available),
                bytes_per_shard: &|sizes: &TableSizes| {
                    u64::from(sizes.sessions) * 100 + u64::from(sizes.pool_addresses)
                },
            };
            load_text("f.yaml", &edited(edits), &memory)
                .map_or_else(|m| m.to_string(), |_| String::new())
        };
        let exact = (512 << 20) + 2 * (100 * (64 << 10) + 16);
        assert_eq!(said(exact, &[]), "");
        assert_eq!(
            said(exact - 1, &[]),
            "f.yaml:2: eal.memory: 512M of packet buffers and 13M of tables do not fit in memory; \
             expected at most 525M together"
        );
        assert_eq!(
            said(
                4 << 30,
                &[("pool: [ 203.0.113.0/28 ]", "pool: [ 203.0.113.0/28 ]\n      sessions: 256M")]
            ),
            "f.yaml:35: shards[1].nat.sessions: 512M of packet buffers and 26G of tables do not \
             fit in memory; expected at most 4G together"
        );
    }

    #[test]
    fn ports_per_subscriber_beyond_ports() {
        check(
            &[("ports: 1024-65535", "ports: 1024-2000")],
            &["38: nat.ports_per_subscriber: 2048 exceeds the 977 ports of nat.ports (line 37); \
                 expected at most 977"],
        );
        check(
            &[("pool: [ 203.0.113.0/28 ]", "pool: [ 203.0.113.0/28 ]\n      ports: 1024-1100")],
            &["39: nat.ports_per_subscriber: 2048 exceeds the 77 ports of shards[1].nat.ports \
                 (line 35); expected at most 77"],
        );
        let small = valid(&[
            ("ports: 1024-65535", "ports: 1024-1100"),
            ("  ports_per_subscriber: 2048\n", ""),
        ]);
        assert_eq!(small.shards[0].nat.clone().unwrap().ports_per_subscriber, 77);
    }

    #[test]
    fn a_static_mapping_whose_inside_is_no_subscriber() {
        check(
            &[("10.0.0.5:80", "10.0.1.5:80")],
            &["41: nat.static[0].inside: 10.0.1.5 is in no network behind the shard; expected a \
                 subscriber's address in a network behind the inside of the shard"],
        );
        check(
            &[("10.0.0.5:80", "10.0.0.1:80")],
            &["41: nat.static[0].inside: 10.0.0.1 is the shard's own; expected a subscriber's \
                 address in a network behind the inside of the shard"],
        );
        valid(&[("10.0.0.5:80", "100.64.9.9:80")]);
    }

    #[test]
    fn a_static_mapping_whose_outside_is_in_no_pool() {
        check(
            &[("198.51.100.1:8080", "198.51.100.16:8080")],
            &["41: nat.static[0].outside: 198.51.100.16 is in no shard's pool; expected an \
                 address of a pool"],
        );
        let own = "pool: [ 203.0.113.0/28 ]\n      static: \
                   [ { protocol: udp, inside: \"10.0.1.5:53\", outside: \"198.51.100.1:53\" } ]";
        check(
            &[("pool: [ 203.0.113.0/28 ]", own)],
            &["35: shards[1].nat.static[0].outside: 198.51.100.1 is not in the shard's pool; \
                 expected an address of the shard's pool"],
        );
    }

    #[test]
    fn duplicate_static_mappings() {
        let more = |entry: &str| format!("static: [ {entry}, {{ protocol: tcp, inside");
        let inside =
            more("{ protocol: tcp, inside: \"10.0.0.5:80\", outside: \"198.51.100.2:80\" }");
        check(
            &[("static: [ { protocol: tcp, inside", &inside)],
            &["41: nat.static[1].inside: 10.0.0.5:80 is taken by nat.static[0].inside (line \
                 41); expected one mapping for each inside endpoint"],
        );
        let outside =
            more("{ protocol: tcp, inside: \"10.0.0.6:80\", outside: \"198.51.100.1:8080\" }");
        check(
            &[("static: [ { protocol: tcp, inside", &outside)],
            &["41: nat.static[1].outside: 198.51.100.1:8080 is taken by nat.static[0].outside \
                 (line 41); expected one mapping for each outside endpoint"],
        );
        let udp =
            more("{ protocol: udp, inside: \"10.0.0.5:80\", outside: \"198.51.100.1:8080\" }");
        assert_eq!(
            valid(&[("static: [ { protocol: tcp, inside", &udp)]).shards[0]
                .nat
                .clone()
                .unwrap()
                .static_mappings
                .len(),
            2
        );
    }

    #[test]
    fn more_static_mappings_than_sessions() {
        let entry = |i| {
            let inside = format!("protocol: udp, inside: \"10.0.0.5:{i}\"");
            format!("{{ {inside}, outside: \"198.51.100.1:{i}\" }}")
        };
        let list = (1..=17).map(entry).collect::<Vec<_>>().join(", ");
        let own = |sessions: u32| {
            let pool = "pool: [ 198.51.100.0/28 ]";
            format!("{pool}\n      sessions: {sessions}\n      static: [ {list} ]")
        };
        let for_all = "  static: [ { protocol: tcp, inside: \"10.0.0.5:80\", \
                       outside: \"198.51.100.1:8080\" } ]\n";
        check(
            &[("pool: [ 198.51.100.0/28 ]", &own(16)), (for_all, "")],
            &["25: shards[0].nat.static[16]: there are 17 with this, too many for \
                 shards[0].nat.sessions (line 24); expected at most 16 static mappings in the \
                 shard"],
        );
        valid(&[("pool: [ 198.51.100.0/28 ]", &own(17)), (for_all, "")]);
    }

    #[test]
    fn what_is_mistaken_is_not_judged_further() {
        // The port that is meant, the pool that has the address, the network of the gateway.
        check(
            &[("name: in0", "name: \"in 0\"")],
            &["6: ports[0].name: in 0 is not a name; expected 1 to 32 letters, digits, \"_\", \
                 \"-\" and \".\""],
        );
        check(
            &[("198.51.100.0/28", "198.51.100.0/40")],
            &["23: shards[0].nat.pool[0]: 198.51.100.0/40 is not a prefix; expected an IPv4 \
                 prefix such as 198.51.100.0/28"],
        );
        check(
            &[("10.0.0.1/24", "10.0.0.1/40")],
            &["15: shards[0].inside.address: 10.0.0.1/40 is not an address in a network; \
                 expected an address with its network's length, such as 192.0.2.1/24"],
        );
        check(
            &[("prefix: 100.64.0.0/16", "prefix: 100.64.0.0/40"), ("10.0.0.5:80", "100.64.0.5:80")],
            &["16: shards[0].inside.routes[0].prefix: 100.64.0.0/40 is not a prefix; expected \
                 an IPv4 prefix such as 198.51.100.0/28"],
        );
        let route = "{ prefix: 100.64.0.0/16, via: 10.0.0.254 }";
        check(
            &[(route, "100.64.0.0/16"), ("10.0.0.5:80", "100.64.0.5:80")],
            &["16: shards[0].inside.routes[0]: not a mapping; expected a mapping with keys of \
                 prefix, via"],
        );
        let own = "pool: [ 203.0.113.0/40 ]\n      static: \
                   [ { protocol: udp, inside: \"10.0.1.5:53\", outside: \"203.0.113.1:53\" } ]";
        check(
            &[("pool: [ 203.0.113.0/28 ]", own)],
            &["34: shards[1].nat.pool[0]: 203.0.113.0/40 is not a prefix; expected an IPv4 \
                 prefix such as 198.51.100.0/28"],
        );
        check(
            &[("eal:\n", "eal: 5\nnothing:\n")],
            &[
                "1: eal: not a mapping; expected a mapping with keys of memory, hugepages, \
                 lcores, idle, args",
                "2: nothing: nothing is not a key here; expected one of eal, ports, shards, nat, \
                 firewall, clock, cluster, control, metrics",
            ],
        );
        check(
            &[("nat:\n  sessions", "nat: 5\nnothing:\n  sessions")],
            &[
                "35: nat: not a mapping; expected a mapping with keys of sessions, mapping, \
                 filtering, ports, ports_per_subscriber, hairpinning, timeouts, exclude, static",
                "36: nothing: nothing is not a key here; expected one of eal, ports, shards, nat, \
                 firewall, clock, cluster, control, metrics",
            ],
        );
    }
}

mod warnings {
    use super::*;

    #[test]
    fn timeouts_below_the_minimum_of_an_rfc() {
        warned(
            &[("udp: 5m", "udp: 119s")],
            &["f.yaml:39: warning: nat.timeouts.udp: 1m59s is below the minimum of RFC 4787, \
                 REQ-5; expected 2m or more"],
        );
        warned(
            &[("udp: 5m", "icmp: 59s, tcp_established: 2h, tcp_closing: 239s, tcp_opening: 1s")],
            &[
                "f.yaml:39: warning: nat.timeouts.icmp: 59s is below the minimum of RFC 5508, \
                 REQ-2; expected 1m or more",
                "f.yaml:39: warning: nat.timeouts.tcp_closing: 3m59s is below the minimum of RFC \
                 5382, REQ-5; expected 4m or more",
                "f.yaml:39: warning: nat.timeouts.tcp_established: 2h is below the minimum of RFC \
                 5382, REQ-5; expected 2h4m or more",
            ],
        );
        warned(
            &[("port_hold: 120s", "port_hold: 0s")],
            &["f.yaml:39: warning: nat.timeouts.port_hold: 0s is below the minimum of RFC 6888, \
                 REQ-8; expected 2m or more"],
        );
        warned(
            &[(
                "pool: [ 203.0.113.0/28 ]",
                "pool: [ 203.0.113.0/28 ]\n      timeouts: { udp: 1s }",
            )],
            &["f.yaml:35: warning: shards[1].nat.timeouts.udp: 1s is below the minimum of RFC \
                 4787, REQ-5; expected 2m or more"],
        );
    }

    #[test]
    fn mtu_below_what_every_host_takes() {
        warned(
            &[("mtu: 1500", "mtu: 575")],
            &["f.yaml:9: warning: ports[3].mtu: 575 is below what every host must take (RFC \
                 791, 3.1); expected 576 or more"],
        );
    }

    #[test]
    fn a_port_or_a_queue_that_nobody_reads() {
        let spare = "name: out1, device: net_null3 }\n  - { name: spare, device: net_null4";
        warned(
            &[("name: out1, device: net_null3", spare)],
            &["f.yaml:10: warning: ports[4].name: no shard uses spare; expected a port of a shard"],
        );
        warned(
            &[("port: in1", "port: in1\n      queue: 2")],
            &["f.yaml:28: warning: shards[1].inside.queue: no shard reads queue 0 of in1; \
                 expected queues that are counted from 0"],
        );
    }

    #[test]
    fn no_hairpinning() {
        warned(
            &[("  sessions: 64K", "  hairpinning: false")],
            &["f.yaml:36: warning: nat.hairpinning: subscribers cannot reach each other's \
                 public endpoints (RFC 4787, REQ-9); expected true"],
        );
    }

    #[test]
    fn a_static_mapping_that_a_shards_own_list_replaces() {
        warned(
            &[("pool: [ 198.51.100.0/28 ]", "pool: [ 198.51.100.0/28 ]\n      static: []")],
            &["f.yaml:42: warning: nat.static[0]: the shard with this pool has a list of its \
                 own, which replaces this; expected an entry in that list"],
        );
    }

    #[test]
    fn warnings_stand_beside_mistakes() {
        check(
            &[("mtu: 1500", "mtu: 575"), ("clock: tsc", "clock: hpet")],
            &[
                "9: warning: ports[3].mtu: 575 is below what every host must take (RFC 791, 3.1); \
                 expected 576 or more",
                "45: clock: hpet is unknown here; expected tsc or capture",
            ],
        );
    }
}

#[test]
fn a_shard_overrides_what_is_said_for_all() {
    let config = valid(&[(
        "pool: [ 203.0.113.0/28 ]",
        "pool: [ 203.0.113.0/28 ]
      sessions: 1K
      filtering: endpoint-independent
      ports: 2000-2999
      ports_per_subscriber: 10
      hairpinning: false
      timeouts: { udp: 10m }
      exclude: [ 198.18.0.0/15 ]
      static: [ { protocol: udp, inside: \"10.0.1.5:53\", outside: \"203.0.113.1:53\" } ]",
    )]);
    let [first, second] = [0, 1].map(|shard: usize| config.shards[shard].nat.clone().unwrap());
    assert_eq!((first.sessions, second.sessions), (64 << 10, 1 << 10));
    assert_eq!(first.filtering, config::Filtering::AddressAndPortDependent);
    assert_eq!(second.filtering, config::Filtering::EndpointIndependent);
    assert_eq!((&first.ports, &second.ports), (&(1024..=65535), &(2000..=2999)));
    assert_eq!((first.ports_per_subscriber, second.ports_per_subscriber), (2048, 10));
    assert_eq!((first.hairpinning, second.hairpinning), (true, false));
    // Timeouts are replaced one by one, lists as a whole.
    assert_eq!(second.timeouts.udp.as_millis(), 600_000);
    assert_eq!(second.timeouts.port_hold, first.timeouts.port_hold);
    assert_eq!(first.exclude, ["192.168.100.0/24".parse().unwrap()]);
    assert_eq!(second.exclude, ["198.18.0.0/15".parse().unwrap()]);
    assert_eq!(first.static_mappings[0].outside.to_string(), "198.51.100.1:8080");
    assert_eq!(second.static_mappings[0].outside.to_string(), "203.0.113.1:53");
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let text = "\
ports: [ { name: a, device: net_null0 }, { name: b, device: net_null1 } ]
shards:
  - { id: 7, lcore: 3, inside: { port: a, address: 10.0.0.1/24 }, \
outside: { port: b, address: 192.0.2.1/24 }, nat: { pool: [ 198.51.100.0/28 ] } }
";
    let (config, warnings) = load(text).unwrap();
    assert_eq!(warnings, []);
    let seconds = krono_core::time::Span::from_secs;
    let side = |port, address: &str| config::SideConfig {
        port,
        queue: 0,
        vlan: None,
        mac: None,
        address: address.parse().unwrap(),
        routes: vec![],
        neighbours: vec![],
        bfd: vec![],
    };
    let port = |name: &str, device: &str| config::PortConfig {
        name: name.into(),
        device: config::Device::Vdev(device.into()),
        mtu: 1500,
    };
    let expected = Config {
        eal: config::EalConfig {
            memory: 512 << 20,
            hugepages: config::Hugepages::Auto,
            lcores: None,
            idle: config::Idle::Busy,
            args: vec![],
        },
        ports: vec![port("a", "net_null0"), port("b", "net_null1")],
        shards: vec![config::ShardConfig {
            id: 7,
            lcore: 3,
            inside: side(0, "10.0.0.1/24"),
            outside: side(1, "192.0.2.1/24"),
            nat: Some(config::NatConfig {
                pool: vec!["198.51.100.0/28".parse().unwrap()],
                sessions: 1 << 20,
                mapping: config::Mapping::EndpointIndependent,
                filtering: config::Filtering::AddressAndPortDependent,
                ports: 1024..=65535,
                ports_per_subscriber: 2048,
                hairpinning: true,
                timeouts: config::Timeouts {
                    udp: seconds(300),
                    icmp: seconds(60),
                    tcp_established: seconds(7440),
                    tcp_opening: seconds(240),
                    tcp_closing: seconds(240),
                    port_hold: seconds(120),
                },
                exclude: vec![],
                static_mappings: vec![],
            }),
            scr: None,
            twin: None,
        }],
        firewall: config::FirewallConfig { inbound: config::Action::Allow, rules: vec![] },
        clock: config::Clock::Tsc,
        control_socket: "/run/kronod.sock".into(),
        metrics_listen: "127.0.0.1:9105".parse().unwrap(),
        cluster: None,
    };
    assert_eq!(config, expected);
}
