//! Running sinks of one source or group.

use crate::{
    config::sink_name, source_and_sink_counters::SinkCounts, state_persistence::StatePersistence,
    status_changes::ChangeNotifier,
};
use reloader_api_types::SinkReport;
use reloader_delivery::{
    Predecessor, SinkSettings, SinkState, SinkStatus, Stopper, WaitSettings, Worker,
};
use reloader_engine::types::SourceName;
use reloader_source::latest_value::Subscription;
use reloader_util::sync::Mutex;
use std::{
    collections::{BTreeSet, HashMap},
    mem,
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tracing::warn;

/// Text that replaces an error message that may contain parts of a secret value.
pub(crate) const REASON_ONLY_LOGGED: &str =
    "the reason is only in the log, because clients must not read the values";

/// Time for a sink to finish its last delivery when it is stopped by a reload.
pub(crate) const SINK_STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Inputs of the sinks of one source or group.
pub(crate) struct SinkInputs<'a> {
    /// Name of the source, or key of the group in the state store.
    pub(crate) owner: &'a SourceName,
    /// Set if the owner is a group.
    pub(crate) is_group: bool,
    /// Names of the sources, with a subscription to each.
    pub(crate) readers: Vec<(SourceName, Subscription)>,
    /// Sources without which the sinks deliver while they have no value.
    pub(crate) optional: &'a [SourceName],
    /// Debounce of a burst of changes; set only for a group.
    pub(crate) wait: Option<&'a WaitSettings>,
}

/// Running sinks of one source or group. Each sink has its own task.
#[derive(Debug, Default)]
pub(crate) struct SinkSet(Mutex<Vec<RunningSink>>);

#[derive(Debug)]
struct RunningSink {
    settings: SinkSettings,
    /// Name of the sink in the log and the status.
    name: String,
    /// Key of the delivery record: the configured name, or a digest of the settings, which does not
    /// depend on the position in the configuration.
    key: String,
    status: watch::Receiver<SinkStatus>,
    stopper: Stopper,
    /// Keys of the sinks that must deliver a value before this sink delivers it.
    after: Arc<BTreeSet<String>>,
    task: JoinHandle<()>,
}

impl SinkSet {
    /// Replaces the sinks. Sinks with the same key and settings keep running. The others stop before
    /// new sinks start, so that an old sink cannot overwrite what a new sink has written.
    pub(crate) async fn set(
        &self,
        inputs: &SinkInputs<'_>,
        wanted: &[SinkSettings],
        persistence: &StatePersistence,
        notifier: &ChangeNotifier,
    ) {
        let wanted = with_keys(wanted);
        let positions: HashMap<&str, usize> =
            wanted.iter().enumerate().map(|(index, (key, _))| (key.as_str(), index)).collect();
        let position = |running: &RunningSink| positions.get(running.key.as_str()).copied();
        // Notifiers run after the sinks that write files.
        let writers = wanted.iter().filter(|(_, settings)| settings.writes_file());
        let writers: Arc<BTreeSet<String>> =
            Arc::new(writers.map(|(key, _)| key.clone()).collect());
        let is_unchanged = |running: &RunningSink| {
            let settings = position(running).and_then(|index| wanted.get(index));
            settings.is_some_and(|(_, settings)| running.settings == **settings)
        };
        let old: Vec<_> = {
            let mut all = self.0.lock();
            let kept = all.iter().filter(|running| is_unchanged(running));
            let kept: BTreeSet<_> = kept.map(|running| running.key.clone()).collect();
            // A notifier holds the status receivers of the sinks that write files. If one of these sinks is replaced,
            // its receiver closes, so the notifier is replaced too.
            let are_writers_kept = writers.is_subset(&kept);
            let is_kept = |running: &RunningSink| {
                is_unchanged(running)
                    && (!running.settings.is_notifier()
                        || (are_writers_kept && running.after == writers))
            };
            all.extract_if(.., |running| !is_kept(running)).collect()
        };
        stop_all(old, SINK_STOP_TIMEOUT).await;
        let mut is_running = vec![false; wanted.len()];
        let mut starting = BTreeSet::new();
        for running in &mut *self.0.lock() {
            if let Some(index) = position(running) {
                running.name = sink_name(&running.settings, index);
                is_running[index] = true;
            }
        }
        let new = wanted.iter().enumerate().filter(|(index, _)| !is_running[*index]);
        let (writing, notifying): (Vec<_>, Vec<_>) =
            new.partition(|(_, (_, settings))| !settings.is_notifier());
        for (index, (key, settings)) in writing.into_iter().chain(notifying) {
            let name = sink_name(settings, index);
            let after = if settings.is_notifier() { Arc::clone(&writers) } else { Arc::default() };
            let others = self.predecessors(&after, &starting);
            starting.insert(key.as_str());
            match start(inputs, settings, (&name, key, after), others, persistence, notifier) {
                Ok(running) => self.0.lock().push(running),
                Err(error) => {
                    warn!(owner = %inputs.owner, sink = %name, %error, "sink start failed");
                }
            }
        }
        self.0.lock().sort_by_key(position);
    }

    /// Returns the sinks with these keys, in the order of the keys. Those in `starting` start together with the
    /// notifier.
    fn predecessors(&self, keys: &BTreeSet<String>, starting: &BTreeSet<&str>) -> Vec<Predecessor> {
        let all = self.0.lock();
        let find = |key: &String| all.iter().find(|running| running.key == *key);
        let predecessor = |running: &RunningSink| {
            let status = running.status.clone();
            match starting.contains(running.key.as_str()) {
                true => Predecessor::starting(status),
                false => Predecessor::running(status),
            }
        };
        keys.iter().filter_map(find).map(predecessor).collect()
    }

    /// Returns the status of each sink. With `is_secret`, omits the errors of commands: they may contain a value.
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

    /// Calls `select` with the name and the status of each sink, and returns its results.
    pub(crate) fn filter_map_status<T>(
        &self,
        select: impl Fn(&str, &SinkStatus) -> Option<T>,
    ) -> Vec<T> {
        let all = self.0.lock();
        let selected = all.iter().map(|running| select(&running.name, &running.status.borrow()));
        selected.flatten().collect()
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

    /// Returns the names of the sinks that have not delivered yet.
    pub(crate) fn missing(&self) -> Vec<String> {
        let all = self.0.lock();
        let missing = all.iter().filter(|running| running.status.borrow().delivered.is_none());
        missing.map(|running| running.name.clone()).collect()
    }

    /// Returns whether a sink has not delivered yet.
    pub(crate) fn is_missing(&self) -> bool {
        self.0.lock().iter().any(|running| running.status.borrow().delivered.is_none())
    }

    /// Stops all sinks after their current deliveries. Aborts sinks that take longer than `limit`.
    pub(crate) async fn stop(&self, limit: Duration) {
        let all = mem::take(&mut *self.0.lock());
        stop_all(all, limit).await;
    }
}

async fn stop_all(sinks: Vec<RunningSink>, limit: Duration) {
    sinks.into_iter().map(|sink| sink.stop(limit)).collect::<JoinSet<()>>().join_all().await;
}

/// Returns whether a sink is settling or delivering.
fn is_delivering(status: &SinkStatus) -> bool {
    matches!(status.state, SinkState::Settling | SinkState::Delivering)
}

/// Guard that counts a group sink in [`DeliveryTotals`](crate::status_changes::DeliveryTotals) while it is settling or
/// delivering. On drop, the sink is no longer counted.
struct DeliveringGroupSink<'a> {
    notifier: &'a ChangeNotifier,
    is_counted: bool,
}

impl DeliveringGroupSink<'_> {
    fn set(&mut self, is_delivering: bool) {
        if mem::replace(&mut self.is_counted, is_delivering) != is_delivering {
            self.notifier.deliveries.send_modify(|totals| match is_delivering {
                true => totals.delivering_group_sinks += 1,
                false => totals.delivering_group_sinks -= 1,
            });
        }
    }
}

impl Drop for DeliveringGroupSink<'_> {
    fn drop(&mut self) {
        self.set(false);
    }
}

/// Reports the status changes of a sink, until its worker ends.
async fn report_changes(
    mut status: watch::Receiver<SinkStatus>,
    owner: SourceName,
    is_group: bool,
    notifier: ChangeNotifier,
) {
    let mut delivering = DeliveringGroupSink { notifier: &notifier, is_counted: false };
    let mut changes = 0;
    loop {
        let (is_delivering, delivered) = {
            let status = status.borrow_and_update();
            (is_delivering(&status), status.changes)
        };
        delivering.set(is_group && is_delivering);
        if mem::replace(&mut changes, delivered) != delivered {
            notifier.deliveries.send_modify(|totals| totals.changes += 1);
        }
        // The totals are updated before the status change is reported. After a first delivery, the report makes the
        // host ready and starts the command, which must not be notified of that delivery.
        match is_group {
            true => notifier.group_changed(&owner),
            false => notifier.source_changed(&owner),
        }
        if status.changed().await.is_err() {
            break;
        }
    }
}

/// Returns the settings with the keys of their delivery records.
fn with_keys(all: &[SinkSettings]) -> Vec<(String, &SinkSettings)> {
    // Number of sinks with the same settings so far.
    let mut duplicates = HashMap::<String, usize>::new();
    let mut key = |settings: &SinkSettings| match settings.name() {
        Some(name) => name.to_owned(),
        None => {
            let fingerprint = settings.worker(None).fingerprint;
            let same = format!("{}/{}", settings.kind(), &fingerprint[..16]);
            let count = duplicates.entry(same.clone()).or_default();
            *count += 1;
            format!("{same}/{}", *count - 1)
        }
    };
    all.iter().map(|settings| (key(settings), settings)).collect()
}

/// Starts a sink as a task, which also reports its status changes.
fn start(
    inputs: &SinkInputs<'_>,
    settings: &SinkSettings,
    (name, key, after): (&str, &str, Arc<BTreeSet<String>>),
    others: Vec<Predecessor>,
    persistence: &StatePersistence,
    notifier: &ChangeNotifier,
) -> Result<RunningSink, String> {
    let owner = inputs.owner.as_str();
    let worker = Worker::new(
        format!("{owner}/{name}"),
        inputs.readers.clone(),
        settings.build(owner).map_err(|error| error.to_string())?,
        settings.worker(inputs.wait),
        persistence.delivery_record(owner, key),
    )
    .after(others)
    .optional(inputs.optional);
    let (status, stopper) = (worker.status(), worker.stopper());
    let changes =
        report_changes(status.clone(), inputs.owner.clone(), inputs.is_group, notifier.clone());
    let task = tokio::spawn(async move {
        tokio::join!(worker.run(), changes);
    });
    let (name, key) = (name.to_owned(), key.to_owned());
    Ok(RunningSink { settings: settings.clone(), name, key, status, stopper, after, task })
}

impl RunningSink {
    async fn stop(mut self, limit: Duration) {
        self.stopper.stop();
        if timeout(limit, &mut self.task).await.is_err() {
            warn!(sink = %self.name, timeout = ?limit, "sink stop timed out");
        }
    }
}

/// Aborts the task of the sink when its entry is dropped.
impl Drop for RunningSink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use reloader_engine::types::Snapshot;
    use reloader_source::latest_value::store;
    use std::path::Path;

    async fn set(sinks: &SinkSet, reader: &Subscription, settings: &[SinkSettings]) {
        let owner = SourceName::new("a");
        let readers = vec![(owner.clone(), reader.clone())];
        let inputs =
            SinkInputs { owner: &owner, is_group: false, readers, optional: &[], wait: None };
        let (persistence, notifier) = (StatePersistence::disabled(), ChangeNotifier::default());
        sinks.set(&inputs, settings, &persistence, &notifier).await;
    }

    async fn wait_until_delivered(sinks: &SinkSet, revision: u64) {
        let statuses: Vec<_> =
            sinks.0.lock().iter().map(|running| running.status.clone()).collect();
        assert_eq!(statuses.len(), 2);
        for mut status in statuses {
            let delivered = status.wait_for(|status| status.delivered == Some(revision.into()));
            let delivered = timeout(Duration::from_secs(60), delivered).await;
            delivered.expect("each sink delivers").expect("each sink runs");
        }
    }

    /// The settings of a named file sink change, so that the sink restarts with the same key. The notifier still
    /// delivers after it.
    #[tokio::test]
    async fn notifier_runs_after_restart_of_file_sink() {
        let directory = tempfile::tempdir().unwrap();
        let settings = |mode: &str| {
            let text = format!(
                "[[source]]\nname = 'a'\nplugin = 'file'\nconfig.path = 'a'\n\
                 [[source.sink]]\ntype = 'file'\nname = 'f'\npath = '{}'\nmode = '{mode}'\n\
                 [[source.sink]]\ntype = 'exec'\ncommand = ['true']\n",
                directory.path().join("out").display()
            );
            let config = Config::parse(Path::new("reloader.toml"), &text).unwrap();
            config.sources[0].sinks.clone()
        };
        let (writer, reader) = store();
        let sinks = SinkSet::default();
        set(&sinks, &reader, &settings("0600")).await;
        writer.publish(1.into(), Some(Snapshot::new("1")));
        wait_until_delivered(&sinks, 1).await;
        set(&sinks, &reader, &settings("0640")).await;
        writer.publish(2.into(), Some(Snapshot::new("2")));
        wait_until_delivered(&sinks, 2).await;
    }
}
