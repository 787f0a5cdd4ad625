//! The buffer pool: empty is empty, everything returns, and errors say what to do.

mod common;

use krono_core::frame::{Frames, HEADROOM};
use krono_io::{Burst, Mbuf, Pool, PoolConfig, PoolError, Port, PortConfig, mem};

#[test]
fn an_empty_pool_gives_nothing_and_recovers() {
    let eal = common::start();
    let pool = common::pool(&eal, "small", 63);
    let (port, mut rx, mut tx) =
        Port::open(&eal, "net_null0", &PortConfig::default(), &pool).unwrap();

    let held: Vec<Mbuf> = std::iter::from_fn(|| pool.alloc()).collect();
    assert_eq!((held.len(), pool.in_use()), (63, 63));
    let mut burst = Burst::new();
    assert_eq!(rx[0].poll(&mut burst), 0, "a driver without buffers receives nothing");
    drop(held);
    assert_eq!(pool.in_use(), 0);
    for pool in [pool.clone(), mem::pool(63, 1500)] {
        assert!(!pool.alloc_many(&mut burst, 64), "all or none");
        assert!(pool.alloc_many(&mut burst, 60));
        assert!(!pool.alloc_many(&mut burst, 5), "as many as the burst has room for");
        assert_eq!((burst.len(), pool.in_use()), (60, 60));
        assert_eq!(*burst.frame(59).start, HEADROOM);
        assert!(burst.pop().is_some());
        burst.clear();
        assert_eq!(pool.in_use(), 0);
    }
    whatever_was_done_to_buffers_they_come_back_empty(&pool, &common::pool(&eal, "other", 63));
    let mut mbuf = pool.alloc().unwrap();
    let frame = mbuf.frame();
    assert_eq!((*frame.start, *frame.len, *frame.wire_len), (HEADROOM, 0, 0));
    assert!(mbuf.write(&[1; 1522]), "an MTU of 1500 leaves room for a VLAN tag and a checksum");
    drop(mbuf);

    let jumbo = PoolConfig { name: "jumbo".into(), buffers: 15, mtu: 8960, private: 0 };
    assert!(Pool::new(&eal, &jumbo).unwrap().alloc().unwrap().write(&[1; 8982]));

    // What lies beside a frame is as long as it was asked for, and the frame's room is its own.
    let roomy = PoolConfig { name: "roomy".into(), buffers: 15, mtu: 1500, private: 416 };
    for pool in [Pool::new(&eal, &roomy).unwrap(), mem::pool_with_private(15, 1500, 416)] {
        let mut mbuf = pool.alloc().unwrap();
        mbuf.private_mut().fill(7);
        let frame = mbuf.frame();
        frame.room.fill(9);
        assert_eq!(mbuf.private(), [7; 416]);
        mbuf.private_mut().fill(8);
        assert!(mbuf.frame().room.iter().all(|byte| *byte == 9));
        let others: Vec<Mbuf> = std::iter::from_fn(|| pool.alloc()).collect();
        assert!(others.iter().all(|other| other.private().iter().all(|byte| *byte == 0)));
    }
    assert_eq!(pool.alloc().unwrap().private().len(), 0);

    let error = |name: &str, buffers, mtu| {
        Pool::new(&eal, &PoolConfig { name: name.into(), buffers, mtu, private: 0 }).err().unwrap()
    };
    let memory = error("big", 1_000_000, 1500);
    assert!(matches!(memory, PoolError::Memory { .. }));
    assert!(memory.to_string().contains("eal.memory"), "{memory}");
    for (name, mtu) in [("small", 1500), ("a name that is much too long", 1500), ("x", u16::MAX)] {
        let refused = error(name, 63, mtu);
        assert!(matches!(refused, PoolError::Refused { .. }), "{refused}");
        println!("{refused}");
    }

    // A device must not get plain memory, neither to receive into nor to send.
    let plain = mem::pool(1, 1500);
    let refused = Port::open(&eal, "net_null1", &PortConfig::default(), &plain).err().unwrap();
    assert!(refused.to_string().contains("the EAL's memory"), "{refused}");
    burst.push(plain.alloc().unwrap()).unwrap();
    assert!(burst.frame(0).set_len(60));
    let sent = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| tx[0].send(&mut burst)));
    assert!(sent.is_err());
    burst.clear();
    assert_eq!(plain.in_use(), 0);

    drop((port, rx, tx, pool, eal));
    common::assert_nothing_left();
}

/// Freed in one go, be they of one pool, of two or partly plain memory.
fn whatever_was_done_to_buffers_they_come_back_empty(pool: &Pool, other: &Pool) {
    let mut burst = Burst::new();
    for second in [pool, other, &mem::pool(8, 1500)] {
        assert!(pool.alloc_many(&mut burst, 55) && second.alloc_many(&mut burst, 8));
        for index in 0..burst.len() {
            let mut frame = burst.frame(index);
            assert!(frame.set_len(60 + index as u16) && frame.grow_front(index as u16));
        }
        burst.clear();
        assert_eq!((burst.len(), pool.in_use(), second.in_use()), (0, 0, 0));
        assert!(pool.alloc_many(&mut burst, 63));
        for index in 0..63 {
            let frame = burst.frame(index);
            assert_eq!((*frame.start, *frame.len, *frame.wire_len), (HEADROOM, 0, 0));
        }
        burst.clear();
    }
}
