//! What is known of the source's value: what was published, what is doubted, what was refused.

use super::{Session, Settings, pin::Pin};
use crate::types::{Cursor, Failure, Revision, Value};
use crate::{
    backoff::{Backoff, Random},
    mutations::{Bug, Bugs},
};
use std::time::{Duration, Instant};

/// What is known of the source's value.
#[derive(Debug)]
pub(crate) struct Ledger<V> {
    published: Published<V>,
    revision: Revision,
    /// What is being judged, as long as it is what the source has said last.
    offered: Option<(Session, V)>,
    /// What was refused last, if nothing has been accepted since.
    refused: Option<Refused<V>>,
    doubt: Option<Doubt>,
    pin: Option<Pin>,
    backoff: Backoff,
    bugs: Bugs,
}

#[derive(Debug)]
enum Published<V> {
    Nothing,
    Value(V),
    Removed,
}

#[derive(Debug)]
struct Refused<V> {
    value: V,
    /// When the same value is tried again, if it is.
    again_at: Option<Instant>,
}

/// What the source has said that is not believed yet.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    gone: bool,
    believe_at: Instant,
}

/// What follows from what the source has said.
#[derive(Debug)]
pub(crate) enum Said<V> {
    /// It agrees with what is published.
    Same,
    /// It is news: to be judged, under this session.
    Offer(V),
    /// It is being judged, or was refused.
    Pending,
    /// Another value is pinned, whatever this one is. `new`: what it held back before was the same.
    HeldBack { new: bool },
    /// Not believed before this time. `new`: it was not in doubt before.
    Doubted { believe_at: Instant, new: bool },
    /// The value is gone.
    Removed(Revision),
    /// There has never been a value.
    NothingYet,
}

impl<V: Value> Ledger<V> {
    pub(crate) fn new(bugs: Bugs) -> Self {
        Self {
            published: Published::Nothing,
            revision: Revision::default(),
            offered: None,
            refused: None,
            doubt: None,
            pin: None,
            backoff: Backoff::default(),
            bugs,
        }
    }

    /// What was published before a restart.
    pub(crate) fn resume(&mut self, revision: Revision, value: Option<V>) {
        self.revision =
            if self.bugs.has(Bug::RevisionStartsAnew) { Revision::default() } else { revision };
        self.published = match value {
            Some(value) => Published::Value(value),
            None if revision > Revision::default() => Published::Removed,
            None => Published::Nothing,
        };
    }

    /// The same, when it was pinned.
    pub(crate) fn resume_pinned(&mut self) {
        self.pin = self.value().is_some().then(Pin::default);
    }

    /// Holds this value. The revision, if it was not the published one.
    pub(crate) fn pin(&mut self, value: V) -> Option<(Revision, V)> {
        let cursor = match self.pin.take() {
            Some(pin) => pin.cursor,
            None => self.cursor(),
        };
        self.pin = Some(Pin { cursor, holds_back: false });
        if !self.bugs.has(Bug::JudgementOutlivesPin) {
            self.offered = None;
        }
        self.refused = None;
        self.doubt = None;
        if self.value().is_some_and(|published| published.same_value(&value)) {
            return None;
        }
        self.revision = self.revision.next();
        self.published = Published::Value(value.clone());
        Some((self.revision, value))
    }

    /// Lets go of it. Whether there was one.
    pub(crate) fn unpin(&mut self) -> bool {
        self.pin.take().is_some()
    }

    pub(crate) fn is_pinned(&self) -> bool {
        self.pin.is_some()
    }

    /// What the source has said, while a value is pinned.
    fn held_back(&mut self, said: Option<&V>) -> Option<Said<V>> {
        let differs = match (self.value(), said) {
            (Some(value), Some(said)) => !value.same_value(said),
            (Some(_) | None, None) | (None, Some(_)) => true,
        };
        let pin = self.pin.as_mut()?;
        pin.cursor = said.and_then(Value::cursor).cloned();
        let new = differs && !pin.holds_back;
        pin.holds_back = differs;
        Some(Said::HeldBack { new })
    }

    pub(crate) fn value(&self) -> Option<&V> {
        match &self.published {
            Published::Value(value) => Some(value),
            Published::Nothing | Published::Removed => None,
        }
    }

    /// What was refused last, if nothing has been accepted since.
    pub(crate) fn refused_value(&self) -> Option<&V> {
        self.refused.as_ref().map(|refused| &refused.value)
    }

    /// Whether there has been a value, ever.
    pub(crate) fn has_published(&self) -> bool {
        self.revision > Revision::default()
    }

    /// Of the value that was accepted last, or that is held back by a pin. None where it is also that of a value that is being
    /// judged or was refused: a cursor that weak would hide that one for ever.
    pub(crate) fn cursor(&self) -> Option<Cursor> {
        if let Some(pin) = &self.pin {
            return pin.cursor.clone();
        }
        if self.bugs.has(Bug::CursorMovesEarly)
            && let Some(Refused { value, .. }) = &self.refused
        {
            return value.cursor().cloned();
        }
        let cursor = self.value().and_then(Value::cursor);
        if self.bugs.has(Bug::RefusedHiddenByCursor) {
            return cursor.cloned();
        }
        let offered = self.offered.as_ref().map(|(_, value)| value);
        let refused = self.refused.as_ref().map(|refused| &refused.value);
        let ambiguous = |value: &V| value.cursor() == cursor;
        cursor
            .filter(|_| !offered.is_some_and(ambiguous) && !refused.is_some_and(ambiguous))
            .cloned()
    }

    /// When a doubt ends.
    pub(crate) fn believe_at(&self) -> Option<Instant> {
        self.doubt.map(|doubt| doubt.believe_at)
    }

    /// When what was refused is tried again, if it is, and is not being tried now.
    pub(crate) fn again_at(&self) -> Option<Instant> {
        if self.offered.is_some() {
            return None;
        }
        self.refused.as_ref().and_then(|refused| refused.again_at)
    }

    /// What was said by a source that is not asked any more.
    pub(crate) fn forget_pending(&mut self) {
        (self.offered, self.refused, self.doubt) = (None, None, None);
    }

    /// Somebody insists: what was refused is tried again when the source says it the next time.
    pub(crate) fn insist(&mut self, now: Instant) {
        if let Some(Refused { again_at, .. }) = &mut self.refused {
            *again_at = Some(now);
        }
    }

    pub(crate) fn forget_doubt(&mut self) {
        self.doubt = None;
    }

    /// Whether the source's own value is none that was let through.
    pub(crate) fn is_pending(&self) -> bool {
        self.offered.is_some() || self.refused.is_some()
    }

    /// The source has said that its value is still the one of the cursor.
    pub(crate) fn unchanged(&mut self, now: Instant, force: bool) -> Said<V> {
        if self.pin.is_some() {
            return Said::HeldBack { new: false };
        }
        self.doubt = None;
        match self.value() {
            // It has gone back to it, after something that was tried and refused.
            Some(value) if force || self.is_pending() => {
                let value = value.clone();
                self.attempt(now, value, force)
            }
            Some(_) | None => Said::Same,
        }
    }

    /// The source has said what its value is: `None` is that there is none. `asked_at`: when it was
    /// asked, if it was. `wait`: how long "nothing" is doubted.
    pub(crate) fn said(
        &mut self,
        now: Instant,
        said: Option<V>,
        asked_at: Option<Instant>,
        wait: Duration,
        force: bool,
    ) -> Said<V> {
        if !(said.is_none() && self.bugs.has(Bug::RemovedInSpiteOfPin))
            && let Some(held_back) = self.held_back(said.as_ref())
        {
            return held_back;
        }
        let had_content = self.value().is_some_and(|value| !value.is_empty());
        let gone = said.is_none();
        let nothing = said.as_ref().is_none_or(Value::is_empty);
        if had_content && nothing && !self.bugs.has(Bug::NothingBelievedAtOnce) {
            let known = self.doubt.filter(|doubt| doubt.gone == gone);
            let doubt = known.unwrap_or(Doubt { gone, believe_at: now + wait });
            // What is on its way may be from before: only who asks later learns that it is still so.
            let asked_at =
                if self.bugs.has(Bug::NothingBelievedFromBefore) { Some(now) } else { asked_at };
            let is_still_so = asked_at.is_some_and(|at| at >= doubt.believe_at);
            if !(is_still_so || wait.is_zero() && known.is_none()) {
                let same = |value: &V| said.as_ref().is_some_and(|said| said.same_value(value));
                self.offered.take_if(|(_, offered)| !same(offered));
                self.doubt = Some(doubt);
                return Said::Doubted { believe_at: doubt.believe_at, new: known.is_none() };
            }
        }
        self.doubt = None;
        match said {
            Some(value) => self.attempt(now, value, force),
            None => self.removed(),
        }
    }

    fn attempt(&mut self, now: Instant, value: V, force: bool) -> Said<V> {
        // The same as something before is kept all the same: it may have a newer cursor.
        if let Some((_, offered)) = &mut self.offered
            && offered.same_value(&value)
        {
            *offered = value;
            return Said::Pending;
        }
        if let Some(Refused { value: refused, again_at }) = &mut self.refused {
            if refused.same_value(&value) {
                self.offered = None;
                *refused = value.clone();
                return match again_at {
                    Some(at) if *at <= now => Said::Offer(value),
                    Some(_) | None => Said::Pending,
                };
            }
            if !self.bugs.has(Bug::ComparedWithLastGood) {
                return Said::Offer(value);
            }
        }
        match &mut self.published {
            Published::Value(published)
                if published.same_value(&value) && self.offered.is_none() && !force =>
            {
                *published = value;
                Said::Same
            }
            Published::Value(_) | Published::Nothing | Published::Removed => Said::Offer(value),
        }
    }

    fn removed(&mut self) -> Said<V> {
        self.offered = None;
        self.refused = None;
        match self.published {
            Published::Value(_) => {
                self.published = Published::Removed;
                self.revision = self.revision.next();
                Said::Removed(self.revision)
            }
            Published::Nothing => {
                self.published = Published::Removed;
                Said::NothingYet
            }
            Published::Removed => Said::Same,
        }
    }

    /// Takes note that a value is being judged. A judgement that was asked for before does not count.
    pub(crate) fn offer(&mut self, session: Session, value: V) {
        self.offered = Some((session, value));
    }

    /// The value that this judgement is about, now published; if it is the present one.
    pub(crate) fn accepted(&mut self, session: Session) -> Option<(Revision, V)> {
        let (_, value) = self.offered.take_if(|(asked, _)| *asked == session)?;
        self.refused = None;
        self.backoff.reset();
        self.revision = self.revision.next();
        self.published = Published::Value(value.clone());
        Some((self.revision, value))
    }

    /// The value that this judgement is about is refused; if it is the present one. When it is tried
    /// again: never while it stays the same, unless the reason may go away.
    pub(crate) fn refused(
        &mut self,
        now: Instant,
        session: Session,
        failure: &Failure,
        settings: &Settings,
        random: &mut Random,
    ) -> Option<Option<Instant>> {
        let (_, value) = self.offered.take_if(|(asked, _)| *asked == session)?;
        let again_at = (failure.kind.is_passing() && !self.bugs.has(Bug::RefusalFinal))
            .then(|| now + self.backoff.pause(failure, settings.interval, random));
        self.refused = Some(Refused { value, again_at });
        Some(again_at)
    }
}
