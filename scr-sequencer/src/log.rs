//! What a core knows of the latest packets, for others to read: the loss log.
//!
//! One core writes, all others read, nobody waits. A slot holds a tag (whose it is, and of what
//! kind) and the record's bytes as words, all of them atomics: the writer marks the slot, writes
//! the words, and then says what they are; a reader takes the tag before and after, and believes the
//! words only if it stayed (a sequence lock; over plain memory that would be undefined behaviour:
//! Boehm, "Can seqlocks get along with programming language memory models?", MSPC 2012).

use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::atomic::{self, AtomicU64, Ordering};

use zerocopy::IntoBytes;

use crate::Shipped;

/// The atomics that a log is made of, so that it can be made of those of a model checker.
pub trait Memory: Debug {
    /// A 64-bit atomic.
    type Word: Word;

    /// A fence, see [`std::sync::atomic::fence`].
    fn fence(order: Ordering);
}

/// A 64-bit atomic.
pub trait Word: Debug {
    /// One that holds 0.
    fn zero() -> Self;
    /// Reads it.
    fn load(&self, order: Ordering) -> u64;
    /// Writes it.
    fn store(&self, value: u64, order: Ordering);
    /// Writes it if it is 0, and says what it is then.
    fn set_once(&self, value: u64) -> u64;
}

/// The atomics of the standard library.
#[derive(Debug)]
pub struct Atomics;

impl Memory for Atomics {
    type Word = AtomicU64;

    #[inline]
    fn fence(order: Ordering) {
        atomic::fence(order);
    }
}

impl Word for AtomicU64 {
    fn zero() -> Self {
        AtomicU64::new(0)
    }

    #[inline]
    fn load(&self, order: Ordering) -> u64 {
        AtomicU64::load(self, order)
    }

    #[inline]
    fn store(&self, value: u64, order: Ordering) {
        AtomicU64::store(self, value, order);
    }

    fn set_once(&self, value: u64) -> u64 {
        match self.compare_exchange(0, value, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => value,
            Err(present) => present,
        }
    }
}

/// The largest record that a log takes, bytes.
pub const RECORD_BYTES_MAX: usize = 64;

const WORDS_MAX: usize = RECORD_BYTES_MAX / 8;

/// A core's knowledge of the latest packets, see the [module](self).
#[derive(Debug)]
pub struct Log<R, M: Memory = Atomics> {
    /// Of each slot its tag, and behind it the words of the record.
    words: Box<[M::Word]>,
    slots: u64,
    records: PhantomData<R>,
}

/// What a log says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<R> {
    /// Nothing so far.
    NotYet,
    /// The core has its record.
    Known(R),
    /// The core has not got it and never will, if not from another one.
    Lost,
    /// It is so long ago that the slot has another packet's.
    Overwritten,
}

/// The kinds of tags, in the two lower bits; a packet's number is above.
const WRITING: u64 = 0;
const KNOWN: u64 = 1;
const LOST: u64 = 2;

impl<R: Shipped, M: Memory> Log<R, M> {
    const STRIDE: usize = 1 + R::BYTES.div_ceil(8);

    /// An empty log of the latest `slots` packets.
    ///
    /// # Panics
    /// If that is none, or records exceed [`RECORD_BYTES_MAX`].
    pub fn new(slots: usize) -> Self {
        assert!(slots > 0 && R::BYTES <= RECORD_BYTES_MAX);
        let words = (0..slots * Self::STRIDE).map(|_| M::Word::zero()).collect();
        Log { words, slots: slots as u64, records: PhantomData }
    }

    /// How many packets it remembers.
    #[inline]
    pub fn slots(&self) -> u64 {
        self.slots
    }

    fn slot(&self, sequence: u64) -> &[M::Word] {
        let at = (sequence % self.slots) as usize * Self::STRIDE;
        &self.words[at..at + Self::STRIDE]
    }

    /// Notes a record. Only the core whose log it is may do so.
    #[inline]
    pub fn know(&self, sequence: u64, record: &R) {
        let [tag, words @ ..] = self.slot(sequence) else { unreachable!("a slot has a tag") };
        tag.store(sequence << 2 | WRITING, Ordering::Relaxed);
        // Who reads one of the words below sees the tag above, behind its own fence.
        M::fence(Ordering::Release);
        let mut padded = [0; RECORD_BYTES_MAX];
        padded[..R::BYTES].copy_from_slice(record.as_bytes());
        for (word, bytes) in words.iter().zip(padded.as_chunks().0) {
            word.store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
        }
        tag.store(sequence << 2 | KNOWN, Ordering::Release);
    }

    /// Notes that this core has not got a packet. That is for ever: others may have skipped it since.
    #[inline]
    pub fn lose(&self, sequence: u64) {
        self.slot(sequence)[0].store(sequence << 2 | LOST, Ordering::Release);
    }

    /// What this core knows of a packet. Anybody may ask.
    pub fn read(&self, sequence: u64) -> Entry<R> {
        let [tag, words @ ..] = self.slot(sequence) else { unreachable!("a slot has a tag") };
        let seen = tag.load(Ordering::Acquire);
        match (seen >> 2).cmp(&sequence) {
            std::cmp::Ordering::Less => return Entry::NotYet,
            std::cmp::Ordering::Greater => return Entry::Overwritten,
            std::cmp::Ordering::Equal => {}
        }
        match seen & 3 {
            WRITING => return Entry::NotYet,
            LOST => return Entry::Lost,
            _ => {}
        }
        let mut padded = [0; WORDS_MAX];
        for (copy, word) in padded.iter_mut().zip(words) {
            *copy = word.load(Ordering::Relaxed).to_le();
        }
        M::fence(Ordering::Acquire);
        if tag.load(Ordering::Relaxed) != seen {
            return Entry::Overwritten;
        }
        let record = R::read_from_prefix(padded.as_bytes());
        Entry::Known(record.expect("a record fits the words of a slot").0)
    }
}
