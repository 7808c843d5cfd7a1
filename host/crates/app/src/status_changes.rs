//! Coalescing notification of status changes: names of the sources and groups whose status has changed.
//!
//! Sources and sinks report each change, so that no receiver polls. A receiver that is slow gets each name once.

use reloader_engine::types::SourceName;
use reloader_util::sync::Mutex;
use std::{collections::BTreeSet, mem, sync::Arc};
use tokio::sync::{Notify, watch};

/// Totals over all sources and sinks, for the supervision of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct DeliveryTotals {
    /// Number of deliveries that changed their target, e.g. a file.
    pub(crate) changes: u64,
    /// Number of group sinks that are settling or delivering.
    pub(crate) delivering_group_sinks: usize,
}

/// Sender of status changes, shared by all sources, groups and sinks. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct ChangeNotifier {
    /// Delivery totals, which decide when the host notifies the program of `[command]`.
    pub(crate) deliveries: watch::Sender<DeliveryTotals>,
    receivers: Arc<Mutex<Vec<Arc<PendingChanges>>>>,
}

/// Maximum number of names that a receiver has not taken. With more, all sources count as changed.
const MAX_PENDING_NAMES: usize = 100_000;

/// Changes that the sender has recorded and one receiver has not taken yet.
#[derive(Debug)]
struct PendingChanges {
    changed: Mutex<ChangedSources>,
    /// Set if the receiver gets changes of groups, too.
    includes_groups: bool,
    wake: Notify,
}

/// Sources whose status has changed, or that were added or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangedSources {
    /// All sources count as changed: at the first call, and after more changes than the set can hold.
    All,
    /// These sources have changed.
    Named(BTreeSet<SourceName>),
}

impl ChangedSources {
    const NONE: Self = Self::Named(BTreeSet::new());

    /// Adds a name. Returns whether the set has changed.
    fn insert(&mut self, name: &SourceName) -> bool {
        match self {
            Self::All => false,
            Self::Named(names) if names.len() >= MAX_PENDING_NAMES => {
                *self = Self::All;
                true
            }
            Self::Named(names) => names.insert(name.clone()),
        }
    }
}

impl ChangeNotifier {
    /// Reports that the status of a source has changed, or that it was added or removed.
    pub(crate) fn source_changed(&self, name: &SourceName) {
        self.changed(name, false);
    }

    /// Reports that the status of a group has changed, or that it was added or removed.
    pub(crate) fn group_changed(&self, key: &SourceName) {
        self.changed(key, true);
    }

    fn changed(&self, name: &SourceName, is_group: bool) {
        for receiver in &*self.receivers.lock() {
            if (receiver.includes_groups || !is_group) && receiver.changed.lock().insert(name) {
                receiver.wake.notify_one();
            }
        }
    }

    /// Returns a receiver of the changes of sources. At first, all sources count as changed.
    pub(crate) fn subscribe(&self) -> StatusChanges {
        self.receiver(false)
    }

    /// Returns a receiver of the changes of sources, and of groups by their keys in the state store.
    pub(crate) fn subscribe_with_groups(&self) -> StatusChanges {
        self.receiver(true)
    }

    fn receiver(&self, includes_groups: bool) -> StatusChanges {
        let (changed, wake) = (Mutex::new(ChangedSources::All), Notify::new());
        wake.notify_one();
        let pending = Arc::new(PendingChanges { changed, includes_groups, wake });
        self.receivers.lock().push(Arc::clone(&pending));
        StatusChanges { pending, notifier: self.clone() }
    }
}

/// Receiver of the names of the sources whose status changes.
#[derive(Debug)]
pub struct StatusChanges {
    pending: Arc<PendingChanges>,
    notifier: ChangeNotifier,
}

impl StatusChanges {
    /// Waits until [`take`](Self::take) returns a change. Only one task may wait. Cancel-safe.
    pub async fn wait(&self) {
        while *self.pending.changed.lock() == ChangedSources::NONE {
            self.pending.wake.notified().await;
        }
    }

    /// Returns the sources that have changed since the last call. The first call returns [`ChangedSources::All`].
    #[must_use]
    pub fn take(&self) -> ChangedSources {
        mem::replace(&mut *self.pending.changed.lock(), ChangedSources::NONE)
    }
}

impl Drop for StatusChanges {
    fn drop(&mut self) {
        self.notifier.receivers.lock().retain(|pending| !Arc::ptr_eq(pending, &self.pending));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use tokio::task::yield_now;

    fn named(names: &[&str]) -> ChangedSources {
        ChangedSources::Named(names.iter().map(SourceName::new).collect())
    }

    #[test]
    fn slow_receiver_gets_each_changed_name_once() {
        let notifier = ChangeNotifier::default();
        let changes = notifier.subscribe();
        notifier.source_changed(&SourceName::new("a"));
        assert_eq!(changes.take(), ChangedSources::All, "at first");
        for name in ["a", "b", "a", "a"] {
            notifier.source_changed(&SourceName::new(name));
        }
        assert_eq!(changes.take(), named(&["a", "b"]));
        notifier.source_changed(&SourceName::new("a"));
        assert_eq!(changes.take(), named(&["a"]), "a later change is a new one");
        assert_eq!(changes.take(), named(&[]));
    }

    #[tokio::test]
    async fn waiting_receiver_is_woken_by_a_change() {
        let notifier = ChangeNotifier::default();
        let (changes, other) = (notifier.subscribe(), notifier.subscribe());
        assert_eq!([changes.take(), other.take()], [ChangedSources::All, ChangedSources::All]);
        let mut wait = pin!(changes.wait());
        tokio::select! {
            biased;
            () = &mut wait => panic!("no change"),
            () = yield_now() => {}
        }
        notifier.source_changed(&SourceName::new("a"));
        wait.await;
        assert_eq!(changes.take(), named(&["a"]));
        other.wait().await;
        assert_eq!(other.take(), named(&["a"]), "receivers are independent");
    }

    #[test]
    fn pending_names_are_bounded() {
        let notifier = ChangeNotifier::default();
        let changes = notifier.subscribe();
        let _ = changes.take();
        for number in 0..=MAX_PENDING_NAMES {
            notifier.source_changed(&SourceName::new(number.to_string()));
        }
        assert_eq!(changes.take(), ChangedSources::All);
    }

    #[test]
    fn groups_are_reported_on_request_only() {
        let notifier = ChangeNotifier::default();
        let (all, sources) = (notifier.subscribe_with_groups(), notifier.subscribe());
        let _ = (all.take(), sources.take());
        notifier.group_changed(&SourceName::new("group/a"));
        assert_eq!(all.take(), named(&["group/a"]));
        assert_eq!(sources.take(), named(&[]));
    }

    #[test]
    fn dropped_receiver_gets_nothing() {
        let notifier = ChangeNotifier::default();
        drop(notifier.subscribe());
        assert!(notifier.receivers.lock().is_empty());
    }
}
