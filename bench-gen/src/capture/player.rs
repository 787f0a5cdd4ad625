//! Gives the frames of a capture with the times when they are due.

use std::sync::Arc;

use super::Capture;
use crate::load::Timing;

/// Plays a capture.
#[derive(Clone, Debug)]
pub struct Player {
    capture: Arc<Capture>,
    /// By how much times are multiplied; `None`: frames are due whenever the rate allows.
    stretch: Option<f64>,
    next: usize,
    left: u32,
    /// What the passes before took, nanoseconds of the capture.
    passed_ns: u64,
    /// From a pass's first frame to that of the next, nanoseconds of the capture.
    pass_ns: u64,
}

/// A frame and its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due<'a> {
    /// When it is due, nanoseconds since the first; `None`: when the rate allows.
    pub at_ns: Option<u64>,
    /// The frame without its checksum.
    pub frame: &'a [u8],
}

impl Player {
    /// Plays `capture` `times` times from end to end.
    ///
    /// Between two passes there is as much time as between two frames on average.
    pub fn new(capture: Arc<Capture>, timing: Timing, times: u32) -> Player {
        let frames = capture.len() as u64;
        let gap_ns = capture.duration_ns() / (frames - 1).max(1);
        let stretch = match timing {
            Timing::Scaled(factor) => Some(1.0 / factor),
            Timing::Rate => None,
        };
        let pass_ns = capture.duration_ns().saturating_add(gap_ns);
        Player { capture, stretch, next: 0, left: times, passed_ns: 0, pass_ns }
    }

    /// The frame that comes next, without going on to another; `None` at the end.
    pub fn peek(&self) -> Option<Due<'_>> {
        if self.left == 0 {
            return None;
        }
        let at_ns = self.passed_ns.saturating_add(self.capture.at_ns(self.next));
        let at_ns = self.stretch.map(|stretch| match stretch {
            1.0 => at_ns,
            stretch => (at_ns as f64 * stretch) as u64,
        });
        Some(Due { at_ns, frame: self.capture.frame(self.next) })
    }

    /// Goes on behind the frame that comes next.
    pub fn advance(&mut self) {
        self.next += 1;
        if self.next == self.capture.len() {
            self.next = 0;
            self.left = self.left.saturating_sub(1);
            self.passed_ns = self.passed_ns.saturating_add(self.pass_ns);
        }
    }

    /// How many frames are still to come.
    pub fn remaining(&self) -> u64 {
        let frames = self.capture.len() as u64;
        (u64::from(self.left) * frames).saturating_sub(self.next as u64)
    }
}
