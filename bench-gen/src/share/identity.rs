//! Who a flow is: its endpoints, computed from its number and generation and stored nowhere.
//!
//! A share owns every `of`-th subscriber. Its flows go round its subscribers; the n-th flow of a
//! subscriber has the ports of a residue class of its own, so that no two flows ever have one
//! 5-tuple, whatever generation they are in. A keyed permutation makes port numbers of them that
//! look random (RFC 4814, 4); the server is drawn by a keyed hash. Nobody need be kept from
//! guessing either, so both are arithmetic of 32 bits, which the compiler does for eight flows at
//! once.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use krono_core::hash::HashKey;
use krono_core::packet::{Endpoint, Protocol};

use super::ShareSetup;
use super::tcp::FLOW_BITS;
use crate::bench::Way;

/// Both ends of a flow as they know themselves and each other: nothing here is translated.
///
/// With IPv6 this would be an enum of two such structs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    /// The subscriber's endpoint; of ICMP the identifier is the port.
    pub subscriber: Endpoint,
    /// The server's endpoint; of ICMP the port is 0.
    pub server: Endpoint,
    /// The transport.
    pub protocol: Protocol,
}

/// A source and a destination as they lie in a packet, the source in the upper halves: what the
/// path compares, hashes and writes at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pair {
    pub addresses: u64,
    pub ports: u32,
}

impl Pair {
    /// From parts.
    #[inline]
    pub(super) fn new(from: (u32, u16), to: (u32, u16)) -> Pair {
        Pair {
            addresses: u64::from(from.0) << 32 | u64::from(to.0),
            ports: u32::from(from.1) << 16 | u32::from(to.1),
        }
    }

    /// The other way round.
    #[inline]
    pub(super) fn swapped(self) -> Pair {
        Pair { addresses: self.addresses.rotate_left(32), ports: self.ports.rotate_left(16) }
    }

    /// What a translator leaves alone on the way: where a subscriber sends to. At the end of the way
    /// down all is again as the subscriber knows it.
    #[inline]
    pub(super) fn kept(self, way: Way) -> Pair {
        match way {
            Way::Up => Pair { addresses: self.addresses & 0xffff_ffff, ports: self.ports & 0xffff },
            Way::Down => self,
        }
    }

    /// Whether both go to one endpoint.
    #[inline]
    pub(super) fn same_to(self, other: Pair) -> bool {
        self.parts_to() == other.parts_to()
    }

    /// Address and port of the source.
    #[inline]
    pub(super) fn parts_from(self) -> (u32, u16) {
        ((self.addresses >> 32) as u32, (self.ports >> 16) as u16)
    }

    /// Address and port of the destination.
    #[inline]
    pub(super) fn parts_to(self) -> (u32, u16) {
        (self.addresses as u32, self.ports as u16)
    }

    pub(super) fn from(self) -> Endpoint {
        let (addr, port) = self.parts_from();
        Endpoint::new(addr.into(), port)
    }

    pub(super) fn to(self) -> Endpoint {
        let (addr, port) = self.parts_to();
        Endpoint::new(addr.into(), port)
    }
}

/// [`Who`] as the path needs it: the pair is of a packet of the subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub pair: Pair,
    pub protocol: Protocol,
}

impl Ends {
    /// The pair of a packet this way, untranslated.
    #[inline]
    pub(super) fn pair_of(&self, way: Way) -> Pair {
        match way {
            Way::Up => self.pair,
            Way::Down => self.pair.swapped(),
        }
    }

    /// All of it as two words, for hashing.
    #[inline]
    pub(super) fn words(&self) -> (u64, u64) {
        (self.pair.addresses, (self.protocol as u64) << 32 | u64::from(self.pair.ports))
    }

    pub(super) fn who(&self) -> Who {
        Who { subscriber: self.pair.from(), server: self.pair.to(), protocol: self.protocol }
    }
}

/// How finely the shares of protocols are kept: in so many parts.
const PATTERN: usize = 1024;

/// Who some flows are.
pub(super) struct Drawn<const N: usize> {
    subscribers: [u32; N],
    servers: [u32; N],
    /// The subscriber's in the upper half.
    ports: [u32; N],
    protocols: [Protocol; N],
}

impl<const N: usize> Drawn<N> {
    pub(super) const NOBODY: Self = Drawn {
        subscribers: [0; N],
        servers: [0; N],
        ports: [0; N],
        protocols: [Protocol::Udp; N],
    };

    /// Both ends of the flow at `index`.
    #[inline(always)]
    pub(super) fn ends(&self, index: usize) -> Ends {
        let protocol = self.protocols[index];
        let kept = if protocol == Protocol::Icmp { 0xffff_0000 } else { u32::MAX };
        let Pair { addresses, ports } = self.pair(index);
        Ends { pair: Pair { addresses, ports: ports & kept }, protocol }
    }

    /// The pair of the flow at `index`, if it is of UDP.
    #[inline(always)]
    pub(super) fn udp_pair(&self, index: usize) -> Option<Pair> {
        (self.protocols[index] == Protocol::Udp).then(|| self.pair(index))
    }

    #[inline(always)]
    fn pair(&self, index: usize) -> Pair {
        let addresses = u64::from(self.subscribers[index]) << 32 | u64::from(self.servers[index]);
        Pair { addresses, ports: self.ports[index] }
    }
}

/// The flows of one share.
pub(super) struct Identities {
    draw: Draw,
    ports: Permutation,
    /// The protocols of neighbouring flows.
    pattern: Box<[Protocol; PATTERN]>,
    /// Flows that share a subscriber's endpoint, each with a server of its own.
    together: Divisor,
    subscribers: Divisor,
    first_subscriber: u32,
    step: u32,
    /// Endpoints of one subscriber, and how many generations of each have other ports.
    per_subscriber: u32,
    generations: Divisor,
    sport_first: u16,
    first_server: u32,
    servers: u32,
    dport_first: u16,
    dports: u32,
}

impl Identities {
    /// Those of a share that has `flows` flows.
    pub(super) fn new(setup: &ShareSetup, flows: u32, key: HashKey) -> Result<Self, String> {
        let load = &setup.load;
        let (number, of) = (u32::from(setup.number), u32::from(setup.of));
        let (first_subscriber, most) = hosts(&load.subscribers)?;
        let subscribers = load.subscriber_count.min(most);
        if subscribers <= number {
            return Err(format!("{subscribers} subscribers are too few for {of} lcores"));
        }
        let own = (subscribers - number).div_ceil(of);
        let endpoints = flows.div_ceil(setup.flows_per_endpoint.max(1));
        let per_subscriber = endpoints.div_ceil(own).max(1);
        let (sport_first, sports) = span(&load.sports)?;
        if per_subscriber > sports {
            return Err(format!(
                "{per_subscriber} flows of a subscriber need as many ports, and there are {sports}"
            ));
        }
        let (first_server, servers) = hosts(&load.servers)?;
        let (dport_first, dports) = span(&load.dports)?;
        if u64::from(servers) * u64::from(dports) < u64::from(setup.flows_per_endpoint) {
            return Err("there are fewer servers than flows of an endpoint".into());
        }
        Ok(Identities {
            ports: Permutation::new(sports, &key),
            pattern: pattern(load.protocols)?,
            together: Divisor::new(setup.flows_per_endpoint.max(1)),
            subscribers: Divisor::new(own),
            first_subscriber: first_subscriber + number,
            step: of,
            per_subscriber,
            generations: Divisor::new(sports / per_subscriber),
            sport_first,
            first_server,
            servers,
            dport_first,
            dports,
            draw: Draw::new(&key),
        })
    }

    /// The transport of a flow.
    #[inline]
    pub(super) fn protocol(&self, flow: u32) -> Protocol {
        self.pattern[self.together.divide(flow).0 as usize % PATTERN]
    }

    /// The flows that share this one's endpoint, itself among them.
    pub(super) fn siblings(&self, flow: u32) -> std::ops::Range<u32> {
        let first = flow - self.together.divide(flow).1;
        first..first + self.together.divisor
    }

    /// Who a flow is.
    #[inline]
    pub(super) fn ends(&self, flow: u32, generation: u16) -> Ends {
        let mut drawn = Drawn::<1>::NOBODY;
        self.draw(&[flow], &[generation], &mut drawn);
        drawn.ends(0)
    }

    /// Who some flows are, in these generations.
    #[inline]
    pub(super) fn draw<const N: usize>(
        &self,
        flows: &[u32; N],
        generations: &[u16; N],
        drawn: &mut Drawn<N>,
    ) {
        let (mut numbers, mut tweaks) = ([0; N], [0; N]);
        for at in 0..N {
            let endpoint = self.together.divide(flows[at]).0;
            let (nth, subscriber) = self.subscribers.divide(endpoint);
            let renewed = self.generations.divide(generations[at].into()).1;
            tweaks[at] = self.ports.tweak(subscriber);
            let number = nth.wrapping_add(self.per_subscriber.wrapping_mul(renewed));
            numbers[at] = self.ports.step(number, tweaks[at]);
            drawn.subscribers[at] =
                self.first_subscriber.wrapping_add(subscriber.wrapping_mul(self.step));
            let (server, dport) =
                self.draw.below(endpoint, generations[at], self.servers, self.dports);
            (drawn.servers[at], drawn.ports[at]) = (server, dport);
        }
        if self.together.divisor > 1 {
            self.tell_apart(flows, drawn);
        }
        if numbers.iter().any(|number| *number >= self.ports.size) {
            for (number, tweak) in numbers.iter_mut().zip(tweaks) {
                *number = self.ports.within(*number, tweak);
            }
        }
        for ((number, ports), server) in
            numbers.iter().zip(&mut drawn.ports).zip(&mut drawn.servers)
        {
            let sport = number + u32::from(self.sport_first);
            *ports = sport << 16 | (*ports + u32::from(self.dport_first));
            *server += self.first_server;
        }
        drawn.protocols = flows.map(|flow| self.protocol(flow));
    }

    /// Flows with one endpoint get different servers, or ports of them.
    fn tell_apart<const N: usize>(&self, flows: &[u32; N], drawn: &mut Drawn<N>) {
        for (at, flow) in flows.iter().enumerate() {
            let moved = u64::from(drawn.servers[at]) + u64::from(self.together.divide(*flow).1);
            let dport = u64::from(drawn.ports[at]) + moved / u64::from(self.servers);
            drawn.servers[at] = (moved % u64::from(self.servers)) as u32;
            drawn.ports[at] = (dport % u64::from(self.dports)) as u32;
        }
    }
}

/// The first host address of a network and how many there are.
fn hosts(network: &IpNet) -> Result<(u32, u32), String> {
    // IPv6 would go here: the same arithmetic over the last 32 bits of the address.
    let IpNet::V4(network) = network else {
        return Err(format!("{network}: IPv6 is not supported yet"));
    };
    let size = 1_u64 << (32 - network.prefix_len());
    let first: u32 = network.network().to_bits();
    match network.prefix_len() {
        31 | 32 => Ok((first, size as u32)),
        _ => Ok((first + 1, (size - 2) as u32)),
    }
}

/// The first port of a range and how many there are.
fn span(ports: &RangeInclusive<u16>) -> Result<(u16, u32), String> {
    if ports.is_empty() {
        return Err("a range of ports is empty".into());
    }
    Ok((*ports.start(), u32::from(*ports.end()) - u32::from(*ports.start()) + 1))
}

/// The protocols by their shares, spread as evenly as it goes.
fn pattern(weights: [u32; Protocol::COUNT]) -> Result<Box<[Protocol; PATTERN]>, String> {
    let total: i64 = weights.iter().map(|weight| i64::from(*weight)).sum();
    if total == 0 {
        return Err("no protocol has a share of the flows".into());
    }
    let mut due = [0_i64; Protocol::COUNT];
    let mut pattern = Box::new([Protocol::Udp; PATTERN]);
    for protocol in pattern.iter_mut() {
        for (due, weight) in due.iter_mut().zip(weights) {
            *due += i64::from(weight);
        }
        let most = (0..Protocol::COUNT).max_by_key(|index| due[*index]).unwrap_or_default();
        due[most] -= total;
        *protocol = Protocol::ALL[most];
    }
    Ok(pattern)
}

/// Draws a server for each endpoint and generation, by a key.
struct Draw {
    odd: [u32; 2],
    key: u32,
}

impl Draw {
    fn new(key: &HashKey) -> Draw {
        let drawn = key.hash(u64::MAX, 0);
        Draw {
            odd: [drawn as u32 | 1, (drawn >> 32) as u32 | 1],
            key: key.hash(u64::MAX, 1) as u32,
        }
    }

    /// A number below `first` and one below `second`. (Behind the key it is Wellons' lowbias32,
    /// from his search for hash functions of 32 bits with little bias.)
    #[inline(always)]
    fn below(&self, endpoint: u32, generation: u16, first: u32, second: u32) -> (u32, u32) {
        let generation = u32::from(generation).wrapping_mul(self.odd[1]).wrapping_add(self.key);
        let mut x = endpoint.wrapping_mul(self.odd[0]) ^ generation;
        x = (x ^ x >> 16).wrapping_mul(0x7feb_352d);
        x = (x ^ x >> 15).wrapping_mul(0x846c_a68b);
        x ^= x >> 16;
        let scale = |x: u32, count: u32| ((u64::from(x) * u64::from(count)) >> 32) as u32;
        (scale(x, first), scale(x.wrapping_mul(0x9e37_79b9), second))
    }
}

/// A keyed permutation of the numbers below `size`, another for each tweak.
struct Permutation {
    size: u32,
    shift: u32,
    mask: u32,
    odd: [u32; 2],
    key: u32,
}

impl Permutation {
    fn new(size: u32, key: &HashKey) -> Permutation {
        let bits = size.next_power_of_two().trailing_zeros().max(2);
        let drawn = key.hash(u64::MAX, size.into());
        // Multipliers with high bits set, so that low bits reach far.
        let odd = |drawn: u64| drawn as u32 | 1 | 1 << (bits - 1);
        Permutation {
            size,
            shift: bits / 2,
            mask: ((1_u64 << bits) - 1) as u32,
            odd: [odd(drawn), odd(drawn >> 32)],
            key: key.hash(u64::MAX, u64::MAX) as u32,
        }
    }

    #[inline(always)]
    fn tweak(&self, number: u32) -> u32 {
        number.wrapping_mul(0x9e37_79b9).wrapping_add(self.key) >> 7
    }

    /// Where `number` goes within the power of two that `size` fits.
    #[inline(always)]
    fn step(&self, number: u32, tweak: u32) -> u32 {
        let mut x = number.wrapping_add(tweak) & self.mask;
        for odd in self.odd {
            x ^= x >> self.shift;
            x = x.wrapping_mul(odd) & self.mask;
        }
        x ^ x >> self.shift
    }

    /// Numbers that have left the range go on until they come back.
    #[inline(always)]
    fn within(&self, mut number: u32, tweak: u32) -> u32 {
        while number >= self.size {
            number = self.step(number, tweak);
        }
        number
    }
}

/// Division of numbers below 2^[`FLOW_BITS`] by one that is known beforehand: by multiplication
/// with its inverse (Granlund, Montgomery: "Division by invariant integers using multiplication",
/// 1994, theorem 4.2).
#[derive(Clone, Copy)]
struct Divisor {
    divisor: u32,
    shift: u32,
    /// 2^shift / divisor, rounded up: one bit more than the numbers have.
    inverse: u32,
}

impl Divisor {
    fn new(divisor: u32) -> Divisor {
        let shift = FLOW_BITS + u64::from(divisor).next_power_of_two().trailing_zeros();
        Divisor { divisor, shift, inverse: (1_u64 << shift).div_ceil(divisor.into()) as u32 }
    }

    /// Quotient and remainder.
    #[inline(always)]
    fn divide(self, number: u32) -> (u32, u32) {
        let quotient = ((u64::from(number) * u64::from(self.inverse)) >> self.shift) as u32;
        (quotient, number.wrapping_sub(quotient.wrapping_mul(self.divisor)))
    }
}

/// A network that addresses are compared with.
#[derive(Clone, Copy)]
pub(super) struct Network {
    address: u32,
    mask: u32,
}

impl Network {
    pub(super) fn new(network: &IpNet) -> Network {
        match network {
            IpNet::V4(network) => {
                Network { address: network.network().to_bits(), mask: network.netmask().to_bits() }
            }
            IpNet::V6(_) => Network { address: 0, mask: u32::MAX },
        }
    }

    #[inline]
    pub(super) fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & self.mask == self.address
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divisors_divide() {
        let most = (1 << FLOW_BITS) - 1;
        for divisor in (1..300).chain([4095, 4096, 4097, 65_535, 65_536, most, most + 1, u32::MAX])
        {
            let divide = Divisor::new(divisor);
            let multiple = most / divisor * divisor;
            let near = |number: u32| [number.saturating_sub(1), number, (number + 1).min(most)];
            let numbers = [0, divisor.min(most), multiple, most / 3, most].map(near);
            for number in numbers.into_iter().flatten() {
                let right = (number / divisor, number % divisor);
                assert_eq!(divide.divide(number), right, "{number} / {divisor}");
            }
        }
    }

    #[test]
    fn servers_are_spread_and_another_key_has_others() {
        for seed in 0..16 {
            let [draw, other] = [seed, seed + 1].map(|n| Draw::new(&HashKey::from_seed([n; 32])));
            let (mut servers, mut ports, mut both) = ([0_i32; 64], [0_i32; 64], [0_i32; 64]);
            let mut alike = 0;
            for endpoint in 0..65_536 {
                let generation = endpoint as u16 % 5;
                let (server, port) = draw.below(endpoint, generation, 64, 64);
                servers[server as usize] += 1;
                ports[port as usize] += 1;
                both[(server / 8 * 8 + port / 8) as usize] += 1;
                alike += u32::from(other.below(endpoint, generation, 64, 64) == (server, port));
            }
            // Five standard deviations.
            let is_even = |count: &i32| count.abs_diff(1024) < 160;
            assert!([servers, ports, both].iter().flatten().all(is_even), "seed {seed}");
            assert!(alike < 40, "seed {seed}: {alike}");
        }
    }
}
