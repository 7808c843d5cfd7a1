//! A source that is kept up to date: the way to embed one.

use crate::{
    driver::{Command, Driver, Edge, Ended, Publish, Seen, now, seed},
    engine::{Engine, Settings},
    model::{Cursor, Failure, FailureKind, Outcome, Revision, Snapshot, SourceName},
    origin::{Origin, Read, Watch},
    store::{Reader, Writer, store},
};
use std::{convert::Infallible, future::Future, pin::Pin, sync::Arc, time::Duration};
use tokio::{sync::mpsc, task::JoinHandle};

/// Says whether a value may be let through, and if not, why.
pub type Check = Arc<dyn Fn(&Snapshot) -> Result<(), String> + Send + Sync>;

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
        Self::start_checked(name, origin, settings, None)
    }

    /// The same; a value that the check refuses is not published, and the last good one stays.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn start_checked(
        name: SourceName,
        origin: Arc<dyn Origin>,
        settings: Settings,
        check: Option<Check>,
    ) -> Self {
        let (writer, reader) = store();
        let (commands, receiver) = mpsc::channel(1);
        let engine = Engine::new(settings, seed(), now());
        let edge = OriginEdge { origin, check };
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
    check: Option<Check>,
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl Edge for OriginEdge {
    type Value = Snapshot;
    type Reader = Box<dyn Read>;
    type Reading = Boxed<(Box<dyn Read>, Result<Outcome, Failure>)>;
    type Watch = Box<dyn Watch>;
    type Watching = Boxed<(Option<Box<dyn Watch>>, Seen<Snapshot>)>;

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

    fn judge(&mut self, value: &Snapshot) -> Result<(), Failure> {
        let Some(check) = &self.check else { return Ok(()) };
        check(value).map_err(|reason| Failure::new(FailureKind::Permanent, reason))
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
}
