//! Where a translator's state lies: one zeroed block, cut in a fixed order.

use krono_core::carve::{Carver, Measure};
use krono_core::deadlines::Deadlines;
use krono_core::drop::DropReason;
use krono_core::freelist::FreeList;
use krono_core::hash::HashKey;
use krono_core::ports::{BankState, Part, Pool, Ports, PortsMemory, TakenPorts};
use krono_core::table::{Bucket, FlowTable};
use krono_core::time::Ticks;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::config::{Config, Policy};
use crate::entry::Entry;
use crate::nat::Nat;
use crate::subscribers::{Subscriber, Subscribers, Told};
use crate::view::Counts;

/// How many of each thing there are.
struct Sizes {
    entries: usize,
    buckets: usize,
    subscribers: usize,
    subscriber_buckets: usize,
    addresses: usize,
}

impl Sizes {
    fn new(sessions: usize, subscribers: usize, addresses: usize) -> Sizes {
        Sizes {
            entries: sessions,
            buckets: FlowTable::buckets_for(sessions),
            subscribers,
            subscriber_buckets: FlowTable::buckets_for(subscribers),
            addresses,
        }
    }

    fn of(config: &Config) -> Sizes {
        let addresses = config.pool.iter().map(|net| 1 << (32 - net.prefix_len())).sum();
        Sizes::new(config.sessions, config.subscribers, addresses)
    }

    fn bytes(&self) -> usize {
        let ports = Ports::memory(self.addresses);
        Measure::default()
            .and::<Entry>(self.entries)
            .and::<Bucket>(self.buckets)
            .and::<u32>(self.entries)
            .and::<Subscriber>(self.subscribers)
            .and::<Bucket>(self.subscriber_buckets)
            .and::<u32>(ports.entries)
            .and::<TakenPorts>(ports.taken)
            .and::<BankState>(ports.banks)
            .bytes()
    }
}

/// The memory that a translator of this size wants, bytes.
pub fn memory_bytes(sessions: usize, subscribers: usize, addresses: usize) -> usize {
    Sizes::new(sessions, subscribers, addresses).bytes()
}

impl<'m> Nat<'m> {
    /// The memory that [`Nat::new`] wants for this configuration, bytes.
    pub fn memory_bytes(config: &Config) -> usize {
        Sizes::of(config).bytes()
    }

    /// A translator whose state lies in `memory`: [`Nat::memory_bytes`] zero bytes, aligned to
    /// a cache line. Nothing is allocated after this.
    ///
    /// # Errors
    /// If the static mappings do not fit the sessions or subscribers.
    ///
    /// # Panics
    /// If the block is too small.
    pub fn new(config: &Config, memory: &'m mut [u8], now: Ticks) -> Result<Self, DropReason> {
        Nat::with_part(config, Part::ALL, memory, now)
    }

    /// [`Nat::new`] for a translator that gives out ports of one part only, because a twin gives
    /// out the others.
    ///
    /// # Errors
    /// As [`Nat::new`].
    ///
    /// # Panics
    /// Likewise; or if there is no port in the part.
    pub fn with_part(
        config: &Config,
        part: Part,
        memory: &'m mut [u8],
        now: Ticks,
    ) -> Result<Self, DropReason> {
        let sizes = Sizes::of(config);
        let carver = &mut Carver::new(memory);
        let entries = carver.take::<Entry>(sizes.entries);
        let table = FlowTable::new(carver.take::<Bucket>(sizes.buckets));
        let deadlines = Deadlines::new(carver.take::<u32>(sizes.entries));
        let subscribers = carver.take::<Subscriber>(sizes.subscribers);
        let subscriber_table = FlowTable::new(carver.take::<Bucket>(sizes.subscriber_buckets));
        let ports = Ports::memory(sizes.addresses);
        let ports = PortsMemory {
            entries: carver.take(ports.entries),
            taken: carver.take(ports.taken),
            banks: carver.take(ports.banks),
        };
        let hash = HashKey::from_seed(config.seed);
        let mut nat = Nat {
            free: FreeList::new(entries.len() as u32),
            entries,
            table,
            deadlines,
            ports: Ports::new(Pool::new(&config.pool), config.ports.clone(), part, ports),
            subscribers: Subscribers::new(subscribers, subscriber_table, hash.clone()),
            hash,
            rng: ChaCha8Rng::from_seed(config.seed),
            inside: config.inside.clone(),
            ports_per_subscriber: config.ports_per_subscriber,
            policy: Policy { statics: Vec::new(), ..config.policy.clone() },
            counts: Counts::default(),
            told: Told::default(),
            further: 0,
            untranslated: 0,
            known: now,
        };
        nat.swap_policy(&mut config.policy.clone(), now, &mut ())?;
        Ok(nat)
    }
}
