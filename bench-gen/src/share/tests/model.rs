//! Random faults against what they must be counted as.

use std::cell::RefCell;
use std::rc::Rc;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Do {
    Pass,
    Drop,
    Double,
    /// Comes after so many more frames of this side.
    Delay(u8),
    Flip(u16),
}

fn what() -> impl Strategy<Value = Do> {
    prop_oneof![
        20 => Just(Do::Pass),
        2 => Just(Do::Drop),
        2 => Just(Do::Double),
        2 => (1_u8..20).prop_map(Do::Delay),
        1 => (0_u16..480).prop_map(Do::Flip),
    ]
}

/// What the counts of one direction must be, from the order of arrival.
#[derive(Default, Debug, PartialEq)]
struct Expected {
    passed: Vec<(u32, u32)>,
    bad: u64,
}

impl Expected {
    /// (received, duplicated, reordered) by the definitions, slowly.
    fn counts(&self) -> (u64, u64, u64) {
        let (mut received, mut duplicated, mut reordered) = (0, 0, 0);
        for (index, (flow, sequence)) in self.passed.iter().enumerate() {
            let before = || self.passed[..index].iter().filter(|(other, _)| other == flow);
            if before().any(|(_, other)| other == sequence) {
                duplicated += 1;
                continue;
            }
            received += 1;
            reordered += u64::from(before().any(|(_, other)| other > sequence));
        }
        (received, duplicated, reordered)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn counts_are_those_of_the_definitions(
        plans in [vec(what(), 1..100), vec(what(), 1..100)],
        which in 0..3_usize,
        flows in 1_u32..5,
    ) {
        let mut protocols = [0; 3];
        protocols[which] = 1;
        let mut world = World::new(load(protocols, flows));
        assert_right(&world.run(&open(flows)));
        let expected = Rc::new(RefCell::new([Expected::default(), Expected::default()]));
        let (noted, mut held, mut at) = (expected.clone(), [vec![], vec![]], [0_usize; 2]);
        world.fault = Box::new(move |side, frame| {
            let way = 1 - side as usize;
            let step = at[way];
            at[way] += 1;
            let mut out = vec![];
            let mut bad = 0;
            match plans[way].get(step).copied().unwrap_or(Do::Pass) {
                Do::Pass => out.push(frame),
                Do::Drop => {}
                Do::Double => out.extend([frame.clone(), frame]),
                Do::Delay(by) => held[way].push((step + usize::from(by), frame)),
                Do::Flip(bit) => {
                    let mut frame = frame;
                    // Behind the link header.
                    let at = 14 + usize::from(bit) / 8 % (frame.len() - 14);
                    frame[at] ^= 1 << (bit % 8);
                    bad = 1;
                    out.push(frame);
                }
            }
            let due: Vec<_> = held[way].extract_if(.., |(due, _)| *due <= step).collect();
            out.extend(due.into_iter().map(|(_, frame)| frame));
            let expected = &mut noted.borrow_mut()[way];
            expected.bad += bad;
            let passed = &out[bad as usize..];
            expected.passed.extend(passed.iter().map(|frame| {
                let at = frame.len() - stamp::STAMP_LEN;
                let word = |at: usize| u32::from_le_bytes(frame[at..at + 4].try_into().unwrap());
                (word(at), word(at + 4))
            }));
            out.into_iter().map(|frame| (side, frame)).collect()
        });
        let seen = world.run_traffic(Ways::Both, 150);
        for (counts, expected) in seen.tally.counts.iter().zip(expected.borrow().iter()) {
            let found = (counts.received, counts.duplicated, counts.reordered);
            prop_assert_eq!(found, expected.counts());
            prop_assert_eq!(counts.lost, counts.sent - counts.received);
            prop_assert_eq!(counts.bad_checksums, expected.bad);
        }
        let bad: u64 = expected.borrow().iter().map(|expected| expected.bad).sum();
        let mut wrong = [0; Wrong::COUNT];
        wrong[Wrong::Checksum as usize] = bad;
        prop_assert_eq!(seen.tally.wrong, wrong);
    }
}
