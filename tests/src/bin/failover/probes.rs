//! Flows of a hundred packets a second, of each kind that a translator knows apart, whose packets
//! are numbered and timed both ways.
//!
//! Subscribers and servers are threads of this process in different namespaces, so there is one
//! clock. Of UDP each direction is watched by itself; of TCP and echo requests, the answers.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use anyhow::Result;
use krono_tests::cluster::{Plan, SERVER};

use crate::sockets::{self, Poll};
use crate::trace::{Clock, Trace};

const UDP: SocketAddrV4 = SocketAddrV4::new(SERVER, 7000);
const TCP: SocketAddrV4 = SocketAddrV4::new(SERVER, 7001);

/// Between two packets, µs.
const INTERVAL: u32 = 10_000;
/// Between two keystrokes, µs.
const KEY_INTERVAL: u32 = 100_000;

/// A connection on which nothing came for so long is lost, µs.
const SILENCE: u32 = 1_000_000;

/// The first subscriber of each shard that has probes.
const FIRST_SUBSCRIBER: u8 = 200;

/// Echo request, code 0; the system fills in checksum and identifier.
const ECHO_REQUEST: [u8; 8] = [8, 0, 0, 0, 0, 0, 0, 0];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Udp,
    Icmp,
    Tcp,
    /// A connection like that of a remote shell: a key, its echo, ten times a second.
    Keys,
}

impl Class {
    pub(crate) const ALL: [Class; 4] = [Class::Udp, Class::Icmp, Class::Tcp, Class::Keys];

    const fn interval(self) -> u32 {
        if matches!(self, Class::Keys) { KEY_INTERVAL } else { INTERVAL }
    }
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) class: Class,
    pub(crate) shard: u8,
    /// From the subscriber to the server; where there is no way back, out and back.
    pub(crate) out: Trace,
    /// From the server to the subscriber.
    pub(crate) back: Option<Trace>,
    /// How often its session was lost: another public port was seen, or the connection broke.
    pub(crate) losses: AtomicU32,
}

/// `flows_per_class` of each class for each shard.
pub(crate) fn flows(plan: Plan, flows_per_class: u8) -> Vec<Arc<Flow>> {
    let mut flows = Vec::new();
    for shard in plan.shards() {
        for class in Class::ALL {
            flows.extend((0..flows_per_class).map(|_| {
                let back = (class == Class::Udp).then(Trace::new);
                let (out, losses) = (Trace::new(), AtomicU32::new(0));
                Arc::new(Flow { class, shard, out, back, losses })
            }));
        }
    }
    flows
}

/// What a packet says: its flow and its number.
fn message(flow: usize, number: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&(flow as u32).to_be_bytes());
    bytes[4..].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn said(bytes: &[u8]) -> Option<(usize, u32)> {
    let word = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    Some((word(0)? as usize, word(4)?))
}

/// When each flow's next packet is due.
struct Pace {
    due: Vec<(u32, u32)>,
}

impl Pace {
    /// Spread evenly over an interval.
    fn new(flows: &[Arc<Flow>], now: u32) -> Pace {
        let step = INTERVAL / flows.len() as u32;
        let due = |index: usize| (now + index as u32 * step, 0);
        Pace { due: (0..flows.len()).map(due).collect() }
    }

    /// The number of the packet that is due, if one is.
    fn take(&mut self, index: usize, interval: u32, now: u32) -> Option<u32> {
        let (due, number) = &mut self.due[index];
        if now < *due {
            return None;
        }
        // Who was late does not catch up by sending more at once.
        *due = (*due + interval).max(now + interval / 2);
        *number += 1;
        Some(*number - 1)
    }

    /// Until the next one is due.
    fn wait(&self, now: u32) -> Duration {
        let next = self.due.iter().map(|(due, _)| *due).min().unwrap_or(now);
        Duration::from_micros(next.saturating_sub(now).into())
    }
}

/// The subscriber's end of a flow.
enum Wire {
    Udp(UdpSocket),
    Icmp(OwnedFd),
    /// With the part of an answer that has arrived.
    Tcp(TcpStream, Vec<u8>),
    /// Of a connection that broke.
    Broken,
}

impl Wire {
    fn open(index: usize, flow: &Flow, poll: &Poll) -> Result<Wire> {
        let from = Plan::subscriber(flow.shard, FIRST_SUBSCRIBER + (index % 50) as u8);
        let number = index as u64;
        Ok(match flow.class {
            Class::Udp => {
                let socket = sockets::udp(from, UDP)?;
                poll.add(&socket, number)?;
                Wire::Udp(socket)
            }
            Class::Icmp => {
                let socket = sockets::ping(from, SERVER)?;
                poll.add(&socket, number)?;
                Wire::Icmp(socket)
            }
            Class::Tcp | Class::Keys => {
                let stream = sockets::tcp(from, TCP)?;
                poll.add(&stream, number)?;
                Wire::Tcp(stream, Vec::new())
            }
        })
    }

    /// Whether it went well; what cannot be sent just now counts as lost.
    fn send(&mut self, message: [u8; 8]) -> bool {
        let sent = match self {
            Wire::Udp(socket) => socket.send(&message),
            Wire::Icmp(socket) => {
                let mut packet = [0; 16];
                packet[..8].copy_from_slice(&ECHO_REQUEST);
                packet[8..].copy_from_slice(&message);
                rustix::net::send(&*socket, &packet, rustix::net::SendFlags::empty())
                    .map_err(Into::into)
            }
            Wire::Tcp(stream, _) => stream.write(&message),
            Wire::Broken => return true,
        };
        !matches!((self, sent), (Wire::Tcp(..), Err(error)) if !sockets::is_idle(&error))
    }

    /// Hands each message that has arrived to `each`. False if the connection has ended.
    fn receive(&mut self, mut each: impl FnMut(usize, u32)) -> bool {
        let mut room = [0; 2048];
        loop {
            let got = match self {
                Wire::Udp(socket) => socket.recv(&mut room),
                Wire::Icmp(socket) => {
                    let flags = rustix::net::RecvFlags::empty();
                    rustix::net::recv(&*socket, &mut room[..], flags)
                        .map(|(got, _)| got)
                        .map_err(Into::into)
                }
                Wire::Tcp(stream, _) => stream.read(&mut room),
                Wire::Broken => return true,
            };
            let got = match got {
                Ok(got) => &room[..got],
                // An ICMP error to a datagram is no end.
                Err(error) => return !matches!(self, Wire::Tcp(..)) || sockets::is_idle(&error),
            };
            match self {
                Wire::Tcp(..) if got.is_empty() => return false,
                Wire::Tcp(_, before) => {
                    before.extend_from_slice(got);
                    let whole = before.len() / 8 * 8;
                    before.drain(..whole).collect::<Vec<_>>().chunks(8).for_each(|message| {
                        said(message).into_iter().for_each(|(flow, number)| each(flow, number));
                    });
                }
                Wire::Icmp(_) => said(&got[8.min(got.len())..])
                    .into_iter()
                    .for_each(|(flow, number)| each(flow, number)),
                _ => said(got).into_iter().for_each(|(flow, number)| each(flow, number)),
            }
        }
    }
}

/// What the thread of the subscribers is told.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    pub(crate) stop: AtomicBool,
    /// Connections that broke, or on which nothing comes any more, are to be made again.
    pub(crate) mend: AtomicBool,
}

/// The subscribers' side, in the namespace of the calling thread, until it is told to stop.
pub(crate) fn subscribers(flows: &[Arc<Flow>], clock: Clock, orders: &Orders) -> Result<()> {
    let poll = Poll::new()?;
    let open = |(index, flow): (usize, &Arc<Flow>)| Wire::open(index, flow, &poll);
    let mut wires = flows.iter().enumerate().map(open).collect::<Result<Vec<_>>>()?;
    let mut pace = Pace::new(flows, clock.us());
    let mut heard = vec![clock.us(); flows.len()];
    let broken = |index: usize, wire: &mut Wire| {
        flows[index].losses.fetch_add(1, Relaxed);
        *wire = Wire::Broken;
    };
    while !orders.stop.load(Relaxed) {
        if orders.mend.swap(false, Relaxed) {
            for (index, wire) in wires.iter_mut().enumerate() {
                let is_silent = clock.us() - heard[index] > SILENCE;
                if is_silent && matches!(wire, Wire::Tcp(..)) {
                    broken(index, wire);
                }
                if matches!(wire, Wire::Broken) {
                    *wire = Wire::open(index, &flows[index], &poll)?;
                }
            }
        }
        for (index, wire) in wires.iter_mut().enumerate() {
            let flow = &flows[index];
            while let Some(number) = pace.take(index, flow.class.interval(), clock.us()) {
                flow.out.sent(number, clock.us());
                if !wire.send(message(index, number)) {
                    broken(index, wire);
                }
            }
        }
        poll.wait(pace.wait(clock.us()), |index| {
            let index = index as usize;
            let flow = &flows[index];
            let answers = flow.back.as_ref().unwrap_or(&flow.out);
            let arrived = |of, number| {
                if of == index {
                    heard[index] = clock.us();
                    answers.arrived(number, clock.us());
                }
            };
            if !wires[index].receive(arrived) {
                broken(index, &mut wires[index]);
            }
        })?;
    }
    Ok(())
}

/// The numbers of the server's sockets that are not connections.
const SOCKET: u64 = 0;
const LISTENER: u64 = 1;

/// The servers' side.
pub(crate) fn servers(flows: &[Arc<Flow>], clock: Clock, orders: &Orders) -> Result<()> {
    let poll = Poll::new()?;
    let (socket, listener) = (sockets::udp_server(UDP)?, sockets::tcp_server(TCP)?);
    poll.add(&socket, SOCKET)?;
    poll.add(&listener, LISTENER)?;
    let mut connections: HashMap<u64, TcpStream> = HashMap::new();
    let mut next = LISTENER + 1;
    let mut peers = vec![None; flows.len()];
    let mut pace = Pace::new(flows, clock.us());
    while !orders.stop.load(Relaxed) {
        for (index, flow) in flows.iter().enumerate() {
            let (Some(back), Some(peer)) = (&flow.back, peers[index]) else { continue };
            if let Some(number) = pace.take(index, INTERVAL, clock.us()) {
                back.sent(number, clock.us());
                // What the socket does not take is lost.
                let _ = socket.send_to(&message(index, number), peer);
            }
        }
        let mut happened = Vec::new();
        poll.wait(Duration::from_millis(1), |number| happened.push(number))?;
        for number in happened {
            match number {
                SOCKET => hear(&socket, flows, &mut peers, clock),
                LISTENER => {
                    while let Ok((stream, _)) = listener.accept() {
                        stream.set_nonblocking(true)?;
                        stream.set_nodelay(true)?;
                        poll.add(&stream, next)?;
                        connections.insert(next, stream);
                        next += 1;
                    }
                }
                _ => {
                    if connections.get_mut(&number).is_some_and(|stream| !echo(stream)) {
                        connections.remove(&number);
                    }
                }
            }
        }
    }
    Ok(())
}

/// Takes what has come by UDP, and notes who sent it.
fn hear(
    socket: &UdpSocket,
    flows: &[Arc<Flow>],
    peers: &mut [Option<std::net::SocketAddr>],
    clock: Clock,
) {
    let mut room = [0; 64];
    while let Ok((got, peer)) = socket.recv_from(&mut room) {
        let Some((index, number)) = said(&room[..got]) else { continue };
        let Some(flow) = flows.get(index) else { continue };
        flow.out.arrived(number, clock.us());
        if peers[index].replace(peer).is_some_and(|before| before != peer) {
            flow.losses.fetch_add(1, Relaxed);
        }
    }
}

/// Sends back what has come by a connection. False if it has ended.
fn echo(stream: &mut TcpStream) -> bool {
    let mut room = [0; 2048];
    loop {
        match stream.read(&mut room) {
            Ok(0) => return false,
            Ok(got) if stream.write_all(&room[..got]).is_err() => return false,
            Ok(_) => {}
            Err(error) => return sockets::is_idle(&error),
        }
    }
}
