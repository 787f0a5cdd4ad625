//! What krono asks of the CPU that it runs on.
//!
//! krono is built for a level of x86 (`.cargo/config.toml`), so the compiler takes for granted what
//! an old server lacks or a hypervisor hides. A program that asks first can say so; one that does not
//! ends with an illegal instruction, which says nothing.

use std::fmt::Write;

/// Which registers of a leaf of CPUID say what the CPU has: EBX and ECX.
type Leaf = [u32; 2];

/// The features that x86-64-v3 has over v2 (System V ABI for x86-64, "micro-architecture levels"):
/// leaf of CPUID, register of [`Leaf`], bit, and the name of `/proc/cpuinfo`.
const FEATURES: [(u32, usize, u32, &str); 9] = [
    (1, 1, 12, "fma"),
    (1, 1, 22, "movbe"),
    (1, 1, 27, "osxsave"),
    (1, 1, 28, "avx"),
    (1, 1, 29, "f16c"),
    (7, 0, 3, "bmi1"),
    (7, 0, 5, "avx2"),
    (7, 0, 8, "bmi2"),
    (0x8000_0001, 1, 5, "abm"),
];

/// Whether this CPU has what the program was built to use.
///
/// # Errors
/// What it lacks and what to do, as a sentence for the user.
pub fn check() -> Result<(), String> {
    if cfg!(target_feature = "avx2") { check_features(leaf) } else { Ok(()) }
}

fn check_features(leaf: impl Fn(u32) -> Leaf) -> Result<(), String> {
    let lacks = |&&(number, register, bit, _): &&(u32, usize, u32, &str)| {
        leaf(number)[register] >> bit & 1 == 0
    };
    let mut missing = String::new();
    for (.., name) in FEATURES.iter().filter(lacks) {
        let _ = write!(missing, " {name}");
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "this CPU lacks{missing}, and the program was built for x86-64-v3; build it here with \
         RUSTFLAGS='-C target-cpu=native', or have the hypervisor show the host's CPU"
    ))
}

#[cfg(target_arch = "x86_64")]
fn leaf(number: u32) -> Leaf {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    // The highest number of a leaf of the same half: what lies beyond says nothing.
    if __cpuid(number & 0x8000_0000).eax < number {
        return [0; 2];
    }
    let leaf = __cpuid_count(number, 0);
    [leaf.ebx, leaf.ecx]
}

#[cfg(not(target_arch = "x86_64"))]
fn leaf(_: u32) -> Leaf {
    [u32::MAX; 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_runs_what_was_built_on_it() {
        assert_eq!(check(), Ok(()));
    }

    #[test]
    fn what_is_missing_is_named() {
        // Sandy Bridge had AVX and nothing of what came with Haswell.
        let old = |number| if number == 1 { [0, 1 << 27 | 1 << 28] } else { [0; 2] };
        let error = check_features(old).unwrap_err();
        assert!(error.contains("lacks fma movbe f16c bmi1 avx2 bmi2 abm, and"), "{error}");
        assert_eq!(check_features(|_| [u32::MAX; 2]), Ok(()));
    }
}
