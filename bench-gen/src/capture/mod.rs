//! Captures that are sent again: frames, and the times when they are due.
//!
//! A capture is read as a whole before anything is sent ([`Capture::open`]); a [`Player`] then gives
//! its frames one by one, as often as wanted, without allocating.

mod fuzz;
mod player;
mod read;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use krono_core::packet::Mac;

pub use fuzz::fuzz_capture;
pub use player::{Due, Player};

/// The most frames of a capture.
pub const FRAMES_MAX: usize = 1 << 26;
/// The most bytes of its frames together.
pub const BYTES_MAX: usize = 4 << 30;
/// The shortest frame that can be sent: Ethernet's header, bytes.
pub const FRAME_MIN: usize = 14;
/// The longest frame that can be sent, bytes without its checksum.
pub const FRAME_MAX: usize = 9596;

/// A capture in memory.
pub struct Capture {
    frames: Vec<Frame>,
    bytes: Vec<u8>,
    notes: Notes,
}

#[derive(Clone, Copy)]
struct Frame {
    /// Nanoseconds since the first; never less than that of the frame before.
    at_ns: u64,
    /// Where its bytes begin.
    start: u64,
    len: u16,
}

/// What is peculiar about a capture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Frames that are too short or too long to be sent, left out.
    pub left_out: u64,
    /// Frames of which only the beginning was captured; that is sent.
    pub snapped: u64,
    /// Frames whose time is before that of the frame in front of them; they are due with that.
    pub back_in_time: u64,
    /// The file ends within a packet.
    pub ends_early: bool,
}

/// Why a capture cannot be sent.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {what}")]
pub struct CaptureError {
    /// The file.
    pub file: String,
    /// What is wrong, and where.
    pub what: String,
}

impl Capture {
    /// Reads a pcap or pcapng file of Ethernet frames.
    ///
    /// # Errors
    /// If it cannot be read, is something else, is damaged, is too large, or has no frame that could
    /// be sent. A last packet that is cut is left out ([`Notes::ends_early`]).
    pub fn open(path: &Path) -> Result<Capture, CaptureError> {
        let name = path.display().to_string();
        match File::open(path) {
            Ok(file) => Capture::read(&name, file),
            Err(error) => {
                let what = format!("the capture cannot be opened: {error}");
                Err(CaptureError { file: name, what })
            }
        }
    }

    /// Likewise from what has this name.
    ///
    /// # Errors
    /// Likewise.
    pub fn read(name: &str, source: impl Read) -> Result<Capture, CaptureError> {
        let mut capture =
            Capture { frames: Vec::new(), bytes: Vec::new(), notes: Notes::default() };
        let error = |what| CaptureError { file: name.to_owned(), what };
        read::frames(source, &mut capture).map_err(error)?;
        if capture.frames.is_empty() {
            return Err(error("there is no frame in it that could be sent".to_owned()));
        }
        capture.frames.shrink_to_fit();
        capture.bytes.shrink_to_fit();
        Ok(capture)
    }

    /// How many frames there are; one at least.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// The frame at `index`, without a checksum.
    pub fn frame(&self, index: usize) -> &[u8] {
        let frame = self.frames[index];
        let start = frame.start as usize;
        &self.bytes[start..start + usize::from(frame.len)]
    }

    /// When the frame at `index` was captured, nanoseconds since the first.
    pub fn at_ns(&self, index: usize) -> u64 {
        self.frames[index].at_ns
    }

    /// The length of the longest frame, bytes without its checksum: what a link's MTU has to carry.
    pub fn longest(&self) -> usize {
        self.frames.iter().map(|frame| usize::from(frame.len)).max().unwrap_or(0)
    }

    /// From the first frame to the last, nanoseconds.
    pub fn duration_ns(&self) -> u64 {
        self.frames.last().map_or(0, |frame| frame.at_ns)
    }

    /// What is peculiar about it.
    pub fn notes(&self) -> Notes {
        self.notes
    }

    /// Gives all frames these Ethernet addresses, so that the device under test takes them.
    pub fn readdress(&mut self, from: Mac, to: Mac) {
        for frame in &self.frames {
            let header = &mut self.bytes[frame.start as usize..][..12];
            header[..6].copy_from_slice(&to.0);
            header[6..].copy_from_slice(&from.0);
        }
    }

    /// Adds a frame of which `wire_len` bytes were on the wire; `time_ns` since the first.
    fn push(&mut self, time_ns: u64, wire_len: usize, bytes: &[u8]) -> Result<(), String> {
        if !(FRAME_MIN..=FRAME_MAX).contains(&bytes.len()) {
            self.notes.left_out += 1;
            return Ok(());
        }
        if self.frames.len() == FRAMES_MAX {
            return Err(format!("there are more than {FRAMES_MAX} frames in it"));
        }
        if self.bytes.len() + bytes.len() > BYTES_MAX {
            return Err(format!("its frames have more than {} GiB", BYTES_MAX >> 30));
        }
        let before = self.duration_ns();
        self.notes.back_in_time += u64::from(time_ns < before);
        self.notes.snapped += u64::from(wire_len > bytes.len());
        let start = self.bytes.len() as u64;
        self.frames.push(Frame { at_ns: time_ns.max(before), start, len: bytes.len() as u16 });
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

impl fmt::Debug for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Capture of {} frames, {} bytes", self.frames.len(), self.bytes.len())
    }
}

impl fmt::Display for Notes {
    /// A sentence, or nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Notes { left_out, snapped, back_in_time, ends_early } = *self;
        let mut parts = Vec::new();
        let mut note = |count: u64, what: String| {
            if count > 0 {
                parts.push(format!("{count} {what}"));
            }
        };
        note(left_out, format!("frames left out that are not of {FRAME_MIN} to {FRAME_MAX} bytes"));
        note(snapped, "frames of which only the beginning was captured".to_owned());
        note(back_in_time, "frames earlier than the one before".to_owned());
        if ends_early {
            parts.push("the file ends within a packet".to_owned());
        }
        f.write_str(&parts.join(", "))
    }
}
