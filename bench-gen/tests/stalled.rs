//! A device that takes nothing.

mod common;

use std::time::{Duration, Instant};

use bench_gen::bench::{Bench, Stage, Ways};
use bench_gen::engine::Engine;
use bench_gen::load::{End, Rate};
use krono_io::{Eal, Pool, PoolConfig, Port, PortConfig};

#[test]
fn a_count_of_packets_ends_although_no_port_takes_them() {
    let mut profile = common::profile(100, 1);
    let eal = Eal::start(&profile.eal).unwrap_or_else(|error| panic!("{error}"));
    let pool = PoolConfig { name: "stalled".into(), buffers: 16_383, mtu: 1500, private: 0 };
    let pool = Pool::new(&eal, &pool).unwrap();
    let pair = |name| Port::pair(&eal, name, &PortConfig::default(), &pool).unwrap();
    // Nobody takes anything out at the far ends.
    let ([inside, near], [outside, far]) = (pair("in"), pair("out"));
    profile.inside.next_hop_mac = Some(near.0.mac());
    profile.outside.next_hop_mac = Some(far.0.mac());
    let mut engine = Engine::over(&eal, [inside, outside], pool, &profile).unwrap();
    let (rate, end) = (Rate::Max, End::Packets(1_000_000));
    let began = Instant::now();
    let stage = Stage::Traffic { rate, end, sizes: None, ways: Ways::Both };
    let failed = engine.stage(&stage, &mut ()).expect_err("it cannot have sent all");
    assert!(failed.to_string().contains("is the device there"), "{failed}");
    assert!(began.elapsed() < Duration::from_secs(30));
    // The lcores are at hand for what comes next.
    engine.stage(&Stage::Forget, &mut ()).unwrap();
}
