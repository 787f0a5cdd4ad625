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
    /// What a usual frame says that came in by `side`; `None` if the full way is to look at it.
    #[inline(always)]
    pub(in crate::share) fn recognise(&self, side: Side, frame: &[u8]) -> Option<Usual> {
        let head: &[u8; HEAD] = frame.first_chunk()?;
        let (total_len, udp_len) = (be16(head, L3 + 2), be16(head, L4 + 4));
        let end = L3 + usize::from(total_len);
        let is_usual = (head.le64(0) << 16 == self.links[side as usize].own_word)
            // EtherType, version and length of the header; not its type of service.
            & (head.le32(12) & 0x00ff_ffff == 0x0045_0008)
            // No fragment, and UDP; not its time to live.
            & (head.le32(20) & 0xff00_ff3f == u32::from(IP_UDP) << 24)
            & (usize::from(udp_len) + IP_LEN == usize::from(total_len))
            & (head.ne16(L4 + 6) != 0)
            & (end >= HEAD)
            & (end <= frame.len());
        if !is_usual {
            return None;
        }
        let (addresses, transport) = (head.ne64(L3 + 12), head.ne64(L4));
        let ip = sum_of([head.ne64(L3), head.ne32(L3 + 8).into(), addresses]);
        let pseudo = u64::from(u16::from(IP_UDP).to_be()) + u64::from(udp_len.to_be());
        let (one, two) = (head.ne64(STAMP), head.ne64(STAMP + 8));
        let rest = &frame[HEAD..end];
        let last = u64::from(head.ne16(STAMP + 16)) + pseudo;
        let udp = sum_of([addresses, transport, one, two, last + self.filler_sum(rest)?]);
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
        stamp: impl FnOnce(&mut [u8; STAMP_LEN]) -> Sum,
    ) {
        const DONT_FRAGMENT_TTL_UDP: u64 = 0x4000_4011;
        let (head, rest) = frame.split_first_chunk_mut::<HEAD>().expect("room for a stamp");
        let udp_len = UDP_LEN + STAMP_LEN + rest.len();
        let mut sum = stamp(head.last_chunk_mut().expect("the stamp comes last"));
        if !rest.is_empty() {
            if fill {
                rest.copy_from_slice(&self.filler[..rest.len()]);
            }
            sum = sum.add_u16(self.filler_sums[rest.len()]);
        }
        let Pair { addresses, ports } = pair;
        let middle = ((IP_LEN + udp_len) as u64) << 48 | DONT_FRAGMENT_TTL_UDP;
        let transport = u64::from(ports) << 32 | (udp_len as u64) << 16;
        let both = Sum::default().add_u64(addresses);
        let ip = both.add_u16(0x4500).add_u64(middle).checksum();
        let pseudo = u32::from(IP_UDP) << 16 | udp_len as u32;
        let udp = sum.add(both).add_u64(transport).add_u32(pseudo).checksum();
        let udp = u16::from_be_bytes(checksum::nonzero(udp.to_be_bytes()));
        let link = &self.links[side as usize].words;
        head[..8].copy_from_slice(&link[0].to_ne_bytes());
        head[8..16].copy_from_slice(&link[1].to_ne_bytes());
        head[16..24].copy_from_slice(&middle.to_be_bytes());
        head[24..26].copy_from_slice(&ip.to_be_bytes());
        head[26..34].copy_from_slice(&addresses.to_be_bytes());
        head[34..42].copy_from_slice(&(transport | u64::from(udp)).to_be_bytes());
    }
}

/// The sum of words as they are loaded.
#[inline(always)]
fn sum_of<const N: usize>(words: [u64; N]) -> Sum {
    let sum: u128 = words.into_iter().map(u128::from).sum();
    // 2^64 is 1 in one's complement. `Sum` takes words in network order.
    let (carries, low) = ((sum >> 64) as u32, sum as u64);
    Sum::default().add_u64(u64::from_be(low)).add_u32(u32::from_be(carries))
}

#[inline(always)]
fn be16(head: &[u8; HEAD], at: usize) -> u16 {
    u16::from_be(head.ne16(at))
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
