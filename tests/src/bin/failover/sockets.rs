//! Sockets that never wait, and what they are waited for with.

use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, bind, connect, ipproto};
use rustix::net::{socket_with, sockopt};

/// Events taken at once.
const EVENTS: usize = 256;

/// What happens on many sockets, each known by a number. It is told once each time that something
/// arrives or that a connection is there: all that has arrived is to be read then.
pub(crate) struct Poll {
    epoll: OwnedFd,
}

impl Poll {
    pub(crate) fn new() -> io::Result<Poll> {
        Ok(Poll { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)? })
    }

    pub(crate) fn add(&self, socket: impl AsFd, number: u64) -> io::Result<()> {
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        Ok(epoll::add(&self.epoll, socket, epoll::EventData::new_u64(number), flags)?)
    }

    /// Calls `each` with the numbers on which something has happened, after `timeout` at the latest.
    pub(crate) fn wait(&self, timeout: Duration, mut each: impl FnMut(u64)) -> io::Result<()> {
        let mut room = [MaybeUninit::uninit(); EVENTS];
        let timeout = Timespec { tv_sec: 0, tv_nsec: timeout.subsec_nanos().into() };
        let (events, _) = epoll::wait(&self.epoll, &mut room[..], Some(&timeout))?;
        events.iter().for_each(|event| each(event.data.u64()));
        Ok(())
    }
}

/// A UDP socket between two addresses; the port of the own one is the system's choice.
pub(crate) fn udp(from: Ipv4Addr, to: SocketAddrV4) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((from, 0))?;
    socket.connect(to)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A UDP socket that anybody may send to.
pub(crate) fn udp_server(at: SocketAddrV4) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(at)?;
    socket.set_nonblocking(true)?;
    sockopt::set_socket_recv_buffer_size_force(&socket, 1 << 20)?;
    Ok(socket)
}

/// A TCP connection that is being made.
pub(crate) fn tcp(from: Ipv4Addr, to: SocketAddrV4) -> io::Result<TcpStream> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    bind(&socket, &SocketAddrV4::new(from, 0))?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    match connect(&socket, &to) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(socket.into()),
        Err(error) => Err(error.into()),
    }
}

/// A socket for TCP connections.
pub(crate) fn tcp_server(at: SocketAddrV4) -> io::Result<TcpListener> {
    let socket = TcpListener::bind(at)?;
    socket.set_nonblocking(true)?;
    // A thousand at once.
    rustix::net::listen(&socket, 1024)?;
    Ok(socket)
}

/// A socket for echo requests, of which the system chooses the identifier.
pub(crate) fn ping(from: Ipv4Addr, to: Ipv4Addr) -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let protocol: Option<Protocol> = Some(ipproto::ICMP);
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, flags, protocol)?;
    bind(&socket, &SocketAddrV4::new(from, 0))?;
    connect(&socket, &SocketAddrV4::new(to, 0))?;
    Ok(socket)
}

/// Whether this only says that there is nothing to be had now.
pub(crate) fn is_idle(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected)
}
