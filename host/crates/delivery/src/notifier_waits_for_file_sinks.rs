//! Order of deliveries: a notifier waits until the file sinks of the same source or group have delivered an
//! update.

use crate::{
    delivery_values::{Part, Update},
    sink_status::SinkStatus,
};
use std::{
    future::{Future, pending, poll_fn},
    task::Poll,
};
use tokio::sync::watch;

/// File sinks for which the worker of a notifier waits before each delivery.
#[derive(Debug, Default)]
pub(crate) struct Predecessors(Vec<Predecessor>);

#[derive(Debug)]
struct Predecessor {
    status: watch::Receiver<SinkStatus>,
    /// Value of [`SinkStatus::repairs`] at the start of the latest delivery of the notifier.
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

    /// Marks all repairs as seen. The worker calls this before a delivery, because the notifier then uses the
    /// repaired files.
    pub(crate) fn mark_repairs_seen(&mut self) {
        for Predecessor { status, seen_repairs } in &mut self.0 {
            *seen_repairs = status.borrow().repairs;
        }
    }

    /// Waits for a repair by a predecessor after the last call of [`mark_repairs_seen`](Self::mark_repairs_seen).
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
    /// Waits for a repair that is not marked as seen. Never returns if the predecessor stops before that.
    async fn repaired(&mut self) {
        let seen_repairs = self.seen_repairs;
        if self.status.wait_for(|status| status.repairs != seen_repairs).await.is_err() {
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
