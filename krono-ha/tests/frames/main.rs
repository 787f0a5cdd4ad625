//! Replication frames: golden bytes, every reason to refuse one, and any bytes.
#![forbid(unsafe_code)]

mod bodies;

use krono_ha::frame::{Codec, FRAME_MAX, HEADER_LEN, Header, Key, Kind, Rejected, TAG_LEN, Window};
use krono_ha::roles::Role;
use proptest::collection::vec;
use proptest::prelude::*;
use zerocopy::{FromBytes, IntoBytes};

use bodies::{Record, codec, signed};

/// A frame of two records, as node 2 sends it, by hand.
fn golden() -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(b"KRHA");
    bytes.extend([1, 0, 2, 2]);
    bytes.extend(0x1234_u64.to_le_bytes());
    bytes.extend([5_u32, 2].map(u32::to_le_bytes).concat());
    bytes.extend([0xaaaa_u64, 77, 9].map(u64::to_le_bytes).concat());
    bytes.extend([2, 1, 0x05, 0]);
    bytes.extend(3_u32.to_le_bytes());
    bytes.extend([1000_u64, 0xbbbb, 500].map(u64::to_le_bytes).concat());
    bytes.extend([6_u32, 4, 8, 0].map(u32::to_le_bytes).concat());
    bytes.extend([0x11; 32]);
    bytes.extend([0x22; 32]);
    bytes
}

fn refused(bytes: &[u8]) -> Option<Rejected> {
    codec().open(&signed(bytes)).err()
}

/// The golden frame with other bytes from `at` on.
fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut golden = golden();
    golden[at..at + bytes.len()].copy_from_slice(bytes);
    golden
}

#[test]
fn the_layout_is_as_documented() {
    let frame = signed(&golden());
    assert_eq!(frame.len(), HEADER_LEN + 64 + TAG_LEN);
    let (header, body) = codec().open(&frame).expect("it is in order").to_owned();
    assert_eq!((header.kind(), header.role(), header.node()), (Kind::Records, Role::Serving, 2));
    assert_eq!(body, [[0x11; 32], [0x22; 32]].concat());
    let mut out = vec![0xee; FRAME_MAX];
    let len = codec().peer().seal(*header, body, &mut out);
    assert_eq!(out[..len], frame);
}

#[test]
fn each_reason_to_refuse_a_frame_is_named() {
    assert_eq!(refused(&golden()), None);
    assert_eq!(codec().open(&golden()[..TAG_LEN - 1]), Err(Rejected::Length(TAG_LEN - 1)));
    assert_eq!(refused(&golden()[..HEADER_LEN - 1]), Some(Rejected::Length(HEADER_LEN + 15)));
    let long = [golden(), vec![0; FRAME_MAX]].concat();
    assert_eq!(refused(&long), Some(Rejected::Length(long.len() + TAG_LEN)));
    assert_eq!(refused(&with(0, b"KRHB")), Some(Rejected::Magic));
    assert_eq!(refused(&with(4, &[2])), Some(Rejected::Version { theirs: 2, ours: 1 }));
    let layout = Rejected::Layout { theirs: 0x1235, ours: 0x1234 };
    assert_eq!(refused(&with(8, &[0x35])), Some(layout));
    assert!(layout.to_string().contains("0000000000001235") && layout.to_string().contains("1234"));
    assert_eq!(refused(&with(16, &[6])), Some(Rejected::Shard(6)));
    // Its own frames that come back, and those of a third node.
    assert_eq!(refused(&with(20, &[1])), Some(Rejected::Node(1)));
    assert_eq!(refused(&with(20, &[3])), Some(Rejected::Node(3)));
    let impossible: [(usize, &[u8]); 10] = [
        (6, &[0]),
        (6, &[7]),
        (7, &[1]),
        (7, &[3]),
        (24, &[0; 8]),
        (32, &[0; 8]),
        (40, &[0xff; 8]),
        (48, &[0]),
        (48, &[5]),
        (56, &[0xff; 8]),
    ];
    for (at, bytes) in impossible {
        assert_eq!(refused(&with(at, bytes)), Some(Rejected::Header), "{bytes:?} at {at}");
    }
    for first in [1, 127, 1024, u32::MAX] {
        assert_eq!(refused(&with(92, &first.to_le_bytes())), Some(Rejected::Header), "{first}");
    }
    for reason in Rejected::NAMES {
        assert!(reason.starts_with("ha_"));
    }
}

#[test]
fn no_bit_of_a_frame_may_change_and_no_other_key_will_do() {
    let frame = signed(&golden());
    for bit in 0..frame.len() * 8 {
        let mut changed = frame.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(codec().open(&changed).is_err(), "bit {bit}");
    }
    let other = Codec::new::<Record>(Key::new(&[8; 32]), 0x1234, 5, 1, 2);
    assert_eq!(other.open(&frame), Err(Rejected::Digest));
}

#[test]
fn a_number_counts_once() {
    let mut window = Window::default();
    for (number, is_new) in [
        (5, true),
        (5, false),
        (3, true),
        (3, false),
        (4, true),
        (69, true),
        (5, false),
        (6, true),
        (6, false),
        (5000, true),
        (4936, false),
        (4937, true),
        (u64::MAX, true),
        (5000, false),
        (u64::MAX, false),
    ] {
        assert_eq!(window.take(number), is_new, "{number}");
    }
}

proptest! {
    #[test]
    fn the_body_holds_for_any_bytes(bytes in vec(any::<u8>(), 0..1500)) {
        bodies::frame(&bytes);
    }

    /// Headers that are nearly right, so that the later checks are reached.
    #[test]
    fn the_body_holds_for_headers_with_any_byte_changed(
        changes in vec((4..HEADER_LEN, any::<u8>()), 0..4),
        body in vec(any::<u8>(), 0..1300),
    ) {
        let mut bytes = golden();
        bytes.truncate(HEADER_LEN);
        changes.iter().for_each(|(at, byte)| bytes[*at] = *byte);
        bytes.extend(body);
        bodies::frame(&bytes);
    }
}

#[test]
fn a_header_is_its_bytes() {
    let golden = golden();
    let (header, _) = Header::ref_from_prefix(&golden).expect("it is long enough");
    assert_eq!(header.as_bytes(), &golden[..HEADER_LEN]);
}
