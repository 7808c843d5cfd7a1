//! Delivery worker: debounce, deliver the latest values to a sink, and retry with backoff.

use crate::{
    delivery_record_store::DeliveryRecordStore,
    delivery_values::{Part, Update},
    sink::{Delivered, Retry, Sink, SinkError},
    sink_status::{SinkState, SinkStatus},
    source_subscriptions::SourceSubscriptions,
    worker_settings::{WaitSettings, WorkerSettings},
};
use jiff::Timestamp;
use reloader_engine::types::SourceName;
use reloader_source::latest_value::Subscription;
use reloader_source::spans::{mark_failed, span};
use reloader_util::{backoff, digest::Digest, log_limit::LogLimit};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tracing::{Instrument, debug, error, info, warn};

/// Delivery of the values of one or several sources to one sink.
///
/// The worker runs while [`run`](Self::run) is polled.
pub struct Worker {
    name: String,
    subscriptions: SourceSubscriptions,
    sink: Box<dyn Sink>,
    settings: WorkerSettings,
    delivery_records: Box<dyn DeliveryRecordStore>,
    status: watch::Sender<SinkStatus>,
    /// Stop request, set to `true` by a [`Stopper`].
    stop: Arc<watch::Sender<bool>>,
    stop_requested: watch::Receiver<bool>,
    /// Digest of the values in the target, if known.
    delivered: Option<Digest>,
    /// `true` if an attempt has failed since the last success. A failed attempt may have changed the
    /// target.
    may_have_changed: bool,
    /// Status of the sinks that must deliver an update before this one.
    predecessors: Vec<watch::Receiver<SinkStatus>>,
    log_limit: LogLimit,
}

/// Handle that stops a worker after the current attempt.
#[derive(Debug, Clone)]
pub struct Stopper(Arc<watch::Sender<bool>>);

impl Stopper {
    /// Stops the worker. The current attempt is completed, and no other one follows.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

/// Minimum time between two log events about successful deliveries, after an initial burst.
const SUCCESS_LOG_INTERVAL: Duration = Duration::from_secs(1);
/// Backoff after the first failure.
const MIN_RETRY_BACKOFF: Duration = Duration::from_millis(200);
/// Maximum backoff between two attempts.
const MAX_RETRY_BACKOFF: Duration = Duration::from_secs(30);
/// Maximum delay that a sink can request with [`Retry::After`].
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);
/// Maximum size of values that are hashed on the async thread, in bytes. Larger ones are hashed on
/// a blocking thread.
const MAX_INLINE_HASH_BYTES: usize = 64 << 10;

/// Reason for the end of a wait.
enum Wake {
    /// A newer value is available.
    NewValue,
    /// The worker or all its sources have stopped.
    Stopped,
    /// The deadline has passed, or the delivery is complete.
    Due,
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

impl Worker {
    /// Returns a worker that is called `name` in the log. The first delivery waits until each source
    /// has a value.
    pub fn new(
        name: impl Into<String>,
        sources: Vec<(SourceName, Subscription)>,
        sink: Box<dyn Sink>,
        settings: WorkerSettings,
        delivery_records: Box<dyn DeliveryRecordStore>,
    ) -> Self {
        let subscriptions = SourceSubscriptions::new(sources, settings.on_removed);
        let (stop, stop_requested) = watch::channel(false);
        let waiting = SinkState::Waiting(subscriptions.missing());
        let (status, _) = watch::channel(SinkStatus { state: waiting, ..SinkStatus::default() });
        Self {
            name: name.into(),
            subscriptions,
            sink,
            settings,
            delivery_records,
            status,
            stop: Arc::new(stop),
            stop_requested,
            delivered: None,
            may_have_changed: false,
            predecessors: Vec::new(),
            log_limit: LogLimit::new(SUCCESS_LOG_INTERVAL, Instant::now().into_std()),
        }
    }

    /// Delivers each update only after the sinks with these statuses have delivered it.
    ///
    /// A notifier uses this to run after the file sinks. While a file sink fails, the notifier
    /// waits.
    #[must_use]
    pub fn after(mut self, predecessors: Vec<watch::Receiver<SinkStatus>>) -> Self {
        self.predecessors = predecessors;
        self
    }

    /// Returns a receiver of the worker's status.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<SinkStatus> {
        self.status.subscribe()
    }

    /// Returns a handle that stops the worker. It also stops when all its sources have stopped.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.stop))
    }

    /// Delivers new values until the worker or all its sources are stopped. The last values of the
    /// sources get one attempt.
    pub async fn run(mut self) {
        if !self.sink.detects_unchanged() {
            self.delivered = self.delivery_records.last().await;
        }
        self.subscriptions.refresh();
        while let Some(update) = self.next_update().await {
            match self.deliver(&update).await {
                Wake::Stopped => break,
                Wake::NewValue => {}
                Wake::Due => {
                    if let Wake::Stopped = self.wait(None).await {
                        break;
                    }
                }
            }
        }
        self.status.send_modify(|status| {
            status.state = SinkState::Stopped;
            status.next_try = None;
        });
    }

    /// Waits for a value of each source and for the end of a burst, and returns the update to
    /// deliver; `None` when the worker is stopped.
    async fn next_update(&mut self) -> Option<Update> {
        loop {
            let missing = self.subscriptions.missing();
            if missing.is_empty() {
                break;
            }
            self.status.send_modify(|status| status.state = SinkState::Waiting(missing));
            if let Wake::Stopped = self.wait(None).await {
                return None;
            }
        }
        let wait = match self.settings.wait {
            None if self.subscriptions.len() > 1 => Some(WaitSettings::default()),
            wait => wait,
        };
        if let Some(wait) = wait {
            self.status.send_modify(|status| status.state = SinkState::Settling);
            let end = Instant::now() + wait.max.0;
            while let Wake::NewValue = self.wait(Some((Instant::now() + wait.min.0).min(end))).await
            {
                if Instant::now() >= end {
                    break;
                }
            }
        }
        if *self.stop_requested.borrow() { None } else { self.subscriptions.update() }
    }

    /// Waits for a newer value, for the end of the worker, or until `due`.
    async fn wait(&mut self, due: Option<Instant>) -> Wake {
        loop {
            if *self.stop_requested.borrow() {
                return Wake::Stopped;
            }
            let until = due.unwrap_or_else(Instant::now);
            let changed = tokio::select! {
                changed = self.subscriptions.changed() => changed,
                _ = self.stop_requested.changed() => return Wake::Stopped,
                () = sleep_until(until), if due.is_some() => return Wake::Due,
            };
            // A value that was published right before the sources stopped is still delivered.
            if self.subscriptions.refresh() {
                return Wake::NewValue;
            }
            if changed.is_err() {
                return Wake::Stopped;
            }
        }
    }

    /// Delivers an update, with retries. Returns [`Wake::Due`] when the update is delivered or its
    /// retries are exhausted.
    async fn deliver(&mut self, update: &Update) -> Wake {
        let digest = self.digest(update).await;
        if self.delivered == Some(digest) {
            debug!(sink = self.name, "values already delivered");
            self.report_success(update, Delivered::Same);
            return Wake::Due;
        }
        if let Some(wake) = self.wait_for_predecessors(update).await {
            return wake;
        }
        self.delivered = None;
        if !self.sink.detects_unchanged() {
            self.delivery_records.begin().await;
        }
        let mut attempt = 0_u32;
        loop {
            attempt += 1;
            self.status.send_modify(|status| {
                status.state = SinkState::Delivering;
                status.next_try = None;
                status.retried += u64::from(attempt > 1);
            });
            let error = match self.attempt(update).await {
                Ok(delivered) => {
                    // If this attempt changed nothing, an earlier failed attempt may have made the change.
                    let may_have_changed = std::mem::take(&mut self.may_have_changed);
                    let delivered = if may_have_changed { Delivered::Changed } else { delivered };
                    self.delivered = Some(digest);
                    self.delivery_records.record(digest).await;
                    self.report_success(update, delivered);
                    return Wake::Due;
                }
                Err(error) => error,
            };
            self.may_have_changed = true;
            // A newer value replaces the failed one immediately.
            if self.subscriptions.refresh() {
                self.report_failure(&error, attempt, Some(Duration::ZERO));
                return Wake::NewValue;
            }
            let Some(delay) = self.retry_delay(&error, attempt) else {
                self.report_failure(&error, attempt, None);
                return Wake::Due;
            };
            self.report_failure(&error, attempt, Some(delay));
            match self.wait(Some(Instant::now() + delay)).await {
                Wake::Due => {}
                wake => return wake,
            }
        }
    }

    /// Waits until all predecessors have delivered `update`. Returns the reason if the wait ends
    /// before that.
    async fn wait_for_predecessors(&mut self, update: &Update) -> Option<Wake> {
        let mut predecessors = std::mem::take(&mut self.predecessors);
        let mut wake = None;
        for predecessor in &mut predecessors {
            while wake.is_none() && !has_delivered(&predecessor.borrow_and_update(), update) {
                let has_ended = tokio::select! {
                    changed = predecessor.changed() => changed.is_err(),
                    reason = self.wait(None) => {
                        wake = Some(reason);
                        false
                    }
                };
                // A worker that has ended does not deliver the update any more.
                if has_ended && !has_delivered(&predecessor.borrow(), update) {
                    wake = Some(self.wait(None).await);
                }
            }
        }
        self.predecessors = predecessors;
        wake
    }

    /// Makes one attempt, limited by the timeout.
    async fn attempt(&self, update: &Update) -> Result<Delivered, SinkError> {
        let limit = self.settings.timeout;
        let delivering = async {
            let delivered = timeout(limit, self.sink.deliver(update)).await.unwrap_or_else(|_| {
                let limit = humantime::format_duration(limit);
                Err(SinkError::transient(format!("timed out after {limit} (`timeout`)")))
            });
            if let Err(error) = &delivered {
                mark_failed(error);
            }
            delivered
        };
        delivering.instrument(span!("deliver", sink = self.name, event = update.event())).await
    }

    /// Returns the delay before the next attempt; `None` for no further attempt.
    fn retry_delay(&self, error: &SinkError, attempt: u32) -> Option<Duration> {
        let min_delay = match error.retry {
            Retry::No => return None,
            Retry::Yes => Duration::ZERO,
            Retry::After(requested) => requested.min(MAX_RETRY_AFTER),
        };
        let delay = if attempt <= self.settings.retries {
            backoff::exponential_with_jitter(MIN_RETRY_BACKOFF, MAX_RETRY_BACKOFF, attempt - 1)
        } else {
            backoff::equal_jitter(self.settings.retry_later?)
        };
        Some(delay.max(min_delay))
    }

    async fn digest(&self, update: &Update) -> Digest {
        let fingerprint = &self.settings.fingerprint;
        if update.size_bytes() <= MAX_INLINE_HASH_BYTES {
            return update.digest(fingerprint);
        }
        let (large, settings) = (update.clone(), fingerprint.clone());
        let hashing = tokio::task::spawn_blocking(move || large.digest(&settings));
        hashing.await.unwrap_or_else(|_| update.digest(fingerprint))
    }

    /// Logs a successful delivery and updates the status.
    fn report_success(&mut self, update: &Update, delivered: Delivered) {
        let recovered = self.status.borrow().failing.is_some();
        if delivered == Delivered::Changed || recovered {
            self.log_success(update);
        }
        self.status.send_modify(|status| {
            let revisions = update.parts().iter().map(|part| (part.source.clone(), part.revision));
            status.revisions = revisions.collect();
            status.delivered = update.parts().first().map(|part| part.revision);
            status.at = Some(Timestamp::now());
            status.changes += u64::from(delivered == Delivered::Changed);
            status.succeeded += 1;
            status.state = SinkState::Done;
            (status.failing, status.attempts, status.next_try) = (None, 0, None);
        });
    }

    /// Logs a successful delivery, rate-limited. `suppressed` is the number of skipped events.
    fn log_success(&mut self, update: &Update) {
        let (sink, event) = (&self.name, update.event());
        match self.log_limit.allow(Instant::now().into_std()) {
            None => debug!(sink, event, "delivered"),
            Some(0) => info!(sink, event, "delivered"),
            Some(suppressed) => info!(sink, event, suppressed, "delivered"),
        }
    }

    /// Logs a failed attempt and updates the status. `retry_in` is `None` if no retry follows.
    ///
    /// A repeated failure with the same reason is logged at debug level.
    fn report_failure(&self, error: &SinkError, attempt: u32, retry_in: Option<Duration>) {
        let reason: Arc<str> = reloader_util::sanitize::sanitize(&error.message).into();
        let (sink, error) = (&self.name, &reason);
        let is_repeated = self.status.borrow().failing.as_ref() == Some(error);
        let max_attempts = self.settings.retries.saturating_add(1);
        match retry_in {
            None => error!(
                sink,
                attempt, %error, "delivery failed, not retrying until the value changes"
            ),
            Some(retry_in) if attempt == max_attempts => {
                error!(sink, attempt, ?retry_in, %error, "delivery retries exhausted");
            }
            Some(retry_in) if is_repeated => {
                debug!(sink, attempt, max_attempts, ?retry_in, %error, "delivery failed, retrying");
            }
            Some(retry_in) => {
                warn!(sink, attempt, max_attempts, ?retry_in, %error, "delivery failed, retrying");
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
