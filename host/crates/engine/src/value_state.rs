//! Value state: the published, pinned, validated and rejected value, and a pending removal.

use crate::{
    engine_settings::Settings,
    inputs_and_effects::Session,
    jitter_rng::JitterRng,
    retry_delay::Backoff,
    types::{Cursor, Failure, Revision, Value},
};
use std::time::{Duration, Instant};

/// Published value and revision of a source, and the values that are in validation, rejected or pinned.
#[derive(Debug)]
pub(crate) struct ValueState<V> {
    published: Published<V>,
    revision: Revision,
    /// Value in validation. It is dropped when the source reports another one.
    validating: Option<(Session, V)>,
    /// Last rejected value, until a value is accepted.
    rejected: Option<Rejected<V>>,
    pending_removal: Option<PendingRemoval>,
    pin: Option<Pin>,
    /// Set after a replacement of the source, while the published value is from the previous source. The new
    /// source may not understand the cursor of that value.
    is_of_replaced_source: bool,
    backoff: Backoff,
}

/// What subscribers see: nothing yet, a value, or its removal.
#[derive(Debug)]
enum Published<V> {
    Never,
    Value(V),
    Removed,
}

/// Value that the validator has rejected, and the time at which it is validated again.
#[derive(Debug)]
struct Rejected<V> {
    value: V,
    /// Time of the next validation of the same value; `None` if the value is not validated again.
    retry_at: Option<Instant>,
}

/// State of the source while a value is pinned.
#[derive(Debug, Default)]
struct Pin {
    /// Cursor of the value that the source reported last. Polls send it, so that an unchanged value
    /// is not transferred again.
    cursor: Option<Cursor>,
    /// Set if the last report of the source differs from the pinned value.
    source_differs: bool,
}

/// Report of an absent or empty value that still needs a confirmation.
#[derive(Debug, Clone, Copy)]
struct PendingRemoval {
    /// Kind of the report: `true` for an absent value, `false` for an empty one.
    absent: bool,
    confirm_at: Instant,
}

/// Decision about a value that the source reports.
#[derive(Debug)]
pub(crate) enum Decision<V> {
    /// The report equals the published state: the same value, or still no value.
    Current,
    /// The value is new: validate it.
    Validate(V),
    /// The value is already in validation, or was rejected and is not due for a retry.
    Pending,
    /// A value is pinned. `first`: this report differs from the pinned value, and the previous one
    /// did not.
    DiffersFromPin { first: bool },
    /// The reported absent or empty value needs a confirmation by a fetch that starts at
    /// `confirm_at` or later. `first`: no removal of the same kind was pending before.
    ConfirmRemoval { confirm_at: Instant, first: bool },
    /// The source has no value any more. The removal has this revision.
    Removed(Revision),
    /// The source has no value and never had one.
    NoValueYet,
}

impl<V: Value> ValueState<V> {
    pub(crate) fn new() -> Self {
        Self {
            published: Published::Never,
            revision: Revision::default(),
            validating: None,
            rejected: None,
            pending_removal: None,
            pin: None,
            is_of_replaced_source: false,
            backoff: Backoff::default(),
        }
    }

    /// Restores the published value and its revision from before a restart.
    pub(crate) fn resume(&mut self, revision: Revision, value: Option<V>) {
        self.revision = revision;
        self.published = match value {
            Some(value) => Published::Value(value),
            None if revision > Revision::default() => Published::Removed,
            None => Published::Never,
        };
    }

    /// Restores a pin from before a restart. Has no effect if no value was restored.
    pub(crate) fn resume_pinned(&mut self) {
        self.pin = self.value().is_some().then(Pin::default);
    }

    /// Pins a value. Returns the value with its revision if it has to be published.
    pub(crate) fn pin(&mut self, value: V) -> Option<(Revision, V)> {
        let cursor = match self.pin.take() {
            Some(pin) => pin.cursor,
            None => self.cursor(),
        };
        self.pin = Some(Pin { cursor, source_differs: false });
        self.validating = None;
        self.rejected = None;
        self.pending_removal = None;
        if self.value().is_some_and(|published| published.same_value(&value)) {
            return None;
        }
        self.revision = self.revision.next();
        self.published = Published::Value(value.clone());
        Some((self.revision, value))
    }

    /// Removes the pin. Returns whether there was one.
    pub(crate) fn unpin(&mut self) -> bool {
        self.pin.take().is_some()
    }

    pub(crate) fn is_pinned(&self) -> bool {
        self.pin.is_some()
    }

    /// Records a report of the source while a value is pinned. Returns `None` without a pin.
    fn hold_back(&mut self, reported: Option<&V>) -> Option<Decision<V>> {
        let differs = match (self.value(), reported) {
            (Some(value), Some(reported)) => !value.same_value(reported),
            (Some(_) | None, None) | (None, Some(_)) => true,
        };
        let pin = self.pin.as_mut()?;
        pin.cursor = reported.and_then(Value::cursor).cloned();
        let first = differs && !pin.source_differs;
        pin.source_differs = differs;
        Some(Decision::DiffersFromPin { first })
    }

    pub(crate) fn value(&self) -> Option<&V> {
        match &self.published {
            Published::Value(value) => Some(value),
            Published::Never | Published::Removed => None,
        }
    }

    /// Returns the last rejected value, until a value is accepted.
    pub(crate) fn rejected_value(&self) -> Option<&V> {
        self.rejected.as_ref().map(|rejected| &rejected.value)
    }

    /// Returns whether anything was ever published.
    pub(crate) fn has_ever_published(&self) -> bool {
        self.revision > Revision::default()
    }

    /// Returns the cursor to fetch with: the one of the published value, or of the value that a pin
    /// holds back.
    ///
    /// Returns `None` if a value in validation or a rejected value has the same cursor. A fetch with
    /// such a weak cursor would return `Unchanged` and hide that value. Also returns `None` if the
    /// published value is from a source that was replaced.
    pub(crate) fn cursor(&self) -> Option<Cursor> {
        if let Some(pin) = &self.pin {
            return pin.cursor.clone();
        }
        if self.is_of_replaced_source {
            return None;
        }
        let cursor = self.value().and_then(Value::cursor);
        let validating = self.validating.as_ref().map(|(_, value)| value);
        let rejected = self.rejected.as_ref().map(|rejected| &rejected.value);
        let ambiguous = |value: &V| value.cursor() == cursor;
        cursor
            .filter(|_| !validating.is_some_and(ambiguous) && !rejected.is_some_and(ambiguous))
            .cloned()
    }

    /// Returns the time from which a fetch can confirm the pending removal.
    pub(crate) fn removal_confirm_at(&self) -> Option<Instant> {
        self.pending_removal.map(|pending_removal| pending_removal.confirm_at)
    }

    /// Returns the time of the next validation of a rejected value. Returns `None` while a
    /// validation is running.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        if self.validating.is_some() {
            return None;
        }
        self.rejected.as_ref().and_then(|rejected| rejected.retry_at)
    }

    /// Drops the unpublished reports of the previous source: the value in validation, the rejected
    /// value and the pending removal. The cursors of the previous source are not sent any more.
    pub(crate) fn on_source_replaced(&mut self) {
        (self.validating, self.rejected, self.pending_removal) = (None, None, None);
        self.is_of_replaced_source = true;
        if let Some(pin) = &mut self.pin {
            pin.cursor = None;
        }
    }

    /// Makes the rejected value due for validation as soon as the source reports it again.
    pub(crate) fn retry_rejected(&mut self, now: Instant) {
        if let Some(Rejected { retry_at, .. }) = &mut self.rejected {
            *retry_at = Some(now);
        }
    }

    pub(crate) fn cancel_pending_removal(&mut self) {
        self.pending_removal = None;
    }

    /// Returns whether a reported value is in validation or rejected.
    pub(crate) fn is_pending(&self) -> bool {
        self.validating.is_some() || self.rejected.is_some()
    }

    /// Handles an `Unchanged` result: the source still has the value of the cursor.
    pub(crate) fn unchanged(&mut self, now: Instant, force: bool) -> Decision<V> {
        if self.pin.is_some() {
            return Decision::DiffersFromPin { first: false };
        }
        self.pending_removal = None;
        match self.value() {
            // If a value is in validation or rejected, the source has changed back from that value to
            // the published one.
            Some(value) if force || self.is_pending() => {
                let value = value.clone();
                self.attempt(now, value, force)
            }
            Some(_) | None => Decision::Current,
        }
    }

    /// Decides about a value that the source reports; `None` means that the source has no value.
    /// `fetch_started_at` is the start of the fetch, or `None` for a watch event. `confirm_delay`
    /// is the delay before a removal is confirmed.
    pub(crate) fn assess(
        &mut self,
        now: Instant,
        reported: Option<V>,
        fetch_started_at: Option<Instant>,
        confirm_delay: Duration,
        force: bool,
    ) -> Decision<V> {
        if let Some(decision) = self.hold_back(reported.as_ref()) {
            return decision;
        }
        let had_content = self.value().is_some_and(|value| !value.is_empty());
        let absent = reported.is_none();
        let no_content = reported.as_ref().is_none_or(Value::is_empty);
        if had_content && no_content {
            let known =
                self.pending_removal.filter(|pending_removal| pending_removal.absent == absent);
            let pending_removal =
                known.unwrap_or(PendingRemoval { absent, confirm_at: now + confirm_delay });
            // A report may describe an earlier state of the source, because it was delayed in
            // transit. Only a fetch that starts after the delay confirms the removal.
            let is_confirmed = fetch_started_at.is_some_and(|at| at >= pending_removal.confirm_at);
            if !(is_confirmed || confirm_delay.is_zero() && known.is_none()) {
                let same = |value: &V| {
                    reported.as_ref().is_some_and(|reported| reported.same_value(value))
                };
                self.validating.take_if(|(_, validating)| !same(validating));
                self.pending_removal = Some(pending_removal);
                return Decision::ConfirmRemoval {
                    confirm_at: pending_removal.confirm_at,
                    first: known.is_none(),
                };
            }
        }
        self.pending_removal = None;
        match reported {
            Some(value) => self.attempt(now, value, force),
            None => self.remove(),
        }
    }

    fn attempt(&mut self, now: Instant, value: V, force: bool) -> Decision<V> {
        // An equal value replaces the stored one, since its cursor may be newer.
        if let Some((_, validating)) = &mut self.validating
            && validating.same_value(&value)
        {
            *validating = value;
            return Decision::Pending;
        }
        if let Some(Rejected { value: rejected, retry_at }) = &mut self.rejected {
            if rejected.same_value(&value) {
                self.validating = None;
                *rejected = value.clone();
                return match retry_at {
                    Some(at) if *at <= now => Decision::Validate(value),
                    Some(_) | None => Decision::Pending,
                };
            }
            return Decision::Validate(value);
        }
        match &mut self.published {
            Published::Value(published)
                if published.same_value(&value) && self.validating.is_none() && !force =>
            {
                *published = value;
                self.is_of_replaced_source = false;
                Decision::Current
            }
            Published::Value(_) | Published::Never | Published::Removed => {
                Decision::Validate(value)
            }
        }
    }

    fn remove(&mut self) -> Decision<V> {
        self.validating = None;
        self.rejected = None;
        match self.published {
            Published::Value(_) => {
                self.published = Published::Removed;
                self.revision = self.revision.next();
                Decision::Removed(self.revision)
            }
            Published::Never => {
                self.published = Published::Removed;
                Decision::NoValueYet
            }
            Published::Removed => Decision::Current,
        }
    }

    /// Records the start of a validation. The result of an earlier validation is ignored.
    pub(crate) fn start_validation(&mut self, session: Session, value: V) {
        self.validating = Some((session, value));
    }

    /// Accepts the value of the validation `session`, and returns it with its new revision. Returns
    /// `None` if this validation is not the current one.
    pub(crate) fn accept(&mut self, session: Session) -> Option<(Revision, V)> {
        let (_, value) = self.validating.take_if(|(current, _)| *current == session)?;
        self.rejected = None;
        self.backoff.reset();
        self.revision = self.revision.next();
        self.published = Published::Value(value.clone());
        self.is_of_replaced_source = false;
        Some((self.revision, value))
    }

    /// Rejects the value of the validation `session`. Returns `None` if this validation is not the
    /// current one. Otherwise returns the time at which the same value is validated again, or
    /// `Some(None)` if the failure is not transient, because there is no retry then.
    pub(crate) fn reject(
        &mut self,
        now: Instant,
        session: Session,
        failure: &Failure,
        settings: &Settings,
        rng: &mut JitterRng,
    ) -> Option<Option<Instant>> {
        let (_, value) = self.validating.take_if(|(current, _)| *current == session)?;
        let retry_at = failure
            .kind
            .is_transient()
            .then(|| now + self.backoff.next_delay(failure, settings.interval, rng));
        self.rejected = Some(Rejected { value, retry_at });
        Some(retry_at)
    }
}
