//! A source that is kept up to date: the way to embed one.

use crate::{
    driver::{Command, Driver, Edge, Ended, Publish, Seen, now, seed},
    metrics::Counters,
    persistence::{Persistence, Publication, Resumed},
    provider::{Provider, Reader, Watcher},
    store::{Subscription, Writer, store},
    telemetry::{failed, span},
    validator::{Candidate, Validator, in_time},
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

/// A source that is kept up to date, until this is dropped.
#[derive(Debug)]
pub struct Source {
    name: SourceName,
    reader: Subscription,
    commands: mpsc::Sender<Command<OriginEdge>>,
    task: JoinHandle<Result<(), Failure>>,
    /// How it ended, once somebody has waited for that.
    ended: Option<Result<(), Failure>>,
    /// Why it cannot go on, if it cannot.
    gave_up: Arc<OnceLock<Failure>>,
}

/// What a source is made of.
pub struct SourceParts {
    /// Where its values come from.
    pub origin: Arc<dyn Provider>,
    /// How it is kept up to date.
    pub settings: Settings,
    /// A value that this refuses is not published, and the last good one stays.
    pub judge: Option<Arc<dyn Validator>>,
    /// Where it is counted what happens to it.
    pub counters: Arc<Counters>,
}

/// What a source had before a restart, and what remembers it over the next one.
#[derive(Debug, Default)]
pub struct RestoredState {
    /// The last good value is published at once, as stale, until the source stands for it.
    pub resumed: Option<Resumed>,
    /// What is new is published when this has kept it.
    pub keep: Option<Arc<dyn Persistence>>,
}

/// So many commands may wait.
const COMMANDS: usize = 8;

impl Source {
    /// Starts to keep a source up to date, on the present tokio runtime.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn start(name: SourceName, origin: Arc<dyn Provider>, settings: Settings) -> Self {
        let counters = Arc::default();
        Self::start_with(
            name,
            SourceParts { origin, settings, judge: None, counters },
            RestoredState::default(),
        )
    }

    /// The same, with a judge, and a memory.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn start_with(name: SourceName, making: SourceParts, past: RestoredState) -> Self {
        let (writer, reader) = store();
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let mut engine = Engine::new(making.settings, seed(), now());
        let mut unknown = None;
        if let Some(Resumed { revision, value, removed, at, pinned }) = past.resumed {
            if value.is_some() || removed {
                writer.resume(revision, value.clone(), at);
            } else {
                unknown = Some(revision);
            }
            engine = engine.resume(revision, value);
            if pinned {
                engine = engine.pinned();
            }
        }
        let edge = OriginEdge::new(&name, making.origin, making.judge, &reader);
        let publisher = Kept { writer: Arc::new(writer), keep: past.keep, unknown };
        let mut driver =
            Box::new(Driver::new(name.clone(), edge, engine, publisher, making.counters));
        let gave_up = Arc::new(OnceLock::new());
        let reason = Arc::clone(&gave_up);
        let task = tokio::spawn(async move {
            let ended = driver.run(receiver).await;
            ended.map_err(|Ended::GaveUp(failure)| reason.get_or_init(|| failure).clone())
        });
        Self { name, reader, commands, task, ended: None, gave_up }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &SourceName {
        &self.name
    }

    /// One more reader of its values. The first [`changed`](Subscription::changed) of each reader returns as
    /// soon as there is a value.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        self.reader.clone()
    }

    /// Asks for the source to be read now. Returns at once; what is new reaches the readers.
    pub fn reload(&self) {
        // When one such wish is waiting already, it serves for both.
        let _ = self.commands.try_send(Command::Reload);
    }

    /// From here on it is read from somewhere else, or in another way. What is published stays until there
    /// is something else; whatever was begun is begun anew, so no event is lost. It is counted where it was.
    pub async fn replace(&self, making: SourceParts) {
        let SourceParts { origin, settings, judge, counters: _ } = making;
        let edge = OriginEdge::new(&self.name, origin, judge, &self.reader);
        // One that has ended cannot be replaced, and says so by itself.
        let _ = self.commands.send(Command::Replace(Box::new((edge, settings)))).await;
    }

    /// Publishes this value, which is not judged, and holds it, whatever the source says.
    pub async fn pin(&self, value: Snapshot) {
        let _ = self.commands.send(Command::Pin(value)).await;
    }

    /// Follows the source again.
    pub async fn unpin(&self) {
        let _ = self.commands.send(Command::Unpin).await;
    }

    /// Why it has stopped by itself, if it has: its settings can never work.
    #[must_use]
    pub fn gave_up(&self) -> Option<&Failure> {
        self.gave_up.get()
    }

    /// Waits until the source stops by itself.
    ///
    /// # Errors
    ///
    /// The failure that says that the settings can never work. Nothing else stops a source.
    pub async fn stopped(&mut self) -> Result<(), Failure> {
        if let Some(ended) = &self.ended {
            return ended.clone();
        }
        let ended = (&mut self.task).await.unwrap_or_else(|error| {
            Err(Failure::transient(format!("the source's task ended: {error}")))
        });
        self.ended.insert(ended).clone()
    }

    /// Stops it, and waits until it has let go of everything.
    pub async fn stop(self) {
        if !self.task.is_finished() {
            self.task.abort();
            let _ = self.task.await;
        }
    }
}

/// An [`Provider`] at work.
struct OriginEdge {
    name: SourceName,
    origin: Arc<dyn Provider>,
    judge: Option<Judge>,
}

struct Judge {
    judge: Arc<dyn Validator>,
    latest: Subscription,
}

impl OriginEdge {
    fn new(
        source: &SourceName,
        origin: Arc<dyn Provider>,
        judge: Option<Arc<dyn Validator>>,
        latest: &Subscription,
    ) -> Self {
        let judge = judge.map(|judge| Judge { judge, latest: latest.clone() });
        Self { name: source.clone(), origin, judge }
    }
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl Edge for OriginEdge {
    type Value = Snapshot;
    type Reader = Box<dyn Reader>;
    type Reading = Boxed<(Box<dyn Reader>, Result<Outcome, Failure>)>;
    type Watch = Box<dyn Watcher>;
    type Watching = Boxed<(Option<Box<dyn Watcher>>, Seen<Snapshot>)>;
    type Judging = Judging;

    /// With its instance and its connection.
    const KEEP_READER: Duration = Duration::from_secs(2);

    fn read(&mut self, reader: Option<Box<dyn Reader>>, known: Option<Cursor>) -> Self::Reading {
        let origin = Arc::clone(&self.origin);
        let mut reader = reader.unwrap_or_else(|| origin.reader());
        let reading = async move {
            let result = unpanicked(reader.read(known)).await;
            if let Err(failure) = &result {
                failed(failure);
                if failure.kind == FailureKind::Crashed {
                    reader = origin.reader();
                }
            }
            (reader, result)
        };
        Box::pin(reading.instrument(span!("read", source = %self.name)))
    }

    fn arm(&mut self, known: Option<Cursor>) -> Self::Watching {
        let origin = Arc::clone(&self.origin);
        let arming = async move {
            match unpanicked(origin.arm(known)).await {
                Ok(watch) => (Some(watch), Seen::Armed),
                Err(failure) => {
                    failed(&failure);
                    (None, Seen::Lost(failure))
                }
            }
        };
        Box::pin(arming.instrument(span!("arm", source = %self.name)))
    }

    fn listen(&mut self, mut watch: Box<dyn Watcher>) -> Self::Watching {
        Box::pin(async move {
            match unpanicked(watch.next()).await {
                Ok(event) => (Some(watch), Seen::Event(event)),
                Err(failure) => (None, Seen::Lost(failure)),
            }
        })
    }

    fn judge(&mut self, value: &Snapshot) -> Judging {
        let Some(Judge { judge, latest }) = &mut self.judge else { return Judging(None) };
        let (judge, source) = (Arc::clone(judge), self.name.clone());
        let (new, before) = (value.clone(), latest.get());
        let span = span!("judge", source = %source);
        let judging = async move {
            let candidate = Candidate { source: &source, new: &new, before: before.as_ref() };
            let verdict = unpanicked(Box::pin(in_time(&*judge, &candidate))).await;
            if let Err(failure) = &verdict {
                failed(failure);
            }
            verdict
        };
        Judging(Some(Box::pin(judging.instrument(span))))
    }
}

/// A panic is a crash of what is called here, and not the end of the source.
async fn unpanicked<T>(
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

/// Whether a value may be let through; without a judge it is.
struct Judging(Option<Boxed<Result<(), Failure>>>);

impl Future for Judging {
    type Output = Result<(), Failure>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        match &mut self.0 {
            Some(judging) => judging.as_mut().poll(context),
            None => Poll::Ready(Ok(())),
        }
    }
}

/// Publishes what has been kept.
struct Kept {
    writer: Arc<Writer>,
    keep: Option<Arc<dyn Persistence>>,
    /// The last revision before a restart, if nobody knows what it was.
    unknown: Option<Revision>,
}

impl Publish for Kept {
    type Value = Snapshot;
    type Error = Infallible;

    fn publish(&self, revision: Revision, value: Option<Snapshot>) -> Result<(), Infallible> {
        let at = Timestamp::now();
        match &self.keep {
            None => self.writer.publish_at(revision, value, at),
            Some(keep) => {
                let (writer, kept) = (Arc::clone(&self.writer), value.clone());
                let publication = Publication { revision, value: kept, at };
                keep.keep(publication, Box::new(move || writer.publish_at(revision, value, at)));
            }
        }
        Ok(())
    }

    fn confirmed(&self) {
        // There is no value, says the source; unless one has been published since.
        if let Some(revision) = self.unknown {
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

    fn refused(&self, value: &Snapshot, reason: Arc<str>, retry_in: Option<Duration>) {
        if let Some(keep) = &self.keep {
            keep.refused(value, &reason);
        }
        self.writer.refused(value.clone(), reason, retry_in);
    }
}
