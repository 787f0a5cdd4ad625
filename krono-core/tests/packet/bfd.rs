//! BFD Control packets: bytes that were written down by hand, and what must hold for any.

use krono_core::drop::DropReason;
use krono_core::frame::MemFrame;
use krono_core::packet::{Endpoint, Kind, Mac};
use krono_core::parse::parse;
use krono_core::reply::bfd_control;
use krono_core::rewrite::{LinkHeader, write_link};
use krono_core::router::bfd::{Control, Diagnostic, State};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::bodies;
use crate::build::{PEER_MAC, SHARD_MAC};
use crate::properties::many_cases;

/// Version 1, no diagnostic; up, Poll and C; multiplier 3; 24 bytes; discriminators 7 and 9; 50 ms,
/// 60 ms, no Echo.
const UP: [u8; 24] =
    [0x20, 0xe8, 3, 24, 0, 0, 0, 7, 0, 0, 0, 9, 0, 0, 0xc3, 0x50, 0, 0, 0xea, 0x60, 0, 0, 0, 0];

fn up() -> Control {
    Control {
        state: State::Up,
        poll: true,
        control_plane_independent: true,
        multiplier: 3,
        my_discriminator: 7,
        your_discriminator: 9,
        desired_tx_us: 50_000,
        required_rx_us: 60_000,
        ..Control::default()
    }
}

/// Version 1, administratively down; Final, authenticated and demand; multiplier 255; 26 bytes.
const ADMIN_DOWN: [u8; 26] = [
    0x27, 0x16, 255, 26, 0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 0, 0, 0xf, 0x42, 0x40, 0xff, 0xff, 0xff,
    0xff, 0, 0, 0, 1, 1, 2,
];

#[test]
fn packets_mean_what_is_written_in_them() {
    assert_eq!(Control::parse(&UP), Ok(up()));
    assert_eq!(up().to_bytes(), UP);
    let down = Control {
        diagnostic: Diagnostic::ADMINISTRATIVELY_DOWN,
        state: State::AdminDown,
        is_final: true,
        authenticated: true,
        demand: true,
        multiplier: 255,
        my_discriminator: 0xdead_beef,
        desired_tx_us: 1_000_000,
        required_rx_us: u32::MAX,
        required_echo_us: 1,
        ..Control::default()
    };
    assert_eq!(Control::parse(&ADMIN_DOWN), Ok(down));
    for (state, name) in State::ALL.into_iter().zip(["admin_down", "down", "init", "up"]) {
        let mut bytes = UP;
        bytes[1] = (state as u8) << 6;
        let control = Control::parse(&bytes).unwrap();
        assert_eq!((control.state, control.state.name()), (state, name));
    }
    let codes = (0..=31).map(|code| Diagnostic::from_bits(code).code());
    assert!(codes.eq(0..=31));
}

#[test]
fn a_packet_leaves_in_a_datagram_for_the_link_alone() {
    let mut memory = MemFrame::new(&[]);
    let frame = &mut memory.as_frame();
    let from = Endpoint::new([192, 0, 2, 1].into(), 0xc0de);
    let l3 = bfd_control(frame, from, [192, 0, 2, 254].into(), &up()).expect("there is room");
    let link = LinkHeader { to: Mac(PEER_MAC), from: Mac(SHARD_MAC), vlan: None };
    assert!(write_link(frame, l3, &link));
    // The sums were worked out apart from this code.
    let ip = [0x45, 0xc0, 0, 52, 0, 0, 0x40, 0, 255, 17, 0xf5, 0xf8, 192, 0, 2, 1, 192, 0, 2, 254];
    let udp = [0xc0, 0xde, 0x0e, 0xc8, 0, 32, 0xd9, 0x45];
    let expected = [&PEER_MAC[..], &SHARD_MAC, &[8, 0], &ip, &udp, &UP].concat();
    assert_eq!(memory.bytes(), expected);
    let (meta, _) = parse(&expected, expected.len() as u32).unwrap();
    assert_eq!((meta.kind, meta.src, meta.ttl), (Kind::Udp, from, 255));
}

#[test]
fn a_buffer_without_room_is_left_alone() {
    let mut memory = MemFrame::new(&[0; 1]);
    let frame = &mut memory.as_frame();
    let room = frame.room.len();
    frame.room = &mut frame.room[..128 + 65];
    assert!(room > 128 + 65);
    let nobody = Endpoint::new([0; 4].into(), 0);
    assert_eq!(bfd_control(frame, nobody, [0; 4].into(), &up()), None);
    assert_eq!(*frame.len, 1);
}

#[test]
fn every_cut_packet_is_too_short() {
    for len in 0..24 {
        assert_eq!(Control::parse(&UP[..len]), Err(DropReason::BfdLenBad), "{len} bytes");
    }
    assert_eq!(Control::parse(&ADMIN_DOWN[..25]), Err(DropReason::BfdLenBad));
}

proptest! {
    #![proptest_config(many_cases())]

    #[test]
    fn the_body_holds_for_any_bytes(
        bytes in prop_oneof![Just(UP.to_vec()), Just(ADMIN_DOWN.to_vec()), vec(any::<u8>(), 0..60)],
        changes in vec((any::<Index>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = bytes;
        for (at, byte) in changes {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        bodies::bfd(&bytes);
    }
}
