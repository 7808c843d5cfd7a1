//! A source that is kept up to date: the way to embed one.

use crate::{
    driver::{Command, Driver, Edge, Ended, Publish, Seen, now, seed},
    engine::{Engine, Settings},
    judge::{Candidate, Validate, in_time},
    model::{Cursor, Failure, Outcome, Revision, Snapshot, SourceName},
    origin::{Origin, Read, Watch},
    store::{Reader, Writer, store},
};
use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{sync::mpsc, task::JoinHandle};

/// A source that is kept up to date, until this is dropped.
#[derive(Debug)]
pub struct Source {
    name: SourceName,
    reader: Reader,
    commands: mpsc::Sender<Command>,
    task: JoinHandle<Result<(), Failure>>,
    /// How it ended, once somebody has waited for that.
    ended: Option<Result<(), Failure>>,
}

impl Source {
    /// Starts to keep a source up to date, on the present tokio runtime.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn start(name: SourceName, origin: Arc<dyn Origin>, settings: Settings) -> Self {
        Self::start_judged(name, origin, settings, None)
    }

    /// The same; a value that the judge refuses is not published, and the last good one stays.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn start_judged(
        name: SourceName,
        origin: Arc<dyn Origin>,
        settings: Settings,
        judge: Option<Arc<dyn Validate>>,
    ) -> Self {
        let (writer, reader) = store();
        let (commands, receiver) = mpsc::channel(1);
        let engine = Engine::new(settings, seed(), now());
        let judge =
            judge.map(|judge| Judge { judge, source: name.clone(), latest: reader.clone() });
        let edge = OriginEdge { origin, judge };
        let mut driver = Box::new(Driver::new(name.clone(), edge, engine, writer));
        let task = tokio::spawn(async move {
            driver.run(receiver).await.map_err(|Ended::GaveUp(failure)| failure)
        });
        Self { name, reader, commands, task, ended: None }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &SourceName {
        &self.name
    }

    /// One more reader of its values. The first [`changed`](Reader::changed) of each reader returns as
    /// soon as there is a value.
    #[must_use]
    pub fn subscribe(&self) -> Reader {
        self.reader.clone()
    }

    /// Asks for the source to be read now. Returns at once; what is new reaches the readers.
    pub fn reload(&self) {
        // When one such wish is waiting already, it serves for both.
        let _ = self.commands.try_send(Command::Reload);
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

/// An [`Origin`] at work.
struct OriginEdge {
    origin: Arc<dyn Origin>,
    judge: Option<Judge>,
}

struct Judge {
    judge: Arc<dyn Validate>,
    source: SourceName,
    latest: Reader,
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl Edge for OriginEdge {
    type Value = Snapshot;
    type Reader = Box<dyn Read>;
    type Reading = Boxed<(Box<dyn Read>, Result<Outcome, Failure>)>;
    type Watch = Box<dyn Watch>;
    type Watching = Boxed<(Option<Box<dyn Watch>>, Seen<Snapshot>)>;
    type Judging = Judging;

    /// With its instance and its connection.
    const KEEP_READER: Duration = Duration::from_secs(2);

    fn read(&mut self, reader: Option<Box<dyn Read>>, known: Option<Cursor>) -> Self::Reading {
        let mut reader = reader.unwrap_or_else(|| self.origin.reader());
        Box::pin(async move {
            let result = reader.read(known).await;
            (reader, result)
        })
    }

    fn arm(&mut self, known: Option<Cursor>) -> Self::Watching {
        let origin = Arc::clone(&self.origin);
        Box::pin(async move {
            match origin.arm(known).await {
                Ok(watch) => (Some(watch), Seen::Armed),
                Err(failure) => (None, Seen::Lost(failure)),
            }
        })
    }

    fn listen(&mut self, mut watch: Box<dyn Watch>) -> Self::Watching {
        Box::pin(async move {
            match watch.next().await {
                Ok(event) => (Some(watch), Seen::Event(event)),
                Err(failure) => (None, Seen::Lost(failure)),
            }
        })
    }

    fn judge(&mut self, value: &Snapshot) -> Judging {
        let Some(Judge { judge, source, latest }) = &mut self.judge else { return Judging(None) };
        let (judge, source) = (Arc::clone(judge), source.clone());
        let (new, before) = (value.clone(), latest.get());
        Judging(Some(Box::pin(async move {
            let candidate = Candidate { source: &source, new: &new, before: before.as_ref() };
            in_time(&*judge, &candidate).await
        })))
    }
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

impl Publish for Writer {
    type Value = Snapshot;
    type Error = Infallible;

    fn publish(&self, revision: Revision, value: Option<Snapshot>) -> Result<(), Infallible> {
        self.publish(revision, value);
        Ok(())
    }

    fn confirmed(&self) {
        self.confirmed();
    }

    fn stale(&self, reason: Option<Arc<str>>) {
        self.stale(reason);
    }

    fn refused(&self, value: &Snapshot, reason: Arc<str>, retry_in: Option<Duration>) {
        self.refused(value.clone(), reason, retry_in);
    }
}
