//! Each core has neighbours of its own; ARP is answered once.

use krono_core::packet::Side;
use scr_sequencer::programs::heavy::{Config, Heavy};

use super::bed::{Bed, GATEWAY_MACS, MACS, config};

pub(super) fn arp(side: Side, is_reply: bool) -> Vec<u8> {
    let (gateway, own): ([u8; 4], [u8; 4]) = match side {
        Side::Inside => ([10, 0, 0, 254], [10, 0, 0, 1]),
        Side::Outside => ([192, 0, 2, 254], [192, 0, 2, 1]),
    };
    let from = GATEWAY_MACS[side as usize];
    let to = if is_reply { MACS[side as usize] } else { [0xff; 6] };
    let target = if is_reply { to } else { [0; 6] };
    let operation = if is_reply { [0, 2] } else { [0, 1] };
    let parts: [&[u8]; 8] =
        [&to, &from, &[8, 6, 0, 1, 8, 0, 6, 4], &operation, &from, &gateway, &target, &own];
    let mut frame = parts.concat();
    frame.resize(60, 0);
    frame
}

pub(super) fn udp() -> Vec<u8> {
    let ip = etherparse::PacketBuilder::ethernet2(GATEWAY_MACS[1], MACS[1]);
    let mut bytes = Vec::new();
    ip.ipv4([198, 51, 100, 1], [100, 64, 0, 1], 64).udp(1, 2).write(&mut bytes, &[0; 24]).unwrap();
    bytes
}

fn bed(knows_neighbours: bool) -> Bed<Heavy> {
    let config = config("{ program: heavy, workers: [ 1, 2, 3 ] }");
    Bed::new(&config, knows_neighbours, |_| Ok(Heavy::new(&Config::default()).unwrap()))
}

#[test]
fn a_request_is_answered_by_one_core() {
    let mut bed = bed(false);
    bed.inject(Side::Outside, &arp(Side::Outside, false));
    let answers: Vec<_> = (0..3)
        .flat_map(|core| {
            bed.poll(core);
            bed.sent(core, Side::Outside)
        })
        .collect();
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0][..6], GATEWAY_MACS[1]);
    assert_eq!(answers[0][20..22], [0, 2]);
}

#[test]
fn every_core_learns_who_its_neighbours_are() {
    let mut bed = bed(false);
    for core in 0..3 {
        bed.inject(Side::Outside, &udp());
        bed.poll(core);
        // It has to ask first.
        bed.poll(core);
        let asked = bed.sent(core, Side::Inside);
        assert_eq!(asked.len(), 1, "core {core}");
        assert_eq!(asked[0][20..22], [0, 1]);
    }
    bed.inject(Side::Inside, &arp(Side::Inside, true));
    for core in 0..3 {
        bed.poll(core);
        let sent = bed.sent(core, Side::Inside);
        assert_eq!(sent.len(), 1, "what waited goes on, core {core}");
        assert_eq!(sent[0][..6], GATEWAY_MACS[0]);
    }
}

#[test]
fn who_is_alone_answers_pings_and_tells_of_packets_that_are_too_old() {
    let mut bed = bed(true);
    let mut ping = Vec::new();
    let ip = etherparse::PacketBuilder::ethernet2(GATEWAY_MACS[1], MACS[1]);
    let ip = ip.ipv4([198, 51, 100, 1], [192, 0, 2, 1], 64);
    ip.icmpv4_echo_request(1, 1).write(&mut ping, &[0; 30]).unwrap();
    let mut old = udp();
    old[22] = 1;
    old[24..26].copy_from_slice(&[0, 0]);
    let sum =
        old[14..34].as_chunks::<2>().0.iter().map(|pair| u32::from(u16::from_be_bytes(*pair)));
    let sum: u32 = sum.sum();
    let folded = !((sum & 0xffff) + (sum >> 16)) as u16;
    old[24..26].copy_from_slice(&folded.to_be_bytes());
    for frame in [ping, old] {
        bed.inject(Side::Outside, &frame);
        let answers = (0..3).map(|core| {
            bed.poll(core);
            bed.sent(core, Side::Outside).len()
        });
        assert_eq!(answers.sum::<usize>(), 1);
    }
    assert_eq!(bed.sequencing.sequencer.last(), 0, "no state depends on these");
}
