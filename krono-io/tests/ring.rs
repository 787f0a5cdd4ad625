//! net_ring: what is sent comes back, in order, and a full ring takes no more.

mod common;

use krono_core::frame::BURST_MAX;
use krono_io::{Burst, Mbuf, Pool, Port, PortConfig};

/// The ring that net_ring makes, less the slot that tells full from empty.
const RING: usize = 1023;

fn numbered(pool: &Pool, number: u32) -> Mbuf {
    let mut mbuf = pool.alloc().expect("the pool exceeds the ring");
    assert!(mbuf.write(&common::frame(number, 60 + number as usize % 1400)));
    mbuf
}

#[test]
fn a_full_ring_leaves_the_tail_and_nothing_is_lost_or_reordered() {
    let eal = common::start();
    let pool = common::pool(&eal, "ring", 4095);
    let (port, mut rx, mut tx) =
        Port::open(&eal, "net_ring0", &PortConfig::default(), &pool).unwrap();

    let mut burst = Burst::new();
    let mut sent = 0;
    let mut made = 0..;
    while sent < RING {
        while !burst.is_full() {
            burst.push(numbered(&pool, made.next().unwrap())).unwrap();
        }
        assert!(burst.push(numbered(&pool, 0)).is_err(), "a full burst gives back");
        sent += tx[0].send(&mut burst);
    }
    assert_eq!((sent, burst.len()), (RING, RING.next_multiple_of(BURST_MAX) - RING));
    assert_eq!(tx[0].send(&mut burst), 0);
    assert_eq!(pool.in_use(), RING + burst.len());
    assert_eq!(burst[0].bytes(), common::frame(RING as u32, 60 + RING % 1400));
    burst.clear();

    burst.push(numbered(&pool, 7)).unwrap();
    assert_eq!(rx[0].poll(&mut burst), BURST_MAX - 1, "received behind what is there");
    let mut numbers = burst.drain().map(|mbuf| mbuf.bytes()[17]);
    assert!(numbers.by_ref().eq([7].into_iter().chain(0..63)));
    drop(numbers);

    let mut expected = 63..;
    while rx[0].poll(&mut burst) > 0 {
        for mbuf in burst.drain() {
            let number = expected.next().unwrap();
            assert_eq!(mbuf.bytes(), common::frame(number, 60 + number as usize % 1400));
            assert_eq!(mbuf.timestamp_ns(), None);
        }
    }
    assert_eq!((expected.next(), pool.in_use()), (Some(RING as u32), 0));

    drop((port, rx, tx, pool, eal));
    common::assert_nothing_left();
}
