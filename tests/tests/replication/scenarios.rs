//! The cases that the authors of State-Compute Replication list for two cores (readme of their
//! artifact's `pkt_loss`): which packets are lost, and what each core must do about it.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::chain::Chain;
use super::traffic::Traffic;
use super::world::{self, Plan};
use scr_sequencer::recovery::Patience;

#[test]
fn two_cores_do_right_in_the_cases_that_the_authors_list() {
    // What is lost, and how many of that no core has: of two that follow each other, and go to two
    // cores, the first is in no history that arrives.
    let cases: [(&[u64], usize); 9] = [
        (&[1], 0),
        (&[2], 0),
        (&[1, 2], 1),
        (&[3], 0),
        (&[4], 0),
        (&[3, 4], 1),
        (&[1, 2, 3], 2),
        (&[2, 3, 4], 2),
        (&[3, 4, 5, 6], 3),
    ];
    for (lost, skipped) in cases {
        for seed in 0..50 {
            println!("{lost:?}, seed {seed}");
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let traffic = Traffic::any(&mut random);
            let plan = Plan { lost: lost.to_vec(), ..two_cores() };
            let seen = world::run(|| Chain::new(9), traffic.packets(), &plan, &mut random);
            assert_eq!(seen.skipped, skipped);
            assert_eq!((seen.late, seen.copies), (0, 0));
        }
    }
}

fn two_cores() -> Plan {
    Plan {
        cores: 2,
        recovers: true,
        slots: 1024,
        loss: 0,
        loss_run: 1,
        swaps: 0,
        burst: 8,
        in_flight: 0,
        cut_off: None,
        pauses: false,
        before: 0,
        lost: Vec::new(),
        patience: Patience { idle: 3, silent: u32::MAX },
    }
}
