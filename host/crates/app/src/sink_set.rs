//! The sinks of a source, or of a group, at work.

use crate::persistence::Memory;
use reloader_api_types::SinkReport;
use reloader_delivery::{SinkSettings, SinkState, SinkStatus, Stopper, WaitSettings, Worker};
use reloader_engine::types::SourceName;
use reloader_source::store::Subscription;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tracing::warn;

/// Said in place of what may tell of a secret.
pub(crate) const ONLY_LOGGED: &str = "why is only in the log, as its source is a secret";

/// What has been delivered is told to whoever waits for it.
pub(crate) type Deliveries = watch::Sender<Delivered>;

/// How often something was delivered, or will never be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Delivered {
    /// For the first time.
    pub(crate) arrivals: u64,
    /// So that something is another one than before.
    pub(crate) changes: u64,
    /// So many sources have ended by themselves: nothing will be delivered of them.
    pub(crate) ended: u64,
}

/// What a sink has done since it was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkCounts {
    /// The name of its source or its group.
    pub of: String,
    /// Its own.
    pub name: String,
    /// How often all was there in the end.
    pub succeeded: u64,
    /// How often a try failed.
    pub failed: u64,
    /// How many tries came after one of the same values that had failed.
    pub retried: u64,
    /// Whether the newest values are not there, and should be.
    pub is_failing: bool,
}

/// Where the sinks of one source, or of one group, get their values from.
pub(crate) struct Inputs<'a> {
    /// The name of the source, or of the group.
    pub(crate) of: &'a str,
    pub(crate) readers: Vec<(SourceName, Subscription)>,
    pub(crate) wait: Option<&'a WaitSettings>,
}

/// Sinks at work, each by itself.
#[derive(Debug, Default)]
pub(crate) struct Sinks(Mutex<Vec<Running>>);

#[derive(Debug)]
struct Running {
    settings: SinkSettings,
    /// What it is called where people see it.
    name: String,
    /// What it is remembered by: its own name, or its settings, wherever they stand.
    key: String,
    status: watch::Receiver<SinkStatus>,
    stopper: Stopper,
    /// The keys of those that it comes after.
    after: Vec<String>,
    task: JoinHandle<()>,
}

/// So long a sink may still work on the last value when it is to stop.
const STOP: Duration = Duration::from_secs(10);

impl Sinks {
    /// Makes them be these: what is the same goes on as if nothing had happened. What is not ends first,
    /// so that it does not write what is older over what is newer.
    pub(crate) async fn set(
        &self,
        inputs: &Inputs<'_>,
        wanted: &[SinkSettings],
        memory: &Memory,
        deliveries: &Deliveries,
    ) {
        let wanted = keyed(wanted);
        // What tells somebody of a change comes after what writes it.
        let writers = wanted.iter().filter(|(_, settings)| settings.writes());
        let writers: Vec<_> = writers.map(|(key, _)| key.clone()).collect();
        let is_wanted = |running: &mut Running| {
            (running.after == writers || !running.settings.tells())
                && wanted.iter().any(|(key, settings)| running.is(key, settings))
        };
        let old: Vec<_> = self.lock().extract_if(.., |running| !is_wanted(running)).collect();
        old.into_iter().map(Running::stop).collect::<JoinSet<()>>().join_all().await;
        let (first, then): (Vec<_>, Vec<_>) =
            wanted.iter().enumerate().partition(|(_, (_, settings))| !settings.tells());
        for (index, (key, settings)) in first.into_iter().chain(then) {
            let name = settings.name();
            let name = name.map_or_else(|| format!("{}-{index}", settings.kind()), Into::into);
            if let Some(same) = self.lock().iter_mut().find(|running| running.is(key, settings)) {
                same.name = name;
                continue;
            }
            let after = if settings.tells() { writers.clone() } else { Vec::new() };
            let others = self.statuses(&after);
            match start(inputs, settings, (&name, key, after), others, memory, deliveries) {
                Ok(running) => self.lock().push(running),
                Err(error) => {
                    warn!(source = inputs.of, sink = name, "cannot be used: {error}");
                }
            }
        }
        let place = |running: &Running| wanted.iter().position(|(key, _)| *key == running.key);
        self.lock().sort_by_key(place);
    }

    fn statuses(&self, keys: &[String]) -> Vec<watch::Receiver<SinkStatus>> {
        let all = self.lock();
        let wanted = all.iter().filter(|running| keys.contains(&running.key));
        wanted.map(|running| running.status.clone()).collect()
    }

    /// How they are. What commands say of a secret may tell of it.
    pub(crate) fn report(&self, is_secret: bool) -> Vec<SinkReport> {
        let all = self.lock();
        let fails = |running: &&Running| running.status.borrow().failing.is_some();
        let failing: Vec<_> = all.iter().filter(fails).collect();
        let report = |running: &Running| {
            let before = failing.iter().find(|other| running.after.contains(&other.key));
            let held_back = || before.map(|other| format!("waits for `{}`", other.name));
            let status = running.status.borrow();
            let trouble = |failing: &Arc<str>| match is_secret && running.settings.runs() {
                true => format!("the command has failed; {ONLY_LOGGED}"),
                false => failing.to_string(),
            };
            SinkReport {
                name: running.name.clone(),
                revision: status.delivered.map(|revision| revision.get()),
                trouble: status.failing.as_ref().map(trouble).or_else(held_back),
            }
        };
        all.iter().map(report).collect()
    }

    /// What they have done, under the name of what they belong to.
    pub(crate) fn counts(&self, of: &str) -> Vec<SinkCounts> {
        let count = |running: &Running| {
            let status = running.status.borrow();
            SinkCounts {
                of: of.into(),
                name: running.name.clone(),
                succeeded: status.succeeded,
                failed: status.failed,
                retried: status.retried,
                is_failing: status.failing.is_some(),
            }
        };
        self.lock().iter().map(count).collect()
    }

    /// Whether something is on its way to one of them.
    pub(crate) fn are_at_work(&self) -> bool {
        let is_at_work =
            |state: &SinkState| matches!(state, SinkState::Settling | SinkState::Delivering);
        self.lock().iter().any(|running| is_at_work(&running.status.borrow().state))
    }

    /// The names of those that have not delivered anything yet.
    pub(crate) fn missing(&self) -> Vec<String> {
        let all = self.lock();
        let missing = all.iter().filter(|running| running.status.borrow().delivered.is_none());
        missing.map(|running| running.name.clone()).collect()
    }

    /// Ends them, after what they are at.
    pub(crate) async fn stop(&self) {
        let all = std::mem::take(&mut *self.lock());
        all.into_iter().map(Running::stop).collect::<JoinSet<()>>().join_all().await;
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Each with what it is remembered by.
fn keyed(all: &[SinkSettings]) -> Vec<(String, &SinkSettings)> {
    let mut keyed: Vec<(String, &SinkSettings)> = Vec::new();
    for settings in all {
        let key = match settings.name() {
            Some(name) => name.to_owned(),
            None => {
                let twins = keyed.iter().filter(|(_, other)| *other == settings).count();
                let fingerprint = settings.worker(None).fingerprint;
                format!("{}/{}/{twins}", settings.kind(), &fingerprint[..16])
            }
        };
        keyed.push((key, settings));
    }
    keyed
}

fn start(
    inputs: &Inputs<'_>,
    settings: &SinkSettings,
    (name, key, after): (&str, &str, Vec<String>),
    others: Vec<watch::Receiver<SinkStatus>>,
    memory: &Memory,
    deliveries: &Deliveries,
) -> Result<Running, String> {
    let worker = Worker::new(
        format!("{}/{name}", inputs.of),
        inputs.readers.clone(),
        settings.build(inputs.of).map_err(|error| error.to_string())?,
        settings.worker(inputs.wait),
        memory.sink(inputs.of, key),
    )
    .after(others);
    let (status, stopper) = (worker.status(), worker.stopper());
    let mut seen = status.clone();
    let deliveries = deliveries.clone();
    let task = tokio::spawn(async move {
        let tell = async {
            let (mut has_arrived, mut changes) = (false, 0);
            loop {
                {
                    let status = seen.borrow_and_update();
                    let arrives = status.delivered.is_some() && !has_arrived;
                    let changed = status.changes != changes;
                    (has_arrived, changes) = (status.delivered.is_some(), status.changes);
                    if arrives || changed {
                        deliveries.send_modify(|count| {
                            count.arrivals += u64::from(arrives);
                            count.changes += u64::from(changed);
                        });
                    }
                }
                if seen.changed().await.is_err() {
                    break;
                }
            }
        };
        tokio::join!(worker.run(), tell);
    });
    let (name, key) = (name.to_owned(), key.to_owned());
    Ok(Running { settings: settings.clone(), name, key, status, stopper, after, task })
}

impl Running {
    fn is(&self, key: &str, settings: &SinkSettings) -> bool {
        self.key == key && self.settings == *settings
    }

    async fn stop(mut self) {
        self.stopper.stop();
        if timeout(STOP, &mut self.task).await.is_err() {
            warn!(sink = self.name, "did not end in time");
        }
    }
}

/// Whoever lets go of them ends them.
impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}
