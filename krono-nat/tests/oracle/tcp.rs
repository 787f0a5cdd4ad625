//! What a translator believes of a TCP connection: RFC 7857, section 2, as flags.

use krono_core::packet::{Side, TcpFlags, TcpMeta};

/// What a segment does to the life of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    GoesOn,
    Nothing,
    Ends,
}

#[derive(Clone, Debug)]
pub struct Tcp {
    opener: Side,
    syn: [bool; 2],
    fin: [bool; 2],
    reset: bool,
    /// What the inside has acknowledged last since its latest SYN.
    acknowledged: Option<u32>,
    /// What it will expect, if the outside is to be believed (or what it did before its SYN).
    claimed: Option<u32>,
    /// The number behind all that the inside has sent.
    pub sent: u32,
    window: u16,
    scale: [Option<u8>; 2],
}

impl Tcp {
    pub fn open(from: Side, syn: &TcpMeta) -> Tcp {
        let mut tcp = Tcp {
            opener: from,
            syn: [false; 2],
            fin: [false; 2],
            reset: false,
            acknowledged: None,
            claimed: None,
            sent: 0,
            window: 0,
            scale: [None; 2],
        };
        tcp.hear_syn(from, syn);
        tcp
    }

    /// The number that the inside seems to expect.
    pub fn expects(&self) -> Option<u32> {
        self.acknowledged.or(self.claimed)
    }

    pub fn state(&self) -> &'static str {
        match (self.is_open(), self.fin, self.reset) {
            (_, _, true) => "reset",
            (false, ..) if self.opener == Side::Inside => "syn_sent",
            (false, ..) => "syn_received",
            (_, [true, true], _) => "closing",
            (_, [true, false], _) => "fin_inside",
            (_, [false, true], _) => "fin_outside",
            _ => "established",
        }
    }

    pub fn hear(&mut self, from: Side, segment: &TcpMeta) -> Life {
        let (was_open, closing) = (self.is_open(), self.reset || self.fin == [true; 2]);
        let flags = segment.flags;
        if flags.has(TcpFlags::RST) {
            if closing || !self.is_credible_reset(from, segment) {
                return Life::Nothing;
            }
            self.reset = true;
            return Life::Ends;
        }
        if flags.has(TcpFlags::SYN) {
            let fresh = !flags.has(TcpFlags::ACK);
            if closing && fresh {
                *self = Tcp::open(from, segment);
                return Life::GoesOn;
            }
            self.hear_syn(from, segment);
            return if closing || was_open && fresh { from_syn(fresh) } else { Life::GoesOn };
        }
        if from == Side::Inside {
            self.learn(segment);
        }
        let fin = segment.seq.wrapping_add(u32::from(segment.payload_len));
        let believed = from == Side::Inside || self.expects().is_none() || self.admits(fin);
        if flags.has(TcpFlags::FIN) && believed {
            return self.hear_fin(from, was_open, closing);
        }
        if self.reset {
            (self.reset, self.fin, self.syn) = (false, [false; 2], [true; 2]);
        } else if closing {
            return Life::Nothing;
        }
        Life::GoesOn
    }

    fn hear_fin(&mut self, from: Side, was_open: bool, closing: bool) -> Life {
        if closing {
            return Life::Nothing;
        }
        if was_open {
            self.fin[from as usize] = true;
        }
        if self.fin == [true; 2] { Life::Ends } else { Life::GoesOn }
    }

    fn is_open(&self) -> bool {
        self.syn == [true; 2]
    }

    fn is_credible_reset(&self, from: Side, segment: &TcpMeta) -> bool {
        match (from, self.expects()) {
            (Side::Inside, _) => gap(segment.seq, self.sent) <= 1 << 30,
            (Side::Outside, Some(_)) => self.admits(segment.seq),
            (Side::Outside, None) => segment.flags.has(TcpFlags::ACK) && segment.ack == self.sent,
        }
    }

    fn admits(&self, number: u32) -> bool {
        let scale = match self.scale {
            [Some(inside), Some(_)] => inside,
            _ => 0,
        };
        let window = u64::from(self.window) * (1 << scale);
        self.expects().is_some_and(|expected| gap(expected, number) <= window)
    }

    fn learn(&mut self, segment: &TcpMeta) {
        let flags = segment.flags;
        let marks = [TcpFlags::SYN, TcpFlags::FIN].iter().filter(|mark| flags.has(**mark)).count();
        let end = (u64::from(segment.seq) + u64::from(segment.payload_len) + marks as u64) as u32;
        if gap(self.sent, end) < 1 << 31 {
            self.sent = end;
        }
        let is_news = self.acknowledged.is_none_or(|before| gap(before, segment.ack) < 1 << 31);
        if flags.has(TcpFlags::ACK) && is_news {
            self.acknowledged = Some(segment.ack);
            self.window = segment.window;
        }
    }

    fn hear_syn(&mut self, from: Side, syn: &TcpMeta) {
        self.syn[from as usize] = true;
        let scale = (syn.window_scale != TcpMeta::NO_SCALE).then(|| syn.window_scale.min(14));
        match from {
            Side::Inside => {
                self.claimed = self.expects();
                self.acknowledged = None;
                self.sent = syn.seq;
                self.learn(syn);
                self.window = syn.window.div_ceil(1 << scale.unwrap_or(0));
                self.scale[0] = scale;
            }
            Side::Outside if self.acknowledged.is_none() => {
                self.claimed = Some(syn.seq.wrapping_add(1));
                self.scale[1] = scale;
            }
            Side::Outside => {}
        }
    }
}

/// How far `to` lies ahead of `from`, modulo 2^32.
fn gap(from: u32, to: u32) -> u64 {
    (u64::from(to) + (1 << 32) - u64::from(from)) % (1 << 32)
}

/// In a connection that has seen both SYNs only one that acknowledges is a sign of life.
fn from_syn(fresh: bool) -> Life {
    if fresh { Life::Nothing } else { Life::GoesOn }
}
