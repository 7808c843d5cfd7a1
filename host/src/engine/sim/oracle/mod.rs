//! What must hold at every step, whatever the world does. It sees what the engine sees and what it
//! asks for, keeps books of its own, and names the point of the contract that is broken.
//!
//! Some things are not promised, and so not demanded here:
//!
//! - That versions only go up where the watch tells what is not so any more (it lies, or repeats, or
//!   comes late). The engine cannot know; it is set right by the next read.
//! - That a change behind a weak cursor is seen if nothing has announced it: see `Host::is_excused`.
//! - That a value that was accepted is still the source's when the judgement took time.

mod between;
mod effects;
mod failures;

use super::{
    source::{Content, Held},
    world::{About, World},
};
use crate::{
    engine::{Input, Session, Settings},
    model::{Cursor, Event, Failure, Outcome, Revision},
};
use failures::Crashes;
use std::time::{Duration, Instant};

/// The point of the contract that is broken, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine::sim) struct Violation {
    pub(in crate::engine::sim) point: u8,
    pub(in crate::engine::sim) what: String,
}

/// What a step is about, for who waits for the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// From a session that is over, or one that was never asked.
    Late,
    /// Time, a failure, an announcement: nothing that speaks for a value.
    Other,
    Alive {
        state: usize,
    },
    /// The source has said what it holds.
    Told {
        content: Option<Content>,
        said_at: Instant,
    },
    /// The source has said that it still holds what it was asked about.
    Unchanged {
        truth: Option<Content>,
    },
    /// A value that the watch has overtaken: whatever it says may be older.
    Overtaken {
        content: Option<Content>,
        said_at: Instant,
    },
    Accepted,
}

#[derive(Debug)]
struct Asked {
    session: Session,
    at: Instant,
    step: u64,
    /// The watch has delivered a value meanwhile.
    overtaken: bool,
    /// What was published before that.
    before: Option<Content>,
    /// Another value is published than when it was asked.
    outdated: bool,
}

#[derive(Debug)]
enum Watching {
    No { since: Instant, retry_at: Instant, not_before: Instant },
    Opening { session: Session, since: Instant },
    Live { session: Session, since: Instant, heard_at: Instant },
}

/// That there is nothing has been said, and nothing else since.
#[derive(Debug)]
struct Nothing {
    since: Instant,
    wait: Duration,
}

#[derive(Debug)]
pub(in crate::engine::sim) struct Oracle {
    settings: Settings,
    pub(in crate::engine::sim) violation: Option<Violation>,
    // What outlives a restart.
    pub(in crate::engine::sim) revision: Revision,
    pub(in crate::engine::sim) published: Option<Held>,
    newest: usize,
    newest_told: usize,
    /// A watch has told what was not so any more: from here on versions may go back.
    pub(in crate::engine::sim) crooked: bool,
    pub(in crate::engine::sim) crooked_at: Option<Instant>,
    // What does not.
    asked: Option<Asked>,
    watching: Watching,
    has_lived: bool,
    read_once: bool,
    offered: Option<(Session, Held)>,
    offers_due: Option<Content>,
    last_attempt: Option<Content>,
    /// What was refused last, if nothing has been accepted since.
    refused: Option<Content>,
    /// What the source has said last, as far as it counts.
    pub(in crate::engine::sim) last_told: Option<Option<Content>>,
    /// Cursors of what is published.
    pub(in crate::engine::sim) cursors: Vec<Cursor>,
    /// Those of what was published before: what was asked in the step that offered a value was asked
    /// before that was accepted.
    cursors_before: Vec<Cursor>,
    confirmed_at: Instant,
    pub(in crate::engine::sim) stale: bool,
    /// Reading or watching has failed since the source has agreed.
    pub(in crate::engine::sim) trouble: bool,
    /// The same, or the host was started, since it has said that it holds something.
    outage: bool,
    nothing: Option<Nothing>,
    /// Something has been announced and not been read since; in which step.
    pub(in crate::engine::sim) announced: Option<u64>,
    pub(in crate::engine::sim) announced_at: Instant,
    /// The next read has to be one without a cursor.
    in_full: bool,
    /// The same, and the watch has not told a value since either.
    untold: bool,
    /// The source asked for this.
    not_before: Option<Instant>,
    /// After a failure: when it is tried again.
    retry_at: Option<Instant>,
    /// Of reading, since the source has agreed.
    last_failure: Option<Failure>,
    reading: Crashes,
    listening: Crashes,
    /// When the last quarantine ends, or has ended.
    pub(in crate::engine::sim) quarantined_until: Option<Instant>,
    /// Something has crashed since the source has agreed.
    crashed: bool,
    /// In this step something was put in quarantine: that may be said of a value that is stale already.
    renewed: bool,
    pub(in crate::engine::sim) gave_up: bool,
    steps: u64,
    // The rate.
    pub(in crate::engine::sim) fetches: u64,
    allowed: u64,
    started_at: Instant,
}

impl Oracle {
    pub(in crate::engine::sim) fn new(settings: &Settings, now: Instant) -> Self {
        Self {
            settings: settings.clone(),
            violation: None,
            revision: Revision::default(),
            published: None,
            newest: 0,
            newest_told: 0,
            crooked: false,
            crooked_at: None,
            asked: None,
            watching: Watching::No { since: now, retry_at: now, not_before: now },
            has_lived: false,
            read_once: false,
            offered: None,
            offers_due: None,
            last_attempt: None,
            refused: None,
            last_told: None,
            cursors: Vec::new(),
            cursors_before: Vec::new(),
            confirmed_at: now,
            stale: false,
            trouble: false,
            outage: true,
            nothing: None,
            announced: Some(0),
            announced_at: now,
            in_full: false,
            untold: true,
            not_before: None,
            retry_at: None,
            last_failure: None,
            reading: Crashes::default(),
            listening: Crashes::default(),
            quarantined_until: None,
            crashed: false,
            renewed: false,
            gave_up: false,
            steps: 0,
            fetches: 0,
            allowed: 0,
            started_at: now,
        }
    }

    /// The host goes on with what it had published.
    pub(in crate::engine::sim) fn restart(&mut self, now: Instant) {
        let cursor = self.published.as_ref().and_then(|held| held.cursor.clone());
        *self = Self {
            violation: self.violation.take(),
            revision: self.revision,
            last_attempt: self.content(),
            published: self.published.take(),
            newest: self.newest,
            newest_told: self.newest_told,
            crooked: self.crooked,
            crooked_at: self.crooked_at,
            cursors: cursor.into_iter().collect(),
            fetches: self.fetches,
            allowed: self.allowed + 10,
            started_at: self.started_at,
            ..Self::new(&self.settings, now)
        };
    }

    /// What is published.
    pub(in crate::engine::sim) fn content(&self) -> Option<Content> {
        self.published.as_ref().map(|held| held.content)
    }

    fn has_content(&self) -> bool {
        self.content().is_some_and(|content| content != 0)
    }

    pub(in crate::engine::sim) fn violated(&mut self, point: u8, what: impl Into<String>) {
        self.violation.get_or_insert_with(|| Violation { point, what: what.into() });
    }

    fn demand(&mut self, holds: bool, point: u8, what: &str) {
        if !holds {
            self.violated(point, what);
        }
    }

    /// Takes note of what the engine is about to be told.
    pub(in crate::engine::sim) fn input(
        &mut self,
        now: Instant,
        input: &Input<Held>,
        about: About,
        world: &World,
    ) -> Step {
        self.offers_due = None;
        self.renewed = false;
        self.steps += 1;
        let cause = match input {
            Input::Tick => Cause::Other,
            Input::ReloadNow => {
                self.not_before = None;
                self.lifted(now);
                self.announce(now);
                Cause::Other
            }
            Input::Fetched(session, result) => self.fetched(now, *session, result, about, world),
            Input::Armed(session) => match self.watching {
                Watching::Opening { session: asked, .. } if asked == *session => {
                    self.watching = Watching::Live { session: *session, since: now, heard_at: now };
                    self.has_lived = true;
                    self.announce(now);
                    Cause::Other
                }
                _ => Cause::Late,
            },
            Input::Watched(session, event) => self.watched(now, *session, event, about),
            Input::WatchLost(session, failure) => match self.watching {
                Watching::Opening { session: asked, .. }
                | Watching::Live { session: asked, .. }
                    if asked == *session =>
                {
                    self.watch_lost(now, failure);
                    Cause::Other
                }
                _ => Cause::Late,
            },
            Input::Judged(session, verdict) => {
                match self.offered.take_if(|(asked, _)| asked == session) {
                    Some(_) if verdict.is_ok() => {
                        self.refused = None;
                        self.outage = false;
                        if let Some(asked) = &mut self.asked {
                            asked.outdated = true;
                        }
                        Cause::Accepted
                    }
                    Some((_, held)) => {
                        self.allowed += 2;
                        self.refused = Some(held.content);
                        Cause::Other
                    }
                    None => Cause::Late,
                }
            }
        };
        Step { cause }
    }

    fn fetched(
        &mut self,
        now: Instant,
        session: Session,
        result: &Result<Outcome<Held>, Failure>,
        about: About,
        world: &World,
    ) -> Cause {
        let Some(asked) = self.asked.take_if(|asked| asked.session == session) else {
            return Cause::Late;
        };
        self.read_once(now);
        let outcome = match result {
            Err(failure) => {
                self.fetch_failed(failure.clone());
                return Cause::Other;
            }
            Ok(outcome) => outcome,
        };
        self.retry_at = None;
        self.last_failure = None;
        self.reading.reset();
        if self.announced.is_some_and(|step| step <= asked.step) {
            self.announced = None;
            self.untold = false;
        }
        let content = match outcome {
            Outcome::Unchanged => self.content(),
            Outcome::Absent => None,
            Outcome::Changed(held) => {
                self.same_cursor(held);
                Some(held.content)
            }
        };
        self.newest_told = self.newest_told.max(about.state);
        let unchanged = matches!(outcome, Outcome::Unchanged);
        let known = !unchanged && self.last_told == Some(content);
        if asked.overtaken && !known && (unchanged || content == asked.before) {
            // The older one, or the source has gone back: the next poll has to find out.
            self.in_full = true;
        } else if asked.overtaken && !known || asked.outdated && unchanged {
            // Nobody knows which of the two is newer: it has to be read once more.
            self.announced = Some(self.steps);
        }
        if asked.overtaken {
            self.allowed += 2;
            return Cause::Overtaken { content, said_at: about.said_at };
        }
        if asked.outdated && unchanged {
            return Cause::Other;
        }
        self.told(now, content);
        match outcome {
            Outcome::Unchanged => Cause::Unchanged { truth: world.content(about.state) },
            Outcome::Absent | Outcome::Changed(_) => {
                Cause::Told { content, said_at: about.said_at }
            }
        }
    }

    fn watched(
        &mut self,
        now: Instant,
        session: Session,
        event: &Event<Held>,
        about: About,
    ) -> Cause {
        match &mut self.watching {
            Watching::Live { session: asked, since, heard_at } if *asked == session => {
                *heard_at = now;
                if now.saturating_duration_since(*since) >= PROVEN {
                    self.listening.reset();
                }
            }
            _ => return Cause::Late,
        }
        let content = match event {
            Event::Alive => return Cause::Alive { state: about.state },
            Event::Dirty => {
                self.newest_told = self.newest_told.max(about.state);
                self.announce(now);
                return Cause::Other;
            }
            Event::Changed(held) => {
                self.same_cursor(held);
                Some(held.content)
            }
            Event::Removed => None,
        };
        if about.state < self.newest_told {
            self.crooked = true;
            self.crooked_at = Some(now);
        }
        self.newest_told = self.newest_told.max(about.state);
        let published = self.content();
        if let Some(asked) = &mut self.asked
            && !std::mem::replace(&mut asked.overtaken, true)
        {
            asked.before = published;
        }
        self.allowed += 2;
        self.untold = false;
        self.told(now, content);
        Cause::Told { content, said_at: about.said_at }
    }

    /// The source has said what it holds, and nothing that the watch has said is newer.
    fn told(&mut self, now: Instant, content: Option<Content>) {
        self.last_told = Some(content);
        let nothing = content.is_none_or(|content| content == 0);
        if !nothing {
            self.nothing = None;
            self.outage = false;
        } else if self.nothing.is_none() {
            let Settings { confirm, confirm_after_trouble, .. } = self.settings;
            let wait = if self.outage { confirm_after_trouble } else { confirm };
            self.nothing = Some(Nothing { since: now, wait });
            self.allowed += 3;
        }
        if nothing && self.has_content() {
            // What is being judged is not what the source holds any more.
            if self.offered.take_if(|(_, held)| Some(held.content) != content).is_some() {
                self.last_attempt = self.refused.or(self.content());
            }
            return;
        }
        let judged_now = self.offered.as_ref().map(|(_, held)| held.content);
        match content {
            Some(content) if judged_now == Some(content) => {}
            // It went back to what was refused, before what it was in between had been judged.
            Some(content) if self.refused == Some(content) => {
                self.offered = None;
                self.last_attempt = Some(content);
            }
            Some(content) if self.last_attempt != Some(content) => {
                self.offers_due = Some(content);
            }
            Some(_) => {}
            None => {
                self.last_attempt = None;
                self.offered = None;
                self.refused = None;
            }
        }
    }

    fn same_cursor(&mut self, held: &Held) {
        if self.content() == Some(held.content) {
            self.cursors.extend(held.cursor.clone());
        }
    }

    fn announce(&mut self, now: Instant) {
        self.allowed += 2;
        self.announced = Some(self.steps);
        self.announced_at = now;
        self.untold = true;
        if self.asked.is_none() {
            // It cannot wait until what has failed is tried again …
            self.retry_at = None;
        }
    }

    fn read_once(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.read_once, true)
            && let Watching::No { since, retry_at, not_before } = &mut self.watching
        {
            (*since, *retry_at, *not_before) = (now, now, now);
        }
    }
}

/// One input and what follows from it.
#[derive(Debug)]
pub(in crate::engine::sim) struct Step {
    cause: Cause,
}

/// A watch that says something after so long works.
const PROVEN: Duration = Duration::from_secs(5);
