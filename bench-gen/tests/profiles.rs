//! Every file in `configs/bench/` is valid, and every mistake that a profile can have is named with
//! its line.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use bench_gen::cli::Cli;
use bench_gen::load::{End, Popularity, Profile, Rate, Sizes, Timing};
use bench_gen::profile::{self, Mistakes, Warning, fuzz_profile, load_text};
use clap::Parser;

/// The least profile, for tests to spoil.
const LEAST: &str = "\
inside: { device: net_null0, address: 10.0.0.254/24, next_hop: 10.0.0.1 }
outside: { device: net_null1, address: 192.0.2.254/24, next_hop: 192.0.2.1 }
";

fn files() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/bench");
    let entries = std::fs::read_dir(directory).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    // Those of kronod are looked at by its own tests.
    let is_kronods =
        |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("kronod");
    files.retain(|path| !is_kronods(path));
    files.sort();
    files
}

fn load(text: &str) -> Result<(Profile, Vec<Warning>), Mistakes> {
    load_text("f.yaml", text)
}

/// The profile of [`LEAST`] and this.
#[track_caller]
fn valid(more: &str) -> Profile {
    match load(&format!("{LEAST}{more}")) {
        Ok((profile, warnings)) => {
            assert_eq!(warnings, []);
            profile
        }
        Err(mistakes) => panic!("{mistakes}"),
    }
}

/// Checks that [`LEAST`] and this make exactly these complaints.
#[track_caller]
fn check(more: &str, expected: &[&str]) {
    check_text(&format!("{LEAST}{more}"), expected);
}

#[track_caller]
fn check_text(text: &str, expected: &[&str]) {
    let said = load(text).expect_err("this has mistakes").to_string();
    let said: Vec<_> = said.lines().map(|line| line.strip_prefix("f.yaml:").unwrap()).collect();
    assert_eq!(said, expected);
}

#[test]
fn every_example_is_valid_without_warnings() {
    assert!(files().len() >= 8);
    for file in files() {
        match profile::load(&file) {
            Ok((profile, warnings)) => {
                println!("{}: {}", file.display(), profile.summary());
                assert_eq!(warnings, [], "{}", file.display());
            }
            Err(mistakes) => panic!("{mistakes}"),
        }
    }
}

#[test]
fn two_lines_are_a_profile() {
    let profile = valid("");
    assert_eq!(
        profile.summary(),
        "63 subscribers, 1000 flows (udp), uniform, frames of 64 bytes, as fast as possible, \
         for 10s, 1 lcore, 1 repeat, seed 1"
    );
    assert_eq!(profile.eal.devices, ["net_null0", "net_null1"]);
    assert_eq!(profile.eal.lcores.as_deref(), Some("0@0"));
    assert_eq!(profile.lcores, [0]);
    assert_eq!(profile.inside.address.to_string(), "10.0.0.254/24");
    assert_eq!(profile.load.sports, 1024..=65_535);
    assert_eq!(profile.load.dports, 1..=49_151);
}

#[test]
fn what_is_said_is_what_is_loaded() {
    let profile = valid(
        "eal: { lcores: \"1@0,2@0\", idle: yield }
protocols: { tcp: 54, udp: 43 }
subscribers: { network: 10.64.0.0/16, count: 100 }
servers: { network: 203.0.113.0/24 }
flows: 2K
popularity: { zipf: 1.2 }
churn: { arrivals: 1024 }
sizes: [ 64, { bytes: 1518, weight: 3 } ]
rate: 1.5Mpps
answers: 50%
end: { packets: 1M }
repeats: 3
seed: 18446744073709551615
",
    );
    assert_eq!(
        profile.summary(),
        "100 subscribers, 2048 flows (udp 43 : tcp 54), zipf 1.2, frames of 1x64 + 3x1518 bytes, \
         1024.0 new flows/s that live 2.0 s, 50 % answers, 1.5 Mpps, for 1048576 packets, \
         2 lcores, 3 repeats, seed 18446744073709551615"
    );
    assert_eq!(profile.lcores, [1, 2]);
    assert!(profile.yields);
    assert_eq!(profile.load.popularity, Popularity::Zipf(1.2));
    assert_eq!(profile.load.sizes, Sizes::Mix(vec![(64, 1), (1518, 3)]));
    assert_eq!(profile.rate, Rate::Packets(1.5e6));
    assert_eq!(profile.end, End::Packets(1 << 20));
    assert_eq!(profile.load.churn.unwrap().lifetime, Duration::from_secs(2));
}

#[test]
fn a_replay_ends_with_its_capture_which_lies_beside_the_profile() {
    let profile = valid("replay: { file: x.pcap, timing: x0.5, times: 3 }\n");
    let replay = profile.load.replay.unwrap();
    assert_eq!((replay.timing, replay.times), (Timing::Scaled(0.5), 3));
    assert_eq!(profile.end, End::Packets(u64::MAX));
    let file = files().into_iter().find(|file| file.ends_with("replay.yaml")).unwrap();
    let replay = profile::load(&file).unwrap().0.load.replay.unwrap();
    assert_eq!(replay.file, file.with_file_name("capture.pcap"));
}

#[test]
fn ten_mistakes_of_shape_and_sense_are_ten_complaints() {
    let text = "\
inside: { device: net_null0, address: 10.0.0.254/24, next_hop: 10.0.1.1 }
outside: { device: net_null0, address: \"2001:db8::1/64\", next_hop: 192.0.2.1, vlan: 5000 }
subscribers: { network: 100.64.0.0/30, count: 3 }
flow: 10
protocols: { udp: 0 }
popularity: pareto
sizes: [ 64, 1519 ]
rate: 10 furlongs
churn: { arrivals: 0, lifetime: 1 }
end: { after: 10s, packets: 5 }
repeats: 0
";
    check_text(
        text,
        &[
            "1: inside.next_hop: 10.0.1.1 is not on-link; expected the address of the device \
             under test in 10.0.0.0/24",
            "2: outside.address: 2001:db8::1/64 is IPv6, which is not generated yet; expected an \
             address with its network's length, such as 192.0.2.1/24",
            "2: outside.device: net_null0 is taken by inside.device (line 1); expected a device \
             of its own for each side",
            "2: outside.vlan: 5000 is out of range; expected a number from 1 to 4094",
            "3: subscribers.count: 100.64.0.0/30 has no addresses for 3 subscribers; expected at \
             most 2, or a larger network",
            "4: flow: flow is not a key here; expected flows, which is the nearest name",
            "5: protocols: no protocol has a share; expected one above 0",
            "6: popularity: pareto is unknown here; expected uniform, agh-2015, or a mapping such \
             as { zipf: 1.0 }",
            "7: sizes: frames of 1519 bytes do not fit the mtu of 1500, inside.mtu (line 1); \
             expected at most 1518 bytes (mtu, 14 of header, 4 of checksum)",
            "7: sizes: frames of 1519 bytes do not fit the mtu of 1500, outside.mtu (line 2); \
             expected at most 1518 bytes (mtu, 14 of header, 4 of checksum)",
            "8: rate: 10 furlongs is not a rate; expected packets a second such as 10kpps or \
             1.5Mpps, bits a second such as 10Gbps (k, M and G are powers of 1000), or max",
            "9: churn.arrivals: 0 is not a number in range; expected a number from 0.001 to \
             1000000000",
            "9: churn.lifetime: 1 is not a duration; expected a duration such as 5m, 60s, 2h4m or \
             500ms (units d, h, m, s, ms)",
            "10: end: more than one end is said; expected one of after, packets and sessions",
            "11: repeats: 0 is out of range; expected a number from 1 to 1000",
        ],
    );
}

#[test]
fn a_replay_says_what_and_when() {
    check(
        "replay: { timing: x0, times: 0 }\n",
        &[
            "3: replay.file: missing; expected the path of a pcap or pcapng file",
            "3: replay.times: 0 is out of range; expected a number from 1 to 4294967295",
            "3: replay.timing: x0 is not a timing; expected original, x2 or x0.5 for twice or half as \
         fast (x0.001 to x1000), or rate",
        ],
    );
    check(
        "replay: { file: x }\nend: { sessions: 5 }\n",
        &["4: end.sessions: sessions of a capture are not known; expected after, or packets"],
    );
}

#[test]
fn nothing_at_all() {
    check_text(
        "flows: 5\n",
        &[
            "1: inside: missing; expected a mapping with keys of device, mtu, mac, address, \
             next_hop, next_hop_mac, vlan",
            "1: outside: missing; expected a mapping with keys of device, mtu, mac, address, \
             next_hop, next_hop_mac, vlan",
        ],
    );
}

#[test]
fn lcores_need_work_and_a_place_in_the_map() {
    check(
        "lcores: [ 0, 1, 2 ]\nflows: 2\n",
        &["4: flows: 2 flows are too few for 3 lcores; expected 3 or more"],
    );
    check(
        "lcores: [ 0, 1 ]\nsubscribers: { count: 1 }\n",
        &["4: subscribers.count: 1 subscribers are too few for 2 lcores; expected 2 or more"],
    );
    check(
        "lcores: [ 0, 0, 5 ]\neal: { lcores: \"0@0,1@0\" }\n",
        &[
            "3: lcores[1]: 0 is taken by lcores[0] (line 3); expected each lcore once",
            "3: lcores[2]: lcore 5 is not in eal.lcores (line 4); expected one of 0@0,1@0",
        ],
    );
}

#[test]
fn an_empty_list_of_lcores_is_a_mistake() {
    check("lcores: []\n", &["3: lcores: the list is empty; expected 1 to 128 lcores"]);
}

#[test]
fn flows_need_endpoints() {
    check(
        "subscribers: { count: 2, ports: 1024-65535 }\nflows: 1M\n",
        &[
            "4: flows: 1048576 flows do not fit in 2 subscribers with 64512 ports each; expected at \
         most 129024",
        ],
    );
    // Each protocol has ports of its own.
    valid("subscribers: { count: 2 }\nflows: 200000\nprotocols: { udp: 1, tcp: 1 }\n");
    check(
        "subscribers: { count: 2 }\nflows: 200000\nprotocols: { udp: 3, tcp: 1 }\n",
        &["4: flows: 200000 flows do not fit in 2 subscribers with 64512 ports each; expected at \
           most 172032"],
    );
}

#[test]
fn networks_are_apart() {
    check(
        "subscribers: { network: 198.18.0.0/16 }\nservers: { network: 198.18.5.0/24 }\n",
        &["4: servers.network: 198.18.5.0/24 overlaps subscribers.network (line 3); expected \
           addresses that no subscriber has"],
    );
    check(
        "subscribers: { network: 10.0.0.0/8 }\n",
        &["3: subscribers.network: 10.0.0.0/8 overlaps the link of inside.address (line 1); \
         expected a network that the device under test routes to that address"],
    );
}

#[test]
fn frames_fit_the_mtu() {
    check(
        "sizes: [ 64, 1519 ]\n",
        &[
            "3: sizes: frames of 1519 bytes do not fit the mtu of 1500, inside.mtu (line 1); expected \
         at most 1518 bytes (mtu, 14 of header, 4 of checksum)",
            "3: sizes: frames of 1519 bytes do not fit the mtu of 1500, outside.mtu (line 2); \
         expected at most 1518 bytes (mtu, 14 of header, 4 of checksum)",
        ],
    );
    check(
        "sizes: [ 63 ]\n",
        &["3: sizes[0]: 63 is out of range; expected a number from 64 to 9600"],
    );
    check(
        "sizes: jumbo\n",
        &[
            "3: sizes: jumbo is not a number; expected a frame's bytes with its checksum from 64 to \
         9600, imix, agh-2015, or a list such as [ 64, 594, 1518 ]",
        ],
    );
    check(
        "sizes: [ { bytes: 64, weight: 0 } ]\n",
        &["3: sizes: no length has a weight; expected one above 0"],
    );
    assert_eq!(valid("sizes: imix\n").load.sizes, Sizes::Mix(vec![(64, 7), (594, 4), (1518, 1)]));
}

#[test]
fn measured_lengths_leave_no_room_for_churn() {
    check(
        "popularity: agh-2015\nchurn: { lifetime: 3s }\n",
        &["4: churn: flows end by their lengths with popularity: agh-2015; expected no churn, or \
         another popularity"],
    );
    check(
        "sizes: agh-2015\n",
        &[
            "3: sizes: these sizes go by the lengths of flows; expected popularity: agh-2015 beside it",
        ],
    );
}

#[test]
fn churn_adds_up() {
    check(
        "flows: 100\nchurn: { arrivals: 10, lifetime: 1m }\n",
        &["4: churn: 10 a second that live 60 s are 600 flows, not the 100 of flows (line 3); \
         expected one of the two, or what fits"],
    );
    check("churn: {}\n", &["3: churn: nothing is said about it; expected arrivals, or lifetime"]);
    valid("flows: 600\nchurn: { arrivals: 10, lifetime: 1m }\n");
}

#[test]
fn sessions_end_only_what_opens_so_many() {
    check(
        "end: { sessions: 2K }\n",
        &[
            "3: end.sessions: 2K sessions are never opened: flows stay; expected at most 1000, or churn",
        ],
    );
    check(
        "end: { after: 0s }\n",
        &["3: end.after: this ends before it begins; expected a duration above 0, such as 10s"],
    );
    check("end: {}\n", &["3: end: no end is said; expected one of after, packets and sessions"]);
    valid("end: { sessions: 2K }\nchurn: { lifetime: 1s }\n");
}

#[test]
fn devices_are_not_named_among_arguments() {
    check(
        "eal: { args: [ \"--vdev=net_null2\" ] }\n",
        &["3: eal.args[0]: --vdev=net_null2 is krono's own to give; expected inside.device or \
         outside.device instead"],
    );
}

#[test]
fn ranges_of_ports_that_do_not_compare_are_warned_about() {
    let warned = |more: &str| {
        let (_, warnings) = load(&format!("{LEAST}{more}")).unwrap_or_else(|m| panic!("{m}"));
        warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        warned("subscribers: { ports: 5000-6000 }\nservers: { ports: 80 }\n"),
        [
            "f.yaml:3: warning: subscribers.ports: 5000-6000 is not the range of RFC 4814, 4; \
             expected 1024-65535, for results that compare",
            "f.yaml:4: warning: servers.ports: 80-80 is not the range of RFC 4814, 4; expected \
             1-49151, for results that compare",
        ]
    );
    assert_eq!(
        warned("replay: { file: x }\nsizes: 64\n"),
        ["f.yaml:4: warning: sizes: a capture is sent as it is; expected replay without it"]
    );
    assert_eq!(
        warned("replay: { file: x, timing: x2 }\nrate: 1kpps\n"),
        ["f.yaml:4: warning: rate: a capture is sent as it is; expected replay without it"]
    );
    assert!(warned("replay: { file: x, timing: rate }\nrate: 1kpps\n").is_empty());
}

/// Commands that the comments of the examples name.
#[test]
fn every_command_in_an_example_is_one() {
    let mut commands = 0;
    for file in files() {
        let text = std::fs::read_to_string(&file).unwrap();
        let lines = text.lines().filter_map(|line| line.strip_prefix("#     "));
        for line in lines.filter(|line| line.starts_with("bench-gen ")) {
            let parsed = Cli::try_parse_from(line.split_whitespace());
            assert!(parsed.is_ok(), "{}: {line}: {}", file.display(), parsed.unwrap_err());
            commands += 1;
        }
    }
    assert!(commands >= 8, "{commands}");
}

#[test]
fn damaged_profiles_are_refused_in_order() {
    // Each file cut anywhere, and each with any one byte replaced.
    for file in files() {
        let bytes = std::fs::read(file).unwrap();
        for at in (0..bytes.len()).step_by(3) {
            fuzz_profile(&bytes[..at]);
            let mut damaged = bytes.clone();
            damaged[at] = b"0:-{}[],#\n \"\xff9"[at % 14];
            fuzz_profile(&damaged);
        }
    }
    for bytes in [&b""[..], b"\n", b"\0", b"\xff\xfe", b"sizes: [ [ ] ]", b"end: 5", b"lcores: 0"] {
        fuzz_profile(bytes);
    }
}
