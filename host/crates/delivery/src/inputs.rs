//! Subscriptions of a sink to its sources.

use super::{OnRemoved, Part, Update};
use reloader_engine::types::SourceName;
use reloader_source::store::{Closed, Subscription};
use std::{future::poll_fn, task::Poll};

/// Subscriptions of a sink to all its sources.
#[derive(Debug)]
pub(crate) struct Inputs {
    inputs: Vec<Input>,
    on_removed: OnRemoved,
}

/// Subscription to one source.
#[derive(Debug)]
struct Input {
    source: SourceName,
    reader: Subscription,
    /// Latest value, or the removal of the value if removals are delivered.
    part: Option<Part>,
    /// Whether the source still runs.
    is_open: bool,
}

impl Inputs {
    pub(crate) fn new(readers: Vec<(SourceName, Subscription)>, on_removed: OnRemoved) -> Self {
        let input = |(source, reader)| Input { source, reader, part: None, is_open: true };
        Self { inputs: readers.into_iter().map(input).collect(), on_removed }
    }

    pub(crate) fn len(&self) -> usize {
        self.inputs.len()
    }

    /// Reads the latest value of each source. Returns whether any of them has a new revision.
    pub(crate) fn refresh(&mut self) -> bool {
        let mut has_changed = false;
        for input in &mut self.inputs {
            let state = input.reader.state();
            let is_delivered = match &state.value {
                Some(_) => true,
                None => state.revision.get() > 0 && self.on_removed == OnRemoved::Clear,
            };
            if !is_delivered {
                continue;
            }
            has_changed |= input.part.as_ref().is_none_or(|part| part.revision != state.revision);
            input.part = Some(Part {
                source: input.source.clone(),
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
        let open = self.inputs.iter_mut().filter(|input| input.is_open);
        let mut pending: Vec<_> = open.map(|input| Box::pin(changed(input))).collect();
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
        let parts: Option<Vec<Part>> = self.inputs.iter().map(|input| input.part.clone()).collect();
        parts.map(Update::new)
    }

    /// Returns the sources that have no value yet.
    pub(crate) fn missing(&self) -> Vec<SourceName> {
        let missing = self.inputs.iter().filter(|input| input.part.is_none());
        missing.map(|input| input.source.clone()).collect()
    }
}

/// Waits for a change of the source. Returns `false` if the source has stopped.
async fn changed(input: &mut Input) -> bool {
    input.is_open = input.reader.changed().await.is_ok();
    input.is_open
}
