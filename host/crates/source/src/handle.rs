//! Running source: starts the driver of a source, and controls it. Programs embed sources through [`Source`].

use crate::{
    driver::{Adapter, Command, Driver, Ended, Publish, WatchResult, now, seed},
    metrics::Counters,
    persistence::{Persistence, Publication, Resumed},
    provider::{Provider, Reader, Watcher},
    store::{Subscription, Writer, store},
    telemetry::{failed, span},
    validator::{Candidate, Validator, validate_within_time_limit},
};
use jiff::Timestamp;
use reloader_engine::{
    Engine, Settings,
    types::{Cursor, Failure, FailureKind, Outcome, Revision, Snapshot, SourceName},
};
use reloader_util::panics;
use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{sync::mpsc, task::JoinHandle};
use tracing::Instrument;

/// Running source. Dropping it ends its subscriptions and the source.
#[derive(Debug)]
pub struct Source {
    name: SourceName,
    subscription: Subscription,
    commands: mpsc::Sender<Command<ProviderAdapter>>,
    task: JoinHandle<Result<(), Failure>>,
    /// Result of the task, once [`stopped`](Self::stopped) has returned it.
    ended: Option<Result<(), Failure>>,
    /// Permanent failure that has ended the source.
    gave_up: Arc<OnceLock<Failure>>,
}

/// Parts of a source.
pub struct SourceParts {
    /// Provider of the values.
    pub provider: Arc<dyn Provider>,
    /// Settings of the engine.
    pub settings: Settings,
    /// Validator of new values. A rejected value is not published, and the last good value stays.
    pub validator: Option<Arc<dyn Validator>>,
    /// Metrics of the source.
    pub metrics: Arc<Counters>,
}

/// State of a source from before a restart, and the persistence that stores it for the next one.
#[derive(Debug, Default)]
pub struct RestoredState {
    /// Last stored publication. Its value is published at the start, as stale until the source confirms it.
    pub resumed: Option<Resumed>,
    /// Persistence. Each value is published after it is stored.
    pub persistence: Option<Arc<dyn Persistence>>,
}

/// Capacity of the command queue.
const COMMAND_QUEUE_LEN: usize = 8;

impl Source {
    /// Starts a source on the current tokio runtime, without a validator and without persistence.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn start(name: SourceName, provider: Arc<dyn Provider>, settings: Settings) -> Self {
        let metrics = Arc::default();
        Self::start_with(
            name,
            SourceParts { provider, settings, validator: None, metrics },
            RestoredState::default(),
        )
    }

    /// Starts a source on the current tokio runtime from its parts and its restored state.
    ///
    /// # Panics
    ///
    /// Panics outside of a tokio runtime.
    pub fn start_with(name: SourceName, parts: SourceParts, restored: RestoredState) -> Self {
        let (writer, subscription) = store();
        let (commands, receiver) = mpsc::channel(COMMAND_QUEUE_LEN);
        let mut engine = Engine::new(parts.settings, seed(), now());
        let mut unstored_revision = None;
        if let Some(Resumed { revision, value, removed, at, pinned }) = restored.resumed {
            if value.is_some() || removed {
                writer.resume(revision, value.clone(), at);
            } else {
                unstored_revision = Some(revision);
            }
            engine = engine.resume(revision, value);
            if pinned {
                engine = engine.pinned();
            }
        }
        let adapter = ProviderAdapter::new(&name, parts.provider, parts.validator, &subscription);
        let publisher = Publisher {
            writer: Arc::new(writer),
            persistence: restored.persistence,
            unstored_revision,
        };
        let mut driver =
            Box::new(Driver::new(name.clone(), adapter, engine, publisher, parts.metrics));
        let gave_up = Arc::new(OnceLock::new());
        let reason = Arc::clone(&gave_up);
        let task = tokio::spawn(async move {
            let ended = driver.run(receiver).await;
            ended.map_err(|Ended::GaveUp(failure)| reason.get_or_init(|| failure).clone())
        });
        Self { name, subscription, commands, task, ended: None, gave_up }
    }

    /// Returns the name of the source.
    #[must_use]
    pub fn name(&self) -> &SourceName {
        &self.name
    }

    /// Returns a new subscription. Its first [`changed`](Subscription::changed) returns as soon as there is a
    /// value.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        self.subscription.clone()
    }

    /// Requests an immediate read of the source, and returns without waiting for it. A new value reaches the
    /// subscriptions.
    pub fn reload(&self) {
        // The queue is full only while the driver has commands to execute: a further request is not needed.
        let _ = self.commands.try_send(Command::Reload);
    }

    /// Replaces the provider, the settings and the validator. The metrics of `parts` are ignored: the source keeps
    /// its metrics. The published value stays until the new provider has another one. Calls in progress are
    /// dropped and repeated with the new provider, so that no change is lost.
    pub async fn replace(&self, parts: SourceParts) {
        let SourceParts { provider, settings, validator, metrics: _ } = parts;
        let adapter = ProviderAdapter::new(&self.name, provider, validator, &self.subscription);
        // Sending fails if the source has ended; `gave_up` and `stopped` report that.
        let _ = self.commands.send(Command::Replace(Box::new((adapter, settings)))).await;
    }

    /// Pins a value: publishes it without validation, and keeps it published whatever the source reports.
    pub async fn pin(&self, value: Snapshot) {
        let _ = self.commands.send(Command::Pin(value)).await;
    }

    /// Removes the pin: the values of the source are published again.
    pub async fn unpin(&self) {
        let _ = self.commands.send(Command::Unpin).await;
    }

    /// Returns the permanent failure that has ended the source: its settings can never work. `None` while the source
    /// runs.
    #[must_use]
    pub fn gave_up(&self) -> Option<&Failure> {
        self.gave_up.get()
    }

    /// Waits until the source ends by itself.
    ///
    /// # Errors
    ///
    /// Fails with the permanent failure that ended the source: its settings can never work. No other failure ends a
    /// source.
    pub async fn stopped(&mut self) -> Result<(), Failure> {
        if let Some(ended) = &self.ended {
            return ended.clone();
        }
        let ended = (&mut self.task).await.unwrap_or_else(|error| {
            Err(Failure::transient(format!("the task of the source failed: {error}")))
        });
        self.ended.insert(ended).clone()
    }

    /// Stops the source, and waits until it has released its resources.
    pub async fn stop(self) {
        if !self.task.is_finished() {
            self.task.abort();
            let _ = self.task.await;
        }
    }
}

/// Adapter between the driver and a [`Provider`].
struct ProviderAdapter {
    name: SourceName,
    provider: Arc<dyn Provider>,
    validation: Option<Validation>,
}

/// Validator and the subscription from which it takes the last good value.
struct Validation {
    validator: Arc<dyn Validator>,
    latest: Subscription,
}

impl ProviderAdapter {
    fn new(
        source: &SourceName,
        provider: Arc<dyn Provider>,
        validator: Option<Arc<dyn Validator>>,
        latest: &Subscription,
    ) -> Self {
        let validation =
            validator.map(|validator| Validation { validator, latest: latest.clone() });
        Self { name: source.clone(), provider, validation }
    }
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl Adapter for ProviderAdapter {
    type Value = Snapshot;
    type Reader = Box<dyn Reader>;
    type ReadFuture = BoxFuture<(Box<dyn Reader>, Result<Outcome, Failure>)>;
    type Watch = Box<dyn Watcher>;
    type WatchFuture = BoxFuture<(Option<Box<dyn Watcher>>, WatchResult<Snapshot>)>;
    type ValidateFuture = ValidateFuture;

    const READER_IDLE_TIMEOUT: Duration = Duration::from_secs(2);

    fn read(&mut self, reader: Option<Box<dyn Reader>>, known: Option<Cursor>) -> Self::ReadFuture {
        let provider = Arc::clone(&self.provider);
        let mut reader = reader.unwrap_or_else(|| provider.reader());
        let reading = async move {
            let result = catch_panics(reader.read(known)).await;
            if let Err(failure) = &result {
                failed(failure);
                if failure.kind == FailureKind::Crashed {
                    reader = provider.reader();
                }
            }
            (reader, result)
        };
        Box::pin(reading.instrument(span!("read", source = %self.name)))
    }

    fn arm(&mut self, known: Option<Cursor>) -> Self::WatchFuture {
        let provider = Arc::clone(&self.provider);
        let arming = async move {
            match catch_panics(provider.arm(known)).await {
                Ok(watch) => (Some(watch), WatchResult::Armed),
                Err(failure) => {
                    failed(&failure);
                    (None, WatchResult::Lost(failure))
                }
            }
        };
        Box::pin(arming.instrument(span!("arm", source = %self.name)))
    }

    fn next_event(&mut self, mut watch: Box<dyn Watcher>) -> Self::WatchFuture {
        Box::pin(async move {
            match catch_panics(watch.next()).await {
                Ok(event) => (Some(watch), WatchResult::Event(event)),
                Err(failure) => (None, WatchResult::Lost(failure)),
            }
        })
    }

    fn validate(&mut self, value: &Snapshot) -> ValidateFuture {
        let Some(Validation { validator, latest }) = &mut self.validation else {
            return ValidateFuture(None);
        };
        let (validator, source) = (Arc::clone(validator), self.name.clone());
        let (new, before) = (value.clone(), latest.get());
        let span = span!("validate", source = %source);
        let validating = async move {
            let candidate = Candidate { source: &source, new: &new, before: before.as_ref() };
            let validation = Box::pin(validate_within_time_limit(&*validator, &candidate));
            let result = catch_panics(validation).await;
            if let Err(failure) = &result {
                failed(failure);
            }
            result
        };
        ValidateFuture(Some(Box::pin(validating.instrument(span))))
    }
}

/// Polls a call, and turns a panic into a failure of the kind [`FailureKind::Crashed`], so that it does not end the
/// source.
async fn catch_panics<T>(
    mut call: Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + '_>>,
) -> Result<T, Failure> {
    poll_fn(|context| {
        let poll = catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(context)));
        poll.unwrap_or_else(|panic| {
            let message = format!("panicked: {}", panics::message(&*panic));
            Poll::Ready(Err(Failure::new(FailureKind::Crashed, message)))
        })
    })
    .await
}

/// Validation in progress. `None` without a validator: every value is accepted.
struct ValidateFuture(Option<BoxFuture<Result<(), Failure>>>);

impl Future for ValidateFuture {
    type Output = Result<(), Failure>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        match &mut self.0 {
            Some(validating) => validating.as_mut().poll(context),
            None => Poll::Ready(Ok(())),
        }
    }
}

/// Publisher that stores each publication before it reaches the subscriptions.
struct Publisher {
    writer: Arc<Writer>,
    persistence: Option<Arc<dyn Persistence>>,
    /// Last revision before a restart, if its value was not stored.
    unstored_revision: Option<Revision>,
}

impl Publish for Publisher {
    type Value = Snapshot;
    type Error = Infallible;

    fn publish(&self, revision: Revision, value: Option<Snapshot>) -> Result<(), Infallible> {
        let at = Timestamp::now();
        match &self.persistence {
            None => self.writer.publish_at(revision, value, at),
            Some(persistence) => {
                let (writer, stored) = (Arc::clone(&self.writer), value.clone());
                let publication = Publication { revision, value: stored, at };
                let publish = Box::new(move || writer.publish_at(revision, value, at));
                persistence.keep(publication, publish);
            }
        }
        Ok(())
    }

    fn confirmed(&self) {
        // The source confirms that it has no value. No effect if a newer revision has been published.
        if let Some(revision) = self.unstored_revision {
            self.writer.publish_at(revision, None, Timestamp::now());
        }
        self.writer.confirmed();
    }

    fn stale(&self, reason: Option<Arc<str>>) {
        self.writer.stale(reason);
    }

    fn failing(&self, reason: Option<Arc<str>>) {
        self.writer.failing(reason);
    }

    fn rejected(&self, value: &Snapshot, reason: Arc<str>, retry_in: Option<Duration>) {
        if let Some(persistence) = &self.persistence {
            persistence.refused(value, &reason);
        }
        self.writer.refused(value.clone(), reason, retry_in);
    }
}
