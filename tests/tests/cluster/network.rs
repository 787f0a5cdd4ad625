//! A network between nodes that loses, doubles, delays and so reorders frames, and falls apart.

use std::collections::BinaryHeap;

use rand::{Rng, RngExt};

/// A frame on its way. Ordered by when it arrives, the first one greatest.
#[derive(PartialEq, Eq)]
struct Frame {
    at: u64,
    /// So that equal times have an order that a seed repeats.
    number: u64,
    to: usize,
    shard: usize,
    bytes: Vec<u8>,
}

impl Ord for Frame {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl PartialOrd for Frame {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// How bad a network is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// Frames lost and doubled, in a thousand.
    pub(crate) loss: u32,
    pub(crate) doubled: u32,
    /// The longest time that a frame takes, ns.
    pub(crate) delay_ns: u64,
}

pub(crate) struct Network {
    pub(crate) weather: Weather,
    nodes: usize,
    /// Whether frames get from the one to the other.
    connected: Vec<bool>,
    frames: BinaryHeap<Frame>,
    sent: u64,
}

impl Network {
    pub(crate) fn new(nodes: usize, weather: Weather) -> Network {
        let connected = vec![true; nodes * nodes];
        Network { weather, nodes, connected, frames: BinaryHeap::new(), sent: 0 }
    }

    pub(crate) fn connect(&mut self, from: usize, to: usize, are_connected: bool) {
        self.connected[from * self.nodes + to] = are_connected;
    }

    pub(crate) fn connect_all(&mut self) {
        self.connected.fill(true);
    }

    pub(crate) fn send(
        &mut self,
        now: u64,
        (from, to): (usize, usize),
        shard: usize,
        bytes: &[u8],
        random: &mut impl Rng,
    ) {
        if !self.connected[from * self.nodes + to] || random.random_ratio(self.weather.loss, 1000) {
            return;
        }
        for _ in 0..1 + u32::from(random.random_ratio(self.weather.doubled, 1000)) {
            self.sent += 1;
            let at = now + 1 + random.random_range(0..=self.weather.delay_ns);
            self.frames.push(Frame { at, number: self.sent, to, shard, bytes: bytes.to_vec() });
        }
    }

    /// The next frame that has arrived by now: where, for which shard, and its bytes.
    pub(crate) fn arrived(&mut self, now: u64) -> Option<(usize, usize, Vec<u8>)> {
        if self.frames.peek()?.at > now {
            return None;
        }
        self.frames.pop().map(|frame| (frame.to, frame.shard, frame.bytes))
    }
}
