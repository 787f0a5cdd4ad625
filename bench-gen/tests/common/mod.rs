//! The bench around a relay, in one process: no devices, no root, no huge pages.
#![allow(dead_code, unreachable_pub, reason = "no test needs all of it")]

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bench_gen::bench::{Bench, Counts, Seen, Stage, Way, Ways};
use bench_gen::engine::Engine;
use bench_gen::load::{End, Load, Popularity, PortSetup, Profile, Rate, Sizes};
use bench_gen::relay::{Nat, Planted, Relay, RelayEnd, Tally};
use krono_io::{Clock, Eal, EalConfig, Hugepages, Pool, PoolConfig, Port, PortConfig, Task};

pub fn port(address: &str, next_hop: &str) -> PortSetup {
    PortSetup {
        device: "none".into(),
        mtu: 1500,
        mac: None,
        address: address.parse().unwrap(),
        next_hop: next_hop.parse().unwrap(),
        next_hop_mac: None,
        vlan: None,
    }
}

/// UDP, TCP and ICMP alike over so many flows, by so many lcores.
pub fn profile(flows: u32, lcores: u16) -> Profile {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let place = |lcore: u16| format!("{lcore}@{}", usize::from(lcore) % cpus);
    // The last one is the relay's.
    let map: Vec<String> = (0..=lcores).map(place).collect();
    Profile {
        eal: EalConfig {
            memory_mb: 256,
            hugepages: Hugepages::Off,
            lcores: Some(map.join(",")),
            ..EalConfig::default()
        },
        inside: port("10.0.0.254/24", "10.0.0.1"),
        outside: port("192.0.2.254/24", "192.0.2.1"),
        lcores: (0..lcores).collect(),
        yields: true,
        load: Load {
            protocols: [1; 3],
            subscribers: "100.64.0.0/10".parse().unwrap(),
            subscriber_count: flows.div_ceil(16).max(2),
            servers: "198.18.0.0/15".parse().unwrap(),
            sports: 1024..=65535,
            dports: 1..=65535,
            flows,
            popularity: Popularity::Uniform,
            churn: None,
            sizes: Sizes::Fixed(128),
            answers_percent: 100,
            replay: None,
        },
        rate: Rate::Max,
        end: End::After(Duration::from_secs(1)),
        repeats: 1,
        seed: 1,
    }
}

/// An engine and the relay that it tests.
pub struct Lab {
    pub engine: Engine,
    stop: Arc<AtomicBool>,
    relay: Task<Vec<Tally>>,
    flows: u32,
}

impl Lab {
    /// A relay that translates, with these faults.
    pub fn new(profile: &Profile, planted: &[Planted]) -> Lab {
        let eal = Eal::start(&profile.eal).unwrap_or_else(|error| panic!("{error}"));
        let pool = PoolConfig { name: "lab".into(), buffers: 32_767, mtu: 1500, private: 0 };
        let pool = Pool::new(&eal, &pool).unwrap();
        let queues = profile.lcores.len() as u16;
        let config = PortConfig {
            rx_queues: queues,
            tx_queues: queues,
            tx_ring: 4096,
            ..Default::default()
        };
        let pair = |name| Port::pair(&eal, name, &config, &pool).unwrap();
        let ([inside, near], [outside, far]) = (pair("in"), pair("out"));
        let mut profile = profile.clone();
        profile.inside.next_hop_mac = Some(near.0.mac());
        profile.outside.next_hop_mac = Some(far.0.mac());
        let peers = [inside.0.mac(), outside.0.mac()];
        let ends = [near, far].into_iter().zip(peers).map(|((port, rx, tx), peer)| {
            let queues = rx.into_iter().zip(tx);
            (port.mac(), peer, queues.collect::<Vec<_>>())
        });
        let mut ends = ends.map(|(mac, peer, queues)| RelayEnd { queues, mac, peer });
        let ends = [ends.next().unwrap(), ends.next().unwrap()];
        let nat = Nat::new(Ipv4Addr::new(203, 0, 113, 0));
        let relay = Relay::new(ends, Some(nat), planted, pool.clone(), Clock::new(&eal));
        let stop = Arc::new(AtomicBool::new(false));
        let stop_relay = stop.clone();
        let relay = eal.launch(queues.into(), move || relay.run(&stop_relay)).unwrap();
        let engine = Engine::over(&eal, [inside, outside], pool, &profile).unwrap();
        Lab { engine, stop, relay, flows: profile.load.flows }
    }

    /// Opens all flows.
    pub fn open(&mut self) -> Seen {
        self.stage(&Stage::Open { sessions: self.flows, per_second: 20_000.0 })
    }

    /// Sends so many packets a second for so long: not the less for being slower, where others
    /// have the CPU.
    pub fn send(&mut self, per_second: f64, time: Duration, ways: Ways) -> Seen {
        let count = (per_second * time.as_secs_f64()) as u64;
        let (rate, end) = (Rate::Packets(per_second), End::Packets(count));
        self.stage(&Stage::Traffic { rate, end, sizes: None, ways })
    }

    pub fn stage(&mut self, stage: &Stage) -> Seen {
        self.engine.stage(stage, &mut ()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Ends both; what was done of each fault.
    pub fn end(self) -> Vec<Tally> {
        self.stop.store(true, Ordering::Relaxed);
        let tallies = self.relay.join().unwrap();
        drop(self.engine);
        tallies
    }
}

pub fn of(seen: &Seen, way: Way) -> Counts {
    seen.total.counts[way as usize]
}

/// All that was sent has arrived, and was right.
pub fn assert_clean(seen: &Seen) {
    assert_eq!(seen.total.wrong, [0; 7], "{:?}", seen.examples);
    assert!(seen.port_trouble.is_empty(), "{:?}", seen.port_trouble);
    for counts in seen.total.counts {
        let Counts { sent, received, lost, duplicated, reordered, .. } = counts;
        assert_eq!((received, lost, duplicated, reordered), (sent, 0, 0, 0), "{counts:?}");
    }
    assert_eq!((seen.total.not_opened, seen.sessions_lost), (0, 0));
}
