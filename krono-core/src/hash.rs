//! A keyed 64-bit hash of 16-byte keys.

/// The secret of a hash function; two keys make two independent functions.
///
/// The function is a folded multiply (the 128-bit product of two 64-bit words, its halves XORed)
/// over both words of the key, and one more to finish, as in the wyhash family: two
/// multiplications, no table, no loop.
///
/// # What it resists
/// Without the key nobody knows how to choose inputs that collide, so a sender cannot fill one
/// bucket of a flow table on purpose. That is a claim from practice and not a proof: this is no
/// pseudo-random function in the cryptographic sense, and whoever learns hash values can work back
/// to the key. So draw the seed from the operating system at start, and let no hash value out of
/// the process. CRC32, which the published cuckoo++ uses, resists nothing: it is linear, and its
/// collisions are known without any key.
#[derive(Clone)]
pub struct HashKey([u64; 4]);

/// Odd words without structure (the fractional part of π), so that a seed of few bits, as tests
/// use it, still gives a key of many.
const PI: [u64; 4] =
    [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7345, 0xa409_3822_299f_31d1, 0x082e_fa98_ec4e_6c89];

impl HashKey {
    /// The key that this seed stands for; every bit of it counts.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let mut key = PI;
        for (word, bytes) in key.iter_mut().zip(seed.as_chunks().0) {
            *word ^= u64::from_le_bytes(*bytes);
        }
        HashKey(key)
    }

    /// The hash of the 16-byte key made of these two words.
    #[inline]
    pub const fn hash(&self, a: u64, b: u64) -> u64 {
        let [k0, k1, k2, k3] = self.0;
        folded_multiply(folded_multiply(a ^ k0, b ^ k1) ^ k2, k3 | 1)
    }

    /// A short digest of four words, to find what was changed by accident: half the multiplications
    /// of hashing them, and none that waits for another. It is NH of UMAC (Black et al., CRYPTO
    /// 1999), the sum of the products of pairs of words that a key was added to, folded to 32 bits.
    /// What is proved of NH holds for the sum that is not folded; of this one a test tries all
    /// changes of one bit and of two.
    #[inline]
    pub const fn digest(&self, words: [u64; 4]) -> u32 {
        let [k0, k1, k2, k3] = self.0;
        let [a, b, c, d] = words;
        let first = a.wrapping_add(k0) as u128 * b.wrapping_add(k1) as u128;
        let second = c.wrapping_add(k2) as u128 * d.wrapping_add(k3) as u128;
        let sum = first.wrapping_add(second);
        (((sum >> 64) as u64 ^ sum as u64) >> 32) as u32
    }
}

/// The upper half of the 128-bit product, XORed with the lower.
#[inline]
const fn folded_multiply(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    (product >> 64) as u64 ^ product as u64
}

impl std::fmt::Debug for HashKey {
    /// The key stays secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HashKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_bit_and_every_key_bit_turns_about_half_of_the_hash() {
        let mut turned = 0;
        let mut pairs = 0;
        for bit in 0..256 {
            let mut seed = [7; 32];
            let before = HashKey::from_seed(seed).hash(1, 2);
            seed[bit / 8] ^= 1 << (bit % 8);
            turned += (before ^ HashKey::from_seed(seed).hash(1, 2)).count_ones();
            pairs += 1;
        }
        let key = HashKey::from_seed([0; 32]);
        for bit in 0..64 {
            for word in 0..100 {
                let before = key.hash(word, !word);
                turned += (before ^ key.hash(word ^ 1 << bit, !word)).count_ones();
                turned += (before ^ key.hash(word, !word ^ 1 << bit)).count_ones();
                pairs += 2;
            }
        }
        let mean = f64::from(turned) / f64::from(pairs);
        assert!((31.5..32.5).contains(&mean), "{mean} bits of 64 turn");
    }

    #[test]
    fn no_bit_that_changes_leaves_a_digest_as_it_was() {
        for seed in 0..32 {
            let key = HashKey::from_seed([seed; 32]);
            let words = [u64::from(seed), 1 << seed, 0, u64::MAX];
            let before = key.digest(words);
            for bit in 0..256 {
                let mut changed = words;
                changed[bit / 64] ^= 1 << (bit % 64);
                assert_ne!(key.digest(changed), before, "bit {bit}, seed {seed}");
                // Nor does any that changes besides.
                for other in 0..bit {
                    let mut both = changed;
                    both[other / 64] ^= 1 << (other % 64);
                    assert_ne!(key.digest(both), before, "bits {bit} and {other}, seed {seed}");
                }
            }
        }
    }

    /// Neighbouring subscribers and ports are what real keys look like.
    #[test]
    fn regular_keys_spread_evenly_over_buckets_and_tags() {
        for seed in 0..8 {
            let key = HashKey::from_seed([seed; 32]);
            let (mut buckets, mut tags) = ([0_u32; 1 << 10], [0_u32; 1 << 10]);
            for address in 0..1 << 8 {
                for port in 0..1 << 10 {
                    let hash = key.hash(0x6440_0000_0000 | address << 16 | port, 17);
                    buckets[(hash >> 54) as usize] += 1;
                    tags[(hash & 0x3ff) as usize] += 1;
                }
            }
            for counts in [buckets, tags] {
                let expected = 256.0;
                let chi_square: f64 =
                    counts.iter().map(|&n| (f64::from(n) - expected).powi(2) / expected).sum();
                // 1,023 degrees of freedom: five standard deviations are 226.
                assert!((797.0..1249.0).contains(&chi_square), "seed {seed}: {chi_square}");
            }
        }
    }
}
