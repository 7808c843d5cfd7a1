//! Delivery worker: debounces changes, delivers the latest values to a sink, retries with backoff, and delivers
//! again if another program changes the target.

use crate::{
    delivery_log::DeliveryLog,
    delivery_record_store::DeliveryRecordStore,
    delivery_values::Update,
    notifier_waits_for_file_sinks::{Predecessor, Predecessors},
    serial_blocking_jobs::POOL,
    sink::{Delivered, ExternalChange, Retry, Sink, SinkError},
    sink_status::{SinkState, SinkStatus},
    source_subscriptions::{OPTIONAL_WAIT, SourceSubscriptions},
    worker_settings::{WaitSettings, WorkerSettings},
};
use reloader_engine::types::SourceName;
use reloader_source::latest_value::Subscription;
use reloader_source::spans::{mark_failed, span};
use reloader_util::{backoff, digest::Digest};
use std::{mem, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, error::Elapsed, sleep, sleep_until, timeout},
};
use tracing::{Instrument, debug, info, warn};

mod success_and_failure_reports;

/// Delivery of the values of one or several sources to one sink.
///
/// The worker runs while [`run`](Self::run) is polled.
pub struct Worker {
    name: String,
    subscriptions: SourceSubscriptions,
    sink: Arc<dyn Sink>,
    settings: WorkerSettings,
    delivery_records: Box<dyn DeliveryRecordStore>,
    status: watch::Sender<SinkStatus>,
    /// Stop request, set to `true` by a [`Stopper`].
    stop: Arc<watch::Sender<bool>>,
    stop_requested: watch::Receiver<bool>,
    /// Digest of the values in the target, if known.
    delivered: Option<Digest>,
    /// `true` if a failed attempt since the last successful delivery may have changed the target.
    may_have_changed: bool,
    /// Sinks that must deliver an update before the sink of this worker does.
    predecessors: Predecessors,
    log: DeliveryLog,
    /// Set after a log event about the sources that the sink waits for.
    has_logged_wait: bool,
    /// Time until which the sink waits for optional sources, since its start.
    optional_until: Option<Instant>,
}

/// Handle that stops a worker after the current attempt.
#[derive(Debug, Clone)]
pub struct Stopper(Arc<watch::Sender<bool>>);

impl Stopper {
    /// Requests the stop of the worker. The worker completes the current attempt, unless its sink is blocked for
    /// more than 3 seconds, and starts no further attempt.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

/// Backoff before the first retry of a failed delivery. It grows with each further failure.
const MIN_RETRY_BACKOFF: Duration = Duration::from_millis(200);
/// Maximum backoff before a retry of a failed delivery.
const MAX_RETRY_BACKOFF: Duration = Duration::from_secs(30);
/// Maximum delay that a sink can request with [`Retry::After`].
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);
/// Maximum size of values that are hashed on the async thread, in bytes. Larger ones are hashed on
/// a blocking thread.
const MAX_INLINE_HASH_BYTES: usize = 64 << 10;
/// Run time of a blocking operation after which a stopping worker no longer waits for it.
const MAX_BLOCKED_TIME_AT_STOP: Duration = Duration::from_secs(3);
/// Interval at which a stopping worker checks whether a blocking operation of its sink still runs.
const BLOCKED_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Time without a value of each source after which the log names the missing sources.
const LOG_WAIT_DELAY: Duration = Duration::from_secs(5);

/// Reason for the end of a wait or of a delivery.
enum Wake {
    /// A newer value is available.
    NewValue,
    /// The worker or all its sources have stopped.
    Stopped,
    /// The deadline of the wait has passed; or the update is delivered, or has failed without a further retry.
    Due,
}

/// Result if a worker is stopped while an operation of its sink does not return.
struct StoppedWhileBlocked;

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
            sink: sink.into(),
            settings,
            delivery_records,
            status,
            stop: Arc::new(stop),
            stop_requested,
            delivered: None,
            may_have_changed: false,
            predecessors: Predecessors::default(),
            log: DeliveryLog::new(Instant::now().into_std()),
            has_logged_wait: false,
            optional_until: None,
        }
    }

    /// Makes the worker deliver each update only after the `predecessors` have delivered it.
    ///
    /// This makes a notifier run after the file sinks. The notifier runs only if one of their files has another content
    /// than at the last successful run, or has been written since that run. While a file sink fails, the notifier
    /// waits. If one of the sinks writes no file, the notifier runs for each new value.
    #[must_use]
    pub fn after(mut self, predecessors: Vec<Predecessor>) -> Self {
        self.predecessors = Predecessors::new(predecessors);
        self
    }

    /// Makes sources optional: the sink delivers without them while they have no value. It waits for five seconds, or
    /// until their first failure.
    #[must_use]
    pub fn optional(mut self, names: &[SourceName]) -> Self {
        self.subscriptions.set_optional(names);
        self
    }

    /// Returns a receiver of the worker's status.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<SinkStatus> {
        self.status.subscribe()
    }

    /// Returns a handle that stops the worker. The worker also stops when all its sources have stopped.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.stop))
    }

    /// Delivers new values until the worker or all its sources are stopped. If all sources have stopped, the
    /// worker makes one attempt to deliver their last values.
    pub async fn run(mut self) {
        if !self.sink.detects_unchanged() {
            self.delivered = self.delivery_records.last().await;
        }
        self.subscriptions.refresh();
        while let Some(update) = self.next_update().await {
            let mut wake = self.deliver(&update, None).await;
            if let Wake::Due = wake {
                wake = self.keep_delivered(&update).await;
            }
            if let Wake::Stopped = wake {
                break;
            }
        }
        self.status.send_modify(|status| {
            status.state = SinkState::Stopped;
            status.next_try = None;
        });
    }

    /// Waits for a value of each source and for the end of a burst of changes. Returns the update to deliver;
    /// `None` when the worker is stopped.
    async fn next_update(&mut self) -> Option<Update> {
        let optional_until =
            *self.optional_until.get_or_insert_with(|| Instant::now() + OPTIONAL_WAIT);
        loop {
            let missing = self.subscriptions.missing();
            let missing_optional = self.subscriptions.missing_optional();
            let is_waiting_for_optional =
                !missing_optional.is_empty() && Instant::now() < optional_until;
            if missing.is_empty() && !is_waiting_for_optional {
                break;
            }
            let until = missing.is_empty().then_some(optional_until);
            let missing = if missing.is_empty() { missing_optional } else { missing };
            self.status.send_modify(|status| status.state = SinkState::Waiting(missing));
            if let Wake::Stopped = self.wait_for_sources(until).await {
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

    /// Waits for the first values, at most until `until`. After five seconds, logs the sources that are waited for, once.
    async fn wait_for_sources(&mut self, until: Option<Instant>) -> Wake {
        if until.is_some() || self.has_logged_wait || self.subscriptions.len() < 2 {
            return self.wait(until).await;
        }
        match self.wait(Some(Instant::now() + LOG_WAIT_DELAY)).await {
            Wake::Due => {
                self.has_logged_wait = true;
                let missing = self.subscriptions.missing();
                let waiting_for = missing.iter().map(|name| format!("`{name}`"));
                let waiting_for = waiting_for.collect::<Vec<_>>().join(", ");
                info!(sink = self.name, %waiting_for, "sink waits for values");
                self.wait(None).await
            }
            wake => wake,
        }
    }

    /// Waits for a newer value, for a stop of the worker or of all its sources, or until `due`.
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

    /// Waits for a newer value or a stop. Until then, delivers `update` again when another program has changed
    /// the target, when a file has changed from which the sink derives the content, and when a predecessor has written
    /// its file.
    async fn keep_delivered(&mut self, update: &Update) -> Wake {
        let interval = self.sink.repair_interval();
        loop {
            let check_at = interval
                .filter(|_| self.delivered.is_some())
                .map(|interval| Instant::now() + backoff::equal_jitter(interval));
            let change = match self.wait_or_input_change(check_at).await {
                None if self.subscriptions.refresh() => return Wake::NewValue,
                None => None,
                Some(Wake::Due) => match self.external_change().await {
                    Ok(Ok(None)) => continue,
                    Ok(Ok(change)) => change,
                    // The check has timed out. The delivery below waits for the blocked operation, times out as
                    // well, and reports the operation in its error.
                    Ok(Err(Elapsed { .. })) => None,
                    Err(StoppedWhileBlocked) => return Wake::Stopped,
                },
                Some(wake) => return wake,
            };
            if self.predecessors.is_empty() {
                self.delivered = None;
            }
            match self.deliver(update, change.as_ref()).await {
                Wake::Due => {}
                wake => return wake,
            }
        }
    }

    /// Returns the change of the target by another program, if any; `Elapsed` if the check takes longer than the
    /// timeout of an attempt.
    async fn external_change(
        &self,
    ) -> Result<Result<Option<ExternalChange>, Elapsed>, StoppedWhileBlocked> {
        let checking = timeout(self.settings.timeout, self.sink.external_change());
        tokio::select! {
            change = checking => Ok(change),
            stopped = self.stopped_while_blocked() => Err(stopped),
        }
    }

    /// Delivers an update, with retries. Returns [`Wake::Due`] when the update is delivered or no retry follows.
    /// `change` is the change of the target by another program that this delivery repairs, if any.
    async fn deliver(&mut self, update: &Update, change: Option<&ExternalChange>) -> Wake {
        loop {
            if let Some(wake) = self.wait_for_predecessors(update).await {
                return wake;
            }
            let is_written = self.predecessors.mark_seen();
            // A predecessor may have delivered a newer value, with which the notifier has to run.
            if !self.predecessors.is_empty() && self.subscriptions.refresh() {
                return Wake::NewValue;
            }
            // Its file is as it was before the start. A later removal of the file leads to another delivery.
            if self.predecessors.is_any_undelivered() {
                self.report_success(update, Delivered::Same, None);
                return Wake::Due;
            }
            let digest = match self.predecessors.digest() {
                Some(contents) => contents,
                None => self.digest(update).await,
            };
            if self.delivered == Some(digest) && !is_written {
                debug!(sink = self.name, "values already delivered");
                self.report_success(update, Delivered::Same, None);
                return Wake::Due;
            }
            if let Some(wake) = self.deliver_until_input_changes(update, digest, change).await {
                return wake;
            }
        }
    }

    /// Delivers an update that has the digest `digest`, with retries. Returns `None` if a file that the sink reads, or the
    /// file of a predecessor, changes before a retry: it may have been the cause of the failure.
    async fn deliver_until_input_changes(
        &mut self,
        update: &Update,
        digest: Digest,
        change: Option<&ExternalChange>,
    ) -> Option<Wake> {
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
            let attempted_at = Instant::now();
            let error = match self.attempt(update).await {
                Ok(Ok(delivered)) => {
                    // An earlier failed attempt may have changed the target, even if this attempt did not.
                    let may_have_changed = mem::take(&mut self.may_have_changed);
                    let delivered = if may_have_changed { Delivered::Changed } else { delivered };
                    self.delivered = Some(digest);
                    self.delivery_records.record(digest).await;
                    if delivered == Delivered::Same && change.is_some() {
                        self.status.send_modify(|status| status.state = SinkState::Done);
                        return Some(Wake::Due);
                    }
                    self.report_success(update, delivered, change);
                    return Some(Wake::Due);
                }
                Ok(Err(error)) => error,
                Err(StoppedWhileBlocked) => return Some(Wake::Stopped),
            };
            // If an operation from before this attempt still runs, e.g. a check, the attempt has only waited for
            // that operation, and has changed nothing.
            let earlier = self.sink.blocking_operation().filter(|it| it.since < attempted_at);
            self.may_have_changed |= earlier.is_none();
            // A newer value replaces the failed one immediately.
            if self.subscriptions.refresh() {
                self.report_failure(&error, attempt, Some(Duration::ZERO));
                return Some(Wake::NewValue);
            }
            let Some(delay) = self.retry_delay(&error, attempt) else {
                self.report_failure(&error, attempt, None);
                return Some(Wake::Due);
            };
            self.report_failure(&error, attempt, Some(delay));
            match self.wait_or_input_change(Some(Instant::now() + delay)).await? {
                Wake::Due => {}
                wake => return Some(wake),
            }
        }
    }

    /// Waits as [`wait`](Self::wait) does. Returns `None` if a file that the sink reads, or the file of a predecessor,
    /// changes before.
    async fn wait_or_input_change(&mut self, due: Option<Instant>) -> Option<Wake> {
        let mut predecessors = mem::take(&mut self.predecessors);
        let sink = Arc::clone(&self.sink);
        let wake = tokio::select! {
            wake = self.wait(due) => Some(wake),
            () = predecessors.changed() => None,
            () = sink.input_changed() => None,
        };
        self.predecessors = predecessors;
        wake
    }

    /// Waits until all predecessors have delivered `update`. Returns `None` then, or the reason why the wait
    /// ended earlier.
    async fn wait_for_predecessors(&mut self, update: &Update) -> Option<Wake> {
        let mut predecessors = mem::take(&mut self.predecessors);
        let wake = tokio::select! {
            biased;
            () = predecessors.delivered(update) => None,
            wake = self.wait(None) => Some(wake),
        };
        self.predecessors = predecessors;
        wake
    }

    /// Makes one delivery attempt, limited by the timeout in the settings.
    async fn attempt(
        &self,
        update: &Update,
    ) -> Result<Result<Delivered, SinkError>, StoppedWhileBlocked> {
        let limit = self.settings.timeout;
        let delivering = async {
            let delivered = timeout(limit, self.sink.deliver(update)).await.unwrap_or_else(|_| {
                let limit = humantime::format_duration(limit);
                let reason = format!("timed out after {limit} (`timeout`)");
                Err(SinkError::transient(match self.sink.blocking_operation() {
                    Some(operation) => format!("{reason}: {operation}"),
                    None => reason,
                }))
            });
            if let Err(error) = &delivered {
                mark_failed(error);
            }
            delivered
        };
        let span = span!("deliver", sink = self.name, event = update.event());
        tokio::select! {
            delivered = delivering.instrument(span) => Ok(delivered),
            stopped = self.stopped_while_blocked() => Err(stopped),
        }
    }

    /// Waits until a stop is requested and an operation of the sink has run for [`MAX_BLOCKED_TIME_AT_STOP`].
    async fn stopped_while_blocked(&self) -> StoppedWhileBlocked {
        let mut stop_requested = self.stop_requested.clone();
        // No error is possible: the worker owns the sender.
        let _ = stop_requested.wait_for(|is_requested| *is_requested).await;
        loop {
            if let Some(operation) = self.sink.blocking_operation()
                && operation.since.elapsed() >= MAX_BLOCKED_TIME_AT_STOP
            {
                warn!(sink = self.name, %operation, "sink stopped during a blocked operation");
                return StoppedWhileBlocked;
            }
            sleep(BLOCKED_CHECK_INTERVAL).await;
        }
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
        let hashing = POOL.spawn(move || large.digest(&settings));
        hashing.await.unwrap_or_else(|_| update.digest(fingerprint))
    }
}
