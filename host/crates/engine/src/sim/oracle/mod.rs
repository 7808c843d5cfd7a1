//! What must hold at every step, whatever the world does. It sees what the engine sees and what it
//! asks for, keeps books of its own, and names the point of the contract that is broken.
//!
//! Some things are not promised, and so not demanded here:
//!
//! - That versions only go up where the watch tells what is not so any more (it lies, or repeats, or
//!   comes late). The engine cannot know; it is set right by the next read.
//! - That a change behind a weak cursor is seen if nothing has announced it: see `Host::is_excused`.
//! - That a value that was accepted is still the source's when the judgement took time.

mod answers;
mod effects;
mod failures;
mod liveness;
mod pin;

use super::{
    source::{Content, Held},
    world::{About, World},
};
use crate::{
    Input, Session, Settings,
    types::{Cursor, Failure, Revision},
};
use failures::Crashes;
use std::time::{Duration, Instant};

/// The point of the contract that is broken, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sim) struct Violation {
    pub(in crate::sim) point: u8,
    pub(in crate::sim) what: String,
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
    /// Somebody pins a value.
    Pinned,
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
pub(in crate::sim) struct Oracle {
    settings: Settings,
    pub(in crate::sim) violation: Option<Violation>,
    // What outlives a restart.
    pub(in crate::sim) revision: Revision,
    pub(in crate::sim) published: Option<Held>,
    newest: usize,
    newest_told: usize,
    /// A watch has told what was not so any more: from here on versions may go back.
    pub(in crate::sim) crooked: bool,
    pub(in crate::sim) crooked_at: Option<Instant>,
    /// What is pinned.
    pub(in crate::sim) pinned: Option<Content>,
    /// The state that the value was from that was pinned last: the source may have the same again.
    pinned_state: Option<usize>,
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
    pub(in crate::sim) last_told: Option<Option<Content>>,
    /// Of all that the source has said since a value was pinned, and of what was published then.
    held_back: Vec<Cursor>,
    /// What is pinned has to be published in this step.
    pin_due: Option<Content>,
    /// What is published is from before a restart, and nothing else has been said of it.
    unconfirmed: bool,
    /// Cursors of what is published.
    pub(in crate::sim) cursors: Vec<Cursor>,
    /// Those of what was published before: what was asked in the step that offered a value was asked
    /// before that was accepted.
    cursors_before: Vec<Cursor>,
    confirmed_at: Instant,
    pub(in crate::sim) stale: bool,
    /// Reading or watching has failed since the source has agreed.
    pub(in crate::sim) trouble: bool,
    /// The same, or the host was started, since it has said that it holds something.
    outage: bool,
    nothing: Option<Nothing>,
    /// Something has been announced and not been read since; in which step.
    pub(in crate::sim) announced: Option<u64>,
    pub(in crate::sim) announced_at: Instant,
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
    pub(in crate::sim) quarantined_until: Option<Instant>,
    /// Something has crashed since the source has agreed.
    crashed: bool,
    /// In this step something was put in quarantine: that may be said of a value that is stale already.
    renewed: bool,
    pub(in crate::sim) gave_up: bool,
    steps: u64,
    // The rate.
    pub(in crate::sim) fetches: u64,
    allowed: u64,
    started_at: Instant,
}

impl Oracle {
    pub(in crate::sim) fn new(settings: &Settings, now: Instant) -> Self {
        Self {
            settings: settings.clone(),
            violation: None,
            revision: Revision::default(),
            published: None,
            newest: 0,
            newest_told: 0,
            crooked: false,
            crooked_at: None,
            pinned: None,
            pinned_state: None,
            asked: None,
            watching: Watching::No { since: now, retry_at: now, not_before: now },
            has_lived: false,
            read_once: false,
            offered: None,
            offers_due: None,
            last_attempt: None,
            refused: None,
            last_told: None,
            held_back: Vec::new(),
            pin_due: None,
            unconfirmed: false,
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
    pub(in crate::sim) fn restart(&mut self, now: Instant) {
        let cursor = self.published.as_ref().and_then(|held| held.cursor.clone());
        *self = Self {
            violation: self.violation.take(),
            revision: self.revision,
            last_attempt: self.content(),
            unconfirmed: self.published.is_some(),
            published: self.published.take(),
            pinned: self.pinned,
            pinned_state: self.pinned_state,
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
    pub(in crate::sim) fn content(&self) -> Option<Content> {
        self.published.as_ref().map(|held| held.content)
    }

    fn has_content(&self) -> bool {
        self.content().is_some_and(|content| content != 0)
    }

    pub(in crate::sim) fn violated(&mut self, point: u8, what: impl Into<String>) {
        self.violation.get_or_insert_with(|| Violation { point, what: what.into() });
    }

    fn demand(&mut self, holds: bool, point: u8, what: &str) {
        if !holds {
            self.violated(point, what);
        }
    }

    /// Takes note of what the engine is about to be told.
    pub(in crate::sim) fn input(
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
            Input::Pin(held) => self.pin(held),
            Input::Unpin => {
                self.unpin(now);
                Cause::Other
            }
            // No source of a world becomes another one: `contract` has that.
            Input::Replaced(_) => Cause::Other,
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
pub(in crate::sim) struct Step {
    cause: Cause,
}

/// A watch that says something after so long works.
const PROVEN: Duration = Duration::from_secs(5);
