//! Whether what the engine wants done is right.

use super::{Asked, Cause, Oracle, Step, Watching, failures::asked_pause};
use crate::{
    Effect, Report, Role, Session, UNCONFIRMED,
    sim::{
        source::{Content, Cursors, Held},
        world::World,
    },
    types::{Cursor, Failure, FailureKind, Revision, Strategy},
};
use std::time::{Duration, Instant};

impl Oracle {
    /// Takes note of what the engine wants done.
    pub(in crate::sim) fn effect(
        &mut self,
        now: Instant,
        step: &mut Step,
        effect: &Effect<Held>,
        world: &World,
    ) {
        let late = step.cause == Cause::Late;
        match effect {
            Effect::Fetch(session, known) => self.fetch(now, *session, known.as_ref()),
            Effect::CancelFetch => {
                let overdue =
                    self.asked.take().is_some_and(|asked| asked.at + self.settings.timeout <= now);
                self.demand(overdue, 9, "a fetch was cancelled before its time");
                self.read_once(now);
                self.fetch_failed(self.given_up());
                step.cause = Cause::Other;
            }
            Effect::OpenWatch(session, known) => self.open(now, *session, known.as_ref()),
            Effect::CloseWatch => {
                let overdue = self.watch_overdue(now);
                self.demand(overdue, 9, "a watch was closed before its time");
                self.watch_lost(now, &self.given_up());
                self.announce(now);
            }
            Effect::Offer(session, held) => {
                self.demand(!late, 3, "what came late is taken");
                self.lets_through();
                self.offer(*session, held, step.cause);
            }
            Effect::Publish(revision, held) if step.cause == Cause::Pinned => {
                self.pinned(*revision, held);
            }
            Effect::Publish(revision, held) => {
                self.lets_through();
                self.demand(step.cause == Cause::Accepted, 4, "published and not accepted");
                self.demand(*revision > self.revision, 2, "the revision does not go up");
                let newer = held.state >= self.newest || self.pinned_state == Some(held.state);
                self.demand(self.crooked || newer, 3, "an older value after a newer one");
                self.newest = self.newest.max(held.state);
                self.revision = *revision;
                let cursors = held.cursor.iter().cloned().collect();
                self.cursors_before = std::mem::replace(&mut self.cursors, cursors);
                self.published = Some(held.clone());
                self.nothing.take_if(|_| held.content == 0);
            }
            Effect::PublishRemoved(revision) => {
                self.demand(!late, 3, "what came late is taken");
                self.lets_through();
                self.demand(*revision > self.revision, 2, "the revision does not go up");
                self.gone(step.cause, None);
                self.revision = *revision;
                self.published = None;
                self.last_attempt = None;
                self.offered = None;
                self.refused = None;
                self.nothing = None;
                self.cursors.clear();
            }
            Effect::Confirmed => {
                self.confirmed(step.cause, world);
                self.confirmed_at = now;
                self.crashed = false;
                self.trouble = false;
                self.last_failure = None;
                self.unconfirmed = false;
            }
            Effect::Stale(failure) if &*failure.message == UNCONFIRMED => {
                self.demand(self.unconfirmed && !self.stale, 6, "it is not from before a restart");
                self.stale = true;
            }
            Effect::Stale(failure) => {
                let named = std::mem::take(&mut self.unconfirmed) && self.stale;
                let due = self.confirmed_at + self.settings.stale_after <= now || self.crashed;
                let pinned = step.cause == Cause::Pinned;
                self.demand(due || named || pinned, 6, "said to be stale, and is not");
                self.demand(!self.stale || self.renewed || named, 6, "said to be stale twice");
                self.names_quarantine(now, failure);
                self.demand(self.published.is_some(), 6, "nothing cannot be stale");
                let unheard = &*failure.message == "the source has not answered";
                let doubted = self.nothing.as_ref().is_some_and(|it| !it.wait.is_zero())
                    && self.has_content()
                    && self.offered.is_none();
                let heard = self.last_failure.is_some() || doubted;
                self.demand(!(unheard && heard), 6, "the reason for being stale is not true");
                self.stale = true;
            }
            Effect::Fresh => {
                self.demand(self.stale, 6, "fresh, and was not stale");
                self.stale = false;
            }
            Effect::Report(report) => self.report(now, report),
            Effect::GiveUp(failure) => {
                let never = self.revision == Revision::default();
                let unwatched = self.settings.strategy == Strategy::Realtime && !self.has_lived;
                let legitimate = failure.kind == FailureKind::Config && (never || unwatched);
                self.demand(legitimate, 8, "it gave up");
                self.gave_up = true;
            }
        }
    }

    fn fetch(&mut self, now: Instant, session: Session, known: Option<&Cursor>) {
        self.fetches += 1;
        self.demand(self.asked.is_none(), 9, "two fetches at once");
        let due = self.not_before.is_none_or(|at| at <= now);
        self.demand(due, 9, "neither retry-after nor a crash is waited for");
        self.reading.until = None;
        self.demand(
            known.is_none() || self.announced.is_none() && !self.in_full,
            10,
            "what was announced is asked for with a cursor",
        );
        self.knows(known);
        self.not_before = None;
        self.retry_at = None;
        self.in_full = false;
        self.asked = Some(Asked {
            session,
            at: now,
            step: self.steps,
            overtaken: false,
            before: None,
            outdated: false,
        });
    }

    fn open(&mut self, now: Instant, session: Session, known: Option<&Cursor>) {
        match self.watching {
            Watching::No { not_before, .. } => {
                let due = not_before <= now;
                self.demand(due, 9, "neither retry-after nor a crash is waited for by the watch");
            }
            Watching::Opening { .. } | Watching::Live { .. } => {
                self.violated(9, "two watches at once");
            }
        }
        self.knows(known);
        self.listening.until = None;
        self.watching = Watching::Opening { session, since: now };
    }

    fn knows(&mut self, known: Option<&Cursor>) {
        let accepted = known.is_none_or(|known| {
            self.cursors.contains(known)
                || self.cursors_before.contains(known)
                || self.is_held_back(known)
        });
        self.demand(accepted, 4, "the cursor is not one of the accepted value");
    }

    fn offer(&mut self, session: Session, held: &Held, cause: Cause) {
        let published = self.content();
        let told = match cause {
            Cause::Told { content, .. } | Cause::Overtaken { content, .. } => content,
            Cause::Unchanged { .. } => published,
            Cause::Late | Cause::Other | Cause::Alive { .. } | Cause::Accepted | Cause::Pinned => {
                None
            }
        };
        self.demand(told == Some(held.content), 3, "offered is what nobody has said");
        let again = self.last_attempt == Some(held.content)
            && published == Some(held.content)
            && self.refused.is_none()
            && !self.settings.force_reload;
        self.demand(!again, 5, "the same is offered again for nothing");
        if held.content == 0 {
            self.gone(cause, Some(0));
        }
        self.offers_due.take_if(|due| *due == held.content);
        self.last_attempt = Some(held.content);
        self.offered = Some((session, held.clone()));
    }

    /// There was something, and nothing is believed: rightly so?
    fn gone(&mut self, cause: Cause, content: Option<Content>) {
        if !self.has_content() {
            return;
        }
        let said_at = match cause {
            Cause::Told { content: told, said_at }
            | Cause::Overtaken { content: told, said_at }
                if told == content =>
            {
                Some(said_at)
            }
            _ => None,
        };
        let confirmed = self.nothing.as_ref().is_some_and(|nothing| {
            nothing.wait.is_zero() || said_at.is_some_and(|at| at >= nothing.since + nothing.wait)
        });
        self.demand(confirmed, 7, "cleared, and nobody has confirmed that it is gone");
    }

    fn confirmed(&mut self, cause: Cause, world: &World) {
        let published = self.content();
        let justified = match cause {
            Cause::Accepted => true,
            Cause::Told { .. } | Cause::Overtaken { .. } | Cause::Unchanged { .. }
                if self.pinned.is_some() =>
            {
                true
            }
            Cause::Alive { .. } if self.pinned.is_some() => !self.trouble && !self.untold,
            Cause::Told { content, .. } | Cause::Overtaken { content, .. } => content == published,
            Cause::Unchanged { truth } => truth == published || self.is_weak(world),
            Cause::Alive { state } => {
                let read = !self.trouble && !self.untold && self.refused.is_none();
                let complete = world.has_complete_watch() && !self.crooked;
                let true_now = world.content(state) == published;
                read && self.last_told == Some(published) && (!complete || true_now)
            }
            Cause::Late | Cause::Other | Cause::Pinned => false,
        };
        self.demand(justified, 6, "confirmed without reason");
    }

    fn is_weak(&self, world: &World) -> bool {
        world.source.cursors == Cursors::Weak
    }

    fn report(&mut self, now: Instant, report: &Report) {
        match report {
            Report::FetchFailed { failure, retry_in } => {
                let asked = asked_pause(failure);
                self.demand(*retry_in >= asked, 9, "retry-after is not obeyed");
                self.demand(*retry_in <= longest(failure), 8, "the pause is too long");
                self.is_no_quarantine(Role::Reading, failure);
                let has_crashed = failure.kind == FailureKind::Crashed;
                let asked = if has_crashed { *retry_in } else { asked };
                self.not_before = (!asked.is_zero()).then(|| now + asked);
                self.retry_at = Some(now + *retry_in);
            }
            Report::WatchLost { failure, retry_in } => {
                self.demand(*retry_in <= longest(failure), 8, "the watch's pause is too long");
                self.is_no_quarantine(Role::Watching, failure);
                if let Watching::No { retry_at, .. } = &mut self.watching {
                    *retry_at = now + *retry_in;
                }
            }
            Report::Quarantined { .. } => self.quarantined(now, report),
            Report::Watching
            | Report::Recovered
            | Report::NothingYet
            | Report::Doubt { .. }
            | Report::HeldBack
            | Report::Refused { .. } => {}
        }
    }
}

/// No pause is longer after this.
fn longest(failure: &Failure) -> Duration {
    match failure.kind {
        FailureKind::Crashed => Duration::from_secs(10),
        FailureKind::Transient { .. } => Duration::from_secs(10).max(asked_pause(failure)),
        FailureKind::Config | FailureKind::Denied | FailureKind::Permanent => {
            Duration::from_secs(300)
        }
    }
}
