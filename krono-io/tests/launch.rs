//! Work on lcores: results, panics, lcores that are busy or absent; ending on an lcore.

mod common;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use krono_io::{Burst, Clock, LaunchError, Port, PortConfig};

fn cpus_allowed() -> String {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    status.lines().find(|line| line.starts_with("Cpus_allowed:")).unwrap().to_owned()
}

#[test]
fn work_runs_on_every_lcore_and_panics_are_reported() {
    let before = cpus_allowed();
    let eal = common::start();
    assert_eq!(cpus_allowed(), before, "the thread that starts the EAL is not pinned");
    assert_eq!(eal.main_lcore(), 0);

    for lcore in [0, 1] {
        let (go, wait) = mpsc::channel::<u32>();
        let task = eal.launch(lcore, move || wait.recv().unwrap() + 1).unwrap();
        assert!(!task.is_finished());
        assert!(matches!(eal.launch(lcore, || ()), Err(LaunchError::Busy { .. })));
        go.send(41).unwrap();
        assert_eq!(task.join().unwrap(), 42);

        let task = eal.launch(lcore, || panic!("on purpose")).unwrap();
        while !task.is_finished() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let error: krono_io::Panicked = task.join().map(|never: ()| never).unwrap_err();
        assert_eq!(error.to_string(), format!("lcore {lcore} panicked: on purpose"));
        let name = eal.launch(lcore, || std::thread::current().name().map(String::from)).unwrap();
        println!("lcore {lcore} is {:?}", name.join().unwrap());
    }
    for lcore in [2, 127, 128, u32::MAX] {
        let error = eal.launch(lcore, || ()).err().unwrap();
        assert!(matches!(error, LaunchError::NoSuchLcore { .. }), "{error}");
    }

    // DPDK rounds the frequency that it measures.
    let (clock, start) = (Clock::new(&eal), Instant::now());
    std::thread::sleep(Duration::from_millis(50));
    let (passed, expected) = (clock.now_ns(), start.elapsed().as_nanos() as u64);
    assert!(passed.abs_diff(expected) < expected / 20, "{passed} ns of {expected}");

    // The last holder of the EAL may be an lcore; it must not wait for itself.
    let pool = common::pool(&eal, "pool", 1023);
    let (port, mut rx, mut tx) =
        Port::open(&eal, "net_null0", &PortConfig::default(), &pool).unwrap();
    let (report, ended) = mpsc::channel();
    let task = eal.launch(1, move || {
        let mut burst = Burst::new();
        rx[0].poll(&mut burst);
        tx[0].send(&mut burst);
        std::thread::sleep(Duration::from_millis(50));
        drop((port, rx, tx, pool));
        report.send(()).unwrap();
    });
    drop((task, eal));
    ended.recv_timeout(Duration::from_secs(10)).unwrap();
    common::assert_nothing_left();
}
