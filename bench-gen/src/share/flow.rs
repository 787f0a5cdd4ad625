//! What is kept of a flow: one cache line, and nothing besides.

use krono_core::packet::Endpoint;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::bench::Way;

/// One flow, both ends of it, and what was seen of its packets.
///
/// An array of these is all the memory that grows with the number of flows; the index of public
/// endpoints ([`super::owners`]) lies in it too. Arrays are by [`Way`].
///
/// All zeroes is the first generation of a flow that nothing was sent of. With IPv6, 12 more bytes
/// of `public_addr` would go into an array of their own.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes)]
#[repr(C, align(64))]
pub(super) struct Flow {
    /// Which packets below `heard` have arrived: bit n is the packet `heard - 1 - n`.
    seen: [u64; 2],
    /// One more than the highest sequence number that has arrived.
    heard: [u32; 2],
    /// The next sequence number to send.
    pub sent: [u32; 2],
    /// When the first packet was sent that nothing was heard since, milliseconds since the stage
    /// began, from 1 on; 0: nothing is waited for.
    pub waiting_ms: u32,
    public_addr: u32,
    /// First of the flows whose public endpoint hashes to this place, plus 1; 0: none.
    pub(super) head: u32,
    /// Next of the flows with this flow's place, plus 1; 0: none.
    pub(super) next: u32,
    /// Latency of the last packet, units of 8 ns, [`squeeze`]d; 0 before the first.
    latency: [u16; 2],
    /// The longest silence of the stage, milliseconds, [`squeeze`]d; 0 and 1 are as good as none.
    silence_ms: u16,
    /// After how many packets of the subscriber it ends, [`squeeze`]d; 0: it does not.
    length: u16,
    public_port: u16,
    /// How often another flow has taken this place.
    pub generation: u16,
    /// When a packet last came out of the translator, seconds, modulo 2^16.
    pub renewed_s: u16,
    /// A [`State`].
    state: u8,
    /// What else is to be known.
    pub marks: Marks,
}

const _: () = assert!(size_of::<Flow>() == 64);

/// How far a flow has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum State {
    /// Nothing was sent, or nothing more will be.
    #[default]
    Closed = 0,
    /// Its first packet was sent.
    Opening = 1,
    /// Its first packet was answered.
    Open = 2,
    /// TCP: the subscriber's FIN was sent.
    Closing = 3,
    /// Nothing was heard of it, and it was given up.
    Failed = 4,
}

/// Facts about a flow, a bit each, and how often its first packet or its FIN was repeated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes)]
#[repr(transparent)]
pub(super) struct Marks(u8);

impl Marks {
    /// The public endpoint is known.
    pub(super) const LEARNT: Marks = Marks(1);
    /// Packets were sent in this stage.
    pub(super) const USED: Marks = Marks(2);
    /// Counted as silent at the moment.
    pub(super) const SILENT: Marks = Marks(4);
    /// Silent for a second or more while packets were sent.
    pub(super) const LONG: Marks = Marks(8);
    /// It took the place of one that ended.
    pub(super) const HEIR: Marks = Marks(16);
    /// How often its first packet, or its FIN, was repeated: in the bits from here on.
    const TRY: u8 = 32;

    #[inline]
    pub(super) fn has(self, marks: Marks) -> bool {
        self.0 & marks.0 != 0
    }

    #[inline]
    pub(super) fn set(&mut self, marks: Marks) {
        self.0 |= marks.0;
    }

    #[inline]
    pub(super) fn clear(&mut self, marks: Marks) {
        self.0 &= !marks.0;
    }

    /// Another repetition (at most 7 are told apart).
    pub(super) fn tried(&mut self) -> u8 {
        self.0 = self.0.saturating_add(Self::TRY);
        self.0 / Self::TRY
    }

    pub(super) fn forget_tries(&mut self) {
        self.0 %= Self::TRY;
    }
}

/// How a packet's sequence number relates to those before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Next, or behind a gap.
    Ahead,
    /// Behind a later one (RFC 4737).
    Reordered,
    /// It has been here already; or it is so late that nobody knows, more than 64 packets.
    Duplicate,
}

impl Flow {
    /// Another flow takes this place. (It must be in no list of endpoints.)
    pub(super) fn renew(&mut self) {
        let generation = self.generation.wrapping_add(1);
        *self = Flow { generation, head: self.head, ..Flow::new_zeroed() };
    }

    /// How far it has come.
    #[inline]
    pub(super) fn state(&self) -> State {
        match self.state {
            0 => State::Closed,
            1 => State::Opening,
            2 => State::Open,
            3 => State::Closing,
            _ => State::Failed,
        }
    }

    /// It has come so far.
    #[inline]
    pub(super) fn set_state(&mut self, state: State) {
        self.state = state as u8;
    }

    /// Numbers the next packet.
    #[inline]
    pub(super) fn number(&mut self, way: Way) -> u32 {
        self.marks.set(Marks::USED);
        let sequence = self.sent[way as usize];
        self.sent[way as usize] = sequence.wrapping_add(1);
        sequence
    }

    /// One more than the highest sequence number that has arrived: what TCP acknowledges.
    #[inline]
    pub(super) fn heard(&self, way: Way) -> u32 {
        self.heard[way as usize]
    }

    /// Goes on with another number, as if all before it had arrived.
    pub(super) fn renumber(&mut self, way: Way, sequence: u32) {
        self.sent[way as usize] = sequence;
        self.heard[way as usize] = sequence;
        self.seen[way as usize] = u64::MAX;
    }

    /// Notes that a packet has arrived.
    #[inline]
    pub(super) fn arrived(&mut self, way: Way, sequence: u32) -> Order {
        let (heard, seen) = (&mut self.heard[way as usize], &mut self.seen[way as usize]);
        let ahead = sequence.wrapping_sub(*heard);
        if ahead == 0 {
            *seen = *seen << 1 | 1;
            *heard = sequence.wrapping_add(1);
            return Order::Ahead;
        }
        if ahead < i32::MAX as u32 {
            *seen = seen.checked_shl(ahead + 1).unwrap_or(0) | 1;
            *heard = sequence.wrapping_add(1);
            return Order::Ahead;
        }
        let bit = 1_u64.checked_shl(!ahead).unwrap_or(0);
        if bit == 0 || *seen & bit != 0 {
            return Order::Duplicate;
        }
        *seen |= bit;
        Order::Reordered
    }

    /// The public endpoint, if it is known.
    #[inline]
    pub(super) fn public(&self) -> Option<Endpoint> {
        let known = self.marks.has(Marks::LEARNT);
        known.then(|| Endpoint::new(self.public_addr.into(), self.public_port))
    }

    /// Address and port of the public endpoint, zeroes if it is not known.
    #[inline]
    pub(super) fn public_parts(&self) -> (u32, u16) {
        (self.public_addr, self.public_port)
    }

    /// Whether this is known to be its public endpoint.
    #[inline]
    pub(super) fn is_public(&self, parts: (u32, u16)) -> bool {
        self.public_parts() == parts && self.marks.has(Marks::LEARNT)
    }

    pub(super) fn set_public(&mut self, endpoint: Endpoint) {
        self.public_addr = endpoint.addr.to_bits();
        self.public_port = endpoint.port;
        self.marks.set(Marks::LEARNT);
    }

    /// Notes a silence.
    pub(super) fn silent_for(&mut self, ms: u32) {
        self.silence_ms = self.silence_ms.max(squeeze(ms));
    }

    /// The longest silence, milliseconds, which is forgotten.
    pub(super) fn take_silence(&mut self) -> u32 {
        spread(std::mem::take(&mut self.silence_ms)).saturating_sub(1)
    }

    /// It shall end after so many packets, of which so many are left.
    pub(super) fn set_length(&mut self, packets: u32, left: u32) {
        self.length = squeeze(packets);
        let before = spread(self.length).saturating_sub(left);
        self.renumber(Way::Up, before);
    }

    /// How many packets it has in all; 0: it does not end.
    #[inline]
    pub(super) fn length(&self) -> u32 {
        spread(self.length)
    }

    /// Whether it has had all its packets.
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        self.length != 0 && self.sent[Way::Up as usize] >= spread(self.length)
    }

    /// Whether it is open and has packets to come.
    #[inline]
    pub(super) fn goes_on(&self) -> bool {
        self.state() == State::Open && !self.is_over()
    }

    /// Whether it is, and still in this generation.
    #[inline]
    pub(super) fn goes_on_in(&self, generation: u16) -> bool {
        self.generation == generation && self.goes_on()
    }

    /// Notes a latency (units of 8 ns) and tells the one before; 0: there was none.
    #[inline]
    pub(super) fn latency(&mut self, way: Way, latency: u32) -> Latency {
        std::mem::replace(&mut self.latency[way as usize], squeeze(latency))
    }
}

/// A latency as a flow keeps it, units of 8 ns, [`squeeze`]d.
pub(super) type Latency = u16;

/// By how much a latency (units of 8 ns) differs from the one before.
#[inline]
pub(super) fn variation(latency: u32, before: Latency) -> u32 {
    latency.abs_diff(spread(before))
}

/// How many bits are kept of a number.
const EXACT_BITS: u32 = 12;

/// A number in 16 bits, in order: exact below 2^12 (of latency 32 µs), then its first 12 bits, up
/// to 2^27 (1 s). Never 0.
#[inline]
fn squeeze(number: u32) -> u16 {
    if (1..1 << EXACT_BITS).contains(&number) {
        return number as u16;
    }
    let number = number.clamp(1, (1 << 27) - 1);
    let shift = (32 - number.leading_zeros()).saturating_sub(EXACT_BITS);
    (shift << EXACT_BITS) as u16 | (number >> shift) as u16
}

/// What [`squeeze`] was given, rounded down.
#[inline]
fn spread(squeezed: u16) -> u32 {
    (u32::from(squeezed) & ((1 << EXACT_BITS) - 1)) << (squeezed >> EXACT_BITS)
}
