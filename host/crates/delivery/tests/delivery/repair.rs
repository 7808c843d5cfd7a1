//! Repair of files that another program has changed or removed.

use crate::harness::{
    MemoryLog, TestDir, TestSource, scripted_sink, spawn_worker, spawn_worker_after,
    spawn_worker_with_log,
};
use async_trait::async_trait;
use reloader_delivery::{
    BlockingOperation, Delivered, DeliveryRecordStore, ExternalChange, File, FileSettings,
    OnRemoved, RepairInterval, Sink, SinkError, SinkState, Template, TemplateSettings, Update,
    WorkerSettings,
};
use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;

/// Interval of the checks for external changes in these tests.
const INTERVAL: RepairInterval = RepairInterval(Some(Duration::from_millis(5)));

fn to(dir: &TestDir) -> FileSettings {
    FileSettings { repair_interval: INTERVAL, ..FileSettings::new(dir.file("app")) }
}

#[tokio::test]
async fn removed_file_is_written_again() {
    let (dir, source) = (TestDir::new(), TestSource::with("app", "a"));
    let mut worker = spawn_worker(&[&source], File::new(to(&dir)), WorkerSettings::default());
    worker.delivered(1).await;
    fs::remove_file(dir.file("app")).unwrap();
    let status = worker.when(|status| status.repairs == 1).await;
    assert_eq!((dir.read("app").as_str(), status.changes), ("a", 2));
    assert_eq!(status.state, SinkState::Done);
}

#[tokio::test]
async fn changed_file_is_written_again_and_notifier_runs() {
    let (dir, source) = (TestDir::new(), TestSource::with("app", "a"));
    let mut worker = spawn_worker(&[&source], File::new(to(&dir)), WorkerSettings::default());
    let (sink, mut notifier) = scripted_sink();
    let mut notified = spawn_worker_after(&source, sink, &worker);
    assert_eq!(notifier.next().await, "a");
    notified.delivered(1).await;
    for repairs in 1..=3 {
        fs::write(dir.file("app"), "another program").unwrap();
        worker.when(|status| status.repairs == repairs).await;
        assert_eq!(dir.read("app"), "a");
        assert_eq!(notifier.next().await, "a");
    }
}

#[tokio::test]
async fn rendered_file_is_written_again() {
    let (dir, source) = (TestDir::new(), TestSource::with("app", "a"));
    let settings = TemplateSettings {
        repair_interval: INTERVAL,
        ..TemplateSettings::new("<{{ text }}>", dir.file("app"))
    };
    let sink = Template::new(&settings).unwrap();
    let mut worker = spawn_worker(&[&source], sink, WorkerSettings::default());
    worker.delivered(1).await;
    fs::write(dir.file("app"), "another program").unwrap();
    worker.when(|status| status.repairs == 1).await;
    assert_eq!(dir.read("app"), "<a>");
}

#[tokio::test]
async fn failed_repair_is_retried() {
    let (dir, source) = (TestDir::new(), TestSource::with("app", "a"));
    let mut worker = spawn_worker(&[&source], File::new(to(&dir)), WorkerSettings::default());
    worker.delivered(1).await;
    fs::remove_file(dir.file("app")).unwrap();
    fs::create_dir(dir.file("app")).unwrap();
    assert!(worker.failure().await.ends_with("not a regular file"));
    fs::remove_dir(dir.file("app")).unwrap();
    let status = worker.when(|status| status.failing.is_none()).await;
    assert_eq!((dir.read("app").as_str(), status.repairs), ("a", 1));
}

/// Another modification time of the file counts as an external change, but the delivery that follows does not write
/// the unchanged content.
#[tokio::test]
async fn touched_file_is_not_repaired() {
    let dir = TestDir::new();
    let sink = File::new(to(&dir));
    let update = update("a");
    assert_eq!(sink.deliver(&update).await, Ok(Delivered::Changed));
    assert_eq!(sink.external_change().await, None);
    let file = fs::File::options().write(true).open(dir.file("app")).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    let reason = "another program has changed the file".into();
    let change = ExternalChange { path: dir.file("app"), reason };
    assert_eq!(sink.external_change().await, Some(change));
    assert_eq!(sink.deliver(&update).await, Ok(Delivered::Same));
    assert_eq!(sink.external_change().await, None);
}

#[tokio::test]
async fn in_place_file_is_unchanged_after_its_write() {
    let dir = TestDir::new();
    fs::write(dir.file("app"), "before").unwrap();
    let sink = File::new(FileSettings { in_place: true, ..to(&dir) });
    assert_eq!(sink.deliver(&update("a")).await, Ok(Delivered::Changed));
    assert_eq!(sink.external_change().await, None);
}

/// A file that the sink has removed, or has not written yet, is not reported as missing.
#[tokio::test]
async fn file_of_removed_value_is_not_checked() {
    let (dir, source) = (TestDir::new(), TestSource::with("app", "a"));
    let sink = Arc::new(File::new(to(&dir)));
    assert_eq!(sink.external_change().await, None, "not written yet");
    let settings = WorkerSettings { on_removed: OnRemoved::Clear, ..WorkerSettings::default() };
    let shared = SharedSink(Arc::clone(&sink));
    let mut worker = spawn_worker(&[&source], shared, settings);
    worker.delivered(1).await;
    source.remove();
    worker.delivered(2).await;
    assert!(!dir.file("app").exists());
    assert_eq!(sink.external_change().await, None, "removed");
}

/// File sink of a worker that a test can access.
struct SharedSink(Arc<File>);

#[async_trait]
impl Sink for SharedSink {
    async fn deliver(&self, update: &Update) -> Result<Delivered, SinkError> {
        self.0.deliver(update).await
    }
}

fn update(value: &str) -> Update {
    use reloader_delivery::Part;
    use reloader_engine::types::{Snapshot, SourceName};
    Update::new(vec![Part {
        source: SourceName::new("app"),
        revision: 1.into(),
        at: jiff::Timestamp::UNIX_EPOCH,
        stale: None,
        value: Some(Snapshot::new(value.to_owned())),
    }])
}

/// Sink that counts the checks for external changes, and reports no change.
struct CheckedSink {
    checks: watch::Sender<u32>,
    interval: Option<Duration>,
    /// Result of each delivery; `None` if it succeeds.
    failure: Option<SinkError>,
}

#[async_trait]
impl Sink for CheckedSink {
    async fn deliver(&self, _: &Update) -> Result<Delivered, SinkError> {
        self.failure.clone().map_or(Ok(Delivered::Changed), Err)
    }

    fn repair_interval(&self) -> Option<Duration> {
        self.interval
    }

    async fn external_change(&self) -> Option<ExternalChange> {
        self.checks.send_modify(|checks| *checks += 1);
        None
    }
}

/// The checks for external changes have jitter, so that many sinks do not check at the same time.
#[tokio::test(start_paused = true)]
async fn check_interval_has_jitter_and_can_be_disabled() {
    let interval = Duration::from_secs(60);
    for (interval, expected) in [(Some(interval), 60..=120), (None, 0..=0)] {
        let source = TestSource::with("app", "a");
        let (checks, _) = watch::channel(0);
        let sink = CheckedSink { checks: checks.clone(), interval, failure: None };
        let mut worker = spawn_worker(&[&source], sink, WorkerSettings::default());
        worker.delivered(1).await;
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let checks = *checks.borrow();
        assert!(expected.contains(&checks), "{checks} in an hour");
        assert_eq!(worker.status.borrow().succeeded, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn failing_sink_is_not_checked() {
    let source = TestSource::with("app", "a");
    let (checks, _) = watch::channel(0);
    let interval = Some(Duration::from_secs(60));
    let failure = Some(SinkError::permanent("404"));
    let sink = CheckedSink { checks: checks.clone(), interval, failure };
    let mut worker = spawn_worker(&[&source], sink, WorkerSettings::default());
    worker.when(|status| status.state == SinkState::GivenUp).await;
    tokio::time::sleep(Duration::from_secs(24 * 3600)).await;
    assert_eq!(*checks.borrow(), 0);
}

/// Sink whose check for external changes hangs, and whose deliveries wait for the end of this check.
struct HungCheckSink {
    running: watch::Sender<Option<BlockingOperation>>,
    delivered: AtomicBool,
}

#[async_trait]
impl Sink for HungCheckSink {
    async fn deliver(&self, _: &Update) -> Result<Delivered, SinkError> {
        let _ = self.running.subscribe().wait_for(Option::is_none).await;
        let is_same = self.delivered.swap(true, Ordering::Relaxed);
        Ok(if is_same { Delivered::Same } else { Delivered::Changed })
    }

    fn blocking_operation(&self) -> Option<BlockingOperation> {
        self.running.borrow().clone()
    }

    fn repair_interval(&self) -> Option<Duration> {
        Some(Duration::from_secs(60))
    }

    async fn external_change(&self) -> Option<ExternalChange> {
        let operation =
            BlockingOperation::new("checking `/mnt/x`", "the file system may not answer");
        self.running.send_replace(Some(operation));
        let _ = self.running.subscribe().wait_for(Option::is_none).await;
        None
    }
}

/// A delivery that has timed out while it waited for a hung check has changed nothing, so no notifier must run.
#[tokio::test(start_paused = true)]
async fn hung_check_is_no_change() {
    let source = TestSource::with("app", "a");
    let (running, _) = watch::channel(None);
    let sink = HungCheckSink { running: running.clone(), delivered: AtomicBool::new(false) };
    let mut worker = spawn_worker(&[&source], sink, WorkerSettings::default());
    assert_eq!(worker.delivered(1).await.changes, 1);
    worker.when(|status| status.failed == 2).await;
    running.send_replace(None);
    let status = worker.when(|status| status.succeeded == 2).await;
    assert_eq!(status.changes, 1);
}

/// Sink that always reports an external change, and that does not detect unchanged values itself.
struct SuspiciousSink {
    deliveries: watch::Sender<u32>,
}

#[async_trait]
impl Sink for SuspiciousSink {
    async fn deliver(&self, _: &Update) -> Result<Delivered, SinkError> {
        self.deliveries.send_modify(|deliveries| *deliveries += 1);
        Ok(Delivered::Same)
    }

    fn repair_interval(&self) -> Option<Duration> {
        Some(Duration::from_secs(60))
    }

    async fn external_change(&self) -> Option<ExternalChange> {
        Some(ExternalChange { path: "/mnt/x".into(), reason: "a change".into() })
    }
}

/// A repair that finds the values unchanged keeps the delivery record, so that the sink is not called again with the
/// same values after a restart.
#[tokio::test(start_paused = true)]
async fn unnecessary_repair_keeps_delivery_record() {
    let (source, log) = (TestSource::with("app", "a"), MemoryLog::default());
    let (deliveries, mut delivered) = watch::channel(0);
    let sink = SuspiciousSink { deliveries };
    let settings = WorkerSettings::default();
    let mut worker = spawn_worker_with_log(&[&source], sink, settings, log.clone());
    delivered.wait_for(|deliveries| *deliveries == 2).await.unwrap();
    worker.when(|status| status.state == SinkState::Done).await;
    assert!(log.last().await.is_some());
}
