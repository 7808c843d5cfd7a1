//! The latest state of a source: one writer, any number of readers.
//!
//! Latest wins: a reader that was slow sees the newest state, never an error and never a queue.

use jiff::Timestamp;
use reloader_engine::types::{Revision, Snapshot, Value as _};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

/// What is known of a source at one moment. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    /// Counts the values, and the removals.
    pub revision: Revision,
    /// The last good value; `None` before the first one, and after a removal.
    pub value: Option<Snapshot>,
    /// When this revision was published.
    pub at: Timestamp,
    /// When the source stood for this value last. That it does so again wakes no reader.
    pub last_success_at: Timestamp,
    /// Why the value is older than its source promises, and since when, if it is.
    pub stale: Option<Stale>,
    /// What the source holds instead of the value, if that was not let through.
    pub refused: Option<Refused>,
    /// Why the source could not be read last, if it has not answered since. This wakes no reader.
    pub failing: Option<Arc<str>>,
}

/// A value that was not let through. It is kept to be looked at, until one is, or its source has none
/// any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The value.
    pub value: Snapshot,
    /// Why, in words for the operator.
    pub reason: Arc<str>,
    /// When it was refused last.
    pub at: Timestamp,
    /// When the same value is tried again. Only a different one is if this is `None`.
    pub retry_at: Option<Timestamp>,
}

impl Refused {
    /// Whether there is nothing new in this one: the same value for the same reason.
    #[must_use]
    pub fn is_again(&self, before: &Self) -> bool {
        self.value.same_value(&before.value) && self.reason == before.reason
    }
}

/// The last good value is older than its source promises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stale {
    /// The last failure, in words for the operator.
    pub reason: Arc<str>,
    /// When it was found to be so.
    pub since: Timestamp,
}

impl Stale {
    /// Stale for this reason: from now on, or for as long as it has been for another.
    pub(crate) fn because(reason: Arc<str>, before: Option<Self>) -> Self {
        Self { reason, since: before.map_or_else(Timestamp::now, |before| before.since) }
    }
}

/// A writer, and a first reader.
#[must_use]
pub fn store() -> (Writer, Subscription) {
    let (sender, receiver) = watch::channel(State::default());
    (Writer { sender }, Subscription { receiver, seen: Revision::default() })
}

/// The only one who changes the state.
#[derive(Debug)]
pub struct Writer {
    sender: watch::Sender<State>,
}

impl Writer {
    /// A new value, or that there is none any more (`None`).
    pub fn publish(&self, revision: Revision, value: Option<Snapshot>) {
        self.publish_at(revision, value, Timestamp::now());
    }

    /// The same, of some time ago.
    pub(crate) fn publish_at(&self, revision: Revision, value: Option<Snapshot>, at: Timestamp) {
        self.sender.send_if_modified(|state| {
            // Never an older one after a newer one.
            let is_newer = revision > state.revision;
            if is_newer {
                (state.revision, state.value, state.at) = (revision, value, at);
                state.refused = None;
            }
            is_newer
        });
    }

    /// What was published before a restart. Without a value, nobody is woken.
    pub(crate) fn resume(&self, revision: Revision, value: Option<Snapshot>, at: Timestamp) {
        self.sender.send_if_modified(|state| {
            let has_value = value.is_some();
            (state.revision, state.value, state.at) = (revision, value, at);
            has_value
        });
    }

    /// The source stands for what is published, and not for what was refused.
    pub fn confirmed(&self) {
        self.sender.send_if_modified(|state| {
            state.last_success_at = Timestamp::now();
            state.refused.take().is_some()
        });
    }

    /// The source has a value that was not let through, and is tried again after this time, if it is.
    pub fn refused(&self, value: Snapshot, reason: Arc<str>, retry_in: Option<Duration>) {
        let at = Timestamp::now();
        let retry_at =
            retry_in.map(|retry_in| at.saturating_add(retry_in).unwrap_or(Timestamp::MAX));
        self.sender.send_modify(|state| {
            state.refused = Some(Refused { value, reason, at, retry_at });
        });
    }

    /// The source could not be read, for this reason; or it answers again (`None`).
    pub fn failing(&self, reason: Option<Arc<str>>) {
        self.sender.send_if_modified(|state| {
            state.failing = reason;
            false
        });
    }

    /// The value has become stale, or is so for another reason, or is current again (`None`).
    pub fn stale(&self, reason: Option<Arc<str>>) {
        self.sender.send_modify(|state| {
            let before = state.stale.take();
            state.stale = reason.map(|reason| Stale::because(reason, before));
        });
    }
}

/// Sees the latest state. Cheap to clone; each clone waits for itself.
#[derive(Debug, Clone)]
pub struct Subscription {
    receiver: watch::Receiver<State>,
    /// Of what [`next`](Self::next) has given.
    seen: Revision,
}

impl Subscription {
    /// Waits for a state that this reader has not seen.
    ///
    /// # Errors
    ///
    /// [`Closed`] when the source has been stopped.
    pub async fn changed(&mut self) -> Result<(), Closed> {
        self.receiver.changed().await.map_err(|_| Closed)
    }

    /// Waits for a value that this reader has not seen, and gives it. A removal is not a value: it is
    /// passed over, and seen through [`state`](Self::state).
    ///
    /// # Errors
    ///
    /// [`Closed`] when the source has been stopped.
    pub async fn next(&mut self) -> Result<Snapshot, Closed> {
        loop {
            self.changed().await?;
            let state = self.state();
            if let (true, Some(value)) = (state.revision > self.seen, state.value) {
                self.seen = state.revision;
                return Ok(value);
            }
        }
    }

    /// The latest state, now seen.
    pub fn state(&mut self) -> State {
        self.receiver.borrow_and_update().clone()
    }

    /// The latest value, now seen; `None` while there is none.
    pub fn get(&mut self) -> Option<Snapshot> {
        self.receiver.borrow_and_update().value.clone()
    }
}

/// The source has been stopped: nothing new will come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the source has been stopped")]
pub struct Closed;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_reader_sees_the_newest_value_and_nothing_else() {
        let (writer, mut reader) = store();
        let mut revision = Revision::default();
        for number in 0..100 {
            revision = revision.next();
            writer.publish(revision, Some(Snapshot::new(number.to_string())));
        }
        reader.changed().await.expect("the writer is there");
        let state = reader.state();
        assert_eq!(state.revision.get(), 100);
        assert_eq!(state.value, Some(Snapshot::new("99")));
    }

    #[tokio::test]
    async fn a_reader_is_told_when_nothing_will_come_any_more() {
        let (writer, mut reader) = store();
        writer.publish(1.into(), Some(Snapshot::new("last")));
        drop(writer);
        assert_eq!(reader.changed().await, Ok(()), "the last value is still delivered");
        assert_eq!(reader.get(), Some(Snapshot::new("last")));
        assert_eq!(reader.changed().await, Err(Closed));
    }

    #[test]
    fn staleness_leaves_value_and_revision_alone() {
        let (writer, mut reader) = store();
        writer.publish(1.into(), Some(Snapshot::new("a")));
        writer.stale(Some("down".into()));
        let state = reader.state();
        assert_eq!((state.revision.get(), state.value), (1, Some(Snapshot::new("a"))));
        assert_eq!(state.stale.map(|stale| stale.reason), Some("down".into()));
    }

    #[test]
    fn what_was_refused_is_kept_until_the_source_has_something_that_is_let_through() {
        let (writer, mut reader) = store();
        writer.publish(1.into(), Some(Snapshot::new("good")));
        reader.state();
        let refuse = || writer.refused(Snapshot::new("bad"), "no port".into(), None);
        let is_told = |reader: &mut Subscription| {
            reader.receiver.has_changed().expect("open") && reader.state().refused.is_some()
        };
        refuse();
        assert!(is_told(&mut reader), "readers are woken");
        let state = reader.state();
        let refused = state.refused.expect("refused");
        assert_eq!((refused.value, &*refused.reason), (Snapshot::new("bad"), "no port"));
        assert_eq!((state.revision.get(), state.value), (1, Some(Snapshot::new("good"))));
        writer.publish(2.into(), Some(Snapshot::new("better")));
        assert_eq!(reader.state().refused, None);
        refuse();
        writer.confirmed();
        assert_eq!(reader.state().refused, None, "there is nothing, as was published before");
    }

    #[test]
    fn a_new_reason_does_not_make_a_value_stale_anew() {
        let (writer, mut reader) = store();
        writer.publish(1.into(), Some(Snapshot::new("a")));
        writer.stale(Some("down".into()));
        let before = reader.state().stale.expect("stale");
        writer.stale(Some("given up".into()));
        let after = reader.state().stale.expect("stale");
        assert_eq!((&*after.reason, after.since), ("given up", before.since));
    }
}
