//! The two formats of captures.

use std::io::{Cursor, ErrorKind, Read};

use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::blocks::ENHANCED_PACKET_BLOCK;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::{PcapNgReader, RawBlock};
use pcap_file::{DataLink, Endianness, PcapError, TsResolution};

use super::Capture;

const NS_PER_S: u64 = 1_000_000_000;
/// How a pcapng file begins, in any byte order.
const SECTION: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// Reads all frames of a pcap or pcapng file.
pub(super) fn frames(mut source: impl Read, capture: &mut Capture) -> Result<(), String> {
    let mut start = Vec::new();
    let read = source.by_ref().take(SECTION.len() as u64).read_to_end(&mut start);
    read.map_err(|error| format!("it cannot be read: {error}"))?;
    let is_ng = start == SECTION;
    let source = Cursor::new(start).chain(source);
    if is_ng { read_pcapng(source, capture) } else { read_pcap(source, capture) }
}

fn read_pcap(source: impl Read, capture: &mut Capture) -> Result<(), String> {
    let mut reader = PcapReader::new(source).map_err(no_capture)?;
    is_ethernet(reader.header().datalink)?;
    let ns_per_tick = match reader.header().ts_resolution {
        TsResolution::MicroSecond => 1000,
        TsResolution::NanoSecond => 1,
    };
    let mut clock = Clock::default();
    let mut number = 1;
    // Raw, since it does not matter here whether a frame is longer than the header allows.
    while let Some(packet) = reader.next_raw_packet() {
        let packet = match packet {
            Ok(packet) => packet,
            Err(error) => return ends(error, number, capture),
        };
        let fraction = u64::from(packet.ts_frac) * ns_per_tick;
        let time = clock.since_first(u64::from(packet.ts_sec) * NS_PER_S + fraction);
        capture.push(time, packet.orig_len as usize, &packet.data)?;
        number += 1;
    }
    Ok(())
}

fn read_pcapng(source: impl Read, capture: &mut Capture) -> Result<(), String> {
    let mut reader = PcapNgReader::new(source).map_err(no_capture)?;
    let mut clock = Clock::default();
    let mut number = 1;
    loop {
        let endianness = reader.section().endianness;
        // Raw, since options of packets do not matter here, and the library insists on their end.
        let packet = match reader.next_raw_block() {
            None => return Ok(()),
            Some(Err(error)) => return ends(error, number, capture),
            Some(Ok(block)) if block.type_ != ENHANCED_PACKET_BLOCK => continue,
            Some(Ok(block)) => Packet::of(&block, endianness),
        };
        let damaged = || format!("packet {number} is damaged");
        let packet = packet.ok_or_else(damaged)?;
        let interface = reader.interfaces().get(packet.interface as usize);
        let interface = interface.ok_or_else(damaged)?;
        is_ethernet(interface.linktype)?;
        let time = clock.since_first(nanoseconds(packet.ticks, interface));
        capture.push(time, packet.wire_len as usize, &packet.bytes)?;
        number += 1;
    }
}

/// An enhanced packet block (draft-ietf-opsawg-pcapng, 4.3).
struct Packet {
    interface: u32,
    ticks: u64,
    wire_len: u32,
    bytes: Vec<u8>,
}

impl Packet {
    fn of(block: &RawBlock<'_>, endianness: Endianness) -> Option<Packet> {
        let word = |index: usize| {
            let bytes = block.body.get(4 * index..4 * index + 4)?.try_into().ok()?;
            Some(match endianness {
                Endianness::Big => u32::from_be_bytes(bytes),
                Endianness::Little => u32::from_le_bytes(bytes),
            })
        };
        let captured = word(3)? as usize;
        Some(Packet {
            interface: word(0)?,
            ticks: u64::from(word(1)?) << 32 | u64::from(word(2)?),
            wire_len: word(4)?,
            bytes: block.body.get(20..)?.get(..captured)?.to_vec(),
        })
    }
}

/// A time of an interface in nanoseconds: its option says in what units it counts.
fn nanoseconds(ticks: u64, interface: &InterfaceDescriptionBlock<'_>) -> u64 {
    let resolution = interface.options.iter().find_map(|option| match option {
        InterfaceDescriptionOption::IfTsResol(resolution) => Some(*resolution),
        _ => None,
    });
    // Negative powers of 10, or with the highest bit those of 2.
    let resolution = resolution.unwrap_or(6);
    let (base, exponent) = (if resolution & 0x80 == 0 { 10u128 } else { 2 }, resolution & 0x7f);
    let per_second = base.checked_pow(u32::from(exponent)).unwrap_or(u128::MAX);
    let ns = u128::from(ticks) * u128::from(NS_PER_S) / per_second;
    u64::try_from(ns).unwrap_or(u64::MAX)
}

/// Counts from the first packet on.
#[derive(Default)]
struct Clock {
    first_ns: Option<u64>,
}

impl Clock {
    fn since_first(&mut self, time_ns: u64) -> u64 {
        time_ns.saturating_sub(*self.first_ns.get_or_insert(time_ns))
    }
}

fn is_ethernet(link: DataLink) -> Result<(), String> {
    match link {
        DataLink::ETHERNET => Ok(()),
        other => Err(format!("its link type is {other:?}; only Ethernet can be sent")),
    }
}

fn no_capture(error: PcapError) -> String {
    match error {
        PcapError::IoError(error) if error.kind() != ErrorKind::UnexpectedEof => {
            format!("it cannot be read: {error}")
        }
        _ => "this is neither a pcap nor a pcapng file".to_owned(),
    }
}

/// What becomes of a capture that cannot be read on at packet `number`.
fn ends(error: PcapError, number: u64, capture: &mut Capture) -> Result<(), String> {
    match error {
        // As a capture does whose program was killed.
        PcapError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            capture.notes.ends_early = true;
            Ok(())
        }
        PcapError::IoError(error) => Err(format!("it cannot be read at packet {number}: {error}")),
        error => Err(format!("it is damaged at packet {number}: {error}")),
    }
}
