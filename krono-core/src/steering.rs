//! Steering: which core gets a packet where state is sharded by flow, and how cores are evened out.
//!
//! A hash of the flow, alike for both directions, names a bucket, and a table says whose each bucket
//! is, as in a NIC's receive-side scaling. Buckets are moved between cores as RSS++ does it (Barbette
//! et al., "RSS++: load and state-aware receive side scaling", CoNEXT 2019): a core's load is laid on
//! its buckets by the packets that each got, and the largest buckets go from cores above the mean to
//! those below. A bucket is never split, and a flow neither: a core that has one heavy flow keeps it,
//! which is what State-Compute Replication is for.
//!
//! Where buckets are moved, somebody has to move the state of their flows with them; that is not in
//! here.

use crate::hash::HashKey;
use crate::packet::PacketMeta;

/// The fewest buckets, as many as the indirection table of a NIC has at least.
pub const BUCKETS_MIN: usize = 128;

/// Cores that are nearer to the mean load than this, of all that there is on average, stay as they
/// are (as in RSS++).
const THRESHOLD: f64 = 0.02;

/// So many ways to even out are tried, each of which lets cores take a little more above the mean.
const PASSES: u32 = 10;

/// Where the flows of a group of cores go, see the [module](self).
#[derive(Clone, Debug)]
pub struct Steering {
    key: HashKey,
    cores: u32,
    /// Of each bucket the core that it belongs to.
    owners: Box<[u32]>,
    /// Of each bucket the packets since it was last asked for loads.
    packets: Box<[u64]>,
    /// What rebalancing works with, so that it need not allocate.
    desk: Desk,
    /// The moves of the latest rebalancing, and those of the way that is tried.
    moves: Vec<Move>,
    tried: Vec<Move>,
}

#[derive(Clone, Debug)]
struct Desk {
    /// Of each bucket its load, and whose it is.
    buckets: Box<[f64]>,
    owners: Box<[u32]>,
    /// Of each core its load, and whether nothing of it can be moved.
    cores: Box<[f64]>,
    is_stuck: Box<[bool]>,
}

/// A bucket that gets another core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// The bucket.
    pub bucket: usize,
    /// Whose it was.
    pub from: usize,
    /// Whose it is now.
    pub to: usize,
}

impl Steering {
    /// Spreads `buckets`, a power of two, over `cores` in turn, as a NIC's driver does at start.
    /// `seed` draws the key of the hash.
    ///
    /// # Panics
    /// If there are fewer than [`BUCKETS_MIN`] buckets, not a power of two, or fewer than cores, or
    /// no core.
    pub fn new(cores: usize, buckets: usize, seed: [u8; 32]) -> Self {
        assert!(buckets >= BUCKETS_MIN && buckets.is_power_of_two(), "{buckets} buckets");
        assert!((1..=buckets).contains(&cores), "{buckets} buckets for {cores} cores");
        let owners: Box<[u32]> = (0..buckets).map(|bucket| (bucket % cores) as u32).collect();
        Steering {
            key: HashKey::from_seed(seed),
            cores: cores as u32,
            packets: vec![0; buckets].into(),
            desk: Desk {
                buckets: vec![0.0; buckets].into(),
                owners: owners.clone(),
                cores: vec![0.0; cores].into(),
                is_stuck: vec![false; cores].into(),
            },
            owners,
            moves: Vec::with_capacity(buckets),
            tried: Vec::with_capacity(buckets),
        }
    }

    /// How many cores there are.
    #[inline]
    pub fn cores(&self) -> usize {
        self.cores as usize
    }

    /// The bucket of a packet's flow: the same for both directions, and for ICMP errors about it.
    #[inline]
    pub fn bucket(&self, meta: &PacketMeta) -> usize {
        let word =
            |addr: std::net::Ipv4Addr, port: u16| u64::from(addr.to_bits()) << 16 | u64::from(port);
        let src = word(meta.src.addr, meta.src.port);
        let dst = word(meta.dst.addr, meta.dst.port);
        let protocol = (meta.protocol as u64) << 48;
        let hash = self.key.hash(src.min(dst) | protocol, src.max(dst));
        hash as usize & (self.owners.len() - 1)
    }

    /// The core of a packet, which is counted.
    #[inline]
    pub fn steer(&mut self, meta: &PacketMeta) -> usize {
        let bucket = self.bucket(meta);
        self.packets[bucket] += 1;
        self.owner(bucket)
    }

    /// Whose a bucket is.
    #[inline]
    pub fn owner(&self, bucket: usize) -> usize {
        self.owners[bucket] as usize
    }

    /// Moves buckets so that cores are evenly loaded, with as few moves as it takes, and begins to
    /// count anew. `loads` are those of the cores since the last time, all in the same unit, such as
    /// the part of the time that each was busy. A load of which no packet was counted stays where it
    /// is.
    ///
    /// By the loads of buckets that follow from this, the sum of the squares of what cores are off
    /// the mean becomes less, or nothing is moved. Takes some ten thousand to some million steps:
    /// that is for every 100 ms, and not on the way of packets. Allocates nothing.
    ///
    /// # Panics
    /// If these are not as many loads as cores, or one is negative or no number.
    pub fn rebalance(&mut self, loads: &[f64]) -> &[Move] {
        assert_eq!(loads.len(), self.cores(), "a load for each core");
        assert!(loads.iter().all(|load| load.is_finite() && *load >= 0.0), "loads {loads:?}");
        let mean = loads.iter().sum::<f64>() / loads.len() as f64;
        self.lay_on_buckets(loads);
        self.moves.clear();
        let mut best = imbalance(loads, mean);
        for pass in 0..PASSES {
            self.desk.begin(loads, &self.owners);
            self.tried.clear();
            let allowed = mean * (1.0 + THRESHOLD * f64::from(pass));
            self.desk.even_out(&self.owners, mean, allowed, &mut self.tried);
            let imbalance = imbalance(&self.desk.cores, mean);
            // What is as good with more moves is not better.
            if imbalance < best * (1.0 - THRESHOLD) {
                best = imbalance;
                std::mem::swap(&mut self.moves, &mut self.tried);
            }
        }
        for Move { bucket, to, .. } in &self.moves {
            self.owners[*bucket] = *to as u32;
        }
        self.packets.fill(0);
        &self.moves
    }

    /// A bucket's load is that part of its core's that it has of its core's packets.
    fn lay_on_buckets(&mut self, loads: &[f64]) {
        let of_cores = &mut self.desk.cores;
        of_cores.fill(0.0);
        for (packets, owner) in self.packets.iter().zip(&self.owners) {
            of_cores[*owner as usize] += *packets as f64;
        }
        let owned = self.packets.iter().zip(&self.owners);
        for ((packets, owner), load) in owned.zip(&mut self.desk.buckets) {
            let all = of_cores[*owner as usize];
            *load = if all > 0.0 { loads[*owner as usize] * *packets as f64 / all } else { 0.0 };
        }
    }
}

impl Desk {
    fn begin(&mut self, loads: &[f64], owners: &[u32]) {
        self.cores.copy_from_slice(loads);
        self.owners.copy_from_slice(owners);
        self.is_stuck.fill(false);
    }

    /// From the most loaded core the largest bucket that the least loaded one can take without being
    /// above `allowed`, and again, until no core is above the mean, or none has such a bucket. No
    /// bucket moves twice: `owners` says whose they were.
    fn even_out(&mut self, owners: &[u32], mean: f64, allowed: f64, moves: &mut Vec<Move>) {
        let by_load = |a: &(usize, f64), b: &(usize, f64)| a.1.total_cmp(&b.1);
        while moves.len() < moves.capacity() {
            let loads = || self.cores.iter().copied().enumerate();
            let movable = loads().filter(|(core, _)| !self.is_stuck[*core]);
            let Some((from, most)) = movable.max_by(by_load) else { return };
            let (to, least) = loads().min_by(by_load).expect("there is a core");
            if most <= mean * (1.0 + THRESHOLD) {
                return;
            }
            // More than half the difference would leave both further apart, the other way round.
            let room = (allowed - least).min(most - least);
            let fits = |bucket: &(usize, f64)| {
                let stays = owners[bucket.0] == self.owners[bucket.0];
                stays && owners[bucket.0] as usize == from && bucket.1 > 0.0 && bucket.1 < room
            };
            let buckets = self.buckets.iter().copied().enumerate();
            let Some((bucket, load)) = buckets.filter(fits).max_by(by_load) else {
                self.is_stuck[from] = true;
                continue;
            };
            self.owners[bucket] = to as u32;
            self.cores[from] -= load;
            self.cores[to] += load;
            moves.push(Move { bucket, from, to });
        }
    }
}

/// The sum of the squares of what loads are off the mean.
fn imbalance(loads: &[f64], mean: f64) -> f64 {
    loads.iter().map(|load| (load - mean).powi(2)).sum()
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::packet::{Endpoint, FlowMeta, Kind, Protocol};

    /// The seeds of so many random runs, or the one that `KRONO_SEED` names.
    fn seeds(runs: u64) -> impl Iterator<Item = u64> {
        let given: Option<u64> = std::env::var("KRONO_SEED").ok().and_then(|it| it.parse().ok());
        given.map_or(0..runs, |seed| seed..seed + 1)
    }

    fn flow(number: u32) -> PacketMeta {
        let flow = FlowMeta {
            src: Endpoint::new(number.into(), 1024 + (number % 50_000) as u16),
            dst: Endpoint::new(0xc633_6401_u32.into(), 443),
            kind: Kind::Tcp,
            protocol: Protocol::Tcp,
            ..Default::default()
        };
        PacketMeta { flow, ..Default::default() }
    }

    /// The packets of each of so many flows by Zipf's law, exponent 1.
    fn zipf(flows: u32) -> impl Iterator<Item = (PacketMeta, u64)> {
        (1..=flows).map(|rank| (flow(rank), u64::from(1_000_000 / rank)))
    }

    fn spread(steering: &Steering, packets: &[u64]) -> Vec<f64> {
        let mut loads = vec![0.0; steering.cores()];
        for (bucket, packets) in packets.iter().enumerate() {
            loads[steering.owner(bucket)] += *packets as f64;
        }
        loads
    }

    fn of_mean(loads: &[f64]) -> f64 {
        let mean = loads.iter().sum::<f64>() / loads.len() as f64;
        imbalance(loads, mean)
    }

    #[test]
    fn both_directions_go_to_the_same_core_and_flows_to_all() {
        for seed in seeds(64) {
            let mut rng = StdRng::seed_from_u64(seed);
            let steering = Steering::new(7, 128, [seed as u8; 32]);
            let mut seen = [false; 128];
            for _ in 0..2_000 {
                let mut meta = flow(rng.random());
                meta.dst = Endpoint::new(rng.random::<u32>().into(), rng.random());
                meta.protocol = Protocol::ALL[rng.random_range(0..3)];
                let bucket = steering.bucket(&meta);
                (meta.flow.src, meta.flow.dst) = (meta.flow.dst, meta.flow.src);
                assert_eq!(steering.bucket(&meta), bucket, "seed {seed}, {meta:?}");
                seen[bucket] = true;
            }
            assert!(seen.iter().filter(|seen| **seen).count() > 120, "seed {seed}");
        }
    }

    #[test]
    fn one_flow_cannot_be_split() {
        let mut steering = Steering::new(4, 128, [1; 32]);
        let core = (0..1000).map(|_| steering.steer(&flow(7))).last().expect("packets");
        let mut loads = [0.0; 4];
        loads[core] = 1.0;
        assert_eq!(steering.rebalance(&loads), []);
        assert_eq!(steering.steer(&flow(7)), core);
    }

    #[test]
    fn one_bucket_that_is_too_many_is_one_move() {
        let mut steering = Steering::new(2, 128, [1; 32]);
        // Core 0 has the even buckets: 40 packets and 20, core 1 has 20 and 0.
        for (bucket, packets) in [(0, 40), (2, 20), (1, 20), (3, 0)] {
            steering.packets[bucket] = packets;
        }
        let moved = Move { bucket: 2, from: 0, to: 1 };
        assert_eq!(steering.rebalance(&[0.6, 0.2]), [moved]);
        assert_eq!(steering.owner(2), 1);
        // The counts are from then on, and what is even stays.
        steering.packets[0] = 7;
        steering.packets[2] = 7;
        assert_eq!(steering.rebalance(&[0.5, 0.5]), []);
    }

    #[test]
    fn flows_by_zipfs_law_become_nearly_even() {
        for cores in [2, 3, 4, 7] {
            let mut steering = Steering::new(cores, 512, [9; 32]);
            for (meta, packets) in zipf(100_000) {
                let bucket = steering.bucket(&meta);
                steering.packets[bucket] += packets;
            }
            let packets = steering.packets.clone();
            let before = spread(&steering, &packets);
            let moves = steering.rebalance(&before).len();
            let after = spread(&steering, &packets);
            let share = |loads: &[f64]| {
                loads.iter().copied().fold(0.0, f64::max) / loads.iter().sum::<f64>()
            };
            println!("{cores} cores: {} -> {}, {moves} moves", share(&before), share(&after));
            // No better than the bucket of the heaviest flow, which has 8 % of all packets.
            let least = (1.0 / cores as f64).max(0.08);
            assert!(share(&after) < least * 1.05, "{cores} cores: {}", share(&after));
            assert!((1..64).contains(&moves), "{moves} moves for {cores} cores");
        }
    }

    /// Whatever the loads and counts are.
    #[test]
    fn moves_are_those_of_the_table_and_never_make_it_worse() {
        for seed in seeds(500) {
            let mut rng = StdRng::seed_from_u64(seed);
            let cores = rng.random_range(1..=14);
            let mut steering = Steering::new(cores, 128 << rng.random_range(0..3), [3; 32]);
            for round in 0..4 {
                // From all alike to a few that have all.
                let skew = rng.random_range(0.0_f64..6.0).exp();
                for packets in &mut steering.packets {
                    *packets = (rng.random::<f64>().powf(skew) * 10_000.0) as u64;
                }
                let packets = steering.packets.clone();
                let before = spread(&steering, &packets);
                let owners = steering.owners.clone();
                let moves = steering.rebalance(&before).to_vec();
                for Move { bucket, from, to } in &moves {
                    assert_eq!(owners[*bucket] as usize, *from, "seed {seed}");
                    assert_eq!(steering.owner(*bucket), *to, "seed {seed}");
                    assert_ne!(from, to, "seed {seed}");
                }
                let changed = owners.iter().zip(&steering.owners).filter(|(a, b)| a != b).count();
                assert_eq!(changed, moves.len(), "seed {seed}: a bucket was moved twice");
                let (before, after) = (of_mean(&before), of_mean(&spread(&steering, &packets)));
                let is_better = after < before || moves.is_empty();
                assert!(is_better, "seed {seed}, round {round}: {before} -> {after}");
            }
        }
    }
}
