//! What the source says, and what may follow from it.

use super::{Cause, Nothing, Oracle, PROVEN, Watching};
use crate::{
    Session, Settings,
    sim::{
        source::{Content, Held},
        world::{About, World},
    },
    types::{Event, Failure, Outcome},
};
use std::time::Instant;

impl Oracle {
    pub(super) fn fetched(
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
        // What is unchanged is what a pin holds back, whatever that was.
        if !(unchanged && self.pinned.is_some()) {
            self.told(now, content);
        }
        match outcome {
            Outcome::Unchanged => Cause::Unchanged { truth: world.content(about.state) },
            Outcome::Absent | Outcome::Changed(_) => {
                Cause::Told { content, said_at: about.said_at }
            }
        }
    }

    pub(super) fn watched(
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
        if self.pinned.is_some() {
            return;
        }
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
        if self.pinned.is_some() {
            self.held_back.extend(held.cursor.clone());
        }
        if self.content() == Some(held.content) {
            self.cursors.extend(held.cursor.clone());
        }
    }
}
