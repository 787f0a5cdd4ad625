//! net_null: endless zero frames in, everything accepted out.

mod common;

use krono_core::frame::{BURST_MAX, Frames, HEADROOM};
use krono_core::packet::Mac;
use krono_io::{Burst, Port, PortConfig};

#[test]
fn bursts_pass_and_all_buffers_come_home() {
    let eal = common::start();
    let pool = common::pool(&eal, "null", 4095);
    let (port, mut rx, mut tx) =
        Port::open(&eal, "net_null0,size=64", &PortConfig::default(), &pool).unwrap();
    assert_eq!((rx.len(), tx.len(), port.device()), (1, 1, "net_null0,size=64"));
    assert_ne!(port.mac(), Mac::default());

    let mut burst = Burst::new();
    for _ in 0..1000 {
        assert_eq!(rx[0].poll(&mut burst), BURST_MAX);
        assert_eq!(rx[0].poll(&mut burst), 0, "a full burst has no room");
        for index in 0..burst.len() {
            let mut frame = burst.frame(index);
            assert_eq!((*frame.start, *frame.wire_len), (HEADROOM, 64));
            assert!(frame.grow_front(4));
        }
        assert_eq!(tx[0].send(&mut burst), BURST_MAX);
        assert_eq!(tx[0].send(&mut burst), 0, "an empty burst is sent in no time");
    }
    let stats = port.stats();
    assert_eq!((stats.rx_packets, stats.tx_packets), (64_000, 64_000));

    drop((rx, tx));
    assert_eq!(pool.in_use(), 0);
    drop((port, pool, eal));
    common::assert_nothing_left();
}
