//! net_pcap: captures go through unchanged, with their timestamps; oversized frames are chains of
//! buffers, of which only what was not cut is sent.

mod common;

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use krono_core::frame::Frames;
use krono_io::{Burst, Port, PortConfig};
use pcap_file::pcap::{PcapPacket, PcapReader, PcapWriter};

/// The number of the frame that is too large for one buffer and is cut, and of one that is not.
const CUT: u32 = 40;
const LONG: u32 = 41;

fn length(number: u32) -> usize {
    match number {
        CUT | LONG => 5000,
        number => 60 + number as usize * 14,
    }
}

fn timestamp(number: u32) -> Duration {
    Duration::from_micros(1_600_000_000_000_000 + u64::from(number) * 333_333)
}

fn write_capture(path: &Path, count: u32) {
    let mut writer = PcapWriter::new(File::create(path).unwrap()).unwrap();
    for number in 0..count {
        let bytes = common::frame(number, length(number));
        let packet = PcapPacket::new(timestamp(number), bytes.len() as u32, &bytes);
        writer.write_packet(&packet).unwrap();
    }
}

fn read_capture(path: &Path) -> Vec<Vec<u8>> {
    let mut reader = PcapReader::new(File::open(path).unwrap()).unwrap();
    std::iter::from_fn(|| Some(reader.next_packet()?.unwrap().data.into_owned())).collect()
}

#[test]
fn a_capture_comes_out_as_it_went_in() {
    let directory = tempfile::tempdir().unwrap();
    let (input, output) = (directory.path().join("in.pcap"), directory.path().join("out.pcap"));
    const COUNT: u32 = 100;
    write_capture(&input, COUNT);

    let eal = common::start();
    let pool = common::pool(&eal, "pcap", 2047);
    let device = format!("net_pcap0,rx_pcap={},tx_pcap={}", input.display(), output.display());
    let (port, mut rx, mut tx) = Port::open(&eal, &device, &PortConfig::default(), &pool).unwrap();
    let mut burst = Burst::new();
    let mut number = 0;
    while rx[0].poll(&mut burst) > 0 {
        for index in 0..burst.len() {
            assert_eq!(burst[index].timestamp_ns(), Some(timestamp(number).as_nanos() as u64));
            let mut frame = burst.frame(index);
            assert_eq!(*frame.wire_len as usize, length(number));
            assert_eq!(frame.is_segmented(), matches!(number, CUT | LONG));
            if number == CUT {
                let held = pool.in_use();
                assert!(frame.set_len(576));
                assert_eq!(pool.in_use(), held, "segments are freed when the frame is sent");
            }
            number += 1;
        }
        let received = burst.len();
        assert_eq!(tx[0].send(&mut burst), received);
        assert_eq!(pool.in_use(), 0);
    }
    assert_eq!(number, COUNT);
    drop((port, rx, tx, pool, eal));

    let frames = read_capture(&output);
    assert_eq!(frames.len(), COUNT as usize);
    for (number, bytes) in (0..).zip(&frames) {
        let mut expected = common::frame(number, length(number));
        expected.truncate(if number == CUT { 576 } else { usize::MAX });
        assert!(*bytes == expected, "frame {number} differs");
    }
    common::assert_nothing_left();
}
