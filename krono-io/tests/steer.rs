//! A device that cannot steer says so, and goes on as if it had not been asked.

mod common;

use krono_core::frame::BURST_MAX;
use krono_core::packet::Mac;
use krono_io::{Burst, Port, PortConfig, PortError, QueueId};

#[test]
fn a_device_without_flow_rules_refuses_and_closes_cleanly() {
    let eal = common::start();
    let pool = common::pool(&eal, "steer", 4095);
    let config = PortConfig { rx_queues: 2, tx_queues: 2, ..PortConfig::default() };
    let (mut port, mut rx, tx) = Port::open(&eal, "net_null0", &config, &pool).unwrap();
    assert_eq!(port.driver(), "net_null");

    let mac = Mac([0x02, 0, 0, 0, 0, 0x10]);
    for vlan in [None, Some(100)] {
        let error = port.steer(mac, vlan, QueueId(1)).err().unwrap();
        assert!(matches!(error, PortError::Refused { .. }), "{error:?}");
        let expected = "device net_null0: cannot steer frames by destination MAC: \
                        Function not implemented";
        assert_eq!(error.to_string(), expected);
    }

    let mut burst = Burst::new();
    for queue in &mut rx {
        assert_eq!(queue.poll(&mut burst), BURST_MAX);
        burst.clear();
    }
    let id = port.id();
    drop((port, rx, tx));
    assert_eq!(pool.in_use(), 0);
    let (next, ..) = Port::open(&eal, "net_null1", &config, &pool).unwrap();
    assert_eq!(next.id(), id, "a closed port's number is free");
    drop((next, pool, eal));
    common::assert_nothing_left();
}
