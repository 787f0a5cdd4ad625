//! A shard without packets: a thread that counts bursts of made-up frames and runs a mailbox.

use std::net::Ipv4Addr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use krono_core::counters::{Counter, CounterSnapshot, Counters};
use krono_core::drop::DropReason;
use krono_core::packet::{Endpoint, Protocol, Side};
use krono_core::router::bfd::{self, Diagnostic, State};
use krono_core::time::Moment;
use krono_ha::frame::Rejected;
use krono_ha::{Status, Unsafe};
use krono_io::Clock;
use kronod::bfd::Board;
use kronod::control::protocol::{Memory, PortFigures, Role};
use kronod::control::{Facts, ShardFacts};
use kronod::mailbox::{
    BfdHold, LookupQuery, Mailbox, RECORDS_PER_PAGE, Reload, SessionRow, SessionsPage, ShardHandle,
    ShardView, mailbox,
};
use kronod::twin::{self, Order, OrderRefused, TwinOrder};

/// The asking side of a fake shard, which ends when this is dropped.
pub(crate) struct Fake {
    pub(crate) handle: Arc<ShardHandle>,
    pub(crate) counters: Arc<Counters>,
    hung: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    /// A shard with these records, which counts a burst whenever it looks into its mailbox.
    pub(crate) fn start(records: Vec<Option<SessionRow>>) -> Fake {
        let (handle, mailbox) = mailbox();
        let (counters, hung) = (Arc::new(Counters::new()), Arc::new(AtomicBool::new(false)));
        let view = View { counters: counters.clone(), records };
        let is_hung = hung.clone();
        let thread = Some(thread::spawn(move || work(view, mailbox, &is_hung)));
        Fake { handle: Arc::new(handle), counters, hung, thread }
    }

    /// Makes it stop working, or go on.
    pub(crate) fn hang(&self, hung: bool) {
        self.hung.store(hung, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(20));
    }

    /// Ends it and waits for that.
    pub(crate) fn end(&mut self) {
        self.handle.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the fake shard does not panic");
        }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.hung.store(false, Ordering::SeqCst);
        self.end();
    }
}

fn work(mut view: View, mut mailbox: Mailbox, hung: &AtomicBool) {
    let mut round = 0usize;
    while !mailbox.is_stopped() {
        if hung.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(1));
            continue;
        }
        round += 1;
        view.burst(round);
        if let Some(mut letter) = mailbox.take() {
            letter.answer(&mut view);
            mailbox.give_back(letter);
        }
        thread::yield_now();
    }
}

struct View {
    counters: Arc<Counters>,
    records: Vec<Option<SessionRow>>,
}

impl View {
    fn burst(&self, round: usize) {
        let counters = &self.counters;
        let size = 1 + round % 64;
        counters.add(Counter::Polls, 1);
        counters.received(Side::BOTH[round % 2], size, 100 * size as u64);
        for frame in 0..size {
            match frame % 4 {
                0 => counters.dropped(DropReason::ALL[(round + frame) % DropReason::COUNT]),
                1 => counters.add(Counter::Consumed, 1),
                _ => counters.add(Counter::Sent, 1),
            }
        }
        counters.worked(50 * size as u64);
    }
}

impl ShardView for View {
    fn counters(&self) -> CounterSnapshot {
        self.counters.snapshot()
    }

    fn sessions(&self, page: &mut SessionsPage) {
        let start = page.cursor as usize;
        let end = (start + RECORDS_PER_PAGE as usize).min(self.records.len());
        for (index, row) in self.records.iter().enumerate().take(end).skip(start) {
            if let Some(row) = row
                && !page.offer(*row)
            {
                page.next = Some(index as u32);
                return;
            }
        }
        page.next = (end < self.records.len()).then_some(end as u32);
    }

    fn lookup(&self, query: &mut LookupQuery) {
        for protocol in query.protocols() {
            let mut rows = self.records.iter().flatten();
            let owner = rows.find(|row| row.protocol == protocol && row.outside == query.outside);
            query.owners[protocol as usize] = owner.map(|row| row.inside);
        }
    }

    /// One session, with 192.0.2.254.
    fn hold_bfd(&mut self, hold: &mut BfdHold) {
        let is_meant = hold.neighbour.is_none_or(|it| it == Ipv4Addr::new(192, 0, 2, 254));
        hold.count = usize::from(is_meant && hold.is_held);
    }

    /// It drains and may be kept, but hears of its twin.
    fn order(&mut self, order: &mut TwinOrder) {
        order.outcome = match order.order {
            Order::Fence => Err(OrderRefused::PeerRuns),
            Order::Drain | Order::Keep => Ok(()),
        };
    }

    fn reload(&mut self, reload: &mut Reload) {
        reload.outcome = Err(DropReason::SessionsFull);
    }
}

/// `count` sessions, every third record free, with ports that count up.
pub(crate) fn records(count: u16) -> Vec<Option<SessionRow>> {
    let mut records = Vec::new();
    for number in 0..count {
        if number.is_multiple_of(2) {
            records.push(None);
        }
        records.push(Some(row(number)));
    }
    records
}

/// The session of this number.
pub(crate) fn row(number: u16) -> SessionRow {
    let is_tcp = number.is_multiple_of(4);
    let is_static = number % 100 == 99;
    SessionRow {
        protocol: if is_tcp { Protocol::Tcp } else { Protocol::Udp },
        inside: Endpoint::new(Ipv4Addr::new(10, 0, 0, (number % 200) as u8), 1000 + number),
        outside: Endpoint::new(Ipv4Addr::new(198, 51, 100, 1), 2000 + number),
        remote: (!is_static).then_some(Endpoint::new(Ipv4Addr::new(203, 0, 113, 5), 443)),
        state: if is_tcp { "established" } else { "open" },
        expires_in_ms: (!is_static).then_some(1000 * u64::from(number)),
        is_static,
    }
}

/// A half on node 1 of the second shard, which serves; its twin on node 2 is behind.
fn half() -> twin::Board {
    let board = twin::Board::new(1, 2, 1);
    board.show(&Status {
        role: krono_ha::roles::Role::Serving,
        epoch: 5,
        is_live: true,
        is_current: true,
        is_caught_up: false,
        queued: 1234,
        peer_queued: 0,
        unacknowledged: 3,
        lag_ms: 77,
        failover: Err(Unsafe::Behind),
        rejected: [0; Rejected::COUNT],
        diverged: 1,
        corrected: 0,
        refused: 2,
        gaps: 4,
        overflowed: 6,
    });
    board
}

/// A BFD session with 192.0.2.254 that is up, since the clock's start, in the second shard.
fn board(index: usize) -> Board {
    let clock = Clock::with_frequency(NonZeroU64::new(1_000_000_000).unwrap());
    let session = bfd::View {
        side: Side::Outside,
        neighbour: Ipv4Addr::new(192, 0, 2, 254),
        state: State::Up,
        diagnostic: Diagnostic::DETECTION_TIME_EXPIRED,
        since: Moment(0),
        ups: 2,
        remote_state: State::Up,
        remote_diagnostic: Diagnostic::NONE,
        transmit_us: 50_000,
        detection_us: 150_500,
    };
    Board::new(clock, (index == 1).then_some(session).into_iter())
}

/// What the control plane knows of these shards: ids 0, 7, 14 … on lcores 10, 11, 12 …
pub(crate) fn facts(shards: &[Fake]) -> Facts {
    let shard = |(index, fake): (usize, &Fake)| ShardFacts {
        id: 7 * index as u16,
        lcore: 10 + index as u16,
        role: Role::Worker,
        speaks: Box::new(|| true),
        sessions_max: 1000,
        handle: fake.handle.clone(),
        counters: fake.counters.clone(),
        twin: (index == 1).then(|| Arc::new(half())),
        bfd: Arc::new(board(index)),
    };
    let port = PortFigures {
        name: "access".to_owned(),
        device: "net_null0".to_owned(),
        rx_packets: 12_345,
        rx_missed: 3,
        ..PortFigures::default()
    };
    Facts {
        config_file: "/etc/kronod.yaml".into(),
        started: Instant::now(),
        ready: AtomicBool::new(false),
        memory: Memory { buffers_bytes: 512 << 20, tables_bytes: 96 << 20, hugepages: true },
        shards: shards.iter().enumerate().map(shard).collect(),
        ports: Box::new(move || vec![port.clone()]),
    }
}
