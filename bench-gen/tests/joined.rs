//! Back to back with itself over rings: nothing is lost, and rates are kept.

mod common;

use std::time::Duration;

use bench_gen::bench::{Bench, Pace, Stage, Ways};
use bench_gen::engine::{Cable, Engine};
use bench_gen::load::{End, Rate};
use common::{assert_clean, profile};

#[test]
fn over_rings_nothing_is_lost_and_rates_are_kept() {
    let mut engine = Engine::joined(&profile(10_000, 1), Cable::Ring).unwrap();
    let mut stage = |stage: &Stage| engine.stage(stage, &mut ()).unwrap();
    let opened = stage(&Stage::Open { sessions: 10_000, per_second: f64::INFINITY });
    assert_clean(&opened);
    assert_eq!(opened.total.opened, 10_000);
    for rate in [Rate::Max, Rate::Packets(10e3), Rate::Packets(100e3), Rate::Bits(10e6)] {
        let end = End::After(Duration::from_secs(1));
        let seen = stage(&Stage::Traffic { rate, end, sizes: None, ways: Ways::Both });
        assert_clean(&seen);
        let Pace { reached_pps, burstiness, mean_burst, .. } = seen.pace;
        let latency = |q| seen.latency_ns[0].value_at_quantile(q);
        println!(
            "{rate:?}: {reached_pps:.0} packets/s, {mean_burst:.1} in one go, burstiness \
             {burstiness:.2}, latency {} to {} ns",
            latency(0.5),
            latency(0.99),
        );
        // Frames of 128 bytes are 148 on the wire.
        let wanted = match rate {
            Rate::Packets(rate) => rate,
            Rate::Bits(rate) => rate / (148.0 * 8.0),
            Rate::Max => reached_pps,
        };
        // What others took of the CPU was not sent, and is told.
        let unsent = seen.total.counts[0].unsent as f64;
        assert!(((reached_pps + unsent) / wanted - 1.0).abs() < 0.01, "{:?} {unsent}", seen.pace);
    }
}
