//! Captures as files.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use pcap_file::pcap::{PcapHeader, PcapReader, PcapWriter, RawPcapPacket};
use pcap_file::{DataLink, Endianness, PcapError, TsResolution};

const NS_PER_S: u64 = 1_000_000_000;

/// The longest frame, bytes: libpcap's own limit.
const FRAME_MAX: usize = 262_144;

/// A capture that is being read.
pub(crate) struct Reader {
    path: PathBuf,
    reader: PcapReader<BufReader<File>>,
    ns_per_tick: u64,
    frames: u64,
}

/// A frame as captured.
pub(crate) struct Frame {
    /// Nanoseconds since 1970.
    pub(crate) time_ns: u64,
    /// What was captured of it.
    pub(crate) bytes: Vec<u8>,
    /// Its length, bytes.
    pub(crate) wire_len: usize,
}

impl Reader {
    pub(crate) fn open(path: &Path) -> Result<Reader> {
        let name = || path.display().to_string();
        let file = File::open(path).with_context(name)?;
        let reader = match PcapReader::new(BufReader::new(file)) {
            Ok(reader) => reader,
            Err(PcapError::IoError(error)) => return Err(error).with_context(name),
            Err(_) => bail!(
                "{}: it is no pcap file; `editcap -F pcap` makes one of a pcapng file",
                name()
            ),
        };
        let header = reader.header();
        if header.datalink != DataLink::ETHERNET {
            bail!("{}: its frames are not Ethernet but {:?}", name(), header.datalink);
        }
        let ns_per_tick = match header.ts_resolution {
            TsResolution::MicroSecond => 1000,
            TsResolution::NanoSecond => 1,
        };
        Ok(Reader { path: path.to_owned(), reader, ns_per_tick, frames: 0 })
    }

    /// The next frame. A last one that is cut ends the file without an error.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>> {
        self.frames += 1;
        // Raw, since it does not matter here whether a frame is longer than the header allows.
        let packet = match self.reader.next_raw_packet() {
            None | Some(Err(PcapError::IncompleteBuffer)) => return Ok(None),
            Some(Ok(packet)) => packet,
            Some(Err(error)) => {
                let place = || format!("{}: frame {}", self.path.display(), self.frames);
                return Err(error).with_context(place);
            }
        };
        let time_ns = u64::from(packet.ts_sec) * NS_PER_S
            + u64::from(packet.ts_frac).saturating_mul(self.ns_per_tick);
        let wire_len = packet.orig_len as usize;
        Ok(Some(Frame { time_ns, bytes: packet.data.into_owned(), wire_len }))
    }
}

/// A capture that is being written, with nanoseconds and Ethernet.
pub(crate) struct Writer {
    path: PathBuf,
    writer: PcapWriter<BufWriter<File>>,
}

impl Writer {
    pub(crate) fn create(path: PathBuf) -> Result<Writer> {
        let open = || -> Result<_> {
            let header = PcapHeader {
                snaplen: FRAME_MAX as u32,
                ts_resolution: TsResolution::NanoSecond,
                endianness: Endianness::Little,
                ..PcapHeader::default()
            };
            Ok(PcapWriter::with_header(BufWriter::new(File::create(&path)?), header)?)
        };
        let writer = open().with_context(|| path.display().to_string())?;
        Ok(Writer { path, writer })
    }

    pub(crate) fn write(&mut self, time_ns: u64, bytes: &[u8]) -> Result<()> {
        let packet = RawPcapPacket {
            ts_sec: (time_ns / NS_PER_S) as u32,
            ts_frac: (time_ns % NS_PER_S) as u32,
            incl_len: bytes.len() as u32,
            orig_len: bytes.len() as u32,
            data: Cow::Borrowed(bytes),
        };
        let written = self.writer.write_raw_packet(&packet);
        written.with_context(|| self.path.display().to_string())?;
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<()> {
        let flushed = self.writer.into_writer().flush();
        flushed.with_context(|| self.path.display().to_string())
    }
}
