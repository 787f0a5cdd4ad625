//! The control plane asks, the worker answers at housekeeping, nobody locks a table.
//!
//! A question is a letter whose form the control thread has made: a box with all the room that
//! the answer may take. The worker takes it, fills in the form and gives it back; the control
//! thread reads and frees it. So the worker neither allocates nor frees, and never waits.

mod view;

use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::queue::ArrayQueue;
use krono_core::counters::CounterSnapshot;

use crate::twin::TwinOrder;

pub use view::{
    BfdHold, CoreChange, CoresRefused, CoresRequest, EndpointFilter, LookupQuery, PARTS_PER_PAGE,
    RECORDS_PER_PAGE, Reload, RowsPage, SessionFilter, SessionRow, SessionsPage, ShardView,
};

/// Letters that may be under way at once: a few unanswered ones do not keep a worker that comes
/// back to life from being asked again.
const LETTERS_MAX: usize = 8;

/// How often the asking thread looks whether an answer has come.
const LOOK_INTERVAL: Duration = Duration::from_micros(50);

/// Both ends of a new mailbox: the one to ask, and the one that the worker answers at.
pub fn mailbox() -> (ShardHandle, Mailbox) {
    let shared = Arc::new(Shared {
        questions: ArrayQueue::new(LETTERS_MAX),
        answers: ArrayQueue::new(LETTERS_MAX),
        stop: AtomicBool::new(false),
        ended: AtomicBool::new(false),
    });
    let desk = Mutex::new(Desk { tickets: 0, under_way: 0 });
    (ShardHandle { shared: shared.clone(), desk }, Mailbox { shared })
}

struct Shared {
    questions: ArrayQueue<Letter>,
    answers: ArrayQueue<Letter>,
    stop: AtomicBool,
    ended: AtomicBool,
}

/// A form under way, with the number by which its sender knows it again.
#[derive(Debug)]
pub struct Letter {
    ticket: u64,
    form: Form,
}

/// What can be asked: each form is a [`Question`].
#[derive(Debug)]
pub enum Form {
    /// The figures.
    Counters(Box<CounterSnapshot>),
    /// A part of a walk over the sessions.
    Sessions(Box<SessionsPage>),
    /// The owner of a public endpoint.
    Lookup(Box<LookupQuery>),
    /// An exchange of settings.
    Reload(Box<Reload>),
    /// A part of a walk over a replica's state.
    Rows(Box<RowsPage>),
    /// The cores of a group.
    Cores(Box<CoresRequest>),
    /// A change of BFD sessions.
    Bfd(Box<BfdHold>),
    /// An order about a half.
    Order(Box<TwinOrder>),
}

impl Letter {
    /// Fills in the form.
    pub fn answer(&mut self, shard: &mut impl ShardView) {
        match &mut self.form {
            Form::Counters(snapshot) => **snapshot = shard.counters(),
            Form::Sessions(page) => shard.sessions(page),
            Form::Lookup(query) => shard.lookup(query),
            Form::Reload(reload) => shard.reload(reload),
            Form::Rows(page) => shard.rows(page),
            Form::Cores(request) => shard.cores(request),
            Form::Bfd(hold) => shard.hold_bfd(hold),
            Form::Order(order) => shard.order(order),
        }
    }
}

/// What a form is made from, and read from when it comes back.
pub trait Question: Sized {
    /// The form.
    fn into_form(self: Box<Self>) -> Form;

    /// What was asked, answered; none if the form is another.
    fn from_form(form: Form) -> Option<Box<Self>>;
}

macro_rules! questions {
    ($($question:ident $form:ident;)*) => {$(
        impl Question for $question {
            fn into_form(self: Box<Self>) -> Form {
                Form::$form(self)
            }

            fn from_form(form: Form) -> Option<Box<Self>> {
                if let Form::$form(answer) = form { Some(answer) } else { None }
            }
        }
    )*};
}

questions! {
    CounterSnapshot Counters;
    SessionsPage Sessions;
    LookupQuery Lookup;
    Reload Reload;
    RowsPage Rows;
    CoresRequest Cores;
    BfdHold Bfd;
    TwinOrder Order;
}

/// The worker's end. Dropping it tells those who ask that the shard has ended.
pub struct Mailbox {
    shared: Arc<Shared>,
}

impl Mailbox {
    /// Whether the worker is to end.
    #[inline]
    pub fn is_stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    /// The oldest letter, if there is any. Whoever takes one gives it back before the next; one
    /// for each housekeeping bounds the work.
    #[inline]
    pub fn take(&mut self) -> Option<Letter> {
        // Cheaper than `pop`, which has a fence, and nearly always true.
        if self.shared.questions.is_empty() {
            return None;
        }
        self.shared.questions.pop()
    }

    /// Sends an answered letter back.
    pub fn give_back(&mut self, letter: Letter) {
        let pushed = self.shared.answers.push(letter);
        assert!(pushed.is_ok(), "no more letters are under way than there is room for");
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
    }
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// The worker did not come by in time.
    #[error("does not answer")]
    Hung,
    /// The worker has ended.
    #[error("has stopped")]
    Ended,
}

/// The asking end of a shard's mailbox, for any thread that moves no packets.
pub struct ShardHandle {
    shared: Arc<Shared>,
    desk: Mutex<Desk>,
}

/// What the asking side knows of its letters.
struct Desk {
    tickets: u64,
    under_way: usize,
}

impl ShardHandle {
    /// Tells the worker to end. There is no answer but its end.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }

    /// Sends a question. The mailbox is the asker's until [`Pending::wait`] returns, so that
    /// several shards may be asked before the first answer is waited for.
    ///
    /// # Errors
    /// If the worker has ended, or owes too many answers.
    pub fn post<Q: Question>(&self, question: Box<Q>) -> Result<Pending<'_, Q>, NoAnswer> {
        let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        // Answers that came after their time.
        while self.shared.answers.pop().is_some() {
            desk.under_way -= 1;
        }
        if self.shared.ended.load(Ordering::Acquire) {
            return Err(NoAnswer::Ended);
        }
        if desk.under_way == LETTERS_MAX {
            return Err(NoAnswer::Hung);
        }
        desk.tickets += 1;
        desk.under_way += 1;
        let ticket = desk.tickets;
        let pushed = self.shared.questions.push(Letter { ticket, form: question.into_form() });
        assert!(pushed.is_ok(), "no more letters are under way than there is room for");
        Ok(Pending { shared: &self.shared, desk, ticket, question: PhantomData })
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// If there is none by then.
    pub fn ask<Q: Question>(&self, question: Box<Q>, by: Instant) -> Result<Box<Q>, NoAnswer> {
        self.post(question)?.wait(by)
    }
}

/// A question that is not answered yet.
pub struct Pending<'h, Q> {
    shared: &'h Shared,
    desk: MutexGuard<'h, Desk>,
    ticket: u64,
    question: PhantomData<Q>,
}

impl<Q: Question> Pending<'_, Q> {
    /// Waits for the answer.
    ///
    /// # Errors
    /// If there is none by then.
    pub fn wait(mut self, by: Instant) -> Result<Box<Q>, NoAnswer> {
        loop {
            // Looked at first: an answer given just before the end counts.
            let ended = self.shared.ended.load(Ordering::Acquire);
            while let Some(letter) = self.shared.answers.pop() {
                self.desk.under_way -= 1;
                if letter.ticket == self.ticket {
                    let answer = Q::from_form(letter.form);
                    return Ok(answer.expect("a letter comes back with the form it went with"));
                }
            }
            if ended {
                return Err(NoAnswer::Ended);
            }
            if Instant::now() >= by {
                return Err(NoAnswer::Hung);
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }
}
