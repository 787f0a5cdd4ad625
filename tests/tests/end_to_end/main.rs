//! kronod between network namespaces, with real clients and servers.
//!
//! Needs the right to make network namespaces (root); without it each test says so and passes.
//! `KRONO_HUGEPAGES` is what `eal.hugepages` is set to, `off` if it is unset.
#![forbid(unsafe_code)]

mod clients;

use std::collections::HashSet;
use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ipnet::Ipv4Net;
use krono_tests::daemon::{Config, Kronod, ShardStats, program};
use krono_tests::lab::{Lab, SERVERS};
use krono_tests::netns::Namespace;
use tempfile::TempDir;

use clients::SERVER;

/// Says why a test cannot run here, if it cannot.
fn skipped() -> bool {
    let reason = Namespace::missing_permission();
    if let Some(reason) = &reason {
        println!("skipped: {reason}");
    }
    reason.is_some()
}

/// The control experiment: with the kernel's own NAT in krono's place the same clients succeed. A
/// failure here is the lab's fault, or a tool's.
#[test]
fn the_lab_works_with_the_kernels_nat() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let lab = Lab::new(1)?;
    let site = lab.site(0);
    lab.nat.shell(&format!(
        "ip address add {}/24 dev {inside}
         ip address add {}/25 dev {outside}
         ip route add default via {}
         echo 1 > /proc/sys/net/ipv4/ip_forward
         nft add table nat
         nft add chain nat out '{{ type nat hook postrouting priority 100; }}'
         nft add rule nat out oifname {outside} masquerade",
        site.inside(),
        site.outside(),
        site.gateway(),
        inside = site.interface("in"),
        outside = site.interface("out"),
    ))?;
    let host = lab.subscriber(site, 0);
    clients::ping(host, SERVER)?;
    for mode in ["--udp", "--icmp"] {
        let hops = clients::traceroute(host, mode)?;
        ensure!(hops == [site.inside().to_string(), SERVER.to_string()], "{mode}: {hops:?}");
    }
    clients::resolve(&lab, host)?;
    clients::fetch_a_large_file(&lab, host)?;
    let peers = clients::fetch_in_parallel(&lab, host)?;
    ensure!(peers.len() == 200 && peers.iter().all(|peer| *peer.ip() == site.outside()));
    clients::measure_throughput(&lab, host)?;
    let verdict = clients::stun_verdict(&lab, host)?;
    println!("the kernel's NAT: {verdict}");
    ensure!(verdict.starts_with("Independent Mapping, Port Dependent Filter"), "{verdict}");
    Ok(())
}

/// Starts kronod with `nat` as the section of that name, the routed pool, and one shard.
fn start_one(lab: &Lab, nat: &str) -> Result<Kronod> {
    let site = lab.site(0);
    Kronod::start(lab, &Config::new(nat).shard(site, site.routed_pool()))
}

/// Everything received is accounted for, in every shard, at this very moment.
fn assert_balanced(kronod: &Kronod) -> Result<Vec<ShardStats>> {
    let stats = kronod.stats()?;
    for shard in &stats {
        ensure!(shard.is_balanced(), "packets are missing or counted twice: {shard:?}");
    }
    Ok(stats)
}

#[test]
fn real_clients_reach_the_internet() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let lab = Lab::new(1)?;
    let site = lab.site(0);
    let kronod = start_one(&lab, "")?;
    let host = lab.subscriber(site, 0);

    clients::ping(host, SERVER)?;
    clients::ping(host, site.inside())?;
    clients::ping(&lab.internet, site.outside())?;
    for mode in ["--udp", "--icmp"] {
        let hops = clients::traceroute(host, mode)?;
        ensure!(hops == [site.inside().to_string(), SERVER.to_string()], "{mode}: {hops:?}");
    }
    clients::resolve(&lab, host)?;
    clients::fetch_a_large_file(&lab, host)?;
    let peers = clients::fetch_in_parallel(&lab, host)?;
    let public: HashSet<_> = peers.iter().map(|peer| *peer.ip()).collect();
    ensure!(peers.len() == 200 && public.len() == 1, "not 200 ports of one address: {peers:?}");
    ensure!(public.iter().all(|address| site.routed_pool().contains(address)), "{public:?}");
    clients::measure_throughput(&lab, host)?;

    let shard = &assert_balanced(&kronod)?[0];
    println!("{shard:?}");
    ensure!(shard.sent > 50_000 && shard.held == 0 && shard.originated > 0, "{shard:?}");
    ensure!(kronod.stop()? == 0);
    Ok(())
}

#[test]
fn a_public_port_leads_back_to_its_subscriber() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let lab = Lab::new(1)?;
    let site = lab.site(0);
    let kronod = start_one(&lab, "")?;
    let _web = clients::web_server(&lab, &lab.internet, 80)?;
    let peer = clients::seen_by(lab.subscriber(site, 1), &format!("http://{SERVER}/peer"))?;
    let owner = kronod.ask(&format!("lookup {peer}/tcp"))?.to_string();
    ensure!(owner.contains(&site.subscriber(1).to_string()), "lookup of {peer}: {owner}");
    let sessions = kronod.ask("sessions")?.to_string();
    ensure!(sessions.contains(&peer.ip().to_string()), "no session of {peer}: {sessions}");
    let stranger = format!("lookup {}:9/udp", site.routed_pool().network());
    ensure!(kronod.ask(&stranger).is_err(), "somebody owns a port that nobody opened");
    ensure!(kronod.stop()? == 0);
    Ok(())
}

#[test]
fn servers_are_reached_behind_static_mappings_and_by_hairpin() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let lab = Lab::new(1)?;
    let site = lab.site(0);
    // A pool that the Internet routes here, and one that it asks for by ARP.
    for pool in [site.routed_pool(), site.on_link_pool()] {
        let public = SocketAddrV4::new(Ipv4Addr::from(pool.network().to_bits() + 1), 8080);
        let inside = SocketAddrV4::new(site.subscriber(0), 80);
        let mapping = format!("protocol: tcp, inside: \"{inside}\", outside: \"{public}\"");
        let config = Config::new(&format!("static: [ {{ {mapping} }} ]")).shard(site, pool);
        let kronod = Kronod::start(&lab, &config)?;
        let _web = clients::web_server(&lab, lab.subscriber(site, 0), 80)?;

        let url = format!("http://{public}/peer");
        let peer = clients::seen_by(&lab.internet, &format!("--interface {} {url}", SERVERS[1]))?;
        ensure!(*peer.ip() == SERVERS[1], "the server saw {peer}, not the client's own address");
        let peer = clients::seen_by(lab.subscriber(site, 1), &url)?;
        ensure!(pool.contains(peer.ip()), "hairpinning showed {peer}, not a public address");

        // From inside out, the pool's addresses are reached by ARP, or by the route.
        let _web = clients::web_server(&lab, &lab.internet, 80)?;
        let peer = clients::seen_by(lab.subscriber(site, 1), &format!("http://{SERVER}/peer"))?;
        ensure!(pool.contains(peer.ip()), "the server saw {peer}");
        assert_balanced(&kronod)?;
        ensure!(kronod.stop()? == 0);
    }
    Ok(())
}

#[test]
fn a_stun_client_names_each_filtering_mode() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let lab = Lab::new(1)?;
    for (filtering, verdict) in [
        ("endpoint-independent", "Independent Mapping, Independent Filter, "),
        ("address-dependent", "Independent Mapping, Address Dependent Filter, "),
        ("address-and-port-dependent", "Independent Mapping, Port Dependent Filter, "),
    ] {
        let kronod = start_one(&lab, &format!("filtering: {filtering}"))?;
        let printed = clients::stun_verdict(&lab, lab.subscriber(lab.site(0), 0))?;
        println!("{filtering}: {printed}");
        ensure!(printed.starts_with(verdict), "{filtering}: '{printed}' instead of '{verdict}…'");
        // The client reaches its own public endpoint: having sent to it, it may hear from it.
        ensure!(printed.contains("will hairpin"), "{filtering}: '{printed}'");
        let filtered = assert_balanced(&kronod)?[0].dropped("filtered");
        let filters = filtering != "endpoint-independent";
        ensure!((filtered > 0) == filters, "{filtering}: {filtered} packets were filtered");
        ensure!(kronod.stop()? == 0);
    }
    Ok(())
}

#[test]
fn two_shards_serve_two_networks() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let lab = Lab::new(2)?;
    let sites = [lab.site(0), lab.site(1)];
    let config =
        sites.iter().fold(Config::new(""), |config, site| config.shard(*site, site.routed_pool()));
    let kronod = Kronod::start(&lab, &config)?;
    let _web = clients::web_server(&lab, &lab.internet, 80)?;
    for site in sites {
        let host = lab.subscriber(site, 0);
        clients::ping(host, SERVER)?;
        let peer = clients::seen_by(host, &format!("http://{SERVER}/peer"))?;
        ensure!(site.routed_pool().contains(peer.ip()), "{site:?}: the server saw {peer}");
    }
    let stats = assert_balanced(&kronod)?;
    ensure!(stats.len() == 2 && stats.iter().all(|shard| shard.sent > 10), "{stats:?}");
    ensure!(kronod.stop()? == 0);
    Ok(())
}

#[test]
fn stopping_under_load_is_clean_and_the_figures_always_balance() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let lab = Lab::new(1)?;
    let before = leftovers();
    let kronod = start_one(&lab, "")?;
    let load = clients::Load::start(&lab, lab.subscriber(lab.site(0), 0))?;
    let mut received = Vec::new();
    for _ in 0..20 {
        received.push(assert_balanced(&kronod)?[0].received);
        sleep(Duration::from_millis(50));
    }
    ensure!(received.first() < received.last(), "there was no load: {received:?}");
    let socket = kronod.socket().to_owned();
    let asked = Instant::now();
    ensure!(kronod.stop()? == 0);
    ensure!(asked.elapsed() < Duration::from_secs(5), "it took {:?}", asked.elapsed());
    drop(load);
    ensure!(!socket.exists(), "{} is still there", socket.display());
    let after = leftovers();
    ensure!(before == after, "left behind: {:?}", after.difference(&before));
    Ok(())
}

/// What kronod, or DPDK in it, would leave behind if it did not clean up.
fn leftovers() -> HashSet<PathBuf> {
    let places = ["/run", "/run/dpdk", "/dev/hugepages", "/dev/shm"];
    let entries = places.iter().filter_map(|place| fs::read_dir(place).ok()).flatten();
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let is_ours = |path: &PathBuf| {
        let path = path.to_string_lossy();
        ["dpdk", "rte", "krono", "hugepages"].iter().any(|sign| path.contains(sign))
    };
    paths.filter(is_ours).collect()
}

#[test]
fn a_neighbour_that_never_answers_costs_only_its_own_packets() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let lab = Lab::new(1)?;
    let site = lab.site(0);
    let kronod = start_one(&lab, "")?;
    let host = lab.subscriber(site, 0);
    // On the outside network, and nobody's.
    let nobody = Ipv4Addr::from(site.gateway().to_bits() - 1);
    let pings = host.attempt(&format!("ping -n -c 40 -i 0.2 -W 1 {nobody}"))?;
    let printed = String::from_utf8_lossy(&pings.stdout).into_owned();
    ensure!(printed.contains("Destination Host Unreachable"), "{printed}");
    let shard = &assert_balanced(&kronod)?[0];
    let unanswered = shard.dropped("neighbour_unreachable") + shard.dropped("neighbour_unresolved");
    ensure!(unanswered + shard.held >= 40, "{shard:?}");
    ensure!(shard.dropped("neighbour_unreachable") > 0, "{shard:?}");
    clients::ping(host, SERVER)?;

    // A frame held at shutdown is freed.
    host.attempt(&format!("ping -n -c 1 -W 0.1 {nobody}"))?;
    ensure!(kronod.stop()? == 0);
    Ok(())
}

#[test]
fn a_full_pool_leaves_existing_sessions_undisturbed() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    // With one public address, the other subscriber leaves 24 of its 64 ports.
    for (limit, prefix_len, taken, reason) in [
        ("ports: 2048-2111", 32, 40, "ports_exhausted"),
        ("ports_per_subscriber: 64", 28, 40, "subscriber_ports"),
        ("sessions: 64", 28, 0, "sessions_full"),
    ] {
        let lab = Lab::new(1)?;
        let site = lab.site(0);
        let pool = Ipv4Net::new(site.routed_pool().addr(), prefix_len)?;
        let kronod = Kronod::start(&lab, &Config::new(limit).shard(site, pool))?;
        let [host, other] = [0, 1].map(|number| lab.subscriber(site, number));
        let _web = clients::web_server(&lab, &lab.internet, 80)?;
        let (answered, _) = clients::try_in_parallel(other, taken)?;
        ensure!(answered == taken, "{limit}: {answered} of {taken} answered");

        let line = format!("curl --silent --show-error --fail http://{SERVER}/late");
        let mut early = host.spawn(&line, &lab.dir().join("early.log"))?;
        sleep(Duration::from_millis(300));
        let (answered, refused) = clients::try_in_parallel(host, 200)?;
        println!("{limit}: {answered} answered, {refused} refused");
        let room = if reason == "ports_exhausted" { 64 - taken } else { 64 };
        ensure!(answered == room - 1, "{limit}: {answered} answered, {refused} refused");
        let status = early.wait(Duration::from_secs(10))?;
        ensure!(status.success(), "the early session was disturbed: {}", early.printed());
        let shard = &assert_balanced(&kronod)?[0];
        ensure!(shard.dropped(reason) > 0, "{limit}: {shard:?}");
        ensure!(shard.originated > 0, "nobody was told: {shard:?}");
        ensure!(kronod.log().contains("WARN"), "no warning:\n{}", kronod.log());
        if reason == "subscriber_ports" {
            clients::seen_by(other, &format!("http://{SERVER}/peer"))?;
        }
        ensure!(kronod.stop()? == 0);
    }
    Ok(())
}

#[test]
fn a_failed_start_says_why() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let lab = Lab::new(1)?;
    let site = lab.site(0);
    let config = Config::new("").shard(site, site.routed_pool());
    let socket = lab.dir().join("other.sock");
    let good = config.text(&socket);
    let start = |text: &str| Kronod::failing(&lab.nat, lab.dir(), text);

    let (code, said) = start(&good.replace("iface=kr-out0", "iface=kr-gone"))?;
    ensure!(code == 1 && said.contains("kr-gone"), "missing device: {code}\n{said}");

    let (code, said) = start(&good.replace("port: kr-in0", "port: kr-in7"))?;
    ensure!(code == 2 && said.contains("kr-in7"), "undeclared port: {code}\n{said}");
    ensure!(said.contains("failing.yaml:"), "no place of the mistake:\n{said}");

    let (code, said) = start(&good.replace("/28 ]", "/33 ]").replace("yield", "never"))?;
    let complaints = said.lines().filter(|line| line.contains("failing.yaml:")).count();
    ensure!(code == 2 && complaints == 2, "two mistakes, {complaints} complaints:\n{said}");

    let kronod = Kronod::start(&lab, &config)?;
    let busy = good.replace("other.sock", "kronod.sock");
    let (code, said) = start(&busy)?;
    ensure!(code == 1 && said.contains("kronod.sock"), "busy socket: {code}\n{said}");
    clients::ping(lab.subscriber(site, 0), SERVER)?;
    ensure!(kronod.stop()? == 0);
    Ok(())
}

#[test]
fn a_start_without_permission_says_what_is_missing() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let lab = Lab::new(1)?;
    let site = lab.site(0);
    let config = Config::new("").shard(site, site.routed_pool());
    // A place that the user nobody can reach, whatever the permissions of the checkout.
    let place = TempDir::with_prefix("krono-nobody-")?;
    fs::set_permissions(place.path(), Permissions::from_mode(0o777))?;
    let kronod = place.path().join("kronod");
    fs::copy(program("kronod")?, &kronod)?;
    let file = place.path().join("kronod.yaml");
    fs::write(&file, config.text(&place.path().join("kronod.sock")))?;
    let user = "setpriv --reuid=65534 --regid=65534 --clear-groups";
    let output =
        lab.nat.attempt(&format!("{user} {} --config {}", kronod.display(), file.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{}\n{said}", output.status);
    let said = said.to_lowercase();
    ensure!(
        said.contains("permi") || said.contains("cap_net_raw") || said.contains("root"),
        "{said}"
    );
    Ok(())
}
