//! A buffer that outlives everything else keeps the memory that it lies in.

mod common;

#[test]
fn the_eal_stays_while_a_buffer_is_out() {
    let eal = common::start();
    let pool = common::pool(&eal, "held", 63);
    let mut mbuf = pool.alloc().unwrap();
    assert!(mbuf.write(&[5; 60]));
    drop((pool, eal));
    assert_eq!(mbuf.bytes(), [5; 60]);
    drop(mbuf);
    common::assert_nothing_left();
}
