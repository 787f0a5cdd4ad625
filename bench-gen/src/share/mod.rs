//! One lcore's share of the flows, both ends of each, as a state machine over frames and time.
//!
//! No DPDK, no threads, no clock; nothing allocates after construction but [`Share::begin`] and
//! [`Share::finish`], which stand at the ends of a stage. How an lcore runs one:
//!
//! ```text
//! share.set_link(side, link)                    when neighbours are known
//! share.begin(&stage, now)                      this share's part of the stage: its sessions, its rate
//! loop
//!     burst from a port:  share.prefetch(frame) for each frame, then
//!                         share.take_run(side, frames, first, now): usual ones, which are nearly all;
//!                         share.take_any(side, frame, now) for each that it stops at:
//!                             Done              the frame can be freed
//!                             Answer(len)       its first `len` bytes go back out of the same side
//!                             Foreign(number)   hand its bytes over to that share
//!     when pacing allows: share.next_run(now, buffers): usual frames, all out of the inside;
//!                         share.next(now, buffer) for one that it stops at, and out of which side
//!     not taken by port:  share.unsent(side, frame)
//!     now and then:       share.look() for a snapshot
//! until share.is_done(), or the stage's time is over; then take what still arrives
//! share.finish()
//! ```
//!
//! [`Share::take`] takes any frame by itself. An engine that has to look at frames before the share
//! does need not look at usual ones.
//!
//! Frames are whole and without their checksum (FCS). `now` is nanoseconds of a clock that all
//! lcores share, read once per burst; it never goes back. `buffer` has room for [`FRAME_MAX`] bytes
//! and the longest tag, or at least for the longest frame of the load.
//!
//! Rates are the engine's: it calls [`Share::next`] as often as packets are due. Answers, and the
//! segments of TCP handshakes behind a SYN, come out of [`Share::take`] and are not paced. Churn is
//! the share's, by time.
//!
//! What each packet goes through is `#[inline(always)]` where the compiler would rather call it, since
//! it is called for answers as well: a call passes by memory what is in registers otherwise, some
//! ten cycles each.
//!
//! Loss is what was sent and has not arrived when the stage is finished, so an engine that drops a
//! frame itself must say so ([`Share::unsent`]).

mod counts;
mod flow;
mod frame;
mod identity;
mod owners;
mod receive;
mod run;
mod send;
mod sizes;
mod stages;
mod stamp;
mod tcp;

pub use counts::{Others, ShareSeen, Steps, Tally};
pub use frame::{FRAME_MAX, LinkHeader};
pub use identity::Who;

use krono_core::hash::HashKey;
use krono_core::packet::{Protocol, Side};
use krono_io::{Arena, Hugepages};

use crate::bench::Way;
use crate::load::{Load, Popularity};
use crate::spread::Lengths as FlowLengths;
use counts::Examples;
use flow::Flow;
use frame::Frames;
use identity::{Identities, Network};
use sizes::Lengths;
use stages::{Picks, Plan};

/// What a share is made of.
#[derive(Clone, Debug)]
pub struct ShareSetup {
    /// The whole load; the share takes its part.
    pub load: Load,
    /// Which share this is, from 0 on.
    pub number: u8,
    /// How many shares there are, at most 64.
    pub of: u8,
    /// Seed of keys and draws; the same for all shares.
    pub seed: u64,
    /// How many flows have one subscriber endpoint, each with another server: 1 gives each flow a
    /// mapping of its own; more, and endpoint-independent mapping is checked across them.
    pub flows_per_endpoint: u32,
    /// How frames begin, by [`Side`].
    pub links: [LinkHeader; 2],
    /// What pages the flows are to lie on.
    pub hugepages: Hugepages,
}

/// What became of a frame that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// All is done.
    Done,
    /// So many bytes of the frame are an answer now, to go back out of the side it came in by.
    Answer(usize),
    /// It is of a flow of the share with this number, which is to take it.
    Foreign(u8),
}

/// One share of the flows.
pub struct Share {
    number: u8,
    of: u8,
    load: Load,
    flows: &'static mut [Flow],
    identities: Identities,
    frames: Frames,
    key: HashKey,
    /// Where packets of ours go, by the side that they come out of.
    targets: [Network; 2],
    lengths: Lengths,
    random: u64,
    plan: Plan,
    picks: Picks,
    flow_lengths: FlowLengths,
    /// The first so many flows are in use.
    used: u32,
    clock: Clock,
    seen: ShareSeen,
    latency_before: [Steps; 2],
    examples: Examples,
}

/// The time as the share last heard of it.
#[derive(Clone, Copy, Default)]
struct Clock {
    now_ns: u64,
    stage_ns: u64,
    /// Milliseconds since the stage began, from 1 on.
    ms: u32,
    /// Seconds, modulo 2^16.
    s: u16,
}

/// What a share tells while a stage runs.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// All that was counted since the stage began; `lost` is not known yet.
    pub tally: Tally,
    /// Latency since the last look, by way: (median, 99th percentile), nanoseconds.
    pub latency_ns: [Option<(u64, u64)>; 2],
}

impl Share {
    /// A share with all its flows still to come.
    ///
    /// # Errors
    /// If the load cannot be, in words: too few subscribers or ports, or no memory.
    pub fn new(setup: &ShareSetup) -> Result<Share, String> {
        let flows = Self::flows_of(setup);
        if setup.of > 64 || setup.number >= setup.of || flows >= 1 << tcp::FLOW_BITS {
            return Err("at most 64 lcores with 67 million flows each".into());
        }
        if flows == 0 {
            return Err("there are fewer flows than lcores".into());
        }
        let mut random = setup.seed;
        let key = |random: &mut u64| {
            let mut seed = [0; 32];
            for word in seed.as_chunks_mut::<8>().0 {
                *word = mix(random).to_le_bytes();
            }
            HashKey::from_seed(seed)
        };
        let identities = Identities::new(setup, flows, key(&mut random))?;
        let bytes = flows as usize * size_of::<Flow>();
        let memory = Arena::map(bytes, setup.hugepages).and_then(|mut a| a.take(flows as usize));
        Ok(Share {
            number: setup.number,
            of: setup.of,
            flows: memory.map_err(|error| error.to_string())?,
            identities,
            frames: Frames::new(&setup.links, mix(&mut random)),
            key: key(&mut random),
            targets: [Network::new(&setup.load.subscribers), Network::new(&setup.load.servers)],
            lengths: Lengths::new(&setup.load.sizes),
            plan: Plan::idle(),
            picks: Picks::new(Popularity::Uniform, 1, 0),
            flow_lengths: FlowLengths::new(setup.seed ^ u64::from(setup.number)),
            used: 0,
            clock: Clock::default(),
            seen: ShareSeen::new(),
            latency_before: [Steps::new(), Steps::new()],
            examples: Examples::new(),
            random: mix(&mut random) ^ u64::from(setup.number),
            load: setup.load.clone(),
        })
    }

    /// How many flows a share has.
    pub fn flows_of(setup: &ShareSetup) -> u32 {
        let (number, of) = (u32::from(setup.number), u32::from(setup.of.max(1)));
        setup.load.flows / of + u32::from(setup.load.flows % of > number)
    }

    /// How frames of this side begin from now on.
    pub fn set_link(&mut self, side: Side, link: &LinkHeader) {
        self.frames.set_link(side, link);
    }

    /// Asks the memory for what [`Share::take`] of this frame will need. A hint: any bytes will do.
    #[inline]
    pub fn prefetch(&self, frame: &[u8]) {
        if let Some(flow) = frame::flow_hint(frame) {
            krono_core::table::prefetch(self.flows, flow as usize);
        }
    }

    /// A frame that [`Share::next`] or [`Share::take`] wrote for this side was not taken by its
    /// port and is dropped.
    pub fn unsent(&mut self, side: Side, frame: &[u8]) {
        let way = if side == Side::Inside { Way::Up } else { Way::Down };
        let tally = &mut self.seen.tally;
        let counts = &mut tally.counts[way as usize];
        counts.unsent += 1;
        if frame::is_bare(frame) {
            let control = &mut tally.control_sent[way as usize];
            *control = control.saturating_sub(1);
        } else {
            counts.sent = counts.sent.saturating_sub(1);
            counts.sent_bytes = counts.sent_bytes.saturating_sub(frame.len() as u64 + 4);
        }
    }

    /// What was seen so far.
    pub fn look(&mut self) -> Look {
        let since = |way: usize, before: &mut Steps| self.seen.latency_ns[way].since(before);
        let [up, down] = &mut self.latency_before;
        Look { tally: self.seen.tally, latency_ns: [since(0, up), since(1, down)] }
    }

    /// All that was counted since the stage began.
    #[inline]
    pub fn tally(&self) -> &Tally {
        &self.seen.tally
    }

    /// Who the flow with this number is now; for tests and examples.
    pub fn who(&self, flow: u32) -> Who {
        self.identities.ends(flow, self.flows[flow as usize].generation).who()
    }

    #[inline]
    fn set_clock(&mut self, now_ns: u64) {
        if now_ns != self.clock.now_ns {
            let stage_ns = self.clock.stage_ns;
            let ms = (now_ns.saturating_sub(stage_ns) / 1_000_000) as u32 + 1;
            self.clock = Clock { now_ns, stage_ns, ms, s: (now_ns / 1_000_000_000) as u16 };
        }
    }

    /// How long the packets of a flow of TCP are: all alike, so that sequence numbers follow.
    fn tcp_payload(&self, flow: u32) -> u32 {
        let packets = || self.flows[flow as usize].length();
        self.lengths.draw(Protocol::Tcp, || self.tcp_draw(flow), packets) as u32
    }

    /// What the length of its packets is drawn by.
    fn tcp_draw(&self, flow: u32) -> u64 {
        self.key.hash(flow.into(), u64::from(self.flows[flow as usize].generation))
    }
}

/// The next of a sequence of numbers without pattern (SplitMix64).
#[inline]
fn mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[cfg(test)]
mod tests;
