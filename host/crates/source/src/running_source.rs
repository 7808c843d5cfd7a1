//! Running source: starts the driver of a source, and controls it. Programs embed sources through [`Source`].

use crate::{
    driver::{Command, Driver, Ended, now, seed},
    latest_value::{Subscription, store},
    metrics::Counters,
    persistence::{Persistence, Resumed},
    persisting_publisher::PersistingPublisher,
    provider::Provider,
    provider_adapter::ProviderAdapter,
    validator::Validator,
};
use reloader_engine::{
    Engine, Settings,
    types::{Failure, Snapshot, SourceName},
};
use std::sync::{Arc, OnceLock};
use tokio::{sync::mpsc, task::JoinHandle};

/// Running source. Dropping it ends its subscriptions and the source.
#[derive(Debug)]
pub struct Source {
    name: SourceName,
    subscription: Subscription,
    commands: mpsc::Sender<Command<ProviderAdapter>>,
    task: JoinHandle<Result<(), Failure>>,
    /// Result of the task, after [`stopped`](Self::stopped) has returned the result for the first time.
    ended: Option<Result<(), Failure>>,
    /// Permanent failure that has ended the source.
    gave_up: Arc<OnceLock<Failure>>,
}

/// Parts from which a running source is built: provider, settings, validator and metrics.
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
        let publisher = PersistingPublisher {
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
        // A full queue drops the request: the driver has yet to execute earlier commands, such as other reloads.
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
    /// Fails with the permanent failure that ended the source: its settings can never work. Fails with a transient
    /// failure if the task of the source panicked. No other failure ends a source.
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
