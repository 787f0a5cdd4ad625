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
