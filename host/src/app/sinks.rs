//! The sinks of a source, or of a group, at work.

use super::{control::SinkReport, memory::Memory};
use crate::{
    delivery::{SinkSettings, SinkStatus, Stopper, WaitSettings, Worker},
    model::SourceName,
    store::Reader,
};
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tracing::warn;

/// What has been delivered is told to whoever waits for it.
pub(super) type Deliveries = watch::Sender<u64>;

/// Where the sinks of one source, or of one group, get their values from.
pub(super) struct Inputs<'a> {
    /// The name of the source, or of the group.
    pub(super) of: &'a str,
    pub(super) readers: Vec<(SourceName, Reader)>,
    pub(super) wait: Option<&'a WaitSettings>,
}

/// Sinks at work, each by itself.
#[derive(Debug, Default)]
pub(super) struct Sinks(Mutex<Vec<Running>>);

#[derive(Debug)]
struct Running {
    settings: SinkSettings,
    name: String,
    status: watch::Receiver<SinkStatus>,
    stopper: Stopper,
    task: JoinHandle<()>,
}

/// So long a sink may still work on the last value when it is to stop.
const STOP: Duration = Duration::from_secs(10);

impl Sinks {
    /// Makes them be these: what is the same goes on as if nothing had happened. What is not ends first,
    /// so that it does not write what is older over what is newer.
    pub(super) async fn set(
        &self,
        inputs: &Inputs<'_>,
        wanted: &[SinkSettings],
        memory: &Memory,
        deliveries: &Deliveries,
    ) {
        let wanted: Vec<_> = wanted
            .iter()
            .enumerate()
            .map(|(index, settings)| {
                let name = settings.name();
                let name = name.map_or_else(|| format!("{}-{index}", settings.kind()), Into::into);
                (name, settings)
            })
            .collect();
        let is_wanted = |running: &mut Running| {
            wanted.iter().any(|(name, settings)| running.is(name, settings))
        };
        let old: Vec<_> = self.lock().extract_if(.., |running| !is_wanted(running)).collect();
        old.into_iter().map(Running::stop).collect::<JoinSet<()>>().join_all().await;
        for (name, settings) in &wanted {
            if self.lock().iter().any(|running| running.is(name, settings)) {
                continue;
            }
            match start(inputs, settings, name.clone(), memory, deliveries) {
                Ok(running) => self.lock().push(running),
                Err(error) => {
                    warn!(source = inputs.of, sink = name, "cannot be used: {error}");
                }
            }
        }
        let place = |running: &Running| wanted.iter().position(|(name, _)| *name == running.name);
        self.lock().sort_by_key(place);
    }

    /// How they are.
    pub(super) fn report(&self) -> Vec<SinkReport> {
        let report = |running: &Running| {
            let status = running.status.borrow();
            SinkReport {
                name: running.name.clone(),
                revision: status.delivered.map(|revision| revision.get()),
                trouble: status.failing.as_ref().map(ToString::to_string),
            }
        };
        self.lock().iter().map(report).collect()
    }

    /// Whether each has delivered something.
    pub(super) fn have_delivered(&self) -> bool {
        self.lock().iter().all(|running| running.status.borrow().delivered.is_some())
    }

    /// Ends them, after what they are at.
    pub(super) async fn stop(&self) {
        let all = std::mem::take(&mut *self.lock());
        all.into_iter().map(Running::stop).collect::<JoinSet<()>>().join_all().await;
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn start(
    inputs: &Inputs<'_>,
    settings: &SinkSettings,
    name: String,
    memory: &Memory,
    deliveries: &Deliveries,
) -> Result<Running, String> {
    let worker = Worker::new(
        format!("{}/{name}", inputs.of),
        inputs.readers.clone(),
        settings.build(inputs.of).map_err(|error| error.to_string())?,
        settings.worker(inputs.wait),
        memory.sink(inputs.of, &name),
    );
    let (status, stopper) = (worker.status(), worker.stopper());
    let mut seen = status.clone();
    let deliveries = deliveries.clone();
    let task = tokio::spawn(async move {
        let tell = async {
            let mut before = (false, 0);
            while seen.changed().await.is_ok() {
                let status = seen.borrow_and_update();
                let now = (status.delivered.is_some(), status.changes);
                drop(status);
                if std::mem::replace(&mut before, now) != now {
                    deliveries.send_modify(|count| *count += 1);
                }
            }
        };
        tokio::join!(worker.run(), tell);
    });
    Ok(Running { settings: settings.clone(), name, status, stopper, task })
}

impl Running {
    fn is(&self, name: &str, settings: &SinkSettings) -> bool {
        self.name == name && self.settings == *settings
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
