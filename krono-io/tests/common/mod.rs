//! What the tests on a real EAL share. The EAL starts once per process: one test per file.
#![allow(dead_code, reason = "no test needs all of it")]

use std::path::Path;
use std::process;

use krono_io::{Eal, EalConfig, Hugepages, Pool, PoolConfig};

/// A configuration that runs anywhere: no root, no huge pages, two lcores on one CPU.
pub(crate) fn config() -> EalConfig {
    EalConfig {
        memory_mb: 64,
        hugepages: Hugepages::Off,
        lcores: Some("0@0,1@0".into()),
        ..EalConfig::default()
    }
}

pub(crate) fn start() -> Eal {
    Eal::start(&config()).unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn pool(eal: &Eal, name: &str, buffers: u32) -> Pool {
    let config = PoolConfig { name: name.into(), buffers, mtu: 1500, private: 0 };
    Pool::new(eal, &config).unwrap_or_else(|error| panic!("{error}"))
}

/// Whether the EAL, started without huge pages, has left this process' directory behind.
pub(crate) fn assert_nothing_left() {
    for base in ["/run/dpdk", "/tmp/dpdk"] {
        let path = Path::new(base).join(format!("krono-{}", process::id()));
        assert!(!path.exists(), "{} is left", path.display());
    }
}

/// An Ethernet frame of `len` bytes for tests, told from others by its number.
pub(crate) fn frame(number: u32, len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len).map(|i| (i as u32).wrapping_mul(31 + number) as u8).collect();
    bytes[14..18].copy_from_slice(&number.to_be_bytes());
    bytes
}
