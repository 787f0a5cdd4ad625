//! What a shard counts. One worker writes, anybody may read, nobody waits.
//!
//! Every received frame is accounted for:
//!
//! ```text
//! received = sent + consumed + held + Σ drops
//! ```
//!
//! The equation holds between two bursts, so that only a snapshot that the worker itself takes is
//! certain to satisfy it ([`CounterSnapshot::is_balanced`]). Who reads from elsewhere may see a
//! burst half counted, but never a torn or lost figure.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::drop::DropReason;
use crate::frame::BURST_MAX;
use crate::packet::Side;

/// How a figure may move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterKind {
    /// It only grows.
    Total,
    /// It rises and falls.
    Gauge,
}

macro_rules! counters {
    ($($variant:ident $kind:ident $name:literal $text:literal;)*) => {
        /// The figures of a shard besides its drops, its traffic and its burst sizes.
        ///
        /// The names are a contract: they are keys in `kronoctl stats --json` and in metrics.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Counter {
            $(#[doc = $text] $variant,)*
        }

        impl Counter {
            /// All of them, in index order.
            pub const ALL: &'static [Counter] = &[$(Counter::$variant,)*];

            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name in statistics.
            pub const fn name(self) -> &'static str {
                match self { $(Counter::$variant => $name,)* }
            }

            /// One sentence for people.
            pub const fn describe(self) -> &'static str {
                match self { $(Counter::$variant => $text,)* }
            }

            /// How it may move.
            pub const fn kind(self) -> CounterKind {
                match self { $(Counter::$variant => CounterKind::$kind,)* }
            }
        }
    };
}

counters! {
    // What became of received frames that were not dropped.
    Sent Total "sent" "Received frames that were forwarded.";
    Consumed Total "consumed" "Received frames that have done their work, such as ARP and echo requests.";
    Held Gauge "held" "Received frames that wait for their next hop's MAC address.";
    // Frames that the shard makes.
    Originated Total "originated" "Frames that the shard made itself and sent.";
    OriginatedLost Total "originated_lost" "Frames that the shard made or would have made itself, for which there was no buffer or no room to send.";
    // The work.
    Polls Total "polls" "Looks at the receive queues, fruitless ones included.";
    BusyCycles Total "busy_cycles" "Cycles of the time stamp counter spent on received frames.";
    // Translation.
    Sessions Gauge "sessions" "Live sessions.";
    Mappings Gauge "mappings" "Live mappings, static ones included.";
    Subscribers Gauge "subscribers" "Subscribers with at least one mapping.";
    SessionsCreated Total "sessions_created" "Sessions that were opened.";
    SessionsDeleted Total "sessions_deleted" "Sessions that ended.";
    MappingsCreated Total "mappings_created" "Public ports that were given to an inside endpoint.";
    MappingsDeleted Total "mappings_deleted" "Public ports that were taken back.";
}

/// How many classes of burst sizes there are: 1, 2 to 3, 4 to 7 … by powers of two.
pub const BURST_CLASSES: usize = BURST_MAX.ilog2() as usize + 1;

/// The least burst size of a class.
pub const fn burst_class_start(class: usize) -> usize {
    1 << class
}

/// The figures of one shard, on cache lines of their own (128 bytes: lines are fetched in pairs).
///
/// The worker stores with plain loads and stores, so there must be only one. That is not enforced;
/// with a second one figures are lost, nothing worse.
#[derive(Debug)]
#[repr(align(128))]
pub struct Counters {
    counts: [AtomicU64; Counter::COUNT],
    rx: [TrafficCells; 2],
    tx: [TrafficCells; 2],
    bursts: [AtomicU64; BURST_CLASSES],
    drops: [AtomicU64; DropReason::COUNT],
}

#[derive(Debug, Default)]
struct TrafficCells {
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl TrafficCells {
    #[inline]
    fn add(&self, packets: u64, bytes: u64) {
        bump(&self.packets, packets);
        bump(&self.bytes, bytes);
    }

    fn load(&self) -> Traffic {
        Traffic { packets: self.packets.load(Relaxed), bytes: self.bytes.load(Relaxed) }
    }
}

/// The one writer needs no locked instruction.
#[inline]
fn bump(cell: &AtomicU64, n: u64) {
    cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
}

impl Default for Counters {
    fn default() -> Self {
        Counters {
            counts: [const { AtomicU64::new(0) }; Counter::COUNT],
            rx: Default::default(),
            tx: Default::default(),
            bursts: [const { AtomicU64::new(0) }; BURST_CLASSES],
            drops: [const { AtomicU64::new(0) }; DropReason::COUNT],
        }
    }
}

impl Counters {
    /// All zero.
    pub fn new() -> Self {
        Counters::default()
    }

    /// A burst of `packets` frames, `bytes` long in all, came from `side`.
    #[inline]
    pub fn received(&self, side: Side, packets: usize, bytes: u64) {
        if packets == 0 {
            return;
        }
        self.rx[side as usize].add(packets as u64, bytes);
        bump(&self.bursts[(packets.ilog2() as usize).min(BURST_CLASSES - 1)], 1);
    }

    /// `packets` frames, `bytes` long in all, left at `side`, whoever made them. What received
    /// frames among them were is told by [`Counter::Sent`].
    #[inline]
    pub fn transmitted(&self, side: Side, packets: usize, bytes: u64) {
        self.tx[side as usize].add(packets as u64, bytes);
    }

    /// Work on received frames took so many cycles.
    #[inline]
    pub fn worked(&self, cycles: u64) {
        bump(&self.counts[Counter::BusyCycles as usize], cycles);
    }

    /// A received frame was dropped.
    #[inline]
    pub fn dropped(&self, reason: DropReason) {
        self.dropped_many(reason, 1);
    }

    /// `n` received frames were dropped.
    #[inline]
    pub fn dropped_many(&self, reason: DropReason, n: u64) {
        bump(&self.drops[reason as usize], n);
    }

    /// Raises a figure.
    #[inline]
    pub fn add(&self, counter: Counter, n: u64) {
        bump(&self.counts[counter as usize], n);
    }

    /// Lowers a gauge.
    #[inline]
    pub fn sub(&self, gauge: Counter, n: u64) {
        debug_assert_eq!(gauge.kind(), CounterKind::Gauge, "a total never falls");
        bump(&self.counts[gauge as usize], n.wrapping_neg());
    }

    /// Sets a figure that is counted elsewhere.
    #[inline]
    pub fn set(&self, counter: Counter, value: u64) {
        self.counts[counter as usize].store(value, Relaxed);
    }

    /// The figures now.
    pub fn snapshot(&self) -> CounterSnapshot {
        CounterSnapshot {
            counts: self.counts.each_ref().map(|cell| cell.load(Relaxed)),
            rx: self.rx.each_ref().map(TrafficCells::load),
            tx: self.tx.each_ref().map(TrafficCells::load),
            bursts: self.bursts.each_ref().map(|cell| cell.load(Relaxed)),
            drops: self.drops.each_ref().map(|cell| cell.load(Relaxed)),
        }
    }
}

/// Frames and their bytes, from the first of the Ethernet header, without the frame check sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Frames.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// The figures of one shard at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterSnapshot {
    counts: [u64; Counter::COUNT],
    rx: [Traffic; 2],
    tx: [Traffic; 2],
    bursts: [u64; BURST_CLASSES],
    drops: [u64; DropReason::COUNT],
}

impl Default for CounterSnapshot {
    fn default() -> Self {
        CounterSnapshot {
            counts: [0; Counter::COUNT],
            rx: [Traffic::default(); 2],
            tx: [Traffic::default(); 2],
            bursts: [0; BURST_CLASSES],
            drops: [0; DropReason::COUNT],
        }
    }
}

impl CounterSnapshot {
    /// One figure.
    pub fn of(&self, counter: Counter) -> u64 {
        self.counts[counter as usize]
    }

    /// Frames received, from both sides.
    pub fn received(&self) -> u64 {
        self.rx.iter().map(|traffic| traffic.packets).sum()
    }

    /// What came from a side.
    pub fn rx(&self, side: Side) -> Traffic {
        self.rx[side as usize]
    }

    /// What left at a side.
    pub fn tx(&self, side: Side) -> Traffic {
        self.tx[side as usize]
    }

    /// Bursts of each class of sizes, see [`burst_class_start`].
    pub fn bursts(&self) -> &[u64; BURST_CLASSES] {
        &self.bursts
    }

    /// Polls that found something.
    pub fn busy_polls(&self) -> u64 {
        self.bursts.iter().sum()
    }

    /// Cycles that a received frame took on average, once there was one.
    pub fn cycles_per_packet(&self) -> Option<f64> {
        let received = self.received();
        (received > 0).then(|| self.of(Counter::BusyCycles) as f64 / received as f64)
    }

    /// Received frames dropped for this reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize]
    }

    /// Received frames dropped.
    pub fn dropped_total(&self) -> u64 {
        self.drops.iter().sum()
    }

    /// Whether every received frame is accounted for.
    pub fn is_balanced(&self) -> bool {
        // Wrapping, since a gauge that was lowered too often must show here, not panic.
        let fates = [Counter::Sent, Counter::Consumed, Counter::Held].map(|fate| self.of(fate));
        self.received() == fates.into_iter().fold(self.dropped_total(), u64::wrapping_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn names_are_distinct_and_told() {
        let names: HashSet<_> = Counter::ALL.iter().map(|counter| counter.name()).collect();
        assert_eq!(names.len(), Counter::COUNT);
        for (index, counter) in Counter::ALL.iter().enumerate() {
            assert_eq!(*counter as usize, index);
            assert!(counter.describe().ends_with('.'));
        }
    }

    #[test]
    fn each_figure_is_kept_apart() {
        let counters = Counters::new();
        for (index, counter) in Counter::ALL.iter().enumerate() {
            counters.add(*counter, 1 + index as u64);
        }
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            counters.dropped_many(*reason, 100 + index as u64);
        }
        counters.received(Side::Inside, 3, 300);
        counters.received(Side::Outside, 5, 500);
        counters.transmitted(Side::Inside, 7, 700);
        counters.transmitted(Side::Outside, 9, 900);

        let snapshot = counters.snapshot();
        for (index, counter) in Counter::ALL.iter().enumerate() {
            assert_eq!(snapshot.of(*counter), 1 + index as u64, "{}", counter.name());
        }
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(snapshot.dropped(*reason), 100 + index as u64, "{reason}");
        }
        let traffic = |packets, bytes| Traffic { packets, bytes };
        assert_eq!(snapshot.rx(Side::Inside), traffic(3, 300));
        assert_eq!(snapshot.rx(Side::Outside), traffic(5, 500));
        assert_eq!(snapshot.tx(Side::Inside), traffic(7, 700));
        assert_eq!(snapshot.tx(Side::Outside), traffic(9, 900));
        assert_eq!((snapshot.received(), snapshot.busy_polls()), (8, 2));
    }

    #[test]
    fn bursts_fall_into_classes_by_powers_of_two() {
        for size in 1..=BURST_MAX {
            let counters = Counters::new();
            counters.received(Side::Inside, size, 0);
            let snapshot = counters.snapshot();
            let class = snapshot.bursts().iter().position(|count| *count == 1).unwrap();
            assert!(burst_class_start(class) <= size && size < burst_class_start(class + 1));
        }
        let counters = Counters::new();
        counters.received(Side::Inside, 0, 0);
        assert_eq!(counters.snapshot(), CounterSnapshot::default());
    }

    #[test]
    fn a_frame_that_is_not_accounted_for_shows() {
        let counters = Counters::new();
        counters.received(Side::Inside, 4, 4 * 60);
        let fates: [&dyn Fn(); 4] = [
            &|| counters.add(Counter::Sent, 1),
            &|| counters.add(Counter::Consumed, 1),
            &|| counters.add(Counter::Held, 1),
            &|| counters.dropped(DropReason::TxFull),
        ];
        for fate in fates {
            assert!(!counters.snapshot().is_balanced());
            fate();
        }
        assert!(counters.snapshot().is_balanced());
        counters.sub(Counter::Held, 1);
        assert!(!counters.snapshot().is_balanced());
        counters.dropped(DropReason::NeighbourUnreachable);
        assert!(counters.snapshot().is_balanced());
        // What the shard makes itself is no part of it.
        counters.add(Counter::Originated, 5);
        counters.add(Counter::OriginatedLost, 5);
        assert!(counters.snapshot().is_balanced());
    }

    #[test]
    fn shards_share_no_cache_line() {
        assert_eq!(std::mem::align_of::<Counters>(), 128);
        assert_eq!(std::mem::size_of::<Counters>() % 128, 0);
    }

    #[test]
    fn a_reader_beside_the_writer_sees_totals_grow_and_none_lost() {
        let (counters, done) = (Counters::new(), AtomicBool::new(false));
        const BURSTS: u64 = 200_000;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..BURSTS {
                    counters.received(Side::Inside, 2, 128);
                    counters.add(Counter::Sent, 1);
                    counters.dropped(DropReason::Filtered);
                }
                done.store(true, std::sync::atomic::Ordering::Release);
            });
            let mut before = counters.snapshot();
            while !done.load(std::sync::atomic::Ordering::Acquire) {
                let now = counters.snapshot();
                assert!(now.received() >= before.received());
                assert!(now.of(Counter::Sent) >= before.of(Counter::Sent));
                assert!(now.dropped_total() >= before.dropped_total());
                before = now;
            }
        });
        let end = counters.snapshot();
        assert!(end.is_balanced());
        assert_eq!((end.received(), end.of(Counter::Sent)), (2 * BURSTS, BURSTS));
    }
}
