//! A capture is sent out of the inside port; what comes out is counted, not checked.

use krono_core::packet::Side;

use super::board::Shown;
use crate::bench::{Counts, Way};
use crate::capture::Player;
use crate::share::{LinkHeader, Look, ShareSeen, Tally};

/// The checksum of a frame, which the device adds, bytes.
const FCS: u64 = 4;

/// A capture on its way.
pub(super) struct Replay {
    /// As it is before the first frame.
    whole: Player,
    player: Player,
    start_ns: Option<u64>,
    /// When the last frame was due, since the first.
    due_ns: Option<u64>,
    /// The addresses that all frames get.
    addresses: [u8; 12],
    counts: [Counts; 2],
}

impl Replay {
    pub(super) fn new(player: Player) -> Replay {
        let (whole, addresses, counts) = (player.clone(), [0; 12], [Counts::default(); 2]);
        Replay { whole, player, start_ns: None, due_ns: None, addresses, counts }
    }

    /// How often it is played from end to end is begun anew.
    pub(super) fn begin(&mut self) {
        self.player = self.whole.clone();
        (self.start_ns, self.due_ns) = (None, None);
        self.counts = [Counts::default(); 2];
    }

    pub(super) fn set_link(&mut self, side: Side, link: &LinkHeader) {
        if side == Side::Inside {
            self.addresses[..6].copy_from_slice(&link.destination.0);
            self.addresses[6..].copy_from_slice(&link.source.0);
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.player.remaining() == 0
    }

    /// Writes the next frame, if it is due.
    #[inline]
    pub(super) fn next(&mut self, now_ns: u64, buffer: &mut [u8]) -> Option<(Side, usize)> {
        let start_ns = *self.start_ns.get_or_insert(now_ns);
        let due = self.player.peek()?;
        if due.at_ns.is_some_and(|at_ns| at_ns > now_ns - start_ns) {
            return None;
        }
        let len = due.frame.len();
        self.due_ns = due.at_ns;
        buffer[..len].copy_from_slice(due.frame);
        buffer[..12].copy_from_slice(&self.addresses);
        self.player.advance();
        let counts = &mut self.counts[Way::Up as usize];
        counts.sent += 1;
        counts.sent_bytes += len as u64 + FCS;
        Some((Side::Inside, len))
    }

    /// When the last frame that was sent was due, nanoseconds since the first; `None` if frames have
    /// no times of their own.
    pub(super) fn due_ns(&self) -> Option<u64> {
        self.due_ns
    }

    pub(super) fn unsent(&mut self, _: Side, len: usize) {
        let counts = &mut self.counts[Way::Up as usize];
        counts.sent -= 1;
        counts.sent_bytes -= len as u64 + FCS;
        counts.unsent += 1;
    }

    #[inline]
    pub(super) fn take(&mut self, side: Side, frame: &[u8]) {
        let way = if side == Side::Outside { Way::Up } else { Way::Down };
        let counts = &mut self.counts[way as usize];
        counts.received += 1;
        counts.received_bytes += frame.len() as u64 + FCS;
    }

    pub(super) fn shown(&self) -> Shown {
        let tally = Tally { counts: self.counts, ..Tally::default() };
        Shown::new(&Look { tally, latency_ns: [None; 2] })
    }

    /// Puts its counts in place of those of a share that did nothing.
    pub(super) fn tell(&self, seen: &mut ShareSeen) {
        seen.tally.counts = self.counts;
        for counts in &mut seen.tally.counts {
            counts.lost = counts.sent.saturating_sub(counts.received);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use krono_core::packet::Mac;
    use pcap_file::pcap::{PcapPacket, PcapWriter};

    use super::*;
    use crate::capture::Capture;
    use crate::load::Timing;

    fn capture(times_us: &[u64]) -> Arc<Capture> {
        let mut writer = PcapWriter::new(Vec::new()).unwrap();
        for us in times_us {
            let packet = PcapPacket::new(Duration::from_micros(*us), 60, &[7; 60]);
            writer.write_packet(&packet).unwrap();
        }
        Arc::new(Capture::read("test", &writer.into_writer()[..]).unwrap())
    }

    #[test]
    fn frames_leave_when_they_are_due_and_again_in_the_next_stage() {
        let player = Player::new(capture(&[100, 200, 500]), Timing::Scaled(2.0), 1);
        let mut replay = Replay::new(player);
        let link = LinkHeader { destination: Mac([1; 6]), source: Mac([2; 6]), vlan: None };
        replay.set_link(Side::Inside, &link);
        for start_ns in [0, 1_000_000] {
            replay.begin();
            let mut buffer = [0; 128];
            let mut due = |us: u64| replay.next(start_ns + us * 1_000, &mut buffer);
            assert_eq!(due(0), Some((Side::Inside, 60)));
            assert_eq!((due(0), due(49)), (None, None));
            assert_eq!((due(51), due(199)), (Some((Side::Inside, 60)), None));
            assert_eq!((due(201), due(1000)), (Some((Side::Inside, 60)), None));
            assert_eq!(buffer[..14], [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 7, 7]);
            assert!(replay.is_done());
            assert_eq!(replay.due_ns(), Some(200_000));
            replay.take(Side::Outside, &[0; 60]);
            replay.unsent(Side::Inside, 60);
            let [up, _] = replay.counts;
            let expected = (2, 128, 1, 64, 1);
            let Counts { sent, sent_bytes, received, received_bytes, unsent, .. } = up;
            assert_eq!((sent, sent_bytes, received, received_bytes, unsent), expected);
        }
    }
}
