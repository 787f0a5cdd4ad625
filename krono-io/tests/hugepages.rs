//! With huge pages, where some are reserved: nothing stays in the file systems, and the tables lie
//! on them too.

mod common;

use std::fs;

use krono_io::{Arena, Burst, Eal, EalError, Hugepages, Port, PortConfig};

fn files_in(directory: &str) -> usize {
    fs::read_dir(directory).into_iter().flatten().count()
}

#[test]
fn the_eal_and_arenas_on_hugepages() {
    let mut config = common::config();
    config.hugepages = Hugepages::Required;
    let eal = match Eal::start(&config) {
        Ok(eal) => eal,
        Err(error @ EalError::Hugepages { .. }) => {
            println!("without huge pages only this is seen: {error}");
            config.hugepages = Hugepages::Auto;
            Eal::start(&config).unwrap_or_else(|error| panic!("{error}"))
        }
        Err(error) => panic!("{error}"),
    };
    let pool = common::pool(&eal, "huge", 4095);
    let (port, mut rx, mut tx) =
        Port::open(&eal, "net_null0", &PortConfig::default(), &pool).unwrap();
    let mut burst = Burst::new();
    assert_eq!(rx[0].poll(&mut burst), tx[0].send(&mut burst));
    match Arena::map(5 << 20, Hugepages::Required) {
        Ok(mut arena) => {
            assert!(arena.is_huge() && arena.left() == 6 << 20);
            arena.take::<u64>(5 << 17).unwrap().fill(1);
        }
        Err(error) => {
            println!("{error}");
            assert!(!Arena::map(5 << 20, Hugepages::Auto).unwrap().is_huge());
        }
    }
    drop((port, rx, tx, pool, eal));
    common::assert_nothing_left();
    assert_eq!(files_in("/dev/hugepages"), 0);
}
