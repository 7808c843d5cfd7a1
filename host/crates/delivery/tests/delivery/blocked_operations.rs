//! Sinks whose blocking operation does not return, e.g. on a file system that does not answer.

use crate::harness::{TestSource, spawn_worker};
use async_trait::async_trait;
use reloader_delivery::{
    BlockingOperation, Delivered, Sink, SinkError, SinkState, Update, WorkerSettings,
};
use std::time::Duration;
use tokio::{sync::watch, time::Instant};

/// Sink with an operation that blocks until the test ends it.
struct BlockedSink {
    operation: BlockingOperation,
    is_blocked: watch::Receiver<bool>,
}

fn blocked_sink() -> (BlockedSink, watch::Sender<bool>) {
    let (sender, is_blocked) = watch::channel(true);
    let operation =
        BlockingOperation::new("reading `/mnt/x/t.j2`", "the file system may not answer");
    (BlockedSink { operation, is_blocked }, sender)
}

#[async_trait]
impl Sink for BlockedSink {
    async fn deliver(&self, _: &Update) -> Result<Delivered, SinkError> {
        let _ = self.is_blocked.clone().wait_for(|is_blocked| !is_blocked).await;
        Ok(Delivered::Changed)
    }

    fn blocking_operation(&self) -> Option<BlockingOperation> {
        self.is_blocked.borrow().then(|| self.operation.clone())
    }
}

/// Each attempt times out, and its error names the blocked operation.
#[tokio::test(start_paused = true)]
async fn blocked_operation_is_named_until_it_returns() {
    let source = TestSource::with("app", "a");
    let (sink, is_blocked) = blocked_sink();
    let mut worker = spawn_worker(&[&source], sink, WorkerSettings::default());
    for failed in 1..5 {
        let status = worker.when(|status| status.failed == failed).await;
        assert_eq!(
            status.failing.as_deref(),
            Some(
                "timed out after 30s (`timeout`): reading `/mnt/x/t.j2` has not returned; the file \
                 system may not answer"
            )
        );
    }
    is_blocked.send_replace(false);
    worker.delivered(1).await;
}

/// The shutdown must not wait for a file system that does not answer.
#[tokio::test(start_paused = true)]
async fn stopped_worker_does_not_wait_for_blocked_operation() {
    let source = TestSource::with("app", "a");
    let (sink, _is_blocked) = blocked_sink();
    let mut worker = spawn_worker(&[&source], sink, WorkerSettings::default());
    worker.when(|status| status.state == SinkState::Delivering).await;
    let before = Instant::now();
    worker.stopper.stop();
    worker.when(|status| status.state == SinkState::Stopped).await;
    assert!(before.elapsed() <= Duration::from_secs(4), "{:?}", before.elapsed());
}
