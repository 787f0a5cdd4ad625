//! kronod and a real router, BIRD, that watch each other by BFD: a route that is guarded by a
//! session goes when kronod hangs and comes back with it, while nothing but BIRD is told about
//! routes.
//!
//! Needs the right to make network namespaces (root); without it the test says so and passes.
#![forbid(unsafe_code)]

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use krono_tests::daemon::{Config, Kronod};
use krono_tests::lab::{Lab, SERVERS, Site};
use krono_tests::netns::{Namespace, Process, eventually};
use serde_json::Value;

/// 50 ms × 3 on both ends.
const DETECTION: Duration = Duration::from_millis(150);
const SESSION: &str = "transmit: 50ms, receive: 50ms, multiplier: 3";

/// A session that went down asks once a second whether it may come up.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often kronod is frozen.
const FREEZES: u32 = 3;

/// The router outside: BIRD in the place of the Internet, with the one route to a shard's pool.
struct Router<'l> {
    lab: &'l Lab,
    pool: String,
    bird: Process,
    /// What the kernel says of its routes, as it happens.
    monitor: Process,
}

impl<'l> Router<'l> {
    fn start(lab: &'l Lab, site: Site) -> Result<Self> {
        let (pool, shard) = (site.routed_pool().to_string(), site.outside());
        // The route is BIRD's now.
        lab.internet.run(&format!("ip route del {pool} via {shard}"))?;
        let (config, socket) = (lab.dir().join("bird.conf"), lab.dir().join("bird.ctl"));
        let text = format!(
            "router id {};
protocol device {{ scan time 1; }}
protocol kernel {{ ipv4 {{ import none; export all; }}; }}
protocol bfd {{
  interface \"eth0\" {{ min rx interval 50 ms; min tx interval 50 ms; multiplier 3; }};
}}
protocol static {{ ipv4; route {pool} via {shard} bfd yes; }}\n",
            site.gateway(),
        );
        std::fs::write(&config, text)?;
        let monitor = lab.internet.spawn("ip -4 monitor route", &lab.dir().join("routes.log"))?;
        let line = format!("bird -f -c {} -s {}", config.display(), socket.display());
        let bird = lab.internet.spawn(&line, &lab.dir().join("bird.log"))?;
        Ok(Router { lab, pool, bird, monitor })
    }

    /// What BIRD says of its session: a line with its state.
    fn session(&self) -> Result<String> {
        let socket = self.lab.dir().join("bird.ctl");
        let said =
            self.lab.internet.run(&format!("birdc -s {} show bfd sessions", socket.display()))?;
        let line = said.lines().find(|line| line.contains("eth0"));
        Ok(line.with_context(|| format!("no session: {said}"))?.to_owned())
    }

    /// Whether the last that was heard of the route is that it is there.
    fn has_route(&self) -> bool {
        let printed = self.monitor.printed();
        let last = printed.lines().rfind(|line| line.contains(&self.pool));
        last.is_some_and(|line| !line.contains("Deleted"))
    }

    /// Waits until the route is there, or is not.
    fn route_becomes(&self, there: bool) -> Result<()> {
        let started = Instant::now();
        while self.has_route() != there {
            let said = || format!("{}{}", self.monitor.printed(), self.bird.printed());
            ensure!(started.elapsed() < PATIENCE, "route there: {}\n{}", !there, said());
            sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

/// What kronod says of its session outside.
fn session(kronod: &Kronod) -> Result<Value> {
    Ok(kronod.ask("status")?["shards"][0]["bfd"][0].clone())
}

fn becomes(kronod: &Kronod, state: &str) -> Result<()> {
    eventually(&format!("kronod's session is {state}"), PATIENCE, || {
        session(kronod).is_ok_and(|session| session["state"] == state)
    })
    .with_context(|| kronod.log())
}

#[test]
fn a_router_drops_its_route_while_kronod_is_frozen_or_away() -> Result<()> {
    if let Some(reason) = Namespace::missing_permission() {
        println!("skipped: {reason}");
        return Ok(());
    }
    let lab = Lab::new(1)?;
    let site = lab.site(0);
    let router = Router::start(&lab, site)?;
    let config = Config::new("").bfd(SESSION).shard(site, site.routed_pool());
    let kronod = Kronod::start(&lab, &config)?;

    router.route_becomes(true)?;
    becomes(&kronod, "up")?;
    ensure!(router.session()?.contains("Up"), "{}", router.session()?);
    let status = session(&kronod)?;
    ensure!(status["neighbour"] == site.gateway().to_string(), "{status}");
    ensure!(status["transmit_us"] == 50_000 && status["detection_us"] == 150_000, "{status}");
    let ping = format!("ping -n -c 3 -i 0.2 -W 2 {}", SERVERS[0]);
    lab.subscriber(site, 0).run(&ping)?;

    let mut quickest = PATIENCE;
    for _ in 0..FREEZES {
        let frozen = Instant::now();
        kronod.signal("STOP")?;
        router.route_becomes(false)?;
        let (gone, thawed) = (frozen.elapsed(), Instant::now());
        kronod.signal("CONT")?;
        router.route_becomes(true)?;
        let back = thawed.elapsed();
        println!(
            "kronod frozen: the route is gone after {gone:?}; thawed: it is back after {back:?}"
        );
        quickest = quickest.min(gone);
        becomes(&kronod, "up")?;
    }
    // Less the time since its latest packet, and more for who shares the CPUs.
    ensure!(quickest < 2 * DETECTION, "{quickest:?} is more than {DETECTION:?} and some");
    lab.subscriber(site, 0).run(&ping)?;

    let held = kronod.ask("bfd --hold")?;
    ensure!(held["sessions"] == 1, "{held}");
    router.route_becomes(false)?;
    kronod.ask(&format!("bfd --release --neighbour {}", site.gateway()))?;
    router.route_becomes(true)?;
    becomes(&kronod, "up")?;

    lab.internet.run("ip link set eth0 down")?;
    becomes(&kronod, "down")?;
    let status = session(&kronod)?;
    println!("link down: seen for {} ms", status["since_ms"]);
    ensure!(status["diagnostic"] == "detection time expired", "{status}");
    lab.internet.run("ip link set eth0 up")?;
    router.route_becomes(true)?;
    becomes(&kronod, "up")?;

    let log = kronod.log();
    let name = format!("shard 0: BFD with {}, outside,", site.gateway());
    for told in ["is up", "went down: detection time expired"] {
        ensure!(log.contains(&format!("{name} {told}")), "not told, {told}:\n{log}");
    }
    let shard = &kronod.stats()?[0];
    ensure!(shard.is_balanced() && shard.consumed > 30 && shard.originated > 30, "{shard:?}");
    let asked = Instant::now();
    kronod.signal("TERM")?;
    router.route_becomes(false)?;
    println!("kronod stopped: the route is gone {:?} after it was asked to", asked.elapsed());
    ensure!(kronod.stop()? == 0);
    Ok(())
}
