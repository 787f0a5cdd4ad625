//! A small Internet on one machine: subscribers, the place of the NAT, and servers.
//!
//! ```text
//!  subscriber 10.0.0.10 ─┐                      ┌──────────┐
//!  subscriber 10.0.0.11 ─┴ switch ── kr-in0 ────│ the NAT  │──── kr-out0 ── internet 192.0.2.126
//!                                  10.0.0.1     └──────────┘    192.0.2.1          203.0.113.1, .2
//! ```
//!
//! A second shard has the same again: `kr-in1` 10.1.0.1, `kr-out1` 192.0.2.129 towards 192.0.2.254.
//! The NAT's interfaces have no addresses: the kernel neither answers ARP on them nor resets
//! connections. Transmit checksum offload is off at the other ends, or frames would cross the
//! veth pairs with partial checksums.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::Result;
use ipnet::Ipv4Net;
use tempfile::TempDir;

use crate::netns::{Namespace, plug};

/// The servers' addresses, both in the namespace `internet`.
pub const SERVERS: [Ipv4Addr; 2] = [Ipv4Addr::new(203, 0, 113, 1), Ipv4Addr::new(203, 0, 113, 2)];

/// Subscribers on each shard's inside network.
pub const SUBSCRIBERS: usize = 2;

/// The network around one shard.
#[derive(Clone, Copy, Debug)]
pub struct Site {
    index: u8,
}

impl Site {
    /// The shard's inside address.
    pub const fn inside(self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.index, 0, 1)
    }

    /// The address of a subscriber.
    pub const fn subscriber(self, number: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, self.index, 0, 10 + number as u8)
    }

    /// The shard's outside address.
    pub const fn outside(self) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, 128 * self.index + 1)
    }

    /// The Internet's router, as the shard sees it.
    pub const fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, 128 * self.index + 126)
    }

    /// What the Internet routes to this shard.
    pub const fn routed_pool(self) -> Ipv4Net {
        Ipv4Net::new_assert(Ipv4Addr::new(198, 51, 100, 16 * self.index), 28)
    }

    /// A part of the shard's outside network, which needs ARP answers.
    pub const fn on_link_pool(self) -> Ipv4Net {
        Ipv4Net::new_assert(Ipv4Addr::new(192, 0, 2, 128 * self.index + 16), 28)
    }

    /// The NAT's interface on this side.
    pub fn interface(self, side: &str) -> String {
        format!("kr-{side}{}", self.index)
    }
}

/// The whole of it; everything ends with this value.
#[derive(Debug)]
pub struct Lab {
    /// The subscribers' hosts, [`SUBSCRIBERS`] for each shard in order.
    pub subscribers: Vec<Namespace>,
    /// Where the NAT runs.
    pub nat: Namespace,
    /// Where the servers are.
    pub internet: Namespace,
    switch: Namespace,
    dir: TempDir,
}

impl Lab {
    /// A network for so many shards (one or two).
    ///
    /// # Errors
    /// If a namespace or an interface cannot be made.
    pub fn new(shards: u8) -> Result<Self> {
        let subscribers = (0..usize::from(shards) * SUBSCRIBERS).map(|_| Namespace::new());
        let lab = Lab {
            subscribers: subscribers.collect::<Result<_>>()?,
            nat: Namespace::new()?,
            internet: Namespace::new()?,
            switch: Namespace::new()?,
            dir: TempDir::with_prefix("krono-lab-")?,
        };
        for server in SERVERS {
            lab.internet.run(&format!("ip address add {server}/32 dev lo"))?;
        }
        for index in 0..shards {
            lab.connect_inside(Site { index })?;
            lab.connect_outside(Site { index })?;
        }
        Ok(lab)
    }

    /// The network around a shard.
    pub fn site(&self, index: u8) -> Site {
        Site { index }
    }

    /// A subscriber's host.
    pub fn subscriber(&self, site: Site, number: usize) -> &Namespace {
        &self.subscribers[usize::from(site.index) * SUBSCRIBERS + number]
    }

    /// A directory for files, removed with the lab.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn connect_inside(&self, site: Site) -> Result<()> {
        let bridge = format!("lan{}", site.index);
        self.switch.shell(&format!(
            "ip link add {bridge} type bridge
             echo 1 > /proc/sys/net/ipv6/conf/{bridge}/disable_ipv6
             ip link set {bridge} up"
        ))?;
        plug(&self.nat, &site.interface("in"), &self.switch, &format!("nat{}", site.index))?;
        self.switch.run(&format!("ip link set nat{} master {bridge}", site.index))?;
        for number in 0..SUBSCRIBERS {
            let host = self.subscriber(site, number);
            let port = format!("sub{}-{number}", site.index);
            plug(host, "eth0", &self.switch, &port)?;
            self.switch.run(&format!("ip link set {port} master {bridge}"))?;
            host.run(&format!("ip address add {}/24 dev eth0", site.subscriber(number)))?;
            host.run(&format!("ip route add default via {}", site.inside()))?;
        }
        Ok(())
    }

    fn connect_outside(&self, site: Site) -> Result<()> {
        let uplink = format!("eth{}", site.index);
        plug(&self.nat, &site.interface("out"), &self.internet, &uplink)?;
        self.internet.run(&format!("ip address add {}/25 dev {uplink}", site.gateway()))?;
        self.internet.run(&format!(
            "ip route add {} via {}",
            site.routed_pool(),
            site.outside()
        ))?;
        Ok(())
    }
}
