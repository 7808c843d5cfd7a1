//! What the tests have in common: sources that are set by hand, a sink that is watched, and waiting.

use async_trait::async_trait;
use reloader_delivery::{
    Delivered, Digest, Forgetful, Ledger, Part, Sink, SinkError, SinkStatus, Stopper, Update,
    Worker, WorkerSettings,
};
use reloader_engine::types::{Snapshot, SourceName};
use reloader_source::store::{Subscription, Writer, store};
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
        watch,
    },
    task::JoinHandle,
};

/// A source that is set by hand.
pub(crate) struct Given {
    name: &'static str,
    writer: Writer,
    reader: Subscription,
    revision: AtomicU64,
}

impl Given {
    pub(crate) fn new(name: &'static str) -> Self {
        let (writer, reader) = store();
        Self { name, writer, reader, revision: AtomicU64::new(0) }
    }

    pub(crate) fn with(name: &'static str, value: &str) -> Self {
        let source = Self::new(name);
        source.set(value);
        source
    }

    pub(crate) fn set(&self, value: &str) {
        self.publish(Some(Snapshot::new(value.to_owned())));
    }

    pub(crate) fn remove(&self) {
        self.publish(None);
    }

    pub(crate) fn publish(&self, value: Option<Snapshot>) {
        let revision = self.revision.fetch_add(1, Ordering::Relaxed) + 1;
        self.writer.publish(revision.into(), value);
    }

    pub(crate) fn stale(&self) {
        self.writer.stale(Some("the source is down".into()));
    }

    pub(crate) fn input(&self) -> (SourceName, Subscription) {
        (SourceName::new(self.name), self.reader.clone())
    }
}

/// A worker that works.
pub(crate) struct Working {
    pub(crate) status: watch::Receiver<SinkStatus>,
    pub(crate) stopper: Stopper,
    pub(crate) task: JoinHandle<()>,
}

pub(crate) fn work(
    sources: &[&Given],
    sink: impl Sink + 'static,
    settings: WorkerSettings,
) -> Working {
    work_with(sources, sink, settings, Forgetful)
}

pub(crate) fn work_with(
    sources: &[&Given],
    sink: impl Sink + 'static,
    settings: WorkerSettings,
    ledger: impl Ledger + 'static,
) -> Working {
    let inputs = sources.iter().map(|source| source.input()).collect();
    let worker = Worker::new("test", inputs, Box::new(sink), settings, Box::new(ledger));
    run(worker)
}

/// One that tells of what another one does.
pub(crate) fn work_after(source: &Given, sink: impl Sink + 'static, other: &Working) -> Working {
    let (inputs, settings) = (vec![source.input()], WorkerSettings::default());
    let worker = Worker::new("after", inputs, Box::new(sink), settings, Box::new(Forgetful));
    run(worker.after(vec![other.status.clone()]))
}

fn run(worker: Worker) -> Working {
    let (status, stopper) = (worker.status(), worker.stopper());
    Working { status, stopper, task: tokio::spawn(worker.run()) }
}

impl Working {
    /// How it is, as soon as it is so.
    pub(crate) async fn when(&mut self, is: impl FnMut(&SinkStatus) -> bool) -> SinkStatus {
        let wait = self.status.wait_for(is);
        tokio::time::timeout(Duration::from_secs(3600), wait).await.unwrap().unwrap().clone()
    }

    /// When this revision of its first source is there.
    pub(crate) async fn has(&mut self, revision: u64) -> SinkStatus {
        self.when(|status| status.delivered == Some(revision.into())).await
    }

    /// Why it fails, when it does.
    pub(crate) async fn failure(&mut self) -> String {
        let status = self.when(|status| status.failing.is_some()).await;
        status.failing.unwrap().to_string()
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A sink that does as it is told, and hands on what it was asked to deliver.
pub(crate) struct Obedient {
    told: UnboundedSender<String>,
    answer: watch::Receiver<Answer>,
}

/// What it does.
#[derive(Clone)]
pub(crate) enum Answer {
    Deliver,
    /// It finds its work done.
    Same,
    Fail(SinkError),
    /// It does not come back until it is told something else.
    Hang,
}

/// Whoever tells it.
pub(crate) struct Master {
    pub(crate) told: UnboundedReceiver<String>,
    answer: watch::Sender<Answer>,
}

pub(crate) fn obedient() -> (Obedient, Master) {
    let (told, heard) = unbounded_channel();
    let (tell, answer) = watch::channel(Answer::Deliver);
    (Obedient { told, answer }, Master { told: heard, answer: tell })
}

impl Master {
    pub(crate) fn say(&self, answer: Answer) {
        self.answer.send_replace(answer);
    }

    /// What it is asked to deliver next.
    pub(crate) async fn next(&mut self) -> String {
        let wait = self.told.recv();
        tokio::time::timeout(Duration::from_secs(3600), wait).await.unwrap().unwrap()
    }

    /// It is not asked for so long.
    pub(crate) async fn silent(&mut self, time: Duration) {
        let asked = tokio::time::timeout(time, self.told.recv()).await;
        assert!(asked.is_err(), "it is asked to deliver {asked:?}");
    }
}

fn text(part: &Part) -> String {
    match &part.value {
        Some(value) => String::from_utf8_lossy(&value.content).into_owned(),
        None => "(none)".into(),
    }
}

#[async_trait]
impl Sink for Obedient {
    async fn deliver(&self, update: &Update) -> Result<Delivered, SinkError> {
        let all: Vec<String> = update.parts().iter().map(text).collect();
        self.told.send(all.join("+")).unwrap();
        let mut answer = self.answer.clone();
        let answer = answer.wait_for(|answer| !matches!(answer, Answer::Hang)).await;
        match answer.map(|answer| answer.clone()) {
            Ok(Answer::Fail(error)) => Err(error),
            Ok(Answer::Same) => Ok(Delivered::Same),
            _ => Ok(Delivered::Changed),
        }
    }
}

/// A state on disk, as far as a sink sees it: it outlives workers.
#[derive(Clone, Default)]
pub(crate) struct Kept(Arc<Mutex<Option<Digest>>>);

#[async_trait]
impl Ledger for Kept {
    async fn last(&self) -> Option<Digest> {
        *self.0.lock().unwrap()
    }

    async fn begin(&self) {
        *self.0.lock().unwrap() = None;
    }

    async fn record(&self, digest: Digest) {
        *self.0.lock().unwrap() = Some(digest);
    }
}

pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(name)).unwrap_or_default()
    }
}

pub(crate) async fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let end = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(std::time::Instant::now() < end, "it does not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
