//! Devices that cannot be opened: each error is a sentence that names the device.

mod common;

use std::os::unix::fs::MetadataExt;

use krono_io::{Eal, EalError, Port, PortConfig, PortError};

#[test]
fn what_cannot_be_opened_is_named() {
    let missing_pci = "0000:ff:1f.7";
    let mut config = common::config();
    config.devices = vec![missing_pci.into()];
    let eal = Eal::start(&config).unwrap_or_else(|error| panic!("{error}"));
    let pool = common::pool(&eal, "pool", 1023);
    let open = |device: &str, config: &PortConfig| Port::open(&eal, device, config, &pool);
    let plain = PortConfig::default();

    let again = Eal::start(&common::config()).err().unwrap();
    assert!(matches!(again, EalError::AlreadyStarted), "{again}");

    let root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let missing = [
        ("net_af_packet0,iface=krono-none", "krono-none"),
        ("net_nonsense0", "net_nonsense0"),
        ("net_pcap0,rx_pcap=/nonexistent/in.pcap", "No such file"),
        ("", "device "),
        ("net_null\0", "NUL"),
    ];
    for (device, part) in missing {
        let error = open(device, &plain).err().unwrap();
        assert!(matches!(error, PortError::Attach { .. }), "{error:?}");
        let text = error.to_string();
        println!("{text}");
        assert!(text.contains(device) && text.contains(part), "{text}");
        assert_eq!(text.contains("CAP_NET_RAW"), !root && device.contains("iface="), "{text}");
    }
    let error = open(missing_pci, &plain).err().unwrap();
    assert!(error.to_string().contains("0000:ff:1f.7: no such port"), "{error}");

    let queues = PortConfig { rx_queues: 2000, ..plain.clone() };
    let error = open("net_null0", &queues).err().unwrap();
    assert!(matches!(error, PortError::Queues { rx: 2000, .. }), "{error}");
    println!("{error}");

    // 32 ports are all that DPDK has; the 33rd is refused by name.
    let ports: Vec<_> =
        (100..132).map(|n| open(&format!("net_null{n}"), &plain).unwrap()).collect();
    let error = open("net_null132", &plain).err().unwrap();
    assert!(matches!(error, PortError::TooManyPorts { .. }), "{error}");
    assert!(error.to_string().contains("net_null132") && error.to_string().contains("32 ports"));
    let error = open("net_null100", &plain).err().unwrap();
    assert!(matches!(error, PortError::InUse { .. }), "{error}");

    drop((ports, pool, eal));
    common::assert_nothing_left();
}
