//! The reader of requests against bytes that nobody would send.

use kronod::control::protocol::{Request, fuzz_control};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const ROUNDS: usize = 50_000;

const SEEDS: [&str; 9] = [
    include_str!("../data/requests/bfd.json"),
    include_str!("../data/requests/cluster.json"),
    include_str!("../data/requests/drain.json"),
    include_str!("../data/requests/filtered-sessions.json"),
    include_str!("../data/requests/lookup.json"),
    include_str!("../data/requests/lookup-before-version.json"),
    include_str!("../data/requests/sessions.json"),
    include_str!("../data/requests/stats.json"),
    include_str!("../data/requests/status.json"),
];

#[test]
fn requests_survive_being_written_and_read() {
    for line in SEEDS {
        assert!(Request::from_line(line.as_bytes()).is_ok(), "{line}");
        fuzz_control(line.as_bytes());
    }
}

#[test]
fn mutated_requests_are_read_or_refused() {
    let seed = std::env::var("KRONO_SEED").map_or(20, |seed| seed.parse().expect("a number"));
    println!("KRONO_SEED={seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut read = 0;
    for _ in 0..ROUNDS {
        let mut line = SEEDS[random.random_range(0..SEEDS.len())].as_bytes().to_vec();
        for _ in 0..random.random_range(1..4) {
            mutate(&mut line, &mut random);
        }
        fuzz_control(&line);
        read += usize::from(Request::from_line(&line).is_ok());
    }
    assert!(read > ROUNDS / 100 && read < ROUNDS, "{read} of {ROUNDS} were requests");
}

fn mutate(line: &mut Vec<u8>, random: &mut ChaCha8Rng) {
    let at = random.random_range(0..line.len().max(1)).min(line.len());
    let end = (at + random.random_range(0..8)).min(line.len());
    match random.random_range(0..6) {
        0 if at < line.len() => line[at] ^= 1 << random.random_range(0..8),
        1 if at < line.len() => line[at] = random.random(),
        2 => line.insert(at, b"{}[]\",:0129.eE-\\u/ "[random.random_range(0..19)]),
        3 => drop(line.drain(at..end)),
        4 => line.extend_from_within(at..end),
        _ => {
            let digits = random.random_range(0..40);
            line.splice(at..at, std::iter::repeat_n(b'9', digits));
        }
    }
}
