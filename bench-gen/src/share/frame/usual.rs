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

    /// What usual frames out of a side have in common that have so many bytes of payload, a stamp
    /// at least.
    #[inline(always)]
    pub(in crate::share) fn mould(&self, side: Side, payload_len: usize) -> Mould<'_> {
        const DONT_FRAGMENT_TTL_UDP: u64 = 0x4000_4011;
        let filler = &self.filler[..payload_len - STAMP_LEN];
        let filler_sum =
            if filler.is_empty() { 0 } else { self.filler_sums[filler.len()].to_be().into() };
        let udp_len = (UDP_LEN + payload_len) as u16;
        let total_len = u64::from(udp_len) + IP_LEN as u64;
        let middle = (total_len << 48 | DONT_FRAGMENT_TTL_UDP).to_be();
        Mould {
            link: self.links[side as usize].words,
            middle,
            udp_len,
            ip_known: u64::from(0x4500_u16.to_be()) + halves(middle),
            udp_known: pseudo(udp_len) + u64::from(udp_len.to_be()) + filler_sum,
            filler,
        }
    }

    /// Whether frames out of a side begin as usual ones do.
    #[inline(always)]
    pub(in crate::share) fn is_untagged(&self, side: Side) -> bool {
        self.links[side as usize].len == L3
    }
}

/// Usual frames of one side and length, but for what tells them apart.
pub(in crate::share) struct Mould<'f> {
    link: [u64; 2],
    /// The IP header's second to fifth word.
    middle: u64,
    udp_len: u16,
    /// What the IP header's first five words add to its sum, and the lengths, the protocol and the
    /// filler to the datagram's, as they are loaded: far less than 64 bits.
    ip_known: u64,
    udp_known: u64,
    filler: &'f [u8],
}

impl Mould<'_> {
    /// How long frames with so many bytes of payload are, bytes.
    #[inline(always)]
    pub(in crate::share) fn len_with(payload_len: usize) -> usize {
        STAMP + payload_len
    }

    /// How long the frames are, bytes.
    #[inline(always)]
    pub(in crate::share) fn len(&self) -> usize {
        HEAD + self.filler.len()
    }

    /// Writes a frame; what follows the stamp too, if `fill` says so.
    ///
    /// # Panics
    /// If `frame` has another length.
    #[inline(always)]
    pub(in crate::share) fn put(
        &self,
        pair: Pair,
        frame: &mut [u8],
        fill: bool,
        stamp: Stamp,
        digest: u32,
    ) {
        let (head, rest) = frame.split_first_chunk_mut().expect("room for a stamp");
        if fill && !self.filler.is_empty() {
            rest.copy_from_slice(self.filler);
        }
        self.put_head(pair, head, stamp, digest);
    }

    #[inline(always)]
    fn put_head(&self, pair: Pair, head: &mut [u8; HEAD], stamp: Stamp, digest: u32) {
        let addresses = pair.addresses.to_be();
        let transport = (u64::from(pair.ports) << 32 | u64::from(self.udp_len) << 16).to_be();
        let [number, facts, last] = stamp.words(digest);
        // What is far shorter than 64 bits is added without carries.
        let addresses_sum = halves(addresses);
        let ip = Sum::of_loaded([self.ip_known + addresses_sum]).checksum();
        let short = self.udp_known + addresses_sum + u64::from(pair.ports.to_be()) + last;
        let udp = Sum::of_loaded([short, number, facts]).checksum();
        head[..8].copy_from_slice(&self.link[0].to_ne_bytes());
        head[8..16].copy_from_slice(&self.link[1].to_ne_bytes());
        head[16..24].copy_from_slice(&self.middle.to_ne_bytes());
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

/// A number that adds as much to a sum as this one, of 33 bits at most.
#[inline(always)]
fn halves(word: u64) -> u64 {
    (word >> 32) + (word & 0xffff_ffff)
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
