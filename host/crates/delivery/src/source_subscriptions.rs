//! Subscriptions of a sink to its sources.

use crate::{
    delivery_values::{Part, Update},
    worker_settings::OnRemoved,
};
use reloader_engine::types::SourceName;
use reloader_source::latest_value::{Closed, Subscription};
use std::{future::poll_fn, task::Poll};

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
}

impl SourceSubscriptions {
    pub(crate) fn new(readers: Vec<(SourceName, Subscription)>, on_removed: OnRemoved) -> Self {
        let source =
            |(name, reader)| SourceSubscription { name, reader, part: None, is_open: true };
        Self { sources: readers.into_iter().map(source).collect(), on_removed }
    }

    pub(crate) fn len(&self) -> usize {
        self.sources.len()
    }

    /// Reads the latest value of each source. Returns whether any of them has a new revision.
    pub(crate) fn refresh(&mut self) -> bool {
        let mut has_changed = false;
        for source in &mut self.sources {
            let state = source.reader.state();
            let is_delivered = match &state.value {
                Some(_) => true,
                None => state.revision.get() > 0 && self.on_removed == OnRemoved::Clear,
            };
            if !is_delivered {
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

    /// Returns the update to deliver; `None` if a source has no value yet.
    pub(crate) fn update(&self) -> Option<Update> {
        let parts: Option<Vec<Part>> =
            self.sources.iter().map(|source| source.part.clone()).collect();
        parts.map(Update::new)
    }

    /// Returns the sources that have no value yet.
    pub(crate) fn missing(&self) -> Vec<SourceName> {
        let missing = self.sources.iter().filter(|source| source.part.is_none());
        missing.map(|source| source.name.clone()).collect()
    }
}

/// Waits for a change of the source. Returns `false` if the source has stopped.
async fn changed(source: &mut SourceSubscription) -> bool {
    source.is_open = source.reader.changed().await.is_ok();
    source.is_open
}
