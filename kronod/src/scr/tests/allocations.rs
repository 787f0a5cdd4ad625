//! Neither a sequencer nor a replica allocates or frees memory once it runs, a state handed over or not.

use allocation_counter::{AllocationInfo, measure, opt_out};
use krono_core::packet::Side;
use krono_core::time::Moment;
use scr_sequencer::programs::heavy::{Config, Heavy};

use super::bed::{Bed, config};
use super::neighbours::{arp, udp};

#[test]
fn neither_packets_nor_a_core_that_joins_takes_memory() {
    let config = config("{ program: heavy, workers: [ 1, 2, 3 ], sequencer: { history: 8 } }");
    let mut bed = Bed::new(&config, true, |_| Ok(Heavy::new(&Config::default()).unwrap()));
    let rounds = |bed: &mut Bed<Heavy>| {
        for round in 0..40 {
            opt_out(|| {
                (0..50).for_each(|_| bed.wire(Side::Outside, &udp()));
                bed.wire(Side::Outside, &arp(Side::Outside, false));
            });
            bed.now = Moment(bed.now.0 + 100_000_000);
            match round % 10 {
                3 => {
                    bed.sequencing.wanted &= !2;
                    bed.sequencing.sequencer.deactivate(1);
                }
                7 => bed.sequencing.wanted |= 2,
                _ => {}
            }
            bed.settle();
            opt_out(|| {
                (0..3).for_each(|core| {
                    Side::BOTH.iter().for_each(|side| drop(bed.sent(core, *side)))
                });
            });
        }
    };
    rounds(&mut bed);
    let epoch = bed.sequencing.sequencer.epoch();
    let counted = measure(|| rounds(&mut bed));
    assert_eq!(counted, AllocationInfo::default());
    assert_eq!(bed.sequencing.sequencer.epoch() - epoch, 8, "four have left and come back");
    assert_eq!(bed.sequencing.handover.wish(), None);
}
