//! Ports joined by rings: what one sends the other receives, queue by queue, between lcores.

mod common;

use krono_core::frame::BURST_MAX;
use krono_io::{Burst, Port, PortConfig, PortError, RxQueue, TxQueue};

/// Frames that one lcore sends to the other, and gets back.
const COUNT: u32 = 100_000;

/// Sends what comes back to where it came from.
fn reflect(rx: &mut RxQueue, tx: &mut TxQueue) {
    let mut reflected = 0;
    let mut burst = Burst::new();
    while reflected < COUNT as usize {
        rx.poll(&mut burst);
        while !burst.is_empty() {
            reflected += tx.send(&mut burst);
            std::thread::yield_now();
        }
        std::thread::yield_now();
    }
}

#[test]
fn frames_cross_over_and_none_is_lost_between_lcores() {
    let eal = common::start();
    let pool = common::pool(&eal, "pair", 8191);
    let config =
        PortConfig { rx_queues: 2, tx_queues: 2, rx_ring: 100, tx_ring: 100, ..Default::default() };
    let [(near, mut near_rx, mut near_tx), (far, mut far_rx, mut far_tx)] =
        Port::pair(&eal, "cable", &config, &pool).unwrap();
    assert_ne!(near.id(), far.id());
    assert_ne!(near.mac(), far.mac());
    assert_eq!((near.driver(), near.device()), ("net_ring", "cable-0"));
    let again = Port::pair(&eal, "cable", &config, &pool).err().unwrap();
    assert!(matches!(again, PortError::Attach { .. }), "{again}");

    // A ring is as large as was asked; each queue has its own.
    let mut burst = Burst::new();
    let mut sent = 0;
    for number in 0..128 {
        let mut mbuf = pool.alloc().unwrap();
        assert!(mbuf.write(&common::frame(number, 60)));
        burst.push(mbuf).unwrap();
        if burst.is_full() {
            sent += near_tx[1].send(&mut burst);
            burst.clear();
        }
    }
    assert_eq!(sent, 100);
    assert_eq!((far_rx[0].poll(&mut burst), near_rx[1].poll(&mut burst)), (0, 0));
    assert_eq!(far_rx[1].poll(&mut burst), BURST_MAX);
    assert_eq!(burst[0].bytes(), common::frame(0, 60));
    burst.clear();

    let (mut rx, mut tx) = (far_rx.remove(0), far_tx.remove(0));
    let task = eal.launch(1, move || reflect(&mut rx, &mut tx)).unwrap();
    let (mut made, mut expected) = (0, 0);
    let mut incoming = Burst::new();
    while expected < COUNT {
        while made < COUNT && !burst.is_full() {
            let Some(mut mbuf) = pool.alloc() else { break };
            assert!(mbuf.write(&common::frame(made, 60 + made as usize % 1400)));
            burst.push(mbuf).unwrap();
            made += 1;
        }
        near_tx[0].send(&mut burst);
        near_rx[0].poll(&mut incoming);
        for mbuf in incoming.drain() {
            assert_eq!(mbuf.bytes(), common::frame(expected, 60 + expected as usize % 1400));
            expected += 1;
        }
        std::thread::yield_now();
    }
    task.join().unwrap();
    assert_eq!(near.stats().tx_packets, u64::from(COUNT) + 100);

    // What lies in a ring is freed with the second of its ends.
    drop((near, near_rx, near_tx));
    assert_eq!(pool.in_use(), 100 - BURST_MAX);
    drop((far, far_rx, far_tx));
    assert_eq!(pool.in_use(), 0);
    drop((pool, eal));
    common::assert_nothing_left();
}
