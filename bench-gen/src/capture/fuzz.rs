//! What must hold for any file whatsoever.

use std::sync::Arc;

use super::{Capture, FRAME_MAX, FRAME_MIN, Player};
use crate::load::Timing;

/// The body of a fuzz target: any bytes are refused in one line, or are frames that can be sent, at
/// times that do not go back.
///
/// # Panics
/// If that does not hold.
pub fn fuzz_capture(bytes: &[u8]) {
    let capture = match Capture::read("fuzz.pcap", bytes) {
        Ok(capture) => Arc::new(capture),
        Err(error) => {
            assert!(!error.to_string().contains(['\n', '\r']), "more than a line: {error}");
            return;
        }
    };
    let mut player = Player::new(capture.clone(), Timing::Scaled(2.0), 2);
    let (mut last_ns, mut frames) = (0, 0);
    while let Some(due) = player.peek() {
        assert!((FRAME_MIN..=FRAME_MAX).contains(&due.frame.len()));
        let at_ns = due.at_ns.expect("it has times");
        assert!(at_ns >= last_ns, "{at_ns} behind {last_ns}");
        last_ns = at_ns;
        frames += 1;
        player.advance();
    }
    assert_eq!(frames, 2 * capture.len());
}
