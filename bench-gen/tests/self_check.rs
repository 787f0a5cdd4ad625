//! Back to back with itself over rings: nothing is lost, and rates are kept.

mod common;

use std::time::Duration;

use bench_gen::engine::{Cable, self_check};
use common::profile;

#[test]
fn over_rings_nothing_is_lost() {
    let mut profile = profile(10_000, 1);
    profile.load.protocols = [1, 0, 0];
    let checked = self_check(&profile, Cable::Ring, Duration::from_secs(1), &mut ()).unwrap();
    println!("{:?}", checked.facts);
    for (name, seen) in
        [("open", &checked.opened), ("ceiling", &checked.ceiling), ("floor", &checked.floor)]
    {
        let latency = |q| seen.latency_ns[0].value_at_quantile(q);
        println!(
            "{name}: {:.0} packets/s, {:?}, latency {} {} ns, {:?}",
            seen.pace.reached_pps,
            seen.total.counts,
            latency(0.5),
            latency(0.99),
            seen.pace
        );
    }
    assert!(checked.passed(), "{:?} {:?}", checked.ceiling.total, checked.ceiling.examples);
    assert_eq!(checked.opened.total.opened, 10_000);
    // Debug builds reach some 500,000 a second on an old CPU that others use as well.
    assert!(checked.ceiling_pps() > 50_000.0, "{}", checked.ceiling_pps());
    let floor = &checked.floor.pace;
    let wanted = floor.wanted_pps.unwrap();
    assert!((floor.reached_pps / wanted - 1.0).abs() < 0.01, "{floor:?}");
}
