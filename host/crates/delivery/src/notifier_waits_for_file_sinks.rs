//! Order of deliveries: a notifier waits until the file sinks of the same source or group have delivered an
//! update, and runs if the content of one of their files has changed.

use crate::{
    delivery_values::{Part, Update},
    sink::FileContent,
    sink_status::SinkStatus,
};
use reloader_util::digest::Digest;
use std::{
    future::{Future, pending, poll_fn},
    task::Poll,
};
use tokio::sync::watch;

/// File sinks for which the worker of a notifier waits before each delivery.
#[derive(Debug, Default)]
pub(crate) struct Predecessors(Vec<Predecessor>);

/// Sink that delivers an update before a notifier does.
#[derive(Debug)]
pub struct Predecessor {
    status: watch::Receiver<SinkStatus>,
    /// Content of the file that the notifier has already seen. [`Predecessors::mark_seen`] updates it.
    seen: Option<FileContent>,
}

impl Predecessor {
    /// Returns a sink that starts together with the notifier. The notifier runs after its first write.
    #[must_use]
    pub fn starting(status: watch::Receiver<SinkStatus>) -> Self {
        Self { status, seen: None }
    }

    /// Returns a sink that has been running before the notifier starts. Its earlier writes count only if the content
    /// differs from the delivery record of the notifier.
    #[must_use]
    pub fn running(status: watch::Receiver<SinkStatus>) -> Self {
        let seen = status.borrow().content;
        Self { status, seen }
    }
}

impl Predecessors {
    pub(crate) fn new(all: Vec<Predecessor>) -> Self {
        Self(all)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Waits until all predecessors have delivered `update`. Never returns if a predecessor stops before its
    /// delivery.
    pub(crate) async fn delivered(&mut self, update: &Update) {
        for predecessor in &mut self.0 {
            let delivered = predecessor.status.wait_for(|status| has_delivered(status, update));
            if delivered.await.is_err() {
                pending::<()>().await;
            }
        }
    }

    /// Marks the present contents as seen. Returns whether a predecessor has written its file since the last call, or
    /// since its start.
    ///
    /// A write counts even if the content is the one that the notifier has seen before: another program had changed the
    /// file, and may have used it.
    pub(crate) fn mark_seen(&mut self) -> bool {
        let mut is_written = false;
        for predecessor in &mut self.0 {
            let content = predecessor.status.borrow().content;
            let writes = |content: Option<FileContent>| content.map_or(0, |content| content.writes);
            is_written |= writes(content) != writes(predecessor.seen);
            predecessor.seen = content;
        }
        is_written
    }

    /// Returns whether a predecessor has delivered nothing since its start. This is possible for a removed value only,
    /// since a sink may keep the last file (`on-removed`).
    pub(crate) fn is_any_undelivered(&self) -> bool {
        self.0.iter().any(|predecessor| predecessor.status.borrow().delivered.is_none())
    }

    /// Returns a digest of the contents that were seen last; `None` without predecessors, or if one of them writes no
    /// file.
    pub(crate) fn digest(&self) -> Option<Digest> {
        let mut all = Vec::new();
        for predecessor in &self.0 {
            let digest = predecessor.seen?.digest;
            all.push(u8::from(digest.is_some()));
            all.extend(digest.iter().flat_map(|digest| digest.as_bytes()));
        }
        (!all.is_empty()).then(|| Digest::of(&all))
    }

    /// Waits until the content of a file differs from the one that was seen last.
    pub(crate) async fn changed(&mut self) {
        let changed = self.0.iter_mut().map(|predecessor| Box::pin(predecessor.changed()));
        let mut changed: Vec<_> = changed.collect();
        poll_fn(|context| {
            let is_changed = changed.iter_mut().any(|it| it.as_mut().poll(context).is_ready());
            if is_changed { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

impl Predecessor {
    /// Waits for another content than the one that was seen last. Never returns if the predecessor stops before that.
    async fn changed(&mut self) {
        let seen = self.seen;
        if self.status.wait_for(|status| status.content != seen).await.is_err() {
            pending::<()>().await;
        }
    }
}

/// Returns whether a sink has delivered `update` or newer values.
///
/// Removals are ignored, because a sink may keep the last value (`on-removed`).
fn has_delivered(status: &SinkStatus, update: &Update) -> bool {
    let is_delivered = |part: &Part| {
        let mut known = status.revisions.iter();
        known.any(|(source, revision)| *source == part.source && *revision >= part.revision)
    };
    update.parts().iter().all(|part| part.value.is_none() || is_delivered(part))
}
