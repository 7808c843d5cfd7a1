//! Subscriptions of a sink to its sources.

use crate::{
    delivery_values::{Part, Update},
    worker_settings::OnRemoved,
};
use reloader_engine::types::SourceName;
use reloader_source::latest_value::{Closed, Subscription};
use std::{future::poll_fn, task::Poll, time::Duration};

/// Subscriptions of a sink to all its sources.
#[derive(Debug)]
pub(crate) struct SourceSubscriptions {
    sources: Vec<SourceSubscription>,
    on_removed: OnRemoved,
}

/// Subscription of a sink to one of its sources, with the latest value received.
#[derive(Debug)]
struct SourceSubscription {
    name: SourceName,
    reader: Subscription,
    /// Latest value, or its removal with `on-removed = "clear"`; `None` before the first value.
    part: Option<Part>,
    /// `false` after the source has stopped: it publishes no further values.
    is_open: bool,
    /// Set if the sink delivers without this source while the source has no value.
    is_optional: bool,
    /// Set after the first read without a value: it has failed, or the source has removed its value.
    has_failed: bool,
}

/// Time for which a sink waits for the first value of an optional source that has not failed.
pub(crate) const OPTIONAL_WAIT: Duration = Duration::from_secs(5);

impl SourceSubscriptions {
    pub(crate) fn new(readers: Vec<(SourceName, Subscription)>, on_removed: OnRemoved) -> Self {
        let source = |(name, reader)| SourceSubscription {
            name,
            reader,
            part: None,
            is_open: true,
            is_optional: false,
            has_failed: false,
        };
        Self { sources: readers.into_iter().map(source).collect(), on_removed }
    }

    /// Makes the sources with these names optional.
    pub(crate) fn set_optional(&mut self, names: &[SourceName]) {
        for source in &mut self.sources {
            source.is_optional = names.contains(&source.name);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.sources.len()
    }

    /// Reads the latest value of each source. Returns whether any of them has a new revision, or an optional source has
    /// failed for the first time.
    pub(crate) fn refresh(&mut self) -> bool {
        let mut has_changed = false;
        for source in &mut self.sources {
            let state = source.reader.state();
            let is_delivered = match &state.value {
                Some(_) => true,
                None => state.revision.get() > 0 && self.on_removed == OnRemoved::Clear,
            };
            if !is_delivered {
                // After its first failure, an optional source is no longer waited for.
                // A removed value that the sink ignores is an answer as well.
                let is_answered = state.failing.is_some() || state.revision.get() > 0;
                let fails = source.part.is_none() && is_answered;
                has_changed |= source.is_optional && fails && !source.has_failed;
                source.has_failed |= fails;
                continue;
            }
            has_changed |= source.part.as_ref().is_none_or(|part| part.revision != state.revision);
            source.part = Some(Part {
                source: source.name.clone(),
                revision: state.revision,
                at: state.at,
                stale: state.stale,
                value: state.value,
            });
        }
        has_changed
    }

    /// Waits until one of the sources has a state that [`refresh`](Self::refresh) has not read.
    ///
    /// # Errors
    ///
    /// Returns [`Closed`] when all sources have stopped.
    pub(crate) async fn changed(&mut self) -> Result<(), Closed> {
        let open = self.sources.iter_mut().filter(|source| source.is_open);
        let mut pending: Vec<_> = open.map(|source| Box::pin(changed(source))).collect();
        poll_fn(|context| {
            let mut has_changed = false;
            pending.retain_mut(|future| match future.as_mut().poll(context) {
                Poll::Ready(changed) => {
                    has_changed |= changed;
                    false
                }
                Poll::Pending => true,
            });
            match (has_changed, pending.is_empty()) {
                (true, _) => Poll::Ready(Ok(())),
                // All futures are ready without a change: all sources have stopped.
                (false, true) => Poll::Ready(Err(Closed)),
                (false, false) => Poll::Pending,
            }
        })
        .await
    }

    /// Returns the update to deliver; `None` if a source that is not optional has no value yet. An optional source without
    /// a value has a part without a value.
    pub(crate) fn update(&self) -> Option<Update> {
        let part = |source: &SourceSubscription| {
            let absent = || source.is_optional.then(|| Part::absent(source.name.clone()));
            source.part.clone().or_else(absent)
        };
        let parts: Option<Vec<Part>> = self.sources.iter().map(part).collect();
        parts.map(Update::new)
    }

    /// Returns the sources that have no value yet and are not optional.
    pub(crate) fn missing(&self) -> Vec<SourceName> {
        self.names(|source| source.part.is_none() && !source.is_optional)
    }

    /// Returns the optional sources that have no value yet and have not failed.
    pub(crate) fn missing_optional(&self) -> Vec<SourceName> {
        self.names(|source| source.part.is_none() && source.is_optional && !source.has_failed)
    }

    fn names(&self, is_selected: impl Fn(&SourceSubscription) -> bool) -> Vec<SourceName> {
        let selected = self.sources.iter().filter(|source| is_selected(source));
        selected.map(|source| source.name.clone()).collect()
    }
}

/// Waits for a change of the source. Returns `false` if the source has stopped.
async fn changed(source: &mut SourceSubscription) -> bool {
    let changed = match source.part.is_none() && source.is_optional {
        // Also a failure ends the wait for an optional source.
        true => source.reader.status_changed().await,
        false => source.reader.changed().await,
    };
    source.is_open = changed.is_ok();
    source.is_open
}
