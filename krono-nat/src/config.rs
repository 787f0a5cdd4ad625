//! What an operator chooses about a translator. Everything here has been validated before.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use ipnet::Ipv4Net;
use krono_core::packet::{Endpoint, Protocol, Side};
use krono_core::time::Span;

/// The settings of one shard's translator.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many sessions may live at once.
    pub sessions: usize,
    /// How many subscribers may have mappings at once.
    pub subscribers: usize,
    /// The public addresses of this shard; no other shard has any of them.
    pub pool: Vec<Ipv4Net>,
    /// The subscribers' networks.
    pub inside: Vec<Ipv4Net>,
    /// Public TCP and UDP ports for dynamic mappings; ICMP identifiers use all 16 bits.
    pub ports: RangeInclusive<u16>,
    /// Most mappings of a subscriber, for each protocol (RFC 6888, REQ-4): at that many it gets
    /// no dynamic ones. Static ones count too, but are made all the same.
    pub ports_per_subscriber: u16,
    /// Draws hash keys and port choices; the same in every replica.
    pub seed: [u8; 32],
    /// What may change while the shard runs.
    pub policy: Policy,
}

/// The part of the settings that a reload may change.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Which remote endpoints may use a mapping (RFC 4787, REQ-8).
    pub filtering: Filtering,
    /// Whether subscribers reach each other by their public endpoints (RFC 4787, REQ-9).
    pub hairpinning: bool,
    /// How long sessions live.
    pub timeouts: Timeouts,
    /// Remote networks whose packets are not translated (RFC 6888, REQ-6).
    pub exclude: Vec<Ipv4Net>,
    /// Mappings that always exist.
    pub statics: Vec<StaticMapping>,
    /// Rules for new sessions.
    pub firewall: Firewall,
}

/// Filtering behaviour, RFC 4787 section 5.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filtering {
    /// Anybody may send to a mapping.
    EndpointIndependent,
    /// Addresses that the subscriber has sent to may.
    AddressDependent,
    /// Endpoints that the subscriber has sent to may.
    #[default]
    AddressAndPortDependent,
}

/// How long a session lives after the latest packet from inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// UDP; RFC 4787, REQ-5: at least 2 minutes, 5 or more recommended.
    pub udp: Span,
    /// ICMP queries; RFC 5508, REQ-2: at least 60 s.
    pub icmp: Span,
    /// TCP with data to come; RFC 5382, REQ-5: at least 2 h 4 min.
    pub tcp_established: Span,
    /// TCP before both ends have sent SYN; RFC 7857, 2.1: 4 minutes recommended.
    pub tcp_opening: Span,
    /// TCP after RST or both FINs; RFC 7857, 2.1 and 2.2: 4 minutes recommended.
    pub tcp_closing: Span,
    /// How long a freed port stays out of use; RFC 6888, REQ-8: 120 s.
    pub port_hold: Span,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            udp: Span::from_secs(300),
            icmp: Span::from_secs(60),
            tcp_established: Span::from_secs(7440),
            tcp_opening: Span::from_secs(240),
            tcp_closing: Span::from_secs(240),
            port_hold: Span::from_secs(120),
        }
    }
}

/// A mapping that always exists and that everybody outside may open sessions through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaticMapping {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The subscriber's endpoint.
    pub inside: Endpoint,
    /// The public endpoint, its address from the pool.
    pub outside: Endpoint,
}

/// Rules for new sessions: the first that matches decides, then the default.
#[derive(Clone, Debug, Default)]
pub struct Firewall {
    /// Whether new inbound sessions are dropped unless a rule allows them.
    pub drop_inbound: bool,
    /// The rules, in order.
    pub rules: Vec<Rule>,
}

/// One firewall rule. Addresses are as the subscriber sees them.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Whether a session that matches may open.
    pub allow: bool,
    /// The side that opens it.
    pub opened_from: Side,
    /// The transport, if the rule is for one.
    pub protocol: Option<Protocol>,
    /// Where the session's first packet comes from.
    pub from: Ipv4Net,
    /// Where it goes to.
    pub to: Ipv4Net,
    /// Its source port; not looked at for ICMP.
    pub source_port: RangeInclusive<u16>,
    /// Its destination port; likewise.
    pub port: RangeInclusive<u16>,
}

impl Firewall {
    /// Whether a session may open whose first packet goes from `from` to `to`.
    #[inline]
    pub fn admits(&self, side: Side, protocol: Protocol, from: Endpoint, to: Endpoint) -> bool {
        let rule = self.rules.iter().find(|rule| rule.matches(side, protocol, from, to));
        match rule {
            Some(rule) => rule.allow,
            None => side == Side::Inside || !self.drop_inbound,
        }
    }
}

impl Rule {
    fn matches(&self, side: Side, protocol: Protocol, from: Endpoint, to: Endpoint) -> bool {
        self.opened_from == side
            && self.protocol.is_none_or(|only| only == protocol)
            && is_in(from.addr, &self.from)
            && is_in(to.addr, &self.to)
            && (protocol == Protocol::Icmp
                || (self.source_port.contains(&from.port) && self.port.contains(&to.port)))
    }
}

/// Whether an address lies in a network. (Ipv4Net's own question makes both its ends first.)
#[inline]
pub(crate) fn is_in(addr: Ipv4Addr, net: &Ipv4Net) -> bool {
    let differs = addr.to_bits() ^ net.addr().to_bits();
    u64::from(differs) >> (32 - net.prefix_len()) == 0
}
