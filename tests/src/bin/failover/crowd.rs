//! Thousands of sessions that exchange a little now and then, half of them UDP, half TCP.
//!
//! Each answer says which public address the server saw, so a session that has been given another
//! one is known from its next answer.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use krono_tests::cluster::{Plan, SERVER};

use crate::sockets::{self, Poll};
use crate::trace::Clock;

const UDP: SocketAddrV4 = SocketAddrV4::new(SERVER, 7100);
const TCP: SocketAddrV4 = SocketAddrV4::new(SERVER, 7101);

/// A question: session, number.
const QUESTION: usize = 8;
/// An answer: the question, and the address and port that it came from.
const ANSWER: usize = QUESTION + 6;

/// Subscribers of each shard that sessions are spread over.
const SUBSCRIBERS: u8 = 150;

/// Sessions ask once in so long when nothing is to be found out.
const PERIOD: Duration = Duration::from_secs(10);

/// Between two sessions that are opened, or asked when all are.
const PACE: Duration = Duration::from_micros(300);

/// Between two sessions opened while something is done to the nodes.
const NEWCOMERS: Duration = Duration::from_millis(20);

/// How often a datagram is sent that nobody answers, and for how long an answer is waited for. A
/// connection's are sent again by the system, ever more seldom.
const TRIES: u32 = 8;
const TRY: Duration = Duration::from_millis(500);

/// What became of sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Census {
    pub(crate) survived: u32,
    /// Answered, but from another public address or port.
    pub(crate) moved: u32,
    /// Not answered any more.
    pub(crate) silent: u32,
    /// Reset.
    pub(crate) reset: u32,
    /// Answers that came to somebody else than who had asked.
    pub(crate) strayed: u32,
}

impl Census {
    pub(crate) fn lost(&self) -> u32 {
        self.moved + self.silent + self.reset
    }
}

/// What was asked of the crowd's thread.
enum Order {
    Open {
        count: u32,
    },
    Newcomers(bool),
    /// Those that were not established before the moment are young.
    Count {
        old_before: u32,
    },
}

/// Of those established before something happened, and of those that were not.
pub(crate) type Counted = (Census, Census);

/// The crowd, as seen from outside its thread.
pub(crate) struct Crowd {
    orders: Sender<Order>,
    answers: Receiver<Counted>,
}

impl Crowd {
    /// The crowd, and its part for the thread of the subscribers.
    pub(crate) fn new(plan: Plan, clock: Clock) -> (Crowd, Members) {
        let (orders, to_members) = channel();
        let (from_members, answers) = channel();
        let members = Members { plan, clock, orders: to_members, answers: from_members };
        (Crowd { orders, answers }, members)
    }

    /// Opens sessions, and says of how many were answered (they survived) and of how many not.
    pub(crate) fn open(&self, count: u32) -> Result<Census> {
        self.ask(Order::Open { count }).map(|(all, _)| all)
    }

    /// From now on opens a session every 20 ms, or no longer.
    pub(crate) fn set_newcomers(&self, come: bool) -> Result<()> {
        self.ask(Order::Newcomers(come)).map(drop)
    }

    /// Has every session ask once more, and says what became of those established before a moment,
    /// and of the others. Those that were lost are opened anew, newcomers end.
    pub(crate) fn count(&self, old_before: u32) -> Result<Counted> {
        self.ask(Order::Count { old_before })
    }

    fn ask(&self, order: Order) -> Result<Counted> {
        self.orders.send(order).ok().context("the sessions' thread has ended")?;
        self.answers.recv().context("the sessions' thread has ended")
    }
}

/// The crowd's part for its thread.
pub(crate) struct Members {
    plan: Plan,
    clock: Clock,
    orders: Receiver<Order>,
    answers: Sender<Counted>,
}

enum Wire {
    Udp(UdpSocket),
    /// With the part of an answer that has arrived.
    Tcp(TcpStream, Vec<u8>),
    Broken,
}

struct Session {
    wire: Wire,
    /// When the first answer came, µs; 0 before.
    established: u32,
    /// The public address that the server saw first.
    public: Option<SocketAddrV4>,
    has_moved: bool,
    /// The number of the last answer.
    answered: u32,
}

struct Sessions {
    plan: Plan,
    clock: Clock,
    poll: Poll,
    /// By number; those that have ended are not there.
    all: HashMap<u32, Session>,
    /// Those that stay.
    lasting: Vec<u32>,
    /// Those that came while something was done to the nodes.
    newcomers: Vec<u32>,
    next_number: u32,
    /// Whose turn it is to ask.
    turn: usize,
    /// The number of the questions now.
    round: u32,
    strayed: u32,
}

impl Members {
    /// Does what is asked, in the namespace of the calling thread, until nobody can ask any more.
    pub(crate) fn run(self) -> Result<()> {
        let mut sessions = Sessions {
            plan: self.plan,
            clock: self.clock,
            poll: Poll::new()?,
            all: HashMap::new(),
            lasting: Vec::new(),
            newcomers: Vec::new(),
            next_number: 0,
            turn: 0,
            round: 1,
            strayed: 0,
        };
        let mut newcomer_due: Option<Instant> = None;
        loop {
            let answer = match self.orders.try_recv() {
                Ok(Order::Open { count }) => {
                    Some((sessions.open_lasting(count)?, Census::default()))
                }
                Ok(Order::Newcomers(come)) => {
                    newcomer_due = come.then(Instant::now);
                    Some(Counted::default())
                }
                Ok(Order::Count { old_before }) => {
                    let counted = sessions.count(old_before)?;
                    sessions.mend()?;
                    Some(counted)
                }
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => return Ok(()),
            };
            if let Some(answer) = answer {
                // It fails only if nobody waits any more.
                let _ = self.answers.send(answer);
            }
            if let Some(due) = &mut newcomer_due
                && Instant::now() >= *due
            {
                *due += NEWCOMERS;
                let number = sessions.open()?;
                sessions.newcomers.push(number);
            }
            sessions.idle()?;
        }
    }
}

impl Sessions {
    /// Opens a session: UDP and TCP in turns, of all shards alike.
    fn open(&mut self) -> Result<u32> {
        let number = self.next_number;
        self.next_number += 1;
        let nodes = u32::from(self.plan.nodes);
        let (shard, place) = ((number % nodes) as u8, number / nodes);
        let is_udp = place.is_multiple_of(2);
        let subscriber = Plan::subscriber(shard, (place / 2 % u32::from(SUBSCRIBERS)) as u8 + 1);
        let wire = self.connect(number, subscriber, is_udp).context("opening a session")?;
        let session = Session { wire, established: 0, public: None, has_moved: false, answered: 0 };
        self.all.insert(number, session);
        self.ask(number);
        Ok(number)
    }

    fn connect(&self, number: u32, from: Ipv4Addr, is_udp: bool) -> io::Result<Wire> {
        if is_udp {
            let socket = sockets::udp(from, UDP)?;
            self.poll.add(&socket, number.into())?;
            Ok(Wire::Udp(socket))
        } else {
            let stream = sockets::tcp(from, TCP)?;
            self.poll.add(&stream, number.into())?;
            Ok(Wire::Tcp(stream, Vec::new()))
        }
    }

    /// Opens sessions that stay, and says of how many there was an answer.
    fn open_lasting(&mut self, count: u32) -> Result<Census> {
        for _ in 0..count {
            let number = self.open()?;
            self.lasting.push(number);
            self.listen(PACE)?;
        }
        let (mut established, mut others) = self.count(u32::MAX)?;
        // The system sends a lost SYN again after 1, 2 and 4 s.
        for _ in 0..2 {
            if others.lost() > 0 {
                (established, others) = self.count(u32::MAX)?;
            }
        }
        Ok(Census { silent: others.silent + others.reset, ..established })
    }

    /// Lets a few sessions ask, so that each does in [`PERIOD`], and waits a little.
    fn idle(&mut self) -> Result<()> {
        const STEP: Duration = Duration::from_millis(5);
        let share = self.lasting.len() as f64 * STEP.as_secs_f64() / PERIOD.as_secs_f64();
        for _ in 0..share.ceil() as usize {
            self.turn = (self.turn + 1) % self.lasting.len();
            self.ask(self.lasting[self.turn]);
        }
        let until = Instant::now() + STEP;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            self.listen(left)?;
        }
        Ok(())
    }

    /// Has a session ask. What cannot be sent now is asked again later.
    fn ask(&mut self, number: u32) {
        let Some(session) = self.all.get_mut(&number) else { return };
        let mut question = [0; QUESTION];
        question[..4].copy_from_slice(&number.to_be_bytes());
        question[4..].copy_from_slice(&self.round.to_be_bytes());
        let error = match &mut session.wire {
            Wire::Udp(socket) => {
                let _ = socket.send(&question);
                return;
            }
            Wire::Tcp(stream, _) => stream.write(&question).err(),
            Wire::Broken => return,
        };
        if error.is_some_and(|error| !sockets::is_idle(&error)) {
            session.wire = Wire::Broken;
        }
    }

    /// Takes the answers that come within a time.
    fn listen(&mut self, time: Duration) -> Result<()> {
        let mut happened = Vec::new();
        self.poll.wait(time, |number| happened.push(number as u32))?;
        let now = self.clock.us();
        for number in happened {
            let Some(session) = self.all.get_mut(&number) else { continue };
            let was_established = session.established != 0;
            self.strayed += session.listen(number, now);
            // It may be that the connection is there only now.
            if !was_established && session.established == 0 {
                self.ask(number);
            }
        }
        Ok(())
    }

    /// Has every session ask once more, and waits for the answers.
    fn count(&mut self, old_before: u32) -> Result<Counted> {
        self.round += 1;
        self.strayed = 0;
        for attempt in 0..TRIES {
            let open = self.open_questions();
            if open.is_empty() {
                break;
            }
            let began = Instant::now();
            for number in open {
                let is_udp = matches!(self.all[&number].wire, Wire::Udp(_));
                let is_new = self.all[&number].established == 0;
                if attempt == 0 || is_udp || is_new {
                    self.ask(number);
                    self.listen(PACE)?;
                }
            }
            while began.elapsed() < TRY && !self.open_questions().is_empty() {
                self.listen(Duration::from_millis(10))?;
            }
        }
        let (mut old, mut young) = Counted::default();
        for session in self.all.values() {
            let is_old = session.established != 0 && session.established < old_before;
            session.note(self.round, if is_old { &mut old } else { &mut young });
        }
        old.strayed = self.strayed;
        Ok((old, young))
    }

    /// Those that have not been answered in this round and may be.
    fn open_questions(&self) -> Vec<u32> {
        let mut open: Vec<u32> = self
            .all
            .iter()
            .filter(|(_, session)| session.answered != self.round)
            .filter(|(_, session)| !matches!(session.wire, Wire::Broken))
            .map(|(number, _)| *number)
            .collect();
        open.sort_unstable();
        open
    }

    /// Ends the newcomers, and opens in place of each other one that was lost a new one. One that
    /// has another public address now keeps that.
    fn mend(&mut self) -> Result<()> {
        for number in std::mem::take(&mut self.newcomers) {
            self.all.remove(&number);
        }
        let mut lost = 0;
        for number in std::mem::take(&mut self.lasting) {
            let session = self.all.get_mut(&number).context("a session that nobody ended")?;
            if session.answered == self.round && !matches!(session.wire, Wire::Broken) {
                (session.public, session.has_moved) = (None, false);
                self.lasting.push(number);
            } else {
                self.all.remove(&number);
                lost += 1;
            }
        }
        if lost > 0 {
            self.open_lasting(lost)?;
        }
        Ok(())
    }
}

impl Session {
    /// Takes what has come. Says how many answers were somebody else's.
    fn listen(&mut self, number: u32, now: u32) -> u32 {
        let mut room = [0; 256];
        let mut strayed = 0;
        loop {
            let got = match &mut self.wire {
                Wire::Udp(socket) => socket.recv(&mut room),
                Wire::Tcp(stream, _) => stream.read(&mut room),
                Wire::Broken => return strayed,
            };
            match (got, &mut self.wire) {
                (Ok(0), Wire::Tcp(..)) => self.wire = Wire::Broken,
                (Ok(got), Wire::Tcp(_, before)) => {
                    before.extend_from_slice(&room[..got]);
                    let whole = before.len() / ANSWER * ANSWER;
                    let answers: Vec<u8> = before.drain(..whole).collect();
                    for answer in answers.chunks(ANSWER) {
                        strayed += u32::from(!self.take(number, answer, now));
                    }
                }
                (Ok(got), _) => strayed += u32::from(!self.take(number, &room[..got], now)),
                (Err(error), Wire::Tcp(..)) if !sockets::is_idle(&error) => {
                    self.wire = Wire::Broken;
                }
                (Err(_), _) => return strayed,
            }
        }
    }

    /// Takes an answer. False if it is somebody else's.
    fn take(&mut self, number: u32, answer: &[u8], now: u32) -> bool {
        let Ok(answer) = <[u8; ANSWER]>::try_from(answer) else { return false };
        let [a, b, c, d, r0, r1, r2, r3, ip0, ip1, ip2, ip3, p0, p1] = answer;
        if u32::from_be_bytes([a, b, c, d]) != number {
            return false;
        }
        let seen = SocketAddrV4::new([ip0, ip1, ip2, ip3].into(), u16::from_be_bytes([p0, p1]));
        if self.established == 0 {
            self.established = now;
        }
        self.answered = self.answered.max(u32::from_be_bytes([r0, r1, r2, r3]));
        self.has_moved |= *self.public.get_or_insert(seen) != seen;
        true
    }

    fn note(&self, round: u32, census: &mut Census) {
        let counted = match self.wire {
            Wire::Broken => &mut census.reset,
            _ if self.answered != round => &mut census.silent,
            _ if self.has_moved => &mut census.moved,
            _ => &mut census.survived,
        };
        *counted += 1;
    }
}

/// The numbers of the server's sockets that are not connections.
const SOCKET: u64 = 0;
const LISTENER: u64 = 1;

/// Answers everybody, in the namespace of the calling thread, until it is told to stop.
pub(crate) fn servers(stop: &AtomicBool) -> Result<()> {
    let poll = Poll::new()?;
    let (socket, listener) = (sockets::udp_server(UDP)?, sockets::tcp_server(TCP)?);
    poll.add(&socket, SOCKET)?;
    poll.add(&listener, LISTENER)?;
    let mut connections: HashMap<u64, (TcpStream, SocketAddr)> = HashMap::new();
    let mut next = LISTENER + 1;
    while !stop.load(Relaxed) {
        let mut happened = Vec::new();
        poll.wait(Duration::from_millis(20), |number| happened.push(number))?;
        for number in happened {
            match number {
                SOCKET => answer_datagrams(&socket),
                LISTENER => {
                    while let Ok((stream, peer)) = listener.accept() {
                        stream.set_nonblocking(true)?;
                        stream.set_nodelay(true)?;
                        poll.add(&stream, next)?;
                        connections.insert(next, (stream, peer));
                        next += 1;
                    }
                }
                _ => {
                    let connection = connections.get_mut(&number);
                    if connection.is_some_and(|(stream, peer)| !answer_stream(stream, *peer)) {
                        connections.remove(&number);
                    }
                }
            }
        }
    }
    Ok(())
}

fn answer(question: &[u8], peer: SocketAddr) -> [u8; ANSWER] {
    let mut answer = [0; ANSWER];
    answer[..QUESTION].copy_from_slice(question);
    if let IpAddr::V4(ip) = peer.ip() {
        answer[QUESTION..QUESTION + 4].copy_from_slice(&ip.octets());
    }
    answer[QUESTION + 4..].copy_from_slice(&peer.port().to_be_bytes());
    answer
}

fn answer_datagrams(socket: &UdpSocket) {
    let mut room = [0; 64];
    while let Ok((got, peer)) = socket.recv_from(&mut room) {
        if got == QUESTION {
            // What the socket does not take is asked for again.
            let _ = socket.send_to(&answer(&room[..got], peer), peer);
        }
    }
}

/// False if the connection has ended.
fn answer_stream(stream: &mut TcpStream, peer: SocketAddr) -> bool {
    let mut room = [0; 32 * QUESTION];
    loop {
        match stream.read(&mut room) {
            Ok(0) => return false,
            Ok(got) => {
                // Questions are written whole, and a segment holds many.
                let mut questions = room[..got].chunks_exact(QUESTION);
                if !questions.all(|question| stream.write_all(&answer(question, peer)).is_ok()) {
                    return false;
                }
            }
            Err(error) => return sockets::is_idle(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        let wire = Wire::Udp(UdpSocket::bind("127.0.0.1:0").unwrap());
        Session { wire, established: 0, public: None, has_moved: false, answered: 0 }
    }

    fn answered(number: u32, round: u32, from: &str) -> [u8; ANSWER] {
        let question = [number.to_be_bytes(), round.to_be_bytes()].concat();
        answer(&question, from.parse().unwrap())
    }

    fn census(session: &Session, round: u32) -> Census {
        let mut census = Census::default();
        session.note(round, &mut census);
        census
    }

    #[test]
    fn a_session_has_survived_if_it_is_answered_where_it_was_before() {
        let mut session = session();
        assert!(session.take(7, &answered(7, 1, "198.51.100.1:4000"), 50));
        assert_eq!(census(&session, 1), Census { survived: 1, ..Census::default() });
        assert_eq!(census(&session, 2), Census { silent: 1, ..Census::default() });
        assert!(session.take(7, &answered(7, 2, "198.51.100.1:4000"), 60));
        // One from before that was late.
        assert!(session.take(7, &answered(7, 1, "198.51.100.1:4000"), 61));
        assert_eq!(census(&session, 2), Census { survived: 1, ..Census::default() });
        assert_eq!(session.established, 50);
    }

    #[test]
    fn another_public_port_or_address_is_noticed_for_good() {
        for other in ["198.51.100.1:4001", "198.51.100.2:4000"] {
            let mut session = session();
            assert!(session.take(7, &answered(7, 1, "198.51.100.1:4000"), 50));
            assert!(session.take(7, &answered(7, 2, other), 60));
            assert!(session.take(7, &answered(7, 2, "198.51.100.1:4000"), 61));
            assert_eq!(census(&session, 2), Census { moved: 1, ..Census::default() });
        }
    }

    #[test]
    fn an_answer_to_somebody_else_is_no_answer() {
        let mut session = session();
        assert!(!session.take(7, &answered(8, 1, "198.51.100.1:4000"), 50));
        assert!(!session.take(7, &answered(7, 1, "198.51.100.1:4000")[1..], 50));
        assert_eq!(census(&session, 1), Census { silent: 1, ..Census::default() });
        session.wire = Wire::Broken;
        assert_eq!(census(&session, 1), Census { reset: 1, ..Census::default() });
    }
}
