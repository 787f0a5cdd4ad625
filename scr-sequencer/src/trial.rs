//! Whether a program keeps its promise: that equal records make equal replicas.
//!
//! Nothing can prove that of any program. But one that reads a clock, draws numbers of its own, or
//! follows the order of a map that differs from run to run does not come through a trial with as many
//! records as this one has; so it is refused at start, before its replicas differ behind a NIC.

use crate::{Replicable, Shipped};

/// Records of a trial.
const RECORDS: u64 = 4096;

/// A program that cannot be replicated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Two that began alike went different ways.
    #[error(
        "two replicas of program {name} differ behind the same {record} records: it is not \
         deterministic, and cannot be replicated"
    )]
    Differs {
        /// Its name.
        name: &'static str,
        /// Behind so many records.
        record: u64,
    },
    /// A copy is not what it was copied from.
    #[error(
        "a copy of a replica of program {name} differs from it: it does not copy all of its state, \
         and cannot be replicated"
    )]
    Copy {
        /// Its name.
        name: &'static str,
    },
    /// A record of zeros is to change nothing.
    #[error("a record of zeros changes the state of program {name}, which cannot be replicated")]
    Zeros {
        /// Its name.
        name: &'static str,
    },
}

/// Steps two replicas, which must be new and equal, on records of random bytes, and holds them against
/// each other; `copy` becomes a copy of one of them on the way, and goes on with them.
///
/// Both are used up: their states are full of what never was.
///
/// # Errors
/// What the program does not keep to.
pub fn check<P: Replicable>(one: &mut P, other: &mut P, copy: &mut P) -> Result<(), Unfit> {
    let name = P::NAME;
    let new = one.digest();
    step(one, &P::Record::default());
    if one.digest() != new {
        return Err(Unfit::Zeros { name });
    }
    step(other, &P::Record::default());
    let mut random = 0x0139_408d_cbbf_7a44;
    for record in 1..=RECORDS {
        let shipped = arbitrary::<P::Record>(&mut random, record);
        step(one, &shipped);
        step(other, &shipped);
        if record == RECORDS / 2 {
            copy.copy_from(one);
        } else if record > RECORDS / 2 {
            step(copy, &shipped);
        }
        if record.is_power_of_two() && one.digest() != other.digest() {
            return Err(Unfit::Differs { name, record });
        }
    }
    if copy.digest() == one.digest() { Ok(()) } else { Err(Unfit::Copy { name }) }
}

/// Lets time pass as far as the record says, and steps on it.
fn step<P: Replicable>(program: &mut P, record: &P::Record) {
    if let Some(now) = P::time(record) {
        program.tick(now, &mut ());
    }
    let probe = program.probe(record);
    program.step(record, &probe, &mut ());
}

/// A record of random bytes; every other one differs from the one before it in its last bytes only,
/// so that state is met again.
fn arbitrary<R: Shipped>(random: &mut u64, number: u64) -> R {
    let mut record = R::default();
    let mut seed = *random ^ (number / 2);
    for (at, byte) in record.as_mut_bytes().iter_mut().enumerate() {
        if number.is_multiple_of(2) && at + 4 > R::BYTES {
            seed ^= number;
        }
        seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
        *byte = (seed >> 56) as u8;
    }
    *random = random.wrapping_add(0x9e37_79b9_7f4a_7c15 * (number & 1));
    record
}

#[cfg(test)]
mod tests {
    use krono_core::packet::{PacketMeta, Side};
    use krono_core::program::{Events, Program, Verdict};
    use krono_core::time::{Moment, Ticks};

    use super::*;
    use crate::programs::{bucket, conntrack, ddos, heavy, knock};

    /// A sum, and how it breaks its promise.
    struct Sum {
        sum: u64,
        /// What a clock or a random number would be.
        own: u64,
        copies: bool,
        skips_zeros: bool,
    }

    impl Sum {
        fn new(own: u64) -> Sum {
            Sum { sum: 0, own, copies: true, skips_zeros: true }
        }
    }

    impl Program for Sum {
        type Record = [u8; 4];
        type Probe = ();
        type Event = ();

        fn record(_: &PacketMeta, _: Side, _: Moment) -> [u8; 4] {
            [1; 4]
        }

        fn probe(&self, _: &[u8; 4]) {}

        fn step(&mut self, record: &[u8; 4], _: &(), _: &mut impl Events<()>) -> Verdict {
            if *record != [0; 4] || !self.skips_zeros {
                let word = u64::from(u32::from_le_bytes(*record)) + self.own + 1;
                self.sum = self.sum.rotate_left(7).wrapping_add(word);
            }
            Verdict::Pass
        }

        fn tick(&mut self, _: Ticks, _: &mut impl Events<()>) -> bool {
            false
        }
    }

    impl Replicable for Sum {
        const NAME: &'static str = "sum";

        fn copy_from(&mut self, other: &Sum) {
            if self.copies {
                self.sum = other.sum;
            }
        }

        fn digest(&self) -> u64 {
            self.sum
        }
    }

    fn three(make: impl Fn(u64) -> Sum) -> Result<(), Unfit> {
        check(&mut make(0), &mut make(1), &mut make(2))
    }

    #[test]
    fn who_keeps_the_promise_comes_through() {
        assert_eq!(three(|_| Sum::new(0)), Ok(()));
    }

    #[test]
    fn who_has_something_of_its_own_does_not() {
        let error = three(Sum::new).unwrap_err();
        assert_eq!(error, Unfit::Differs { name: "sum", record: 1 });
        assert!(error.to_string().contains("program sum differ"), "{error}");
    }

    #[test]
    fn who_is_not_copied_whole_does_not() {
        let made = |_| Sum { copies: false, ..Sum::new(0) };
        assert_eq!(three(made), Err(Unfit::Copy { name: "sum" }));
    }

    #[test]
    fn who_heeds_zeros_does_not() {
        let made = |_| Sum { skips_zeros: false, ..Sum::new(0) };
        assert_eq!(three(made), Err(Unfit::Zeros { name: "sum" }));
    }

    #[test]
    fn all_programs_come_through() {
        macro_rules! comes_through {
            ($($program:ty, $config:expr;)*) => {$({
                let mut made = [0; 3].map(|_| <$program>::new(&$config).unwrap());
                let [one, other, copy] = &mut made;
                let new = one.digest();
                assert_eq!(check(one, other, copy), Ok(()));
                // Random ports are no knocks.
                let changes = <$program>::NAME != "knock";
                assert_eq!(one.digest() != new, changes, "the records do something");
            })*};
        }
        comes_through! {
            ddos::Ddos, ddos::Config::default();
            heavy::Heavy, heavy::Config::default();
            bucket::Policer, bucket::Config::default();
            knock::Knock, knock::Config::default();
            conntrack::Conntrack, conntrack::Config { is_strict: false, ..Default::default() };
        }
    }
}
