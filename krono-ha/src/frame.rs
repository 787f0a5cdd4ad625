//! What is on the wire between two halves: a header, a body, and a keyed digest over both.
//!
//! Little-endian, without gaps, so that a frame is read where it lies:
//!
//! | bytes | field |
//! |---|---|
//! | 0–3 | `KRHA` |
//! | 4–5 | version of this layout |
//! | 6 | kind of body, see [`Kind`] |
//! | 7 | how many elements it has |
//! | 8–15 | fingerprint of the program's records and of the settings that both must share |
//! | 16–23 | shard, sender's node |
//! | 24–31 | the sender's incarnation: random, another one after each start |
//! | 32–39 | number of the frame, of all that an incarnation sends |
//! | 40–47 | epoch |
//! | 48 | role, see [`crate::roles::Role`] |
//! | 49 | the sender's place in the shard's preference, 0 first |
//! | 50–51 | facts, see [`facts`] |
//! | 52–55 | request that this answers, or makes |
//! | 56–63 | position in the stream of changes: the frame's own if it is of it, else the last |
//! | 64–71 | the receiver's incarnation, as the sender last heard it; 0 before |
//! | 72–79 | position in the receiver's stream up to which the sender has everything |
//! | 80–83 | changes that wait to be sent |
//! | 84–87 | the last offer that the sender has taken, see [`crate::roles`] |
//! | 88–91 | the sender's own offer, 0 if there is none |
//! | 92–95 | of sums: the first range |
//! | 96– | body |
//! | last 16 | SipHash-2-4 over all before, 128 bits |
//!
//! # The keyed digest
//! SipHash-2-4 (Aumasson and Bernstein, INDOCRYPT 2012) is made to be one. It has no nonce, so no
//! restart and no lost counter can make it reveal its key, as one repeated nonce does with GMAC or
//! Poly1305. Of those that were tried it is the fastest but one for a full frame of 1400 bytes,
//! which holds 40 records: 1.5 µs, beside HighwayHash 0.4, Poly1305 with ChaCha20 2.5, AES-256-GMAC
//! 2.5 and keyed BLAKE3 4.3 (all in one run, on a machine that did other things as well;
//! `siphasher`, `highway`, `poly1305`, `aes-gcm`, `blake3`). HighwayHash has seen the least
//! analysis of them.
//!
//! # Replay
//! A frame counts once ([`Window`], as RFC 4303, 3.4.3). That the sender is alive, and not a
//! recording, is believed only of frames that name the receiver's incarnation, which is a new one
//! after each start; and no earlier incarnation of the sender is believed again.

use krono_core::twin::RECORD_MAX;
use siphasher::sip128::SipHasher24;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::roles::Role;

/// The version of the layout.
pub const VERSION: u16 = 1;

const MAGIC: [u8; 4] = *b"KRHA";

/// Bytes of a header.
pub const HEADER_LEN: usize = size_of::<Header>();

/// Bytes of the digest at the end.
pub const TAG_LEN: usize = 16;

/// The most bytes that a frame has: what fits a UDP datagram on a link of 1500 bytes and leaves
/// some.
pub const FRAME_MAX: usize = 1400;

/// The most bytes of a body.
pub const BODY_MAX: usize = FRAME_MAX - HEADER_LEN - TAG_LEN;

/// Bits of a header's facts.
pub mod facts {
    /// The sender's own routes are up, so that it could serve.
    pub const ROUTES_UP: u16 = 0x01;
    /// The sender has had all that there was to have, once, since it started.
    pub const IS_CURRENT: u16 = 0x02;
    /// The sender has what the receiver has, as far as it knows.
    pub const IN_SYNC: u16 = 0x04;
    /// The sender asks the receiver to serve in its place.
    pub const YIELDS: u16 = 0x08;
}

/// What a frame's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Nothing; the header says it all.
    Hello = 1,
    /// Records. Of the stream.
    Records = 2,
    /// Nothing: all entries of the ranges asked for have been told. Of the stream.
    WalkEnd = 3,
    /// The sums of [`crate::sums::PER_FRAME`] ranges, as of the frame's position.
    Sums = 4,
    /// Nothing: the sender wants all sums.
    AskSums = 5,
    /// The ranges whose entries the sender wants to be told, a bit for each.
    AskWalk = 6,
}

impl Kind {
    const fn from_byte(byte: u8) -> Option<Kind> {
        Some(match byte {
            1 => Kind::Hello,
            2 => Kind::Records,
            3 => Kind::WalkEnd,
            4 => Kind::Sums,
            5 => Kind::AskSums,
            6 => Kind::AskWalk,
            _ => return None,
        })
    }

    /// Whether its frames have a position of their own, so that none may be missed.
    pub const fn is_of_stream(self) -> bool {
        matches!(self, Kind::Records | Kind::WalkEnd)
    }
}

/// The header, see the [module](self).
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct Header {
    pub(crate) magic: [u8; 4],
    pub(crate) version: U16,
    pub(crate) kind: u8,
    pub(crate) count: u8,
    pub(crate) layout: U64,
    pub(crate) shard: U32,
    pub(crate) node: U32,
    pub(crate) incarnation: U64,
    pub(crate) number: U64,
    pub(crate) epoch: U64,
    pub(crate) role: u8,
    pub(crate) rank: u8,
    pub(crate) facts: U16,
    pub(crate) request: U32,
    pub(crate) position: U64,
    pub(crate) heard: U64,
    pub(crate) ack: U64,
    pub(crate) queued: U32,
    pub(crate) taken: U32,
    pub(crate) offer: U32,
    pub(crate) first: U32,
}

const _: () = assert!(HEADER_LEN == 96);
const _: () = assert!(BODY_MAX / RECORD_MAX >= 26);

impl Header {
    /// What the body is.
    pub fn kind(&self) -> Kind {
        Kind::from_byte(self.kind).expect("it was looked at when the frame was opened")
    }

    /// The sender's role.
    pub fn role(&self) -> Role {
        Role::from_byte(self.role).expect("it was looked at when the frame was opened")
    }

    /// The sender's node.
    pub fn node(&self) -> u32 {
        self.node.get()
    }

    pub(crate) fn has(&self, fact: u16) -> bool {
        self.facts.get() & fact != 0
    }

    pub(crate) fn of(kind: Kind, role: Role) -> Header {
        Header { kind: kind as u8, role: role as u8, ..Header::default() }
    }
}

/// Why a frame is refused. The names are for statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The frame ends within its header or digest, or is longer than any.
    #[error("a frame of {0} bytes")]
    Length(usize),
    /// It is none of ours.
    #[error("no replication frame")]
    Magic,
    /// The sender has another version of the layout.
    #[error("the peer speaks version {theirs} of the replication protocol, this node {ours}")]
    Version {
        /// The sender's.
        theirs: u16,
        /// This one's.
        ours: u16,
    },
    /// The digest is wrong: another key, or a forgery.
    #[error("the digest is wrong: another key, or a forgery")]
    Digest,
    /// The sender's records or settings differ.
    #[error(
        "the peer's records or settings have the fingerprint {theirs:016x}, this node's {ours:016x}"
    )]
    Layout {
        /// The sender's.
        theirs: u64,
        /// This one's.
        ours: u64,
    },
    /// It is about another shard.
    #[error("about shard {0}")]
    Shard(u32),
    /// It is from no twin of this one: from itself, or a third.
    #[error("from node {0}")]
    Node(u32),
    /// It names no kind or role, has no incarnation, or its body is not what its kind wants.
    #[error("an impossible header")]
    Header,
    /// It has come before, or may have.
    #[error("a frame that came before")]
    Replayed,
    /// It is from an incarnation that another has followed.
    #[error("from an earlier incarnation of the peer")]
    Outdated,
}

impl Rejected {
    /// How many reasons there are.
    pub const COUNT: usize = 10;

    /// The names, by index.
    pub const NAMES: [&str; Self::COUNT] = [
        "ha_length",
        "ha_magic",
        "ha_version",
        "ha_digest",
        "ha_layout",
        "ha_shard",
        "ha_node",
        "ha_header",
        "ha_replayed",
        "ha_outdated",
    ];

    /// The place among all reasons.
    pub const fn index(self) -> usize {
        match self {
            Rejected::Length(_) => 0,
            Rejected::Magic => 1,
            Rejected::Version { .. } => 2,
            Rejected::Digest => 3,
            Rejected::Layout { .. } => 4,
            Rejected::Shard(_) => 5,
            Rejected::Node(_) => 6,
            Rejected::Header => 7,
            Rejected::Replayed => 8,
            Rejected::Outdated => 9,
        }
    }

    /// The name in statistics.
    pub const fn name(self) -> &'static str {
        Self::NAMES[self.index()]
    }
}

/// The key that both nodes share, wiped when it is dropped.
#[derive(Clone, zeroize::ZeroizeOnDrop)]
pub struct Key {
    frames: [u8; 16],
    sums: [u8; 16],
}

impl Key {
    /// The key that these bytes are, which are random: half of them for frames, half for sums.
    pub fn new(bytes: &[u8; 32]) -> Key {
        let (mut frames, mut sums) = ([0; 16], [0; 16]);
        frames.copy_from_slice(&bytes[..16]);
        sums.copy_from_slice(&bytes[16..]);
        Key { frames, sums }
    }

    /// A seed for what both nodes compute alike.
    pub(crate) fn seed(&self) -> [u8; 32] {
        let mut seed = [0; 32];
        seed[..16].copy_from_slice(&self.sums);
        seed
    }

    fn digest(&self, bytes: &[u8]) -> [u64; 2] {
        let digest = SipHasher24::new_with_key(&self.frames).hash(bytes);
        [digest.h1, digest.h2]
    }
}

impl std::fmt::Debug for Key {
    /// The key stays secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

/// What both halves of a shard have in common, and one end of the channel between them.
#[derive(Clone, Debug)]
pub struct Codec {
    key: Key,
    /// See [`krono_core::twin::Twin::layout`].
    layout: u64,
    record_len: usize,
    shard: u32,
    node: u32,
    peer: u32,
}

impl Codec {
    /// The codec of `node` for frames to and from `peer` about `shard`.
    pub fn new<R>(key: Key, layout: u64, shard: u32, node: u32, peer: u32) -> Codec {
        assert!(size_of::<R>() <= RECORD_MAX, "a record has {RECORD_MAX} bytes at most");
        Codec { key, layout, record_len: size_of::<R>(), shard, node, peer }
    }

    /// That of the other end.
    pub fn peer(&self) -> Codec {
        Codec { node: self.peer, peer: self.node, ..self.clone() }
    }

    /// The digest of what is in front of it.
    pub fn digest_of(&self, bytes: &[u8]) -> [u8; TAG_LEN] {
        let mut digest = [0; TAG_LEN];
        digest.copy_from_slice(self.key.digest(bytes).map(U64::new).as_bytes());
        digest
    }

    /// Writes a frame into `out`, of at least [`FRAME_MAX`] bytes; returns its length.
    ///
    /// # Panics
    /// If the body is longer than [`BODY_MAX`] or `out` too short.
    pub fn seal(&self, header: Header, body: &[u8], out: &mut [u8]) -> usize {
        out[HEADER_LEN..HEADER_LEN + body.len()].copy_from_slice(body);
        self.seal_around(header, body.len(), out)
    }

    /// [`Codec::seal`] for a body of so many bytes that is in its place already.
    pub(crate) fn seal_around(&self, header: Header, body_len: usize, out: &mut [u8]) -> usize {
        let header = Header {
            magic: MAGIC,
            version: VERSION.into(),
            layout: self.layout.into(),
            shard: self.shard.into(),
            node: self.node.into(),
            ..header
        };
        let end = HEADER_LEN + body_len;
        out[..HEADER_LEN].copy_from_slice(header.as_bytes());
        let digest = self.digest_of(&out[..end]);
        out[end..end + TAG_LEN].copy_from_slice(&digest);
        end + TAG_LEN
    }

    /// Reads a frame: its header and its body. Nothing of it is believed before its digest is
    /// right, but what it is and its version.
    ///
    /// # Errors
    /// The reason why it is refused.
    pub fn open<'f>(&self, frame: &'f [u8]) -> Result<(&'f Header, &'f [u8]), Rejected> {
        let length = Rejected::Length(frame.len());
        let signed_len = frame.len().checked_sub(TAG_LEN).ok_or(length)?;
        let (signed, tag) = frame.split_at(signed_len);
        let (header, body) = Header::ref_from_prefix(signed).map_err(|_| length)?;
        if frame.len() > FRAME_MAX {
            return Err(length);
        }
        if header.magic != MAGIC {
            return Err(Rejected::Magic);
        }
        if header.version.get() != VERSION {
            return Err(Rejected::Version { theirs: header.version.get(), ours: VERSION });
        }
        let differs = |digest: [u64; 2], tag: [U64; 2]| {
            // All bits at once, so that time tells nothing of the place of the first wrong one.
            (digest[0] ^ tag[0].get()) | (digest[1] ^ tag[1].get()) != 0
        };
        let tag = <[U64; 2]>::read_from_bytes(tag).map_err(|_| length)?;
        if differs(self.key.digest(signed), tag) {
            return Err(Rejected::Digest);
        }
        if header.layout.get() != self.layout {
            return Err(Rejected::Layout { theirs: header.layout.get(), ours: self.layout });
        }
        if header.shard.get() != self.shard {
            return Err(Rejected::Shard(header.shard.get()));
        }
        if header.node.get() != self.peer {
            return Err(Rejected::Node(header.node.get()));
        }
        if !self.is_possible(header, body) {
            return Err(Rejected::Header);
        }
        Ok((header, body))
    }

    fn is_possible(&self, header: &Header, body: &[u8]) -> bool {
        let Some(kind) = Kind::from_byte(header.kind) else { return false };
        let (each, wanted) = match kind {
            Kind::Records => (self.record_len, None),
            Kind::Sums => (size_of::<u64>(), Some(crate::sums::PER_FRAME)),
            Kind::AskWalk => (1, Some(crate::sums::RANGES / 8)),
            Kind::Hello | Kind::WalkEnd | Kind::AskSums => (0, Some(0)),
        };
        let count = usize::from(header.count);
        let first = header.first.get() as usize;
        body.len() == count * each
            && wanted.is_none_or(|wanted| wanted == count)
            && Role::from_byte(header.role).is_some()
            && header.incarnation.get() != 0
            && header.number.get() != 0
            && [header.position, header.epoch].iter().all(|count| count.get() <= u64::MAX >> 1)
            && first.is_multiple_of(crate::sums::PER_FRAME)
            && first < crate::sums::RANGES
    }
}

/// Which numbers of frames have come: the highest, and which of the 64 up to it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Window {
    highest: u64,
    seen: u64,
}

impl Window {
    /// Takes a number that has not come before; false if it has, or is so old that nobody knows.
    pub fn take(&mut self, number: u64) -> bool {
        if number > self.highest {
            let ahead = u32::try_from(number - self.highest).unwrap_or(u32::MAX);
            self.seen = self.seen.checked_shl(ahead).unwrap_or(0) | 1;
            self.highest = number;
            return true;
        }
        let Ok(behind) = u32::try_from(self.highest - number) else { return false };
        let bit = 1_u64.checked_shl(behind).unwrap_or(0);
        let is_new = bit != 0 && self.seen & bit == 0;
        self.seen |= bit;
        is_new
    }
}
