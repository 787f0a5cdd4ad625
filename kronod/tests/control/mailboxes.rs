//! Questions to a shard and its answers, without a socket.

use std::time::{Duration, Instant};

use krono_core::counters::CounterSnapshot;
use krono_core::packet::{Endpoint, Protocol};
use kronod::mailbox::{
    LookupQuery, NoAnswer, RECORDS_PER_PAGE, SessionFilter, SessionRow, SessionsPage, mailbox,
};

use crate::fake::{Fake, records, row};

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn at_once() -> Instant {
    Instant::now() + Duration::from_millis(5)
}

#[test]
fn every_snapshot_that_a_worker_answers_is_balanced() {
    let fake = Fake::start(Vec::new());
    let mut before = 0;
    for _ in 0..2000 {
        let snapshot = fake.handle.ask(Box::<CounterSnapshot>::default(), soon()).unwrap();
        assert!(snapshot.is_balanced(), "{snapshot:?}");
        assert!(snapshot.received() > before, "it is taken after it was asked for");
        before = snapshot.received();
    }
}

/// All sessions that a walk finds, by pages of so many rows.
fn walk(fake: &Fake, filter: &SessionFilter, rows_max: usize) -> Vec<SessionRow> {
    let (mut rows, mut cursor) = (Vec::new(), Some(0));
    while let Some(start) = cursor {
        let mut page = Box::new(SessionsPage::new(start, filter.clone(), rows_max));
        page = fake.handle.ask(page, soon()).unwrap();
        while page.turn() {
            page = fake.handle.ask(page, soon()).unwrap();
        }
        assert!(page.rows().len() <= rows_max);
        rows.extend_from_slice(page.rows());
        cursor = page.next;
    }
    rows
}

#[test]
fn a_walk_shows_each_session_once_whatever_the_size_of_its_pages() {
    let count = 3 * RECORDS_PER_PAGE as u16;
    let fake = Fake::start(records(count));
    let all: Vec<_> = (0..count).map(row).collect();
    for rows_max in [1, 7, 255, 256, 257, 10_000] {
        assert_eq!(walk(&fake, &SessionFilter::default(), rows_max), all, "pages of {rows_max}");
    }
    assert!(walk(&Fake::start(Vec::new()), &SessionFilter::default(), 5).is_empty());
}

#[test]
fn filters_admit_what_they_say() {
    let count = 1000;
    let fake = Fake::start(records(count));
    let endpoint = |text: &str| Some(text.parse().unwrap());
    let filter = SessionFilter::default;
    type Admits = fn(&SessionRow) -> bool;
    let cases: [(SessionFilter, Admits); 6] = [
        (SessionFilter { protocol: Some(Protocol::Tcp), ..filter() }, |row| {
            row.protocol == Protocol::Tcp
        }),
        (SessionFilter { inside: endpoint("10.0.0.7"), ..filter() }, |row| {
            row.inside.addr.octets() == [10, 0, 0, 7]
        }),
        (SessionFilter { inside: endpoint("10.0.0.128/25"), ..filter() }, |row| {
            row.inside.addr.octets()[3] >= 128
        }),
        (SessionFilter { outside: endpoint("198.51.100.1:2100"), ..filter() }, |row| {
            row.outside.port == 2100
        }),
        (SessionFilter { remote: endpoint("0.0.0.0/0"), ..filter() }, |row| row.remote.is_some()),
        (SessionFilter { state: Some("established".to_owned()), ..filter() }, |row| {
            row.state == "established"
        }),
    ];
    for (filter, admits) in cases {
        let expected: Vec<_> = (0..count).map(row).filter(admits).collect();
        assert!(!expected.is_empty() && expected.len() < usize::from(count));
        assert_eq!(walk(&fake, &filter, 64), expected, "{filter:?}");
    }
}

#[test]
fn a_lookup_finds_the_owner_by_protocol() {
    let fake = Fake::start(records(10));
    let look = |port, protocol| {
        let query = LookupQuery::new(Endpoint::new([198, 51, 100, 1].into(), port), protocol);
        fake.handle.ask(Box::new(query), soon()).unwrap().owners
    };
    let owner = Some(row(4).inside);
    assert_eq!(look(2004, None), [None, owner, None]);
    assert_eq!(look(2004, Some(Protocol::Tcp)), [None, owner, None]);
    assert_eq!(look(2004, Some(Protocol::Udp)), [None; 3]);
    assert_eq!(look(9, None), [None; 3]);
}

#[test]
fn a_worker_that_hangs_is_asked_a_few_times_only_and_may_come_back() {
    let fake = Fake::start(Vec::new());
    let ask = |by| fake.handle.ask(Box::<CounterSnapshot>::default(), by);
    fake.hang(true);
    for _ in 0..100 {
        assert_eq!(ask(at_once()).unwrap_err(), NoAnswer::Hung);
    }
    let started = Instant::now();
    assert_eq!(ask(soon()).unwrap_err(), NoAnswer::Hung, "too many letters are under way");
    assert!(started.elapsed() < Duration::from_secs(5));

    fake.hang(false);
    std::thread::sleep(Duration::from_millis(50));
    for _ in 0..100 {
        let asked = fake.counters.snapshot();
        let answer = ask(soon()).unwrap();
        assert!(answer.received() >= asked.received(), "this answers an earlier question");
    }
}

#[test]
fn an_answer_that_comes_late_is_not_taken_for_the_latest() {
    let fake = Fake::start(records(8));
    let look = |number, by| {
        let query = LookupQuery::new(row(number).outside, None);
        fake.handle.ask(Box::new(query), by).map(|query| query.owners.into_iter().flatten().next())
    };
    fake.hang(true);
    for number in 0..3 {
        assert_eq!(look(number, at_once()), Err(NoAnswer::Hung));
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(50));
            fake.hang(false);
        });
        assert_eq!(look(7, soon()), Ok(Some(row(7).inside)));
    });
}

#[test]
fn questions_to_a_worker_that_has_ended_fail_at_once() {
    let mut fake = Fake::start(Vec::new());
    fake.end();
    let ask = |handle: &kronod::mailbox::ShardHandle| {
        handle.ask(Box::<CounterSnapshot>::default(), soon()).unwrap_err()
    };
    assert_eq!(ask(&fake.handle), NoAnswer::Ended);

    // It ends while somebody waits.
    let (handle, mut mailbox) = mailbox();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while mailbox.take().is_none() {
                std::thread::yield_now();
            }
            drop(mailbox);
        });
        assert_eq!(ask(&handle), NoAnswer::Ended);
    });
}

#[test]
fn an_answer_given_just_before_the_end_counts() {
    for _ in 0..200 {
        let mut fake = Fake::start(records(3));
        let handle = fake.handle.clone();
        let pending = handle.post(Box::<CounterSnapshot>::default()).unwrap();
        // Four bursts on, the letter was taken and answered.
        let enough = fake.counters.snapshot().received() + 4 * 64;
        while fake.counters.snapshot().received() < enough {
            std::thread::yield_now();
        }
        fake.end();
        assert!(pending.wait(soon()).is_ok());
    }
}

#[test]
fn several_threads_get_each_its_own_answer() {
    let fake = Fake::start(records(8));
    std::thread::scope(|scope| {
        for number in 0..8 {
            let handle = &fake.handle;
            scope.spawn(move || {
                for _ in 0..200 {
                    let query = LookupQuery::new(row(number).outside, None);
                    let owners = handle.ask(Box::new(query), soon()).unwrap().owners;
                    let owner = owners.into_iter().flatten().next();
                    assert_eq!(owner, Some(row(number).inside));
                }
            });
        }
    });
}
