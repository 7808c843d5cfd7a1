//! Reports of a worker: log events and status after a delivery.

use super::Worker;
use crate::{
    delivery_values::Update,
    sink::{Delivered, ExternalChange, SinkError},
    sink_status::SinkState,
};
use jiff::Timestamp;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

impl Worker {
    /// Logs a successful delivery and updates the status. `change` is the change of the target by another program
    /// that the delivery has repaired, if any.
    pub(super) fn report_success(
        &mut self,
        update: &Update,
        delivered: Delivered,
        change: Option<&ExternalChange>,
    ) {
        let is_recovered = self.status.borrow().failing.is_some();
        match change {
            Some(change) => self.log_repair(change),
            None if delivered == Delivered::Changed || is_recovered => self.log_delivery(update),
            None => {}
        }
        self.status.send_modify(|status| {
            let revisions = update.parts().iter().map(|part| (part.source.clone(), part.revision));
            status.revisions = revisions.collect();
            status.delivered = update.parts().first().map(|part| part.revision);
            status.at = Some(Timestamp::now());
            status.changes += u64::from(delivered == Delivered::Changed);
            status.repairs += u64::from(change.is_some());
            status.content = self.sink.file_content();
            status.succeeded += 1;
            status.state = SinkState::Done;
            (status.failing, status.attempts, status.next_try) = (None, 0, None);
        });
    }

    fn log_delivery(&mut self, update: &Update) {
        let (sink, event) = (&self.name, update.event());
        match self.log.delivery(Instant::now().into_std()) {
            Some(suppressed) => {
                info!(sink, event, suppressed = positive(suppressed), "delivery succeeded")
            }
            None => debug!(sink, event, "delivery succeeded"),
        }
    }

    fn log_repair(&mut self, change: &ExternalChange) {
        let (sink, path, reason) = (&self.name, change.path.display(), &change.reason);
        match self.log.repair(Instant::now().into_std()) {
            Some(suppressed) => {
                info!(sink, %path, reason, suppressed = positive(suppressed), "file repaired");
            }
            None => debug!(sink, %path, reason, "file repaired"),
        }
    }

    /// Logs a failed attempt and updates the status. `retry_in` is `None` if no retry follows.
    pub(super) fn report_failure(
        &mut self,
        error: &SinkError,
        attempt: u32,
        retry_in: Option<Duration>,
    ) {
        let reason: Arc<str> = reloader_util::sanitize::sanitize(&error.message).into();
        let (sink, error) = (&self.name, &reason);
        let max_attempts = self.settings.retries.saturating_add(1);
        // A delay of zero means that a newer value is delivered now. The failure is then not final, even if it was the
        // last attempt to deliver the old value.
        let is_final =
            retry_in.is_none_or(|delay| attempt == max_attempts && delay > Duration::ZERO);
        let logged = self.log.failure(error, is_final, Instant::now().into_std());
        match (logged.map(positive), retry_in) {
            (None, retry_in) => {
                debug!(sink, attempt, max_attempts, ?retry_in, %error, "delivery failed again");
            }
            (Some(suppressed), None) => error!(
                sink,
                attempt, %error, suppressed, "delivery failed, not retrying until the value changes"
            ),
            (Some(suppressed), Some(retry_in)) if is_final => {
                error!(
                    sink,
                    attempt,
                    ?retry_in,
                    %error,
                    suppressed,
                    "delivery retries exhausted, retrying less often"
                );
            }
            (Some(suppressed), Some(retry_in)) => {
                warn!(
                    sink,
                    attempt, max_attempts, ?retry_in, %error, suppressed, "delivery failed, retrying"
                );
            }
        }
        self.status.send_modify(|status| {
            let has_retry = retry_in.is_some();
            status.state = if has_retry { SinkState::Retrying } else { SinkState::GivenUp };
            status.failing = Some(reason);
            status.failed += 1;
            status.attempts = attempt;
            status.next_try = retry_in.and_then(|delay| Timestamp::now().checked_add(delay).ok());
        });
    }
}

/// Returns `number` for a field of a log event; `None` for zero, which omits the field.
fn positive(number: u64) -> Option<u64> {
    (number > 0).then_some(number)
}
