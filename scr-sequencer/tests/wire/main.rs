//! What is in front of frames that arrive sequenced: golden bytes, round trips, and any bytes.
//!
//! A failure prints its smallest input; `PROPTEST_RNG_SEED=N` repeats a run, `PROPTEST_CASES=N`
//! lengthens it.
#![forbid(unsafe_code)]

mod bodies;

use krono_core::drop::DropReason;
use krono_core::packet::Mac;
use krono_core::time::Moment;
use proptest::collection::vec;
use proptest::prelude::*;
use scr_sequencer::history::{Carried, History};
use scr_sequencer::wire::{Codec, Format, Unfit, Variant, link, nearest, steering_mac};

const TO: Mac = Mac([2, 0, 0, 0, 0, 1]);

fn format(variant: Variant, cores: usize) -> Format {
    Format { variant, cores, sequence: true, moment: true, padding: None }
}

fn codec(format: Format) -> Codec<[u8; 2]> {
    Codec::new(format).unwrap()
}

/// The record of a packet.
fn record(sequence: u64) -> [u8; 2] {
    [sequence as u8, !sequence as u8]
}

/// What is in front of the packet with this number.
fn header(codec: &Codec<[u8; 2]>, sequence: u64) -> Vec<u8> {
    let slots = codec.format().cores as u64 - 1;
    let history: Vec<_> = (sequence.saturating_sub(slots).max(1)..sequence).map(record).collect();
    let moment = Moment(0x1112_1314_1516_1718);
    let carried = Carried { sequence, moment, history: History::new(&history) };
    let mut header = vec![0xee; codec.header_len()];
    codec.encode(&link(TO, steering_mac(3)), &carried, &mut header);
    header
}

#[test]
fn the_layouts_are_as_documented() {
    let link = [2, 0, 0, 0, 0, 1, 0x10, 0x10, 0x10, 0x10, 0x10, 3, 0x88, 0xb5];
    let number = [6, 0, 0, 0];
    let moment = [0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11];
    // Packet 6 of four cores carries 3 to 5. Packet 4 took the place of packet 1.
    let ring = [&link[..], &number, &moment, &[4, !4, 5, !5, 3, !3], &[2]].concat();
    assert_eq!(header(&codec(format(Variant::Ring, 4)), 6), ring);
    let shift = [&link[..], &number, &moment, &[3, !3, 4, !4, 5, !5]].concat();
    assert_eq!(header(&codec(format(Variant::Shift, 4)), 6), shift);
    // Packet 2 carries packet 1, and what was there before.
    let bare = Format { sequence: false, moment: false, ..format(Variant::Ring, 4) };
    assert_eq!(header(&codec(bare), 2), [&link[..], &[1, !1, 0, 0, 0, 0], &[1]].concat());
    let bare = Format { variant: Variant::Shift, ..bare };
    assert_eq!(header(&codec(bare), 2), [&link[..], &[0, 0, 0, 0, 1, !1]].concat());
    // One core needs no history.
    let alone = Format { cores: 1, ..bare };
    assert_eq!(header(&codec(alone), 7), link);
    let alone = Format { variant: Variant::Ring, ..alone };
    assert_eq!(header(&codec(alone), 7), [&link[..], &[0]].concat());
}

#[test]
fn numbers_wrap() {
    assert_eq!(nearest(1, 1), Some(1));
    assert_eq!(nearest(0, 1), None);
    assert_eq!(nearest(u32::MAX, 3), None);
    for wrap in [1_u64 << 32, 7 << 32] {
        assert_eq!(nearest(0, wrap), Some(wrap));
        assert_eq!(nearest(0, wrap - 5), Some(wrap));
        assert_eq!(nearest(u32::MAX, wrap + 5), Some(wrap - 1));
        assert_eq!(nearest(3, wrap - 5), Some(wrap + 3));
    }
    let codec = codec(format(Variant::Ring, 4));
    for sequence in (1 << 32) - 8..(1 << 32) + 8 {
        for expected in [sequence - 1000, sequence, sequence + 1000] {
            let header = header(&codec, sequence);
            let carried = codec.decode(&header, expected).unwrap();
            assert_eq!(carried.sequence, sequence);
            assert!(carried.history.iter().copied().eq((sequence - 3..sequence).map(record)));
        }
    }
}

#[test]
fn who_gets_no_numbers_counts() {
    let format = Format { sequence: false, ..format(Variant::Ring, 4) };
    let codec = codec(format);
    for core in 0..4 {
        let mut sequence = codec.first(core);
        for turn in 0..9 {
            assert_eq!(sequence, 1 + core as u64 + 4 * turn);
            let header = header(&codec, sequence);
            let carried = codec.decode(&header, sequence).unwrap();
            let first = sequence.saturating_sub(3).max(1);
            assert!(carried.history.iter().copied().eq((first..sequence).map(record)));
            sequence = codec.following(sequence);
        }
    }
}

#[test]
fn a_bad_header_is_a_drop() {
    let bad = Some(DropReason::ScrHeaderBad);
    for variant in [Variant::Ring, Variant::Shift] {
        let codec = codec(format(variant, 4));
        let mut header = header(&codec, 1);
        for len in 0..header.len() {
            assert_eq!(codec.decode(&header[..len], 1).err(), bad, "{len} bytes");
        }
        // No packet has the number 0.
        header[14] = 0;
        assert_eq!(codec.decode(&header, 1).err(), bad);
        assert!(codec.decode(&header, 1 << 32).is_ok());
    }
    for (cores, oldest) in [(4, 3), (4, 255), (1, 1), (1, 255)] {
        let codec = codec(format(Variant::Ring, cores));
        let mut header = header(&codec, 1);
        *header.last_mut().unwrap() = oldest;
        assert_eq!(codec.decode(&header, 1).err(), bad, "{oldest} of {cores} cores");
    }
}

#[test]
fn what_frames_cannot_carry_is_refused_with_numbers() {
    let new = |cores| Codec::<[[u8; 32]; 16]>::new(format(Variant::Ring, cores));
    assert_eq!(new(0).unwrap_err(), Unfit::Cores(0));
    let error = new(257).unwrap_err().to_string();
    assert_eq!(error, "packets cannot be sprayed over 257 cores in-band, but over 1 to 256");
    let error = new(200).unwrap_err().to_string();
    assert_eq!(error, "199 records of 512 bytes make a header of 101915 bytes, more than 65535");
    assert!(new(128).is_ok());
}

#[test]
fn short_frames_are_padded() {
    let codec = codec(Format { padding: Some(128), ..format(Variant::Ring, 4) });
    assert_eq!(codec.header_len(), 33);
    assert_eq!(codec.padding(60), 35);
    assert_eq!(codec.padding(95), 0);
    assert_eq!(codec.padding(1500), 0);
}

fn any_format() -> impl Strategy<Value = Format> {
    let variant = prop_oneof![Just(Variant::Ring), Just(Variant::Shift)];
    let cores = prop_oneof![4 => 1..=16_usize, 1 => 1..=256_usize];
    (variant, cores, any::<bool>(), any::<bool>()).prop_map(|(variant, cores, sequence, moment)| {
        Format { variant, cores, sequence, moment, padding: None }
    })
}

proptest! {
    #[test]
    fn what_was_encoded_is_decoded(
        format in any_format(),
        sequence in prop_oneof![1..40_u64, 1..=u64::MAX >> 1],
        moment in any::<u64>(),
        off in -1000..1000_i64,
        records in vec(any::<[u8; 30]>(), 255),
        split in any::<prop::sample::Index>(),
        frame in vec(any::<u8>(), 0..80),
    ) {
        let codec = Codec::<[u8; 30]>::new(format).unwrap();
        let count = (format.cores - 1).min((sequence - 1).min(255) as usize);
        let (older, newer) = records[..count].split_at(split.index(count + 1));
        let carried = Carried { sequence, moment: Moment(moment), history: History { older, newer } };
        let mut bytes = vec![0xee; codec.header_len()];
        codec.encode(&link(TO, TO), &carried, &mut bytes);
        bytes.extend(&frame);
        let expected = if format.sequence { sequence.saturating_add_signed(off) } else { sequence };
        let decoded = codec.decode(&bytes, expected).unwrap();
        prop_assert_eq!(decoded.sequence, sequence);
        prop_assert_eq!(decoded.moment, Moment(if format.moment { moment } else { 0 }));
        prop_assert!(decoded.history.iter().eq(&records[..count]));
        prop_assert_eq!(&bytes[codec.header_len()..], frame);
    }

    #[test]
    fn the_body_holds_for_any_bytes(
        parameters in any::<[u8; bodies::PARAMETERS_LEN]>(),
        bytes in vec(any::<u8>(), 0..600),
    ) {
        bodies::scr_wire(&[&parameters[..], &bytes].concat());
    }
}
