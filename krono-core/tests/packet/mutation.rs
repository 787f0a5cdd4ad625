//! The bodies of the fuzz targets over mutated packets and over inputs that once failed.

use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::bodies;
use crate::build::{Framed, any_framed};
use crate::properties::many_cases;

fn run_all(input: &[u8]) {
    bodies::parse(input);
    bodies::apply(input);
    bodies::reply(input);
}

/// A frame with a few bytes changed, cut or continued.
fn any_mutated() -> impl Strategy<Value = Vec<u8>> {
    let changes = vec((any::<Index>(), any::<u8>()), 0..4);
    let len = prop_oneof![2 => Just(None), 1 => any::<Index>().prop_map(Some)];
    (any_frame(), changes, len, vec(any::<u8>(), 0..4)).prop_map(
        |(mut bytes, changes, len, more)| {
            for (at, byte) in changes {
                // Headers are hit as often as the rest.
                let at = if byte & 1 == 0 {
                    at.index(bytes.len())
                } else {
                    at.index(bytes.len().min(80))
                };
                bytes[at] = byte;
            }
            bytes.truncate(len.map_or(bytes.len(), |len| len.index(bytes.len())));
            bytes.extend(more);
            bytes
        },
    )
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let arp = (1..=2u8, any::<[u8; 20]>()).prop_map(|(operation, addresses)| {
        let mut bytes = [[0xff; 6], [2, 0, 0, 0, 0, 2]].concat();
        bytes.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, operation]);
        bytes.extend(addresses);
        bytes
    });
    prop_oneof![9 => any_framed().prop_map(|framed: Framed| framed.bytes()), 1 => arp]
}

proptest! {
    #![proptest_config(many_cases())]

    #[test]
    fn the_bodies_hold_for_mutated_packets(
        parameters in any::<[u8; bodies::PARAMETERS_LEN]>(),
        whole in any::<bool>(),
        frame in any_mutated(),
    ) {
        let mut parameters = parameters;
        if whole {
            // No further segments.
            parameters[1..3].fill(0);
        }
        run_all(&[&parameters[..], &frame].concat());
    }
}

#[test]
fn the_bodies_hold_for_inputs_that_once_failed() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/regressions");
    let mut files: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        // A failure is told from the last name printed.
        println!("{}", file.display());
        run_all(&std::fs::read(&file).unwrap());
    }
}
