//! The tool scr-pcap as people run it: what it writes is read again, by the library and by itself.
//! With `KRONO_CAPTURES` it is run over all captures in that directory as well.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use etherparse::PacketBuilder;
use krono_core::packet::Side;
use krono_core::parse::parse;
use krono_core::program::Program;
use krono_core::time::Moment;
use pcap_file::TsResolution;
use pcap_file::pcap::{PcapHeader, PcapReader, PcapWriter, RawPcapPacket};
use scr_sequencer::programs::conntrack::Conntrack;
use scr_sequencer::wire::{Codec, Format, Variant};
use tempfile::TempDir;

type Record = <Conntrack as Program>::Record;

struct Frame {
    time_ns: u64,
    /// Filled up with zeros if only its beginning was captured.
    bytes: Vec<u8>,
}

/// With what is in front of them in these tests, longer frames than these have no offsets of 16 bits.
const FRAME_MAX: usize = 65_535 - 207;

fn read(path: &Path) -> Vec<Frame> {
    let mut reader = PcapReader::new(File::open(path).unwrap()).unwrap();
    let unit = if reader.header().ts_resolution == TsResolution::NanoSecond { 1 } else { 1000 };
    let mut frames = vec![];
    while let Some(Ok(packet)) = reader.next_raw_packet() {
        let time_ns = u64::from(packet.ts_sec) * 1_000_000_000 + u64::from(packet.ts_frac) * unit;
        let mut bytes = packet.data.into_owned();
        // As a damaged length may ask for gigabytes.
        bytes.resize(bytes.len().max((packet.orig_len as usize).min(FRAME_MAX + 1)), 0);
        frames.push(Frame { time_ns, bytes });
    }
    frames
}

fn write(path: &Path, frames: &[Vec<u8>]) {
    let header = PcapHeader { ts_resolution: TsResolution::NanoSecond, ..PcapHeader::default() };
    let mut writer = PcapWriter::with_header(File::create(path).unwrap(), header).unwrap();
    for (number, bytes) in frames.iter().enumerate() {
        let len = bytes.len() as u32;
        let (ts_sec, ts_frac) = (7, number as u32);
        let data = Cow::Borrowed(&bytes[..]);
        let packet = RawPcapPacket { ts_sec, ts_frac, incl_len: len, orig_len: len, data };
        writer.write_raw_packet(&packet).unwrap();
    }
}

/// A TCP segment.
fn segment(number: usize) -> Vec<u8> {
    let [high, low] = (number as u16).to_be_bytes();
    let tcp = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 1])
        .ipv4([192, 0, 2, low], [198, 51, 100, high], 64)
        .tcp(1000 + number as u16, 443, number as u32, 512);
    let mut bytes = vec![];
    tcp.ack(1).write(&mut bytes, &[0x5a; 6]).unwrap();
    bytes
}

/// A directory with `in.pcap`: so many segments, and before the last frames that nobody parses.
fn lab(segments: usize) -> TempDir {
    let lab = tempfile::tempdir().unwrap();
    let mut frames: Vec<_> = (0..segments).map(segment).collect();
    frames.insert(segments - 1, vec![0; 10]);
    frames.insert(segments - 1, [&[2; 12][..], &[0x86, 0xdd], &[0; 40]].concat());
    write(&lab.path().join("in.pcap"), &frames);
    lab
}

fn run(lab: &Path, args: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scr-pcap"));
    command.current_dir(lab).args(args.split(' ')).output().unwrap()
}

/// What it printed, having done what it was told.
fn done(lab: &Path, args: &str) -> String {
    let output = run(lab, args);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

fn codec(variant: Variant, cores: usize, sequence: bool, moment: bool) -> Codec<Record> {
    Codec::new(Format { variant, cores, sequence, moment, padding: None }).unwrap()
}

/// What the tracker steps on for each frame that can be parsed, with the frame.
fn records(frames: Vec<Frame>) -> Vec<(Record, Moment, Vec<u8>)> {
    let mut now = Moment(0);
    let mut records = vec![];
    for Frame { time_ns, bytes } in frames {
        let parsed = parse(&bytes, bytes.len() as u32);
        if let Ok((meta, _)) = parsed
            && bytes.len() <= FRAME_MAX
        {
            now = now.max(Moment(time_ns));
            records.push((Conntrack::record(&meta, Side::Outside, now), now, bytes));
        }
    }
    records
}

/// Every sequenced frame is the original one behind the records of those before it.
fn assert_sequenced(codec: &Codec<Record>, original: &[(Record, Moment, Vec<u8>)], out: &[Frame]) {
    let cores = codec.format().cores;
    assert_eq!(out.len(), original.len());
    for (number, Frame { bytes, .. }) in out.iter().enumerate() {
        let (_, moment, frame) = &original[number];
        let carried = codec.decode(bytes, number as u64 + 1).unwrap();
        assert_eq!(carried.sequence, number as u64 + 1);
        assert_eq!(carried.moment, if codec.format().moment { *moment } else { Moment(0) });
        let before = &original[number.saturating_sub(cores - 1)..number];
        assert!(carried.history.iter().eq(before.iter().map(|(record, ..)| record)));
        assert_eq!(&bytes[codec.header_len()..][..frame.len()], frame);
        assert!(bytes[codec.header_len() + frame.len()..].iter().all(|byte| *byte == 0));
        assert_eq!(bytes[6..12], [0x10, 0x10, 0x10, 0x10, 0x10, (number % cores) as u8]);
    }
}

#[test]
fn frames_and_records_come_out_again() {
    let lab = lab(20);
    let original = records(read(&lab.path().join("in.pcap")));
    assert_eq!(original.len(), 20);
    for cores in [1, 2, 5, 14] {
        for (variant, name) in [(Variant::Ring, "ring"), (Variant::Shift, "shift")] {
            for (more, sequence, moment) in [
                ("", true, true),
                (" --no-sequence", false, true),
                (" --no-moment --pad 512", true, false),
            ] {
                let args = format!("--program conntrack --cores {cores} --variant {name}{more}");
                done(lab.path(), &format!("sequence {args} in.pcap out.pcap"));
                let codec = codec(variant, cores, sequence, moment);
                let out = read(&lab.path().join("out.pcap"));
                assert_sequenced(&codec, &original, &out);
                let padded = more.ends_with("512");
                assert!(out.iter().all(|frame| !padded || frame.bytes.len() == 512));
                if !padded {
                    let shown = done(lab.path(), &format!("show {args} out.pcap"));
                    let last = shown.lines().rfind(|line| line.starts_with("packet")).unwrap();
                    let core = 19 % cores;
                    assert!(last.starts_with(&format!("packet 20 to core {core}, ")), "{last}");
                    let records = 20 * (cores - 1) - (cores - 1) * cores / 2;
                    assert_eq!(shown.lines().count(), 20 + records, "{shown}");
                }
            }
        }
    }
}

#[test]
fn what_cannot_be_numbered_is_said() {
    let lab = lab(20);
    let said = done(lab.path(), "sequence --program heavy --cores 3 in.pcap out.pcap");
    for line in [
        "22 frames in in.pcap",
        "1   dropped before numbering: frame_too_short: ",
        "1   dropped before numbering: ipv6_unsupported: ",
        "20 packets numbered",
        "7   to core 0",
        "6   to core 2",
        "54 bytes in front of each, ",
    ] {
        assert!(said.lines().any(|said| said.trim_start().starts_with(line)), "{line} in {said}");
    }
}

#[test]
fn each_core_can_have_its_file() {
    let lab = lab(20);
    let steering = "--per-core --steer destination --mac 02:00:00:00:00:0a";
    done(
        lab.path(),
        &format!("sequence --program conntrack --cores 3 {steering} in.pcap out.pcap"),
    );
    let codec = codec(Variant::Shift, 3, true, true);
    for core in 0..3 {
        let out = read(&lab.path().join(format!("out-{core}.pcap")));
        let mut expected = codec.first(core);
        for Frame { bytes, .. } in out {
            assert_eq!(bytes[..6], [0x10, 0x10, 0x10, 0x10, 0x10, core as u8]);
            assert_eq!(bytes[6..12], [2, 0, 0, 0, 0, 10]);
            assert_eq!(codec.decode(&bytes, 1).unwrap().sequence, expected);
            expected = codec.following(expected);
        }
        assert!(expected > 20);
    }
    assert!(!lab.path().join("out.pcap").exists());
}

#[test]
fn losses_are_planted_alike_with_the_same_seed() {
    let lab = lab(4096);
    let lose = |seed: u32| {
        let args = "--program conntrack --cores 2 --lose 0.1 --seed";
        done(lab.path(), &format!("sequence {args} {seed} in.pcap out.pcap"));
        let codec = codec(Variant::Shift, 2, true, true);
        let out = read(&lab.path().join("out.pcap"));
        let numbers = out.iter().map(|frame| codec.decode(&frame.bytes, 1).unwrap().sequence);
        numbers.collect::<Vec<_>>()
    };
    let (first, again, other) = (lose(1), lose(1), lose(2));
    assert_eq!(first, again);
    assert_ne!(first, other);
    for numbers in [first, other] {
        let lost: Vec<_> = (1..=4096).filter(|number| !numbers.contains(number)).collect();
        assert!((150..260).contains(&lost.len()), "{} of 2048", lost.len());
        assert!(lost.iter().all(|number| (1025..=3072).contains(number)), "{lost:?}");
    }
}

#[test]
fn mistakes_are_told_apart_by_the_exit_code() {
    let lab = lab(2);
    fs::write(lab.path().join("text"), "This is no capture, but it is long enough for one.")
        .unwrap();
    for (args, code, said) in [
        ("sequence --program ddos --cores 2 none.pcap out.pcap", 1, "none.pcap: No such file"),
        ("sequence --program ddos --cores 2 text out.pcap", 1, "text: it is no pcap file; "),
        ("sequence --program ddos --cores 2 in.pcap in.pcap", 1, "in.pcap: it is the capture"),
        ("sequence --program ddos --cores 2 in.pcap no/out.pcap", 1, "no/out.pcap: "),
        ("show --program conntrack --cores 14 in.pcap", 1, "in.pcap: frame 1: scr_header_bad: "),
        ("sequence --program ddos --cores 0 in.pcap out.pcap", 2, "0 is not in 1..=64"),
        ("sequence --program nat --cores 2 in.pcap out.pcap", 2, "invalid value 'nat'"),
        ("sequence --program ddos --cores 2 --lose 2 in.pcap out.pcap", 2, "from 0 to 1"),
        ("sequence --program ddos --cores 2 --lose 0.1 --no-sequence a b", 2, "cannot be used"),
        ("show --program ddos --cores 2", 2, "required"),
    ] {
        let output = run(lab.path(), args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args}: {error}");
        assert!(error.contains(said), "{args}: {error}");
    }
    let help = done(lab.path(), "--help");
    assert!(help.contains("EXAMPLES:") && help.contains("EXIT STATUS:"));
}

#[test]
fn real_captures_come_out_again() {
    let Some(captures) = std::env::var_os("KRONO_CAPTURES") else {
        println!("KRONO_CAPTURES is not set: no real captures were sequenced");
        return;
    };
    let lab = tempfile::tempdir().unwrap();
    let (mut files, mut packets) = (0, 0);
    for path in captures_in(Path::new(&captures)) {
        let args = "sequence --program conntrack --cores 7 --variant ring";
        let mut command = Command::new(env!("CARGO_BIN_EXE_scr-pcap"));
        command.args(args.split(' ')).arg(&path).arg(lab.path().join("out.pcap"));
        let output = command.output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        // Some are not Ethernet, some are damaged on purpose, some are no pcap: that is said.
        if !output.status.success() {
            assert!(error.contains(&*path.to_string_lossy()), "{error}");
            continue;
        }
        let original = records(read(&path));
        let out = read(&lab.path().join("out.pcap"));
        println!("{}: {} packets", path.display(), out.len());
        assert_sequenced(&codec(Variant::Ring, 7, true, true), &original, &out);
        (files, packets) = (files + 1, packets + out.len());
    }
    println!("{packets} packets of {files} captures");
    assert!(files > 0);
}

fn captures_in(directory: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(captures_in(&path));
        } else if path.extension().is_some_and(|extension| extension == "pcap") {
            found.push(path);
        }
    }
    found.sort();
    found
}
