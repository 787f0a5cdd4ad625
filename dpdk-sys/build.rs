//! Finds libdpdk, compiles the shim, and generates the bindings that krono-io needs.

use std::env;
use std::path::PathBuf;
use std::process::{Command, exit};

/// The functions that krono-io calls; the types that they use follow by themselves.
const FUNCTIONS: &[&str] = &[
    "rte_dev_probe",
    "rte_eal_(init|cleanup|remote_launch|wait_lcore|mp_wait_lcore|get_runtime_dir)",
    "rte_eth_dev_(adjust_nb_rx_tx_desc|close|configure|get_port_by_name|info_get|socket_id|count_total)",
    "rte_eth_dev_(mac_addr_add|start|stop)",
    "rte_eth_(from_rings|link_get_nowait|macaddr_get|promiscuous_enable|[rt]x_queue_setup|stats_get)",
    "rte_flow_(create|flush|validate)",
    "rte_get_(main_lcore|tsc_hz)",
    // For a bench to compare with. What nobody calls costs nothing.
    "rte_hash_(add_key_data|create|free|lookup_bulk_data)",
    "rte_lcore_is_enabled",
    "rte_log_cur_msg_loglevel",
    "rte_mbuf_dyn_rx_timestamp_register",
    "rte_mempool_(avail_count|in_use_count)",
    "rte_openlog_stream",
    "rte_pktmbuf_(free_bulk|pool_create)",
    "rte_ring_(create|free|get_memsize|init)",
    "rte_strerror",
    "fopencookie",
    "shim_.*",
];

/// Types that the functions take by pointers to anything.
const TYPES: &[&str] = &["rte_flow_(action_queue|item_(eth|vlan))"];

/// Macros and enum values.
const CONSTANTS: &[&str] = &[
    "RTE_ETH_RSS_(IP|TCP|UDP)",
    "RTE_ETH_TX_OFFLOAD_MULTI_SEGS",
    "RTE_LOG_ERR",
    "RTE_MAX_ETHPORTS",
    "RTE_MEMPOOL_CACHE_MAX_SIZE",
    "RTE_MEMPOOL_NAMESIZE",
    "RTE_PKTMBUF_HEADROOM",
    "RING_F_(SP_ENQ|SC_DEQ|EXACT_SZ)",
];

/// Types that krono-io only points at.
const OPAQUE: &[&str] = &[
    "_IO_FILE",
    "rte_device",
    "rte_eth_rxseg_.*",
    "rte_mbuf_ext_shared_info",
    "rte_mempool",
    "rte_ring",
];

fn main() {
    println!("cargo:rerun-if-changed=shim.h");
    println!("cargo:rerun-if-changed=shim.c");
    if let Err(error) = pkg_config::Config::new().atleast_version("22.11").probe("libdpdk") {
        println!(
            "cargo::error=krono needs DPDK 22.11 or later with its headers; on Debian or Ubuntu:"
        );
        println!("cargo::error=apt install libdpdk-dev pkg-config clang libclang-dev");
        println!("cargo::error={}", error.to_string().replace('\n', " "));
        exit(1);
    }
    // A driver, which pkg-config leaves out: they are loaded at run time. This one has a function.
    println!("cargo:rustc-link-lib=rte_net_ring");
    let cflags = cflags();
    let mut shim = cc::Build::new();
    shim.file("shim.c").opt_level(3);
    for flag in &cflags {
        shim.flag(flag);
    }
    shim.compile("dpdk_shim");
    bind(&cflags);
}

/// What pkg-config says to compile with. The `pkg-config` crate passes on neither `-march` nor
/// `-include rte_config.h`, without which the headers do not compile as libdpdk was compiled.
fn cflags() -> Vec<String> {
    let pkg_config = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".into());
    let output = Command::new(pkg_config)
        .args(["--cflags", "libdpdk"])
        .output()
        .expect("pkg-config ran a moment ago");
    let flags = String::from_utf8(output.stdout).expect("compiler flags are text");
    flags.split_whitespace().map(String::from).collect()
}

fn bind(cflags: &[String]) {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let mut builder = bindgen::Builder::default()
        .header("shim.h")
        .clang_args(cflags)
        // Without the fallback the RTE_BIT64() macros, all offload flags, are silently missing.
        .clang_macro_fallback()
        .clang_macro_fallback_build_dir(&out)
        .default_enum_style(bindgen::EnumVariation::Consts)
        .derive_default(true)
        .generate_comments(false);
    builder = FUNCTIONS.iter().fold(builder, |builder, name| builder.allowlist_function(name));
    builder = TYPES.iter().fold(builder, |builder, name| builder.allowlist_type(name));
    builder = CONSTANTS.iter().fold(builder, |builder, name| builder.allowlist_var(name));
    builder = OPAQUE.iter().fold(builder, |builder, name| builder.opaque_type(name));
    builder
        .generate()
        .expect("bindgen reads the DPDK headers")
        .write_to_file(out.join("bindings.rs"))
        .expect("OUT_DIR is writable");
}
