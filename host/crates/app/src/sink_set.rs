//! Running sinks of one source or group.

use crate::{
    config::sink_name, source_and_sink_counters::SinkCounts, state_persistence::StatePersistence,
};
use reloader_api_types::SinkReport;
use reloader_delivery::{SinkSettings, SinkState, SinkStatus, Stopper, WaitSettings, Worker};
use reloader_engine::types::SourceName;
use reloader_source::latest_value::Subscription;
use reloader_util::sync::Mutex;
use std::{mem, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tracing::warn;

/// Replaces a message that may contain parts of a secret value.
pub(crate) const REASON_ONLY_LOGGED: &str =
    "the reason is only in the log, because the source is secret";

/// Time for a sink to finish its last delivery when it is stopped.
const SINK_STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Sender of [`DeliveryTotals`], shared by all sources and groups.
pub(crate) type DeliverySender = watch::Sender<DeliveryTotals>;

/// Totals over all sources and sinks, for the supervision of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct DeliveryTotals {
    /// Number of first deliveries of sinks, and of values of sources without sinks.
    pub(crate) first_deliveries: u64,
    /// Number of deliveries that changed something.
    pub(crate) changes: u64,
    /// Number of sources that ended because of a permanent failure.
    pub(crate) ended: u64,
}

/// Inputs of the sinks of one source or group.
pub(crate) struct SinkInputs<'a> {
    /// Name of the source or group.
    pub(crate) owner: &'a str,
    /// Subscriptions of the sources, by name.
    pub(crate) readers: Vec<(SourceName, Subscription)>,
    /// Debounce settings of a group.
    pub(crate) wait: Option<&'a WaitSettings>,
}

/// Running sinks of one source or group. Each sink has its own task.
#[derive(Debug, Default)]
pub(crate) struct SinkSet(Mutex<Vec<RunningSink>>);

#[derive(Debug)]
struct RunningSink {
    settings: SinkSettings,
    /// Name for display.
    name: String,
    /// Key of the delivery record: the configured name, or a digest of the settings, which does not
    /// depend on the position in the configuration.
    key: String,
    status: watch::Receiver<SinkStatus>,
    stopper: Stopper,
    /// Keys of the sinks whose delivery must finish first.
    after: Vec<String>,
    task: JoinHandle<()>,
}

impl SinkSet {
    /// Replaces the sinks. Sinks with the same key and settings keep running. The others stop before
    /// new sinks start, so that an old sink cannot overwrite a newer value.
    pub(crate) async fn set(
        &self,
        inputs: &SinkInputs<'_>,
        wanted: &[SinkSettings],
        persistence: &StatePersistence,
        deliveries: &DeliverySender,
    ) {
        let wanted = with_keys(wanted);
        // Notifiers run after the sinks that write.
        let writers = wanted.iter().filter(|(_, settings)| settings.writes_file());
        let writers: Vec<_> = writers.map(|(key, _)| key.clone()).collect();
        let is_wanted = |running: &mut RunningSink| {
            (running.after == writers || !running.settings.is_notifier())
                && wanted.iter().any(|(key, settings)| running.matches(key, settings))
        };
        let old: Vec<_> = self.0.lock().extract_if(.., |running| !is_wanted(running)).collect();
        old.into_iter().map(RunningSink::stop).collect::<JoinSet<()>>().join_all().await;
        let (writing, notifying): (Vec<_>, Vec<_>) =
            wanted.iter().enumerate().partition(|(_, (_, settings))| !settings.is_notifier());
        for (index, (key, settings)) in writing.into_iter().chain(notifying) {
            let name = sink_name(settings, index);
            if let Some(same) =
                self.0.lock().iter_mut().find(|running| running.matches(key, settings))
            {
                same.name = name;
                continue;
            }
            let after = if settings.is_notifier() { writers.clone() } else { Vec::new() };
            let others = self.statuses(&after);
            match start(inputs, settings, (&name, key, after), others, persistence, deliveries) {
                Ok(running) => self.0.lock().push(running),
                Err(error) => {
                    warn!(owner = %inputs.owner, sink = %name, %error, "sink start failed");
                }
            }
        }
        let position =
            |running: &RunningSink| wanted.iter().position(|(key, _)| *key == running.key);
        self.0.lock().sort_by_key(position);
    }

    fn statuses(&self, keys: &[String]) -> Vec<watch::Receiver<SinkStatus>> {
        let all = self.0.lock();
        let wanted = all.iter().filter(|running| keys.contains(&running.key));
        wanted.map(|running| running.status.clone()).collect()
    }

    /// Returns the status of each sink. The output of commands is omitted for secret sources.
    pub(crate) fn report(&self, is_secret: bool) -> Vec<SinkReport> {
        let all = self.0.lock();
        let fails = |running: &&RunningSink| running.status.borrow().failing.is_some();
        let failing: Vec<_> = all.iter().filter(fails).collect();
        let report = |running: &RunningSink| {
            let before = failing.iter().find(|other| running.after.contains(&other.key));
            let held_back = || before.map(|other| format!("waiting for sink `{}`", other.name));
            let status = running.status.borrow();
            let error = |failing: &Arc<str>| match is_secret && running.settings.runs_command() {
                true => format!("command failed; {REASON_ONLY_LOGGED}"),
                false => failing.to_string(),
            };
            SinkReport {
                name: running.name.clone(),
                revision: status.delivered.map(|revision| revision.get()),
                error: status.failing.as_ref().map(error).or_else(held_back),
            }
        };
        all.iter().map(report).collect()
    }

    /// Returns the counters of each sink, for the source or group `owner`.
    pub(crate) fn counts(&self, owner: &str) -> Vec<SinkCounts> {
        let count = |running: &RunningSink| {
            let status = running.status.borrow();
            SinkCounts {
                owner: owner.into(),
                name: running.name.clone(),
                succeeded: status.succeeded,
                failed: status.failed,
                retried: status.retried,
                is_failing: status.failing.is_some(),
            }
        };
        self.0.lock().iter().map(count).collect()
    }

    /// Returns whether a sink is settling or delivering.
    pub(crate) fn are_delivering(&self) -> bool {
        let is_delivering =
            |state: &SinkState| matches!(state, SinkState::Settling | SinkState::Delivering);
        self.0.lock().iter().any(|running| is_delivering(&running.status.borrow().state))
    }

    /// Returns the names of the sinks without a first delivery.
    pub(crate) fn missing(&self) -> Vec<String> {
        let all = self.0.lock();
        let missing = all.iter().filter(|running| running.status.borrow().delivered.is_none());
        missing.map(|running| running.name.clone()).collect()
    }

    /// Stops all sinks after their current deliveries.
    pub(crate) async fn stop(&self) {
        let all = mem::take(&mut *self.0.lock());
        all.into_iter().map(RunningSink::stop).collect::<JoinSet<()>>().join_all().await;
    }
}

/// Returns the settings with the keys of their delivery records.
fn with_keys(all: &[SinkSettings]) -> Vec<(String, &SinkSettings)> {
    let mut keyed: Vec<(String, &SinkSettings)> = Vec::new();
    for settings in all {
        let key = match settings.name() {
            Some(name) => name.to_owned(),
            None => {
                let duplicates = keyed.iter().filter(|(_, other)| *other == settings).count();
                let fingerprint = settings.worker(None).fingerprint;
                format!("{}/{}/{duplicates}", settings.kind(), &fingerprint[..16])
            }
        };
        keyed.push((key, settings));
    }
    keyed
}

/// Starts a sink as a task, which also adds its deliveries to the totals.
fn start(
    inputs: &SinkInputs<'_>,
    settings: &SinkSettings,
    (name, key, after): (&str, &str, Vec<String>),
    others: Vec<watch::Receiver<SinkStatus>>,
    persistence: &StatePersistence,
    deliveries: &DeliverySender,
) -> Result<RunningSink, String> {
    let worker = Worker::new(
        format!("{}/{name}", inputs.owner),
        inputs.readers.clone(),
        settings.build(inputs.owner).map_err(|error| error.to_string())?,
        settings.worker(inputs.wait),
        persistence.delivery_record(inputs.owner, key),
    )
    .after(others);
    let (status, stopper) = (worker.status(), worker.stopper());
    let mut seen = status.clone();
    let deliveries = deliveries.clone();
    let task = tokio::spawn(async move {
        let count_deliveries = async {
            let (mut has_delivered, mut changes) = (false, 0);
            loop {
                {
                    let status = seen.borrow_and_update();
                    let is_first = status.delivered.is_some() && !has_delivered;
                    let changed = status.changes != changes;
                    (has_delivered, changes) = (status.delivered.is_some(), status.changes);
                    if is_first || changed {
                        deliveries.send_modify(|totals| {
                            totals.first_deliveries += u64::from(is_first);
                            totals.changes += u64::from(changed);
                        });
                    }
                }
                if seen.changed().await.is_err() {
                    break;
                }
            }
        };
        tokio::join!(worker.run(), count_deliveries);
    });
    let (name, key) = (name.to_owned(), key.to_owned());
    Ok(RunningSink { settings: settings.clone(), name, key, status, stopper, after, task })
}

impl RunningSink {
    /// Returns whether the sink has this key and these settings.
    fn matches(&self, key: &str, settings: &SinkSettings) -> bool {
        self.key == key && self.settings == *settings
    }

    async fn stop(mut self) {
        self.stopper.stop();
        if timeout(SINK_STOP_TIMEOUT, &mut self.task).await.is_err() {
            warn!(sink = %self.name, timeout = ?SINK_STOP_TIMEOUT, "sink stop timed out");
        }
    }
}

/// Aborts the task of the sink.
impl Drop for RunningSink {
    fn drop(&mut self) {
        self.task.abort();
    }
}
