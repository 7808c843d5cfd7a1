//! Order of a watch event and a concurrent fetch: decides whether the value of the event or the
//! result of the fetch is newer.

use crate::types::{Outcome, Value};

/// Value that the watch reported while a fetch was in flight.
#[derive(Debug)]
pub(crate) struct ConcurrentUpdate<V> {
    /// Value that was published before the watch event; `None` if there was none.
    pub(crate) published_before: Option<V>,
    /// Value of the watch event; `None` if the source has no value any more.
    pub(crate) reported: Option<V>,
}

impl<V: Value> ConcurrentUpdate<V> {
    /// Returns whether a fetch result equals the value of the watch event.
    pub(crate) fn equals(&self, outcome: &Outcome<V>) -> bool {
        reports_value(outcome, self.reported.as_ref())
    }

    /// Returns whether the watch event is newer than a fetch result: the result equals the value that
    /// was published before the event, so it is probably older than the event.
    pub(crate) fn is_newer_than(&self, outcome: &Outcome<V>) -> bool {
        matches!(outcome, Outcome::Unchanged)
            || reports_value(outcome, self.published_before.as_ref())
    }
}

/// Returns whether a fetch result equals `value`.
fn reports_value<V: Value>(outcome: &Outcome<V>, value: Option<&V>) -> bool {
    match outcome {
        // `Unchanged` refers to the cursor that the fetch sent, which is older than the event.
        Outcome::Unchanged => false,
        Outcome::Changed(reported) => value.is_some_and(|value| value.same_value(reported)),
        Outcome::Absent => value.is_none(),
    }
}
