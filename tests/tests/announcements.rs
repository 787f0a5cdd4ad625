//! kronod, BIRD beside it, and two routers that are BIRD as well, with the configurations of
//! docs/cluster.md: routes lead to a shard while it can be reached, whoever of the three is frozen,
//! killed or away.
//!
//! Needs the right to make network namespaces (root); without it the tests say so and pass.
#![forbid(unsafe_code)]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use krono_tests::daemon::{Config, Kronod};
use krono_tests::lab::{Lab, SERVERS, Site};
use krono_tests::netns::{Namespace, Process};

const DOCS: &str = include_str!("../../docs/cluster.md");

/// 50 ms × 3 on both ends.
const DETECTION: Duration = Duration::from_millis(150);
const SESSION: &str = "transmit: 50ms, receive: 50ms, multiplier: 3";

/// BIRD tries a session again after 2 s, and a BFD session that went down once a second.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often kronod is frozen.
const FREEZES: u32 = 3;

/// Where routers find a server: links of BIRD's own, since the shard's have no kernel behind them.
const LINKS: [(&str, &str, &str); 2] = [
    ("bgp-core", "172.31.0.1/30", "172.31.0.2/30"),
    ("bgp-access", "172.31.1.1/30", "172.31.1.2/30"),
];

/// The configuration of BIRD in the docs that begins with this comment.
fn documented(name: &str) -> Result<String> {
    let first_line = format!("# {name}\n");
    let found = DOCS.split("```\n").find(|block| block.starts_with(&first_line));
    Ok(found
        .with_context(|| format!("docs/cluster.md has no configuration of '{name}'"))?
        .to_owned())
}

/// A shard between a core router and an access router, and BIRD on its server.
struct Net {
    lab: Lab,
}

impl Net {
    fn new() -> Result<Net> {
        let net = Net { lab: Lab::new(1)? };
        let (lab, site) = (&net.lab, net.site());
        // BIRD may be another user.
        fs::set_permissions(lab.dir(), Permissions::from_mode(0o755))?;
        let key = lab.dir().join("key");
        fs::write(&key, "5e".repeat(32))?;
        fs::set_permissions(&key, Permissions::from_mode(0o600))?;
        for (router, (name, ours, theirs)) in [&lab.internet, net.access()].into_iter().zip(LINKS) {
            let peer = format!("type veth peer name bgp0 netns {}", router.pid());
            lab.nat.run(&format!("ip link add {name} {peer}"))?;
            lab.nat.run(&format!("ip address add {ours} dev {name}"))?;
            lab.nat.run(&format!("ip link set {name} up"))?;
            router.run(&format!("ip address add {theirs} dev bgp0"))?;
            router.run("ip link set bgp0 up")?;
        }
        // What follows from routes that are announced only.
        lab.internet.run(&format!("ip route del {} via {}", site.routed_pool(), site.outside()))?;
        net.access().run(&format!("ip route del default via {}", site.inside()))?;
        net.access().run(&format!("ip rule add from {} lookup 100", site.subscriber(0)))?;
        Ok(net)
    }

    fn site(&self) -> Site {
        self.lab.site(0)
    }

    /// The access router, which is a subscriber as well.
    fn access(&self) -> &Namespace {
        self.lab.subscriber(self.site(), 0)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.lab.dir().join(name)
    }

    /// Both routers, with those configurations whose names end so.
    fn routers(&self, kind: &str) -> Result<[Router<'_>; 2]> {
        let pool = self.site().routed_pool().to_string();
        let [core, access] = ["core router", "access router"].map(|name| format!("{name}{kind}"));
        Ok([
            Router::start(self, &self.lab.internet, core, [&pool, &pool])?,
            Router::start(self, self.access(), access, ["default", "table 100"])?,
        ])
    }

    /// BIRD on the server.
    fn bird(&self, options: &str) -> Result<Process> {
        let include = self.path("krono.conf");
        let text = documented("server 1")?;
        ensure!(text.contains("\"/run/krono/bird.conf*\""), "{text}");
        let text = text.replace("/run/krono/bird.conf", &include.display().to_string());
        fs::write(self.path("server.conf"), text)?;
        start_bird(self, &self.lab.nat, "server", options)
    }

    /// kronod, which tells BIRD of routes.
    fn kronod(&self, wrapper: &[&str]) -> Result<Kronod> {
        let [socket, include] =
            ["server.ctl", "krono.conf"].map(|name| self.path(name).display().to_string());
        let bird = format!(", bird: {{ socket: {socket}, include: {include} }}");
        let hops = ", next_hops: { inside: 10.255.0.1, outside: 10.255.1.1 }";
        self.kronod_with(wrapper, &bird, hops)
    }

    /// kronod with these additions to `cluster` and to `twin`.
    fn kronod_with(&self, wrapper: &[&str], cluster: &str, twin: &str) -> Result<Kronod> {
        let site = self.site();
        let config = Config::new("").bfd(SESSION).shard(site, site.routed_pool());
        let text = config.text(&Kronod::socket_in(&self.lab));
        let inside = format!("address: {}/24", site.inside());
        let bfd = format!("{inside}, bfd: [ {{ neighbour: {}, {SESSION} }} ]", site.subscriber(0));
        let twin = format!("    twin: {{ master: 1, slave: 2, peer: 192.0.2.2{twin} }}\n    nat:");
        let text = text.replacen(&inside, &bfd, 1).replacen("    nat:", &twin, 1);
        let key = self.path("key");
        let cluster = format!("cluster: {{ node: 1, key: {}{cluster} }}\n", key.display());
        Kronod::start_by(&self.lab, wrapper, &format!("{text}{cluster}"))
    }
}

fn start_bird(net: &Net, namespace: &Namespace, name: &str, options: &str) -> Result<Process> {
    let [config, socket, log] =
        ["conf", "ctl", "bird.log"].map(|suffix| net.path(&format!("{name}.{suffix}")));
    let line = format!("bird -f {options}-c {} -s {}", config.display(), socket.display());
    namespace.spawn(&line, &log)
}

/// A router that learns one route.
struct Router<'n> {
    net: &'n Net,
    namespace: &'n Namespace,
    name: String,
    /// Words by which its route is known.
    words: [String; 2],
    bird: Process,
    /// What the kernel says of its routes, as it happens.
    monitor: Process,
}

impl<'n> Router<'n> {
    fn start(
        net: &'n Net,
        namespace: &'n Namespace,
        name: String,
        words: [&str; 2],
    ) -> Result<Self> {
        let file = name.replace(' ', "-");
        fs::write(net.path(&format!("{file}.conf")), documented(&name)?)?;
        let log = net.path(&format!("{file}.routes"));
        let monitor = namespace.spawn("ip -4 monitor route", &log)?;
        let bird = start_bird(net, namespace, &file, "")?;
        let words = words.map(str::to_owned);
        Ok(Router { net, namespace, name, words, bird, monitor })
    }

    /// What its BIRD answers.
    fn ask(&self, command: &str) -> Result<String> {
        let socket = self.net.path(&format!("{}.ctl", self.name.replace(' ', "-")));
        self.namespace.run(&format!("birdc -s {} {command}", socket.display()))
    }

    /// Whether the last that was heard of its route is that it leads somewhere.
    fn has_route(&self) -> bool {
        let printed = self.monitor.printed();
        let is_ours = |line: &&str| self.words.iter().all(|word| line.contains(word));
        let last = printed.lines().rfind(is_ours);
        last.is_some_and(|line| !line.contains("Deleted") && line.contains(" via "))
    }

    /// Waits until its route is there, or is not; how long that took.
    fn route_becomes(&self, there: bool, since: Instant) -> Result<Duration> {
        while self.has_route() != there {
            let said = || format!("{}{}", self.monitor.printed(), self.bird.printed());
            ensure!(
                since.elapsed() < PATIENCE,
                "{}: route there: {}\n{}{}",
                self.name,
                !there,
                said(),
                self.ask("show protocols")?
            );
            sleep(Duration::from_millis(1));
        }
        Ok(since.elapsed())
    }
}

/// Waits until both routes are there, or are not; how long that took each.
fn become_both(routers: &[Router<'_>; 2], there: bool, since: Instant) -> Result<[Duration; 2]> {
    let [core, access] = routers;
    Ok([core.route_becomes(there, since)?, access.route_becomes(there, since)?])
}

/// Waits until kronod has said this so often.
fn says(kronod: &Kronod, what: &str, times: usize) -> Result<()> {
    let since = Instant::now();
    while kronod.log().matches(what).count() < times {
        ensure!(since.elapsed() < PATIENCE, "kronod does not say '{what}':\n{}", kronod.log());
        sleep(Duration::from_millis(10));
    }
    ensure!(kronod.log().matches(what).count() == times, "too often:\n{}", kronod.log());
    Ok(())
}

/// Freezes kronod some times, while everything else lives, and lets it go on.
fn freeze(net: &Net, kronod: &Kronod, routers: &[Router<'_>; 2]) -> Result<()> {
    let mut quickest = PATIENCE;
    for _ in 0..FREEZES {
        let frozen = Instant::now();
        kronod.signal("STOP")?;
        let gone = become_both(routers, false, frozen)?;
        let table = net.access().run("ip route show table 100")?;
        ensure!(!table.contains(" via "), "{table}");
        let thawed = Instant::now();
        kronod.signal("CONT")?;
        let back = become_both(routers, true, thawed)?;
        println!("kronod frozen: routes of core and access are gone after {gone:?}");
        println!("kronod thawed: they are back after {back:?}");
        quickest = quickest.min(gone[0]).min(gone[1]);
    }
    // Less the time since its latest packet, and more for who shares the CPUs.
    ensure!(quickest < 2 * DETECTION, "{quickest:?} is more than {DETECTION:?} and some");
    Ok(())
}

/// Both routers resolve what they are told by a route that BFD guards, and by nothing else.
fn are_guarded(net: &Net, routers: &[Router<'_>; 2]) -> Result<()> {
    let site = net.site();
    for (router, hop, next, shown) in [
        (&routers[0], "10.255.1.1", site.outside(), "show route all table master4"),
        (&routers[1], "10.255.0.1", site.inside(), "show route all table group0"),
    ] {
        let route = router.ask(shown)?;
        for part in [format!("BGP.next_hop: {hop}"), format!("via {next} on eth0")] {
            ensure!(route.contains(&part), "{}: no '{part}' in\n{route}", router.name);
        }
        ensure!(router.ask("show bfd sessions")?.contains(&format!("{next}")), "{}", router.name);
        // Nothing in the kernel leads to the next hop itself.
        let kernel = router.namespace.run("ip route show table all")?;
        ensure!(!kernel.contains("10.255."), "{kernel}");
        ensure!(kernel.contains(&format!("via {next} dev eth0")), "{kernel}");
    }
    Ok(())
}

/// Waits until the core is told the first, in another AS, and the access router the second.
fn are_preferred(routers: &[Router<'_>; 2], attributes: [&str; 2]) -> Result<()> {
    for ((router, attribute), table) in routers.iter().zip(attributes).zip(["master4", "group0"]) {
        let since = Instant::now();
        let show = format!("show route all table {table}");
        while !router.ask(&show)?.contains(attribute) {
            ensure!(since.elapsed() < PATIENCE, "no {attribute}:\n{}", router.ask(&show)?);
            sleep(Duration::from_millis(10));
        }
    }
    Ok(())
}

#[test]
fn routes_lead_to_a_shard_while_it_can_be_reached() -> Result<()> {
    if let Some(reason) = Namespace::missing_permission() {
        println!("skipped: {reason}");
        return Ok(());
    }
    let net = Net::new()?;
    let routers = net.routers("")?;
    let bird = net.bird("")?;
    let kronod = net.kronod(&[])?;
    become_both(&routers, true, Instant::now()).with_context(|| kronod.log())?;
    says(&kronod, "routes are announced: shard 0 as second", 1)?;
    are_guarded(&net, &routers)?;
    are_preferred(&routers, ["BGP.med: 300", "BGP.local_pref: 200"])?;
    kronod.ask("shard fence 0")?;
    says(&kronod, "routes are announced: shard 0 as first", 1)?;
    are_preferred(&routers, ["BGP.med: 100", "BGP.local_pref: 400"])?;
    let ping = format!("ping -n -c 3 -i 0.2 -W 2 -I {} {}", net.site().subscriber(0), SERVERS[0]);
    net.access().run(&ping)?;

    freeze(&net, &kronod, &routers)?;
    net.access().run(&ping)?;

    let killed = Instant::now();
    drop(bird);
    println!("BIRD killed: {:?}", become_both(&routers, false, killed)?);
    says(&kronod, "routes are not announced: no BIRD answers", 1)?;
    net.lab.subscriber(net.site(), 1).run(&format!("ping -n -c 1 -W 2 {}", net.site().inside()))?;
    let started = Instant::now();
    let _bird = net.bird("")?;
    println!("BIRD restarted: {:?}", become_both(&routers, true, started)?);
    says(&kronod, "routes are announced: shard 0 as first", 2)?;

    let stopped = Instant::now();
    kronod.signal("TERM")?;
    println!("kronod stopped: {:?}", become_both(&routers, false, stopped)?);
    says(&kronod, "routes are withdrawn", 1)?;
    ensure!(kronod.stop()? == 0);
    Ok(())
}

#[test]
fn static_routes_need_no_daemon_beside_kronod() -> Result<()> {
    if let Some(reason) = Namespace::missing_permission() {
        println!("skipped: {reason}");
        return Ok(());
    }
    let net = Net::new()?;
    let routers = net.routers(", static routes")?;
    let kronod = net.kronod_with(&[], "", "")?;
    become_both(&routers, true, Instant::now()).with_context(|| kronod.log())?;
    kronod.ask("shard fence 0")?;
    let ping = format!("ping -n -c 3 -i 0.2 -W 2 -I {} {}", net.site().subscriber(0), SERVERS[0]);
    net.access().run(&ping)?;
    freeze(&net, &kronod, &routers)?;
    net.access().run(&ping)?;
    ensure!(!kronod.log().contains("routes are"), "{}", kronod.log());
    ensure!(kronod.stop()? == 0);
    Ok(())
}

#[test]
fn kronod_serves_on_without_bird_and_says_what_bird_refuses() -> Result<()> {
    if let Some(reason) = Namespace::missing_permission() {
        println!("skipped: {reason}");
        return Ok(());
    }
    let net = Net::new()?;
    let kronod = net.kronod(&[])?;
    let missing = format!("no BIRD answers on {}", net.path("server.ctl").display());
    let told = |why: &str| format!("routes are not announced: {why}");
    says(&kronod, &told(&missing), 1)?;
    ensure!(kronod.log().contains("; kronod serves on"), "{}", kronod.log());
    let ping = format!("ping -n -c 1 -W 2 {}", net.site().inside());
    net.lab.subscriber(net.site(), 1).run(&ping)?;
    let mut bird = net.bird("")?;
    says(&kronod, "routes are announced: shard 0 as ", 1)?;

    // A mistake of the operator's, which BIRD finds when kronod has it read its configuration.
    let file = net.path("server.conf");
    let good = fs::read_to_string(&file)?;
    fs::write(&file, format!("{good}protocol nonsense;\n"))?;
    let line = good.lines().count() + 1;
    ensure!(kronod.stop()? == 0);
    let kronod = net.kronod(&[])?;
    let refused =
        format!("BIRD refuses its configuration: {}:{line}:10 syntax error", file.display());
    says(&kronod, &told(&refused), 1)?;
    net.lab.subscriber(net.site(), 1).run(&ping)?;
    // BIRD itself goes on with what it had read.
    ensure!(bird.ended()?.is_none());
    fs::write(&file, &good)?;
    says(&kronod, "routes are announced: shard 0 as ", 1)?;
    ensure!(kronod.stop()? == 0);
    Ok(())
}

#[test]
fn kronod_reaches_a_bird_that_is_another_user_by_its_group() -> Result<()> {
    if let Some(reason) = Namespace::missing_permission() {
        println!("skipped: {reason}");
        return Ok(());
    }
    let net = Net::new()?;
    // BIRD makes its socket before it becomes another user, and gives it away.
    let _bird = net.bird("-u bird -g bird ")?;
    let kronod = net.kronod(&["setpriv", "--clear-groups"])?;
    says(&kronod, "kronod must be in the group that the socket belongs to", 1)?;
    ensure!(kronod.stop()? == 0);
    let kronod = net.kronod(&["setpriv", "--groups=bird"])?;
    says(&kronod, "routes are announced: shard 0 as ", 1)?;
    ensure!(kronod.stop()? == 0);
    Ok(())
}
