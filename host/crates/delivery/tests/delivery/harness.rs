//! Test harness: sources with values that a test sets, a scripted sink, temporary directories, and waits for files
//! and processes.

use async_trait::async_trait;
use reloader_delivery::{
    Delivered, DeliveryRecordStore, Digest, NoDeliveryRecords, Part, Predecessor, Sink, SinkError,
    SinkStatus, Stopper, Update, Worker, WorkerSettings,
};
use reloader_engine::types::{Snapshot, SourceName};
use reloader_source::latest_value::{Subscription, Writer, store};
use std::{
    fs,
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

/// Source whose values are set by the test.
pub(crate) struct TestSource {
    name: &'static str,
    writer: Writer,
    reader: Subscription,
    revision: AtomicU64,
}

impl TestSource {
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

/// Worker that runs as a task, for the tests. Dropping it aborts the task.
pub(crate) struct RunningWorker {
    pub(crate) status: watch::Receiver<SinkStatus>,
    pub(crate) stopper: Stopper,
    pub(crate) task: JoinHandle<()>,
}

pub(crate) fn spawn_worker(
    sources: &[&TestSource],
    sink: impl Sink + 'static,
    settings: WorkerSettings,
) -> RunningWorker {
    spawn_worker_with_log(sources, sink, settings, NoDeliveryRecords)
}

pub(crate) fn spawn_worker_with_log(
    sources: &[&TestSource],
    sink: impl Sink + 'static,
    settings: WorkerSettings,
    log: impl DeliveryRecordStore + 'static,
) -> RunningWorker {
    let inputs = sources.iter().map(|source| source.input()).collect();
    let worker = Worker::new("test", inputs, Box::new(sink), settings, Box::new(log));
    run(worker)
}

/// Spawns a worker that delivers a value only after `other` has delivered it.
pub(crate) fn spawn_worker_after(
    source: &TestSource,
    sink: impl Sink + 'static,
    other: &RunningWorker,
) -> RunningWorker {
    spawn_notifier(source, sink, other, NoDeliveryRecords)
}

/// Spawns a worker that delivers after `other`, which starts together with it.
pub(crate) fn spawn_notifier(
    source: &TestSource,
    sink: impl Sink + 'static,
    other: &RunningWorker,
    records: impl DeliveryRecordStore + 'static,
) -> RunningWorker {
    let (inputs, settings) = (vec![source.input()], WorkerSettings::default());
    let worker = Worker::new("after", inputs, Box::new(sink), settings, Box::new(records));
    run(worker.after(vec![Predecessor::starting(other.status.clone())]))
}

fn run(worker: Worker) -> RunningWorker {
    let (status, stopper) = (worker.status(), worker.stopper());
    RunningWorker { status, stopper, task: tokio::spawn(worker.run()) }
}

impl RunningWorker {
    /// Waits for a status that fulfils the predicate.
    pub(crate) async fn when(&mut self, is: impl FnMut(&SinkStatus) -> bool) -> SinkStatus {
        let wait = self.status.wait_for(is);
        tokio::time::timeout(Duration::from_secs(3600), wait).await.unwrap().unwrap().clone()
    }

    /// Waits until `revision` of the first source is delivered.
    pub(crate) async fn delivered(&mut self, revision: u64) -> SinkStatus {
        self.when(|status| status.delivered == Some(revision.into())).await
    }

    /// Waits for a failure and returns its reason.
    pub(crate) async fn failure(&mut self) -> String {
        let status = self.when(|status| status.failing.is_some()).await;
        status.failing.unwrap().to_string()
    }
}

impl Drop for RunningWorker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Sink that reports each delivery to the test, and returns the result that the test has set.
pub(crate) struct ScriptedSink {
    deliveries: UnboundedSender<String>,
    answer: watch::Receiver<Answer>,
}

/// Result of the deliveries of a [`ScriptedSink`].
#[derive(Clone)]
pub(crate) enum Answer {
    Deliver,
    /// The delivery succeeds without a change, because the target already has the values.
    Same,
    Fail(SinkError),
    /// The delivery blocks until the answer changes.
    Hang,
}

/// Handle with which the test sets the result of a [`ScriptedSink`] and receives its deliveries.
pub(crate) struct SinkScript {
    pub(crate) deliveries: UnboundedReceiver<String>,
    answer: watch::Sender<Answer>,
}

pub(crate) fn scripted_sink() -> (ScriptedSink, SinkScript) {
    let (sender, deliveries) = unbounded_channel();
    let (script, answer) = watch::channel(Answer::Deliver);
    (ScriptedSink { deliveries: sender, answer }, SinkScript { deliveries, answer: script })
}

impl SinkScript {
    pub(crate) fn answer(&self, answer: Answer) {
        self.answer.send_replace(answer);
    }

    /// Waits for the next delivery and returns its values.
    pub(crate) async fn next(&mut self) -> String {
        let wait = self.deliveries.recv();
        tokio::time::timeout(Duration::from_secs(3600), wait).await.unwrap().unwrap()
    }

    /// Asserts that there is no delivery within this time.
    pub(crate) async fn assert_idle(&mut self, time: Duration) {
        let delivery = tokio::time::timeout(time, self.deliveries.recv()).await;
        assert!(delivery.is_err(), "unexpected delivery: {delivery:?}");
    }
}

fn text(part: &Part) -> String {
    match &part.value {
        Some(value) => String::from_utf8_lossy(&value.content).into_owned(),
        None => "(none)".into(),
    }
}

#[async_trait]
impl Sink for ScriptedSink {
    async fn deliver(&self, update: &Update) -> Result<Delivered, SinkError> {
        let all: Vec<String> = update.parts().iter().map(text).collect();
        self.deliveries.send(all.join("+")).unwrap();
        let mut answer = self.answer.clone();
        let answer = answer.wait_for(|answer| !matches!(answer, Answer::Hang)).await;
        match answer.map(|answer| answer.clone()) {
            Ok(Answer::Fail(error)) => Err(error),
            Ok(Answer::Same) => Ok(Delivered::Same),
            _ => Ok(Delivered::Changed),
        }
    }
}

/// Delivery record in memory that outlives workers, as the state store outlives the host.
#[derive(Clone, Default)]
pub(crate) struct MemoryLog(Arc<Mutex<Option<Digest>>>);

#[async_trait]
impl DeliveryRecordStore for MemoryLog {
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

/// Temporary directory of a test.
pub(crate) struct TestDir(tempfile::TempDir);

impl TestDir {
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
        fs::read_to_string(self.file(name)).unwrap_or_default()
    }

    pub(crate) fn lines(&self, name: &str) -> Vec<String> {
        self.read(name).lines().map(Into::into).collect()
    }

    pub(crate) async fn wait_for_lines(&self, name: &str, expected: &[&str]) {
        wait_until(|| (self.lines(name) == expected).then_some(())).await;
    }
}

/// Polls `probe` until it returns a value.
pub(crate) async fn wait_until<T>(mut probe: impl FnMut() -> Option<T>) -> T {
    let end = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(std::time::Instant::now() < end, "timed out");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until the file at `path` contains a process ID, and returns it.
pub(crate) async fn read_pid(path: &Path) -> i32 {
    wait_until(|| fs::read_to_string(path).ok()?.strip_suffix('\n')?.parse().ok()).await
}

/// Lets child processes handle `SIGHUP`.
///
/// A shell cannot trap a signal that it inherits as ignored, e.g. from `nohup`. Installing a handler
/// resets the disposition for child processes.
pub(crate) fn reset_hangup_disposition() {
    drop(tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()));
}

/// Returns whether a process runs. A zombie does not run.
pub(crate) fn is_running(process: i32) -> bool {
    state_and_parent(process).is_some_and(|(state, _)| state != 'Z')
}

/// Returns the children of a process with their states.
pub(crate) fn children(parent: i32) -> Vec<(i32, char)> {
    let names = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.file_name());
    let processes = names.filter_map(|name| name.to_str()?.parse().ok());
    processes
        .filter_map(|process| Some((process, state_and_parent(process)?)))
        .filter(|(_, (_, its_parent))| *its_parent == parent)
        .map(|(process, (state, _))| (process, state))
        .collect()
}

fn state_and_parent(process: i32) -> Option<(char, i32)> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let mut rest = stat.rsplit(')').next()?.split_whitespace();
    Some((rest.next()?.chars().next()?, rest.next()?.parse().ok()?))
}
