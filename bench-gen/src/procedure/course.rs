//! A procedure under way: the bench, who follows, and the report so far.

use std::time::{Duration, Instant};

use super::draft::Draft;
use super::search::Bracket;
use super::{Audience, Doing, Searching};
use crate::bench::{Bench, Seen, Snapshot, Stage, Watch, Wrong};
use crate::load::{End, Profile, Rate, Sizes};
use crate::report::{count, short};

/// Why a procedure ends before it is done.
#[derive(Debug)]
pub(super) enum Halt {
    /// Somebody asked for it; what the stage had seen by then.
    Ended(Option<Box<Seen>>),
    /// A packet was delivered wrong: whatever would be measured further is worth nothing.
    Wrong(Box<Seen>),
    /// It cannot go on.
    Failed(String),
}

/// A procedure under way.
pub(super) struct Course<'a> {
    pub(super) profile: &'a Profile,
    pub(super) draft: Draft,
    bench: &'a mut dyn Bench,
    audience: &'a mut dyn Audience,
    doing: Doing,
}

impl<'a> Course<'a> {
    pub(super) fn new(
        profile: &'a Profile,
        bench: &'a mut dyn Bench,
        audience: &'a mut dyn Audience,
    ) -> Course<'a> {
        let (draft, doing) = (Draft::default(), Doing::default());
        Course { profile, draft, bench, audience, doing }
    }

    pub(super) fn into_draft(self) -> Draft {
        self.draft
    }

    /// Says which part of the whole is next.
    pub(super) fn part(&mut self, part: impl Into<String>) {
        self.doing = Doing { part: part.into(), ..Doing::default() };
    }

    /// Says what is not wrong in the stages of this part.
    pub(super) fn forgive(&mut self, kinds: &'static [Wrong]) {
        self.doing.forgiven = kinds;
    }

    /// Says that the next stages are steps of a search.
    pub(super) fn searching(
        &mut self,
        unit: &'static str,
        bracket: Bracket,
        tried: impl Iterator<Item = (f64, bool)>,
    ) {
        self.doing.search = Some(Searching { unit, bracket, tried: tried.collect() });
    }

    /// Says that they are not.
    pub(super) fn found(&mut self) {
        self.doing.search = None;
    }

    /// Repeats a part as often as the profile says.
    pub(super) fn repeat(
        &mut self,
        what: &str,
        mut part: impl FnMut(&mut Self) -> Result<(), Halt>,
    ) -> Result<(), Halt> {
        let repeats = self.profile.repeats.max(1);
        for repeat in 1..=repeats {
            let of =
                if repeats > 1 { format!("repeat {repeat} of {repeats}") } else { String::new() };
            let apart = if what.is_empty() || of.is_empty() { "" } else { ", " };
            self.part(format!("{what}{apart}{of}"));
            part(self)?;
        }
        Ok(())
    }

    /// Carries out a stage.
    pub(super) fn stage(&mut self, stage: &Stage) -> Result<Seen, Halt> {
        self.stage_with(stage, &mut |_| {})
    }

    /// Carries out a stage, with something to be done whenever somebody looks.
    pub(super) fn stage_with(
        &mut self,
        stage: &Stage,
        each: &mut dyn FnMut(&Snapshot),
    ) -> Result<Seen, Halt> {
        let seen = self.watched(stage, each)?;
        self.judged(seen)
    }

    /// Carries out a stage, whatever is seen; to be [judged](Course::judged) then.
    pub(super) fn watched(
        &mut self,
        stage: &Stage,
        each: &mut dyn FnMut(&Snapshot),
    ) -> Result<Seen, Halt> {
        if self.audience.ended() {
            return Err(Halt::Ended(None));
        }
        (self.doing.stage, self.doing.takes_s) = described(stage);
        self.audience.turn(&self.doing);
        let mut looking = Looking { audience: self.audience, each };
        let seen = self.bench.stage(stage, &mut looking);
        seen.map_err(|failed| Halt::Failed(failed.to_string()))
    }

    /// Whether the procedure goes on after what was seen.
    pub(super) fn judged(&mut self, seen: Seen) -> Result<Seen, Halt> {
        self.draft.noticed(&seen);
        if !seen.is_right() {
            return Err(Halt::Wrong(Box::new(seen)));
        }
        if seen.partial {
            return Err(Halt::Ended(Some(Box::new(seen))));
        }
        Ok(seen)
    }

    /// Waits, unless the procedure is to end.
    pub(super) fn wait(&mut self, time: Duration) -> Result<(), Halt> {
        self.doing.stage = format!("waiting {} s", short(time.as_secs_f64()));
        self.doing.takes_s = Some(time.as_secs_f64());
        self.audience.turn(&self.doing);
        let end = Instant::now() + time;
        loop {
            if self.audience.ended() {
                return Err(Halt::Ended(None));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(Duration::from_millis(100)));
        }
    }
}

/// Whoever looks, with something done before.
struct Looking<'a> {
    audience: &'a mut dyn Audience,
    each: &'a mut dyn FnMut(&Snapshot),
}

impl Watch for Looking<'_> {
    fn look(&mut self, so_far: &Snapshot) -> bool {
        (self.each)(so_far);
        self.audience.look(so_far) && !self.audience.ended()
    }
}

/// A stage in words, and how long it takes in seconds.
fn described(stage: &Stage) -> (String, Option<f64>) {
    let at = |per_second: f64| {
        if per_second.is_finite() {
            format!(" at {}/s", short(per_second))
        } else {
            " as fast as possible".to_owned()
        }
    };
    match stage {
        Stage::Open { sessions, per_second } => {
            let takes = f64::from(*sessions) / per_second;
            let sessions = count(u64::from(*sessions));
            (format!("opening {sessions} sessions{}", at(*per_second)), Some(takes))
        }
        Stage::Traffic { rate, end, sizes, .. } => {
            let rate = match rate {
                Rate::Packets(rate) => format!(" at {} packets/s", short(*rate)),
                Rate::Bits(rate) => format!(" at {} bits/s", short(*rate)),
                Rate::Max => " as fast as possible".to_owned(),
            };
            let size = match sizes {
                Some(Sizes::Fixed(size)) => format!(" of {size} bytes"),
                _ => String::new(),
            };
            let takes = match end {
                End::After(time) => Some(time.as_secs_f64()),
                End::Packets(_) | End::Sessions(_) => None,
            };
            (format!("traffic{size}{rate}"), takes)
        }
        Stage::Probe { per_second } => (format!("probing every session{}", at(*per_second)), None),
        Stage::Close { per_second } => (format!("closing sessions{}", at(*per_second)), None),
        Stage::Forget => ("forgetting sessions".to_owned(), None),
    }
}
