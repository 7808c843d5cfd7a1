//! Latest-value store of a source: one writer, any number of subscriptions.
//!
//! Intermediate states are coalesced: a slow subscriber sees the newest state, without a queue and without an
//! error.

use jiff::Timestamp;
use reloader_engine::types::{Revision, Snapshot, Value as _};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

/// State of a source at one time. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceState {
    /// Revision of the latest publication. A publication is a value or a removal.
    pub revision: Revision,
    /// Last good value. `None` before the first one and after a removal.
    pub value: Option<Snapshot>,
    /// Time of the publication of this revision.
    pub at: Timestamp,
    /// Time at which the source last confirmed the published value, or last answered while a value is pinned. The Unix
    /// epoch before the first confirmation since the start. A confirmation wakes subscribers only if it removes a
    /// rejected value.
    pub last_success_at: Timestamp,
    /// Staleness of the value; `None` while it is fresh.
    pub stale: Option<Stale>,
    /// Value that the source currently reports, if it was rejected.
    pub rejected: Option<RejectedValue>,
    /// Cause of the last read failure, until a read succeeds. A change of this field wakes only
    /// [`Subscription::status_changed`].
    pub failing: Option<Arc<str>>,
}

/// Rejected value, for inspection by the operator. Kept until a value is published, or until the source confirms
/// the published value or its absence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedValue {
    /// Rejected value.
    pub value: Snapshot,
    /// Reason of the rejection, for the operator.
    pub reason: Arc<str>,
    /// Time of the last rejection.
    pub at: Timestamp,
    /// Time of the next validation of the same value. `None` if the value is not validated again.
    pub retry_at: Option<Timestamp>,
}

impl RejectedValue {
    /// Returns whether this is a repeated rejection: the same value for the same reason.
    #[must_use]
    pub fn is_repeat_of(&self, before: &Self) -> bool {
        self.value.same_value(&before.value) && self.reason == before.reason
    }
}

/// Staleness of a value: its source has not confirmed it for longer than the settings allow, has not confirmed it since
/// a restart, or has crashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stale {
    /// Reason for the operator: the last failure, or that the source has not confirmed the value since a restart.
    pub reason: Arc<str>,
    /// Time at which the value became stale.
    pub since: Timestamp,
}

impl Stale {
    /// Creates the staleness of a value for this reason. `before` is its present staleness, whose start time is kept.
    pub(crate) fn because(reason: Arc<str>, before: Option<Self>) -> Self {
        Self { reason, since: before.map_or_else(Timestamp::now, |before| before.since) }
    }
}

/// Creates a store: its writer and a first subscription.
#[must_use]
pub fn store() -> (Writer, Subscription) {
    let (sender, receiver) = watch::channel(Latest::default());
    let last_returned = Revision::default();
    (Writer { sender }, Subscription { receiver, seen_changes: 0, last_returned })
}

/// Latest state, and the number of changes that [`Subscription::changed`] reports.
#[derive(Debug, Default)]
struct Latest {
    state: SourceState,
    changes: u64,
}

/// Single writer of the latest value and its status.
#[derive(Debug)]
pub struct Writer {
    sender: watch::Sender<Latest>,
}

impl Writer {
    /// Publishes a value, or a removal (`None`).
    pub fn publish(&self, revision: Revision, value: Option<Snapshot>) {
        self.publish_at(revision, value, Timestamp::now());
    }

    /// Publishes a value or a removal (`None`) with this time of publication.
    pub(crate) fn publish_at(&self, revision: Revision, value: Option<Snapshot>, at: Timestamp) {
        self.update(|state| {
            // An older revision never replaces a newer one.
            let is_newer = revision > state.revision;
            if is_newer {
                (state.revision, state.value, state.at) = (revision, value, at);
                state.rejected = None;
            }
            is_newer
        });
    }

    /// Restores the last publication before a restart. Wakes subscribers only if the publication has a value.
    pub(crate) fn resume(&self, revision: Revision, value: Option<Snapshot>, at: Timestamp) {
        self.update(|state| {
            let has_value = value.is_some();
            (state.revision, state.value, state.at) = (revision, value, at);
            has_value
        });
    }

    /// Records that the source has confirmed the published value, and removes the rejected value.
    pub fn confirmed(&self) {
        self.update(|state| {
            state.last_success_at = Timestamp::now();
            state.rejected.take().is_some()
        });
    }

    /// Records a rejected value. `retry_in` is the delay before the same value is validated again; `None` if the
    /// value is not validated again.
    pub fn rejected(&self, value: Snapshot, reason: Arc<str>, retry_in: Option<Duration>) {
        let at = Timestamp::now();
        let retry_at =
            retry_in.map(|retry_in| at.saturating_add(retry_in).unwrap_or(Timestamp::MAX));
        self.update(|state| {
            state.rejected = Some(RejectedValue { value, reason, at, retry_at });
            true
        });
    }

    /// Records the cause of a read failure; `None` after a successful read.
    pub fn failing(&self, reason: Option<Arc<str>>) {
        self.sender.send_if_modified(|Latest { state, .. }| {
            let is_other = state.failing != reason;
            state.failing = reason;
            is_other
        });
    }

    /// Marks the value as stale for this reason, or as fresh (`None`).
    pub fn stale(&self, reason: Option<Arc<str>>) {
        self.update(|state| {
            let before = state.stale.take();
            state.stale = reason.map(|reason| Stale::because(reason, before));
            true
        });
    }

    /// Updates the state, and wakes the subscribers if `update` returns `true`.
    fn update(&self, update: impl FnOnce(&mut SourceState) -> bool) {
        self.sender.send_if_modified(|latest| {
            let is_changed = update(&mut latest.state);
            latest.changes += u64::from(is_changed);
            is_changed
        });
    }
}

/// Subscription to the latest state. Cheap to clone; clones are independent of each other.
#[derive(Debug, Clone)]
pub struct Subscription {
    receiver: watch::Receiver<Latest>,
    /// Number of changes up to the last state that this subscription has seen.
    seen_changes: u64,
    /// Revision of the last value that [`next`](Self::next) returned.
    last_returned: Revision,
}

impl Subscription {
    /// Waits for a state that this subscription has not seen.
    ///
    /// # Errors
    ///
    /// Fails with [`Closed`] when the source has stopped.
    pub async fn changed(&mut self) -> Result<(), Closed> {
        loop {
            self.status_changed().await?;
            let changes = self.receiver.borrow().changes;
            if std::mem::replace(&mut self.seen_changes, changes) != changes {
                return Ok(());
            }
        }
    }

    /// Waits for a state that this subscription has not seen, also if only the cause of a read failure differs.
    ///
    /// # Errors
    ///
    /// Fails with [`Closed`] when the source has stopped.
    pub async fn status_changed(&mut self) -> Result<(), Closed> {
        self.receiver.changed().await.map_err(|_| Closed)
    }

    /// Waits for a state that this subscription has not seen, with a value that this function has not returned yet.
    /// Returns the value. Skips removals; use [`changed`](Self::changed) and [`state`](Self::state) to see them.
    ///
    /// # Errors
    ///
    /// Fails with [`Closed`] when the source has stopped.
    pub async fn next(&mut self) -> Result<Snapshot, Closed> {
        loop {
            self.changed().await?;
            let state = self.state();
            if let (true, Some(value)) = (state.revision > self.last_returned, state.value) {
                self.last_returned = state.revision;
                return Ok(value);
            }
        }
    }

    /// Returns the latest state, and marks it as seen.
    pub fn state(&mut self) -> SourceState {
        let latest = self.receiver.borrow_and_update();
        self.seen_changes = latest.changes;
        latest.state.clone()
    }

    /// Returns the latest value, and marks it as seen. `None` while there is no value.
    pub fn get(&mut self) -> Option<Snapshot> {
        let latest = self.receiver.borrow_and_update();
        self.seen_changes = latest.changes;
        latest.state.value.clone()
    }
}

/// Error of a subscription whose source has stopped: no further value is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the source has stopped; it publishes no further value")]
pub struct Closed;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn slow_subscriber_sees_newest_value_only() {
        let (writer, mut subscription) = store();
        let mut revision = Revision::default();
        for number in 0..100 {
            revision = revision.next();
            writer.publish(revision, Some(Snapshot::new(number.to_string())));
        }
        subscription.changed().await.expect("the writer is open");
        let state = subscription.state();
        assert_eq!(state.revision.get(), 100);
        assert_eq!(state.value, Some(Snapshot::new("99")));
    }

    #[tokio::test]
    async fn subscription_closes_after_last_value() {
        let (writer, mut subscription) = store();
        writer.publish(1.into(), Some(Snapshot::new("last")));
        drop(writer);
        assert_eq!(subscription.changed().await, Ok(()), "the last value is still delivered");
        assert_eq!(subscription.get(), Some(Snapshot::new("last")));
        assert_eq!(subscription.changed().await, Err(Closed));
    }

    #[test]
    fn stale_value_keeps_revision() {
        let (writer, mut subscription) = store();
        writer.publish(1.into(), Some(Snapshot::new("a")));
        writer.stale(Some("down".into()));
        let state = subscription.state();
        assert_eq!((state.revision.get(), state.value), (1, Some(Snapshot::new("a"))));
        assert_eq!(state.stale.map(|stale| stale.reason), Some("down".into()));
    }

    #[test]
    fn rejected_value_is_kept_until_next_publication() {
        let (writer, mut subscription) = store();
        writer.publish(1.into(), Some(Snapshot::new("good")));
        subscription.state();
        let reject = || writer.rejected(Snapshot::new("bad"), "no port".into(), None);
        let is_woken_with_rejection = |subscription: &mut Subscription| {
            subscription.receiver.has_changed().expect("open")
                && subscription.state().rejected.is_some()
        };
        reject();
        assert!(is_woken_with_rejection(&mut subscription), "a rejection wakes subscribers");
        let state = subscription.state();
        let rejected = state.rejected.expect("rejected");
        assert_eq!((rejected.value, &*rejected.reason), (Snapshot::new("bad"), "no port"));
        assert_eq!((state.revision.get(), state.value), (1, Some(Snapshot::new("good"))));
        writer.publish(2.into(), Some(Snapshot::new("better")));
        assert_eq!(subscription.state().rejected, None);
        reject();
        writer.confirmed();
        assert_eq!(subscription.state().rejected, None, "a confirmation removes it");
    }

    #[tokio::test]
    async fn read_failure_changes_only_the_status() {
        let (writer, mut subscription) = store();
        let mut status = subscription.clone();
        writer.failing(Some("no route".into()));
        status.status_changed().await.expect("the writer is open");
        assert_eq!(status.state().failing.as_deref(), Some("no route"));
        writer.failing(Some("no route".into()));
        assert!(!status.receiver.has_changed().expect("the writer is open"));
        writer.publish(1.into(), Some(Snapshot::new("a")));
        writer.failing(None);
        subscription.changed().await.expect("the writer is open");
        assert_eq!(subscription.get(), Some(Snapshot::new("a")));
        drop(writer);
        assert_eq!(subscription.changed().await, Err(Closed));
    }

    #[test]
    fn new_stale_reason_keeps_start_time() {
        let (writer, mut subscription) = store();
        writer.publish(1.into(), Some(Snapshot::new("a")));
        writer.stale(Some("down".into()));
        let before = subscription.state().stale.expect("stale");
        writer.stale(Some("unreachable".into()));
        let after = subscription.state().stale.expect("stale");
        assert_eq!((&*after.reason, after.since), ("unreachable", before.since));
    }
}
