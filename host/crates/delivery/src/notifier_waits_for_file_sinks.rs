//! Sinks that must deliver an update before another sink does: the file sinks beside a notifier.

use crate::{
    delivery_values::{Part, Update},
    sink_status::SinkStatus,
};
use std::{
    future::{Future, pending, poll_fn},
    task::Poll,
};
use tokio::sync::watch;

/// Sinks that must deliver an update before the owner of this value does.
#[derive(Debug, Default)]
pub(crate) struct Predecessors(Vec<Predecessor>);

#[derive(Debug)]
struct Predecessor {
    status: watch::Receiver<SinkStatus>,
    /// Number of repairs that the owner has seen.
    seen_repairs: u64,
}

impl Predecessors {
    pub(crate) fn new(statuses: Vec<watch::Receiver<SinkStatus>>) -> Self {
        let predecessor = |status: watch::Receiver<SinkStatus>| {
            let seen_repairs = status.borrow().repairs;
            Predecessor { status, seen_repairs }
        };
        Self(statuses.into_iter().map(predecessor).collect())
    }

    /// Waits until all sinks have delivered `update`. Does not return if one of them has ended before.
    pub(crate) async fn delivered(&mut self, update: &Update) {
        for predecessor in &mut self.0 {
            let delivered = predecessor.status.wait_for(|status| has_delivered(status, update));
            if delivered.await.is_err() {
                pending::<()>().await;
            }
        }
    }

    /// Marks all repairs as seen. Called before a delivery, which uses the repaired files.
    pub(crate) fn mark_repairs_seen(&mut self) {
        for Predecessor { status, seen_repairs } in &mut self.0 {
            *seen_repairs = status.borrow().repairs;
        }
    }

    /// Waits until a sink has repaired its file since [`mark_repairs_seen`](Self::mark_repairs_seen).
    pub(crate) async fn repaired(&mut self) {
        let repaired = self.0.iter_mut().map(|predecessor| Box::pin(predecessor.repaired()));
        let mut repaired: Vec<_> = repaired.collect();
        poll_fn(|context| {
            let is_repaired = repaired.iter_mut().any(|it| it.as_mut().poll(context).is_ready());
            if is_repaired { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

impl Predecessor {
    /// Waits until the sink has made a repair that the owner has not seen.
    async fn repaired(&mut self) {
        let seen_repairs = self.seen_repairs;
        if self.status.wait_for(|status| status.repairs != seen_repairs).await.is_err() {
            pending::<()>().await;
        }
    }
}

/// Returns whether a sink has delivered `update` or something newer.
///
/// Removals are ignored, because a sink may keep the last value (`on-removed`).
fn has_delivered(status: &SinkStatus, update: &Update) -> bool {
    let is_delivered = |part: &Part| {
        let mut known = status.revisions.iter();
        known.any(|(source, revision)| *source == part.source && *revision >= part.revision)
    };
    update.parts().iter().all(|part| part.value.is_none() || is_delivered(part))
}
