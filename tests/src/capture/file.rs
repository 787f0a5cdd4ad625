//! Reading and writing pcap files, whatever their byte order, and however wrong their lengths.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use pcap_file::TsResolution;
use pcap_file::pcap::{PcapHeader, PcapReader, PcapWriter, RawPcapPacket};

/// The longest frame written, bytes: libpcap's own limit.
const SNAP_LEN: u32 = 262_144;

/// A frame as captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// When, in microseconds since 1970.
    pub time_us: u64,
    /// What was captured of it, which may be less than was sent.
    pub bytes: Vec<u8>,
}

/// The frames of a file, in its order.
///
/// # Errors
/// If it is not a pcap file. A cut last record ends it without an error.
pub fn read(path: &Path) -> Result<Vec<Frame>> {
    let open = || -> Result<_> { Ok(PcapReader::new(BufReader::new(File::open(path)?))?) };
    let mut reader = open().with_context(|| path.display().to_string())?;
    let ticks_per_us = match reader.header().ts_resolution {
        TsResolution::MicroSecond => 1,
        TsResolution::NanoSecond => 1000,
    };
    let mut frames = Vec::new();
    // Raw, since the library's own checks refuse what tcpdump's test files have on purpose.
    while let Some(Ok(packet)) = reader.next_raw_packet() {
        let fraction = u64::from(packet.ts_frac / ticks_per_us);
        let time_us = u64::from(packet.ts_sec) * 1_000_000 + fraction;
        frames.push(Frame { time_us, bytes: packet.data.into_owned() });
    }
    Ok(frames)
}

/// A pcap file that is being written, with microseconds and Ethernet.
pub struct Writer(PcapWriter<BufWriter<File>>);

impl Writer {
    /// Creates the file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| path.display().to_string())?;
        let header = PcapHeader { snaplen: SNAP_LEN, ..PcapHeader::default() };
        Ok(Writer(PcapWriter::with_header(BufWriter::new(file), header)?))
    }

    /// Adds a frame.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&mut self, time_us: u64, bytes: &[u8]) -> Result<()> {
        let len = u32::try_from(bytes.len())?;
        let packet = RawPcapPacket {
            ts_sec: u32::try_from(time_us / 1_000_000)?,
            ts_frac: u32::try_from(time_us % 1_000_000)?,
            incl_len: len,
            orig_len: len,
            data: Cow::Borrowed(bytes),
        };
        self.0.write_raw_packet(&packet)?;
        Ok(())
    }

    /// Ends the file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(self) -> Result<()> {
        Ok(self.0.into_writer().flush()?)
    }
}

/// All pcap files under a directory, sorted.
///
/// # Errors
/// If a directory cannot be read.
pub fn find(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        let entries = directory.read_dir().with_context(|| directory.display().to_string())?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "pcap") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deeper").join("x.pcap");
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        let frames = [
            Frame { time_us: 1_000_000, bytes: vec![1, 2, 3] },
            Frame { time_us: 999_999_000_001, bytes: vec![0; 70_000] },
            Frame { time_us: 5, bytes: vec![] },
        ];
        let mut writer = Writer::create(&path).unwrap();
        for frame in &frames {
            writer.write(frame.time_us, &frame.bytes).unwrap();
        }
        writer.finish().unwrap();
        assert_eq!(read(&path).unwrap(), frames);
        assert_eq!(find(directory.path()).unwrap(), [path]);
    }

    #[test]
    fn big_endian_nanoseconds_with_lengths_that_make_no_sense_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.pcap");
        let mut bytes = vec![0xa1, 0xb2, 0x3c, 0x4d, 0, 2, 0, 4];
        // Time zone, accuracy, a snapshot length of 4 bytes, Ethernet.
        bytes.extend([0u32, 0, 4, 1].iter().flat_map(|word| word.to_be_bytes()));
        // A frame that is longer than that, and than its own length.
        bytes.extend([7u32, 3000, 6, 2].iter().flat_map(|word| word.to_be_bytes()));
        bytes.extend([9; 6]);
        // And one that is cut.
        bytes.extend([7u32, 3000, 60, 60].iter().flat_map(|word| word.to_be_bytes()));
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(read(&path).unwrap(), [Frame { time_us: 7_000_003, bytes: vec![9; 6] }]);
    }
}
