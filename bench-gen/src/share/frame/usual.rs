//! The usual frame: UDP over IPv4 in one piece, without tag and options, with a stamp. Nearly all
//! of ours are such, so they are written and recognised in whole words at fixed places.
//!
//! What is not recognised takes the full way ([`Frames::read`], [`Frames::check`]), which alone
//! says what is wrong with a frame.

use krono_core::checksum::{self, Sum};
use krono_core::packet::Side;

use super::{FRAME_MIN, Frames, IP_LEN, IP_UDP, Pair, UDP_LEN};
use crate::share::stamp::{STAMP_LEN, Stamp};

/// Where the IP header begins, bytes.
const L3: usize = 14;
/// Where the UDP header begins.
const L4: usize = L3 + IP_LEN;
/// Where the stamp begins.
const STAMP: usize = L4 + UDP_LEN;
/// Where it ends, and the shortest frame does.
const HEAD: usize = STAMP + STAMP_LEN;

const _: () = assert!(HEAD == FRAME_MIN);

/// A usual frame whose checksums are right, and what follows the stamp as well.
#[derive(Clone, Copy)]
pub(in crate::share) struct Usual {
    pub pair: Pair,
    pub stamp: Stamp,
    pub digest: u32,
    /// Bytes of payload.
    pub payload_len: u16,
}

impl Frames {
    /// What a usual frame says that came in by `side`; `None` if the full way is to look at it, as
    /// at one that goes on behind its packet.
    #[inline(always)]
    pub(in crate::share) fn recognise(&self, side: Side, frame: &[u8]) -> Option<Usual> {
        let (head, rest) = frame.split_first_chunk()?;
        // The shortest frame has code of its own, in which its lengths are constants.
        if rest.is_empty() {
            self.recognise_parts(side, head, &[])
        } else {
            self.recognise_parts(side, head, rest)
        }
    }

    #[inline(always)]
    fn recognise_parts(&self, side: Side, head: &[u8; HEAD], rest: &[u8]) -> Option<Usual> {
        /// Of total length, identification, flags and offset, time to live and protocol: no matter
        /// which identification and time to live, and whether it may be fragmented.
        const FORM: u64 = 0xff00_ff3f_0000_ffff;
        let udp_len = (UDP_LEN + STAMP_LEN + rest.len()) as u16;
        let total_len = (IP_LEN + UDP_LEN + STAMP_LEN + rest.len()) as u16;
        let form = u64::from(IP_UDP) << 56 | u64::from(total_len.swap_bytes());
        let differs = (head.le64(0) << 16 ^ self.links[side as usize].own_word)
            // EtherType, version and length of the header; not its type of service.
            | u64::from((head.le32(12) ^ 0x0045_0008) & 0x00ff_ffff)
            | (head.le64(L3 + 2) ^ form) & FORM
            | u64::from(head.ne16(L4 + 4) ^ udp_len.to_be());
        if differs != 0 || head.ne16(L4 + 6) == 0 {
            return None;
        }
        let (addresses, transport) = (head.ne64(L3 + 12), head.ne64(L4));
        let ip = Sum::of_loaded([head.ne64(L3), head.ne32(L3 + 8).into(), addresses]);
        let (one, two) = (head.ne64(STAMP), head.ne64(STAMP + 8));
        let last = u64::from(head.ne16(STAMP + 16)) + pseudo(udp_len) + self.filler_sum(rest)?;
        let udp = Sum::of_loaded([last, addresses, transport, one, two]);
        if !(ip.is_valid() & udp.is_valid()) {
            return None;
        }
        let (stamp, digest) = Stamp::read(head.last_chunk()?);
        let pair = Pair {
            addresses: u64::from_be(addresses),
            ports: (u64::from_be(transport) >> 32) as u32,
        };
        Some(Usual { pair, stamp, digest, payload_len: udp_len - UDP_LEN as u16 })
    }

    /// What the filler behind a stamp adds to a sum, as it is loaded; `None` if it is other than
    /// it should be.
    #[inline(always)]
    fn filler_sum(&self, rest: &[u8]) -> Option<u64> {
        if rest.is_empty() {
            return Some(0);
        }
        (self.filler.get(..rest.len())? == rest)
            .then(|| u64::from(self.filler_sums[rest.len()].to_be()))
    }

    /// Writes a usual frame, as [`Frames::stamped`] does others.
    #[inline(always)]
    pub(super) fn put_usual(
        &self,
        side: Side,
        pair: Pair,
        frame: &mut [u8],
        fill: bool,
        stamp: Stamp,
        digest: u32,
    ) {
        let (head, rest) = frame.split_first_chunk_mut().expect("room for a stamp");
        if rest.is_empty() {
            return self.put_head(side, pair, head, (0, 0), stamp, digest);
        }
        if fill {
            rest.copy_from_slice(&self.filler[..rest.len()]);
        }
        let filler = (rest.len(), self.filler_sums[rest.len()].to_be().into());
        self.put_head(side, pair, head, filler, stamp, digest);
    }

    /// Writes all but the filler, of which length and sum are given.
    #[inline(always)]
    fn put_head(
        &self,
        side: Side,
        pair: Pair,
        head: &mut [u8; HEAD],
        filler: (usize, u64),
        stamp: Stamp,
        digest: u32,
    ) {
        const DONT_FRAGMENT_TTL_UDP: u64 = 0x4000_4011;
        let udp_len = (UDP_LEN + STAMP_LEN + filler.0) as u16;
        let total_len = u64::from(udp_len) + IP_LEN as u64;
        let middle = (total_len << 48 | DONT_FRAGMENT_TTL_UDP).to_be();
        let addresses = pair.addresses.to_be();
        let transport = (u64::from(pair.ports) << 32 | u64::from(udp_len) << 16).to_be();
        let [number, facts, last] = stamp.words(digest);
        let known = pseudo(udp_len) + filler.1;
        let ip = Sum::of_loaded([0x4500_u16.to_be().into(), middle, addresses]).checksum();
        let udp = Sum::of_loaded([known, addresses, transport, number, facts, last]).checksum();
        let link = &self.links[side as usize].words;
        head[..8].copy_from_slice(&link[0].to_ne_bytes());
        head[8..16].copy_from_slice(&link[1].to_ne_bytes());
        head[16..24].copy_from_slice(&middle.to_ne_bytes());
        head[24..26].copy_from_slice(&ip.to_be_bytes());
        head[26..34].copy_from_slice(&addresses.to_ne_bytes());
        head[34..42].copy_from_slice(&transport.to_ne_bytes());
        head[40..42].copy_from_slice(&checksum::nonzero(udp.to_be_bytes()));
        stamp.put(digest, head.last_chunk_mut().expect("the stamp comes last"));
    }
}

/// What protocol and length of the pseudo header add to a sum, as they are loaded.
#[inline(always)]
fn pseudo(udp_len: u16) -> u64 {
    u64::from(u16::from(IP_UDP).to_be()) + u64::from(udp_len.to_be())
}

/// Words of a frame at fixed places.
trait Words {
    fn ne16(&self, at: usize) -> u16;
    fn ne32(&self, at: usize) -> u32;
    fn ne64(&self, at: usize) -> u64;

    #[inline(always)]
    fn le32(&self, at: usize) -> u32 {
        u32::from_le(self.ne32(at))
    }

    #[inline(always)]
    fn le64(&self, at: usize) -> u64 {
        u64::from_le(self.ne64(at))
    }
}

impl Words for [u8; HEAD] {
    #[inline(always)]
    fn ne16(&self, at: usize) -> u16 {
        u16::from_ne_bytes(chunk(self, at))
    }

    #[inline(always)]
    fn ne32(&self, at: usize) -> u32 {
        u32::from_ne_bytes(chunk(self, at))
    }

    #[inline(always)]
    fn ne64(&self, at: usize) -> u64 {
        u64::from_ne_bytes(chunk(self, at))
    }
}

#[inline(always)]
fn chunk<const N: usize>(head: &[u8; HEAD], at: usize) -> [u8; N] {
    *head[at..].first_chunk().expect("a word within the head")
}
