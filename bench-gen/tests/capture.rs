//! Captures are read and played.
//!
//! `KRONO_CAPTURES` names a directory with real ones.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bench_gen::capture::{Capture, FRAME_MAX, Notes, Player, fuzz_capture};
use bench_gen::load::Timing;
use krono_core::packet::Mac;
use pcap_file::pcap::{PcapHeader, PcapWriter, RawPcapPacket};
use pcap_file::{DataLink, TsResolution};

/// A pcap file of frames: seconds, ticks, length.
fn pcap(header: PcapHeader, frames: &[(u32, u32, usize)]) -> Vec<u8> {
    let mut writer = PcapWriter::with_header(Vec::new(), header).unwrap();
    for (index, (ts_sec, ts_frac, len)) in frames.iter().enumerate() {
        let packet = RawPcapPacket {
            ts_sec: *ts_sec,
            ts_frac: *ts_frac,
            incl_len: *len as u32,
            orig_len: *len as u32,
            data: Cow::Owned(vec![index as u8; *len]),
        };
        writer.write_raw_packet(&packet).unwrap();
    }
    writer.into_writer()
}

/// A pcapng block of this type with this body.
fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let len = (12 + body.len().next_multiple_of(4)) as u32;
    let mut block = [kind.to_le_bytes(), len.to_le_bytes()].concat();
    block.extend(body);
    block.resize(len as usize - 4, 0);
    block.extend(len.to_le_bytes());
    block
}

/// A pcapng file of an interface with these options, and frames: ticks, length.
fn pcapng(options: &[u8], frames: &[(u64, usize)]) -> Vec<u8> {
    let mut section = 0x1a2b_3c4du32.to_le_bytes().to_vec();
    section.extend([1, 0, 0, 0]);
    section.extend([0xff; 8]);
    let mut file = block(0x0a0d_0d0a, &section);
    file.extend(block(1, &[&[1, 0, 0, 0, 0, 0, 0, 0], options].concat()));
    for (index, (ticks, len)) in frames.iter().enumerate() {
        let words = [0, (ticks >> 32) as u32, *ticks as u32, *len as u32, *len as u32];
        let mut body: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        body.extend(vec![index as u8; *len]);
        file.extend(block(6, &body));
        // Statistics, which do not matter.
        file.extend(block(5, &[0; 12]));
    }
    file
}

fn read(bytes: &[u8]) -> Result<Capture, String> {
    Capture::read("x.pcap", bytes).map_err(|error| error.to_string())
}

/// The times of a whole play.
fn times(mut player: Player) -> Vec<Option<u64>> {
    let mut times = Vec::new();
    while let Some(due) = player.peek() {
        times.push(due.at_ns);
        player.advance();
    }
    times
}

#[test]
fn frames_are_due_as_they_were_captured_faster_or_at_a_rate() {
    let bytes = pcap(PcapHeader::default(), &[(5, 0, 60), (5, 10, 61), (5, 30, 62)]);
    let capture = Arc::new(read(&bytes).unwrap());
    assert_eq!((capture.len(), capture.longest(), capture.duration_ns()), (3, 62, 30_000));
    assert_eq!(capture.frame(1), [1; 61]);
    assert_eq!(capture.notes(), Notes::default());
    let play = |timing, repeats| times(Player::new(capture.clone(), timing, repeats));
    assert_eq!(play(Timing::Scaled(1.0), 1), [Some(0), Some(10_000), Some(30_000)]);
    // Two passes are as far from each other as two frames on average.
    let twice = [0, 5_000, 15_000, 22_500, 27_500, 37_500].map(Some);
    assert_eq!(play(Timing::Scaled(2.0), 2), twice);
    assert_eq!(play(Timing::Rate, 2), [None; 6]);
    assert_eq!(play(Timing::Rate, 0), []);
}

#[test]
fn what_remains_is_counted() {
    let bytes = pcap(PcapHeader::default(), &[(0, 0, 60), (0, 1, 60)]);
    let mut player = Player::new(Arc::new(read(&bytes).unwrap()), Timing::Rate, u32::MAX);
    assert_eq!(player.remaining(), 2 * u64::from(u32::MAX));
    (0..3).for_each(|_| player.advance());
    assert_eq!(player.remaining(), 2 * u64::from(u32::MAX) - 3);
}

#[test]
fn one_frame_is_a_capture() {
    let bytes = pcap(PcapHeader::default(), &[(7, 7, 60)]);
    let player = Player::new(Arc::new(read(&bytes).unwrap()), Timing::Scaled(1.0), 3);
    assert_eq!(times(player), [Some(0); 3]);
}

#[test]
fn nanoseconds_are_nanoseconds() {
    let header = PcapHeader { ts_resolution: TsResolution::NanoSecond, ..PcapHeader::default() };
    let capture = read(&pcap(header, &[(1, 999_999_999, 60), (2, 1, 60)])).unwrap();
    assert_eq!(capture.duration_ns(), 2);
}

#[test]
fn pcapng_counts_in_the_units_of_its_interface() {
    let frames = [(1 << 32, 60), ((1 << 32) + 8, 61)];
    // Microseconds, unless if_tsresol (option 9) says otherwise: nanoseconds, 2^-3 seconds.
    let expected = [
        (vec![], 8_000),
        (vec![9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0], 8),
        (vec![9, 0, 1, 0, 0x83, 0, 0, 0, 0, 0, 0, 0], 1_000_000_000),
    ];
    for (options, duration_ns) in expected {
        let capture = read(&pcapng(&options, &frames)).unwrap();
        assert_eq!(capture.duration_ns(), duration_ns, "{options:?}");
        assert_eq!((capture.len(), capture.frame(1)), (2, &[1; 61][..]));
    }
}

#[test]
fn what_is_peculiar_is_noted() {
    let mut bytes =
        pcap(PcapHeader::default(), &[(5, 5, 60), (5, 4, 60), (6, 0, 13), (6, 0, FRAME_MAX + 1)]);
    bytes.extend([0; 9]);
    // The first frame had a byte more on the wire: the last field of its header.
    bytes[24 + 12 + 3] = 61;
    let capture = read(&bytes).unwrap();
    assert_eq!((capture.len(), capture.at_ns(1)), (2, 0));
    let notes = capture.notes();
    assert_eq!(notes, Notes { left_out: 2, snapped: 1, back_in_time: 0, ends_early: true });
    assert_eq!(
        notes.to_string(),
        "2 frames left out that are not of 14 to 9596 bytes, 1 frames of which only the beginning \
         was captured, the file ends within a packet"
    );
    let capture = read(&pcap(PcapHeader::default(), &[(5, 0, 60), (5, 9, 60), (5, 8, 60)]));
    assert_eq!(capture.unwrap().notes().back_in_time, 1);
}

#[test]
fn what_cannot_be_sent_is_refused_with_the_place() {
    let wifi = PcapHeader { datalink: DataLink::IEEE802_11, ..PcapHeader::default() };
    let mut damaged = pcapng(&[], &[(0, 60), (1, 60)]);
    let at = damaged.len() - 24 - 92 + 4;
    damaged[at] ^= 0x40;
    let mut no_interface = pcapng(&[], &[(0, 60)]);
    let at = no_interface.len() - 24 - 92 + 8;
    no_interface[at] = 7;
    let cases = [
        (vec![], "this is neither a pcap nor a pcapng file"),
        (b"# a text that is long enough".to_vec(), "this is neither a pcap nor a pcapng file"),
        (pcap(PcapHeader::default(), &[]), "there is no frame in it that could be sent"),
        (pcap(wifi, &[]), "its link type is IEEE802_11; only Ethernet can be sent"),
        (no_interface, "packet 1 is damaged"),
    ];
    for (bytes, expected) in cases {
        assert_eq!(read(&bytes).unwrap_err(), format!("x.pcap: {expected}"));
    }
    let said = read(&damaged).unwrap_err();
    assert!(said.starts_with("x.pcap: it is damaged at packet 2: "), "{said}");
    let said = Capture::open(Path::new("/nowhere/x.pcap")).unwrap_err().to_string();
    assert!(said.starts_with("/nowhere/x.pcap: the capture cannot be opened: "), "{said}");
}

#[test]
fn frames_get_other_ethernet_addresses() {
    let mut capture = read(&pcap(PcapHeader::default(), &[(0, 0, 60), (0, 0, 60)])).unwrap();
    capture.readdress(Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
    let expected = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 1, 1];
    assert_eq!(capture.frame(1)[..14], expected);
}

#[test]
fn damaged_captures_are_refused_or_played() {
    let seeds = [
        pcap(PcapHeader::default(), &[(5, 5, 60), (5, 4, 61), (6, 0, 13)]),
        pcapng(&[9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0], &[(1, 60), (2, 61), (9, 14)]),
    ];
    for seed in seeds {
        for at in 0..seed.len() {
            fuzz_capture(&seed[..at]);
            for value in [0, 1, 0x7f, 0x80, 0xff, seed[at] ^ 4] {
                let mut damaged = seed.clone();
                damaged[at] = value;
                fuzz_capture(&damaged);
            }
        }
    }
}

#[test]
fn real_captures_are_played() {
    let Some(directory) = std::env::var_os("KRONO_CAPTURES").map(PathBuf::from) else {
        println!("KRONO_CAPTURES is not set: no real capture was read");
        return;
    };
    let entries = std::fs::read_dir(&directory).expect("KRONO_CAPTURES is a directory");
    let mut played = 0;
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.extension().is_none_or(|extension| extension != "pcap" && extension != "pcapng") {
            continue;
        }
        match Capture::open(&path) {
            Ok(capture) => {
                let frames = capture.len();
                println!("{}: {frames} frames {}", path.display(), capture.notes());
                let player = Player::new(Arc::new(capture), Timing::Scaled(10.0), 2);
                assert_eq!(times(player).len(), 2 * frames);
                played += 1;
            }
            Err(error) => println!("{error}"),
        }
    }
    assert!(played > 0, "there is no capture of Ethernet in {}", directory.display());
}
