//! Keys that are chosen to collide: they ruin a table whose seed is known, which shows that they
//! are chosen well, and are keys like any others to a table whose seed is secret.

use krono_core::hash::HashKey;
use krono_core::table::{Bucket, FlowTable, TableFull};

/// A third of what the table is made for.
const KEYS: u32 = 1400;
const CAPACITY: usize = 4096;

/// Keys whose hashes under `known` agree in 6 of the bits that choose the bucket and in 12 of the
/// 16 bits of the tag, which chooses the other bucket. They are found by trying, as an attacker
/// would. For 1/64 of the buckets and 16 tags there are no more than 17/64 of all slots.
fn colliding(known: &HashKey) -> Vec<u64> {
    const AGREE: u64 = 0x3f << 58 | 0xfff;
    let collides = |key: &u64| known.hash(*key, 0) & AGREE == 0x5a5;
    (0..).filter(collides).take(KEYS as usize).collect()
}

fn fill(keys: &[u64], seed: [u8; 32]) -> Result<(), TableFull> {
    let key = HashKey::from_seed(seed);
    let mut buckets = vec![Bucket::EMPTY; FlowTable::buckets_for(CAPACITY)];
    let mut table = FlowTable::new(&mut buckets);
    (0..KEYS).try_for_each(|index| table.insert(key.hash(keys[index as usize], 0), index))
}

#[test]
fn chosen_keys_fill_a_table_of_a_known_seed_only() {
    let keys = colliding(&HashKey::from_seed([0; 32]));
    assert_eq!(fill(&keys, [0; 32]), Err(TableFull), "the keys are not chosen well");
    for secret in 1..=100 {
        assert_eq!(fill(&keys, [secret; 32]), Ok(()), "seed {secret}");
    }
}
