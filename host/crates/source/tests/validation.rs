//! Validation of new values: the source is read and watched during a validation, and only accepted values are
//! published.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use async_trait::async_trait;
use reloader_engine::{
    Settings,
    types::{Cursor, Event, Failure, FailureKind, Outcome, Snapshot, SourceName, Strategy},
};
use reloader_source::{
    latest_value::Subscription,
    provider::{Provider, Reader, Watcher},
    running_source::{RestoredState, Source, SourceParts},
    validator::{Candidate, Rejection, Validator, ValidatorChain},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

/// Timeout of each wait; reached only on failure.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Provider of a value that the test sets, with change notifications.
struct Text(watch::Receiver<&'static str>);

#[async_trait]
impl Provider for Text {
    fn reader(&self) -> Box<dyn Reader> {
        Box::new(Self(self.0.clone()))
    }

    async fn arm(&self, _: Option<Cursor>) -> Result<Box<dyn Watcher>, Failure> {
        Ok(Box::new(Self(self.0.clone())))
    }
}

#[async_trait]
impl Reader for Text {
    async fn read(&mut self, _: Option<Cursor>) -> Result<Outcome, Failure> {
        Ok(Outcome::Changed(Snapshot::new(*self.0.borrow())))
    }
}

#[async_trait]
impl Watcher for Text {
    async fn next(&mut self) -> Result<Event, Failure> {
        self.0.changed().await.map_err(|_| Failure::transient("the test has ended"))?;
        Ok(Event::Changed(Snapshot::new(*self.0.borrow_and_update())))
    }
}

/// Validator whose result the test decides.
struct TestValidator(mpsc::UnboundedSender<Request>);

/// Validation that waits for the result from the test.
struct Request {
    new: Snapshot,
    before: Option<Snapshot>,
    result: oneshot::Sender<Result<(), Rejection>>,
}

#[async_trait]
impl Validator for TestValidator {
    async fn validate(&self, candidate: &Candidate<'_>) -> Result<(), Rejection> {
        let (result, receiver) = oneshot::channel();
        let (new, before) = (candidate.new.clone(), candidate.before.cloned());
        self.0.send(Request { new, before, result }).unwrap();
        receiver.await.unwrap()
    }
}

/// Running source with a [`TestValidator`].
struct Validated {
    value: watch::Sender<&'static str>,
    requests: mpsc::UnboundedReceiver<Request>,
    subscription: Subscription,
    source: Source,
}

impl Validated {
    fn start(value: &'static str) -> Self {
        let (value, receiver) = watch::channel(value);
        let (sender, requests) = mpsc::unbounded_channel();
        let settings = Settings::new(Strategy::Hybrid, Duration::from_secs(1));
        let validator = ValidatorChain(vec![Arc::new(TestValidator(sender))]);
        let name = SourceName::new("app");
        let parts = SourceParts {
            provider: Arc::new(Text(receiver)),
            settings,
            validator: Some(Arc::new(validator)),
            metrics: Arc::default(),
        };
        let source = Source::start_with(name, parts, RestoredState::default());
        Self { value, requests, subscription: source.subscribe(), source }
    }

    async fn request(&mut self, value: &'static str) -> Request {
        let request = timeout(TIMEOUT, self.requests.recv()).await.unwrap().unwrap();
        assert_eq!(request.new, Snapshot::new(value));
        request
    }

    async fn accept(&mut self, value: &'static str) {
        self.request(value).await.result.send(Ok(())).unwrap();
        let published = timeout(TIMEOUT, self.subscription.next()).await.unwrap();
        assert_eq!(published, Ok(Snapshot::new(value)));
    }

    async fn reject(&mut self, value: &'static str, kind: FailureKind) {
        let rejection = Failure::new(kind, format!("{value} is bad"));
        self.request(value).await.result.send(Err(rejection)).unwrap();
        timeout(TIMEOUT, self.subscription.changed()).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn newer_value_replaces_value_in_validation() {
    let mut source = Validated::start("first");
    let mut first = source.request("first").await;
    source.value.send("second").unwrap();
    // The watch reports the second value during the validation of the first one, whose validation is then dropped.
    let second = source.request("second").await;
    timeout(TIMEOUT, first.result.closed()).await.unwrap();
    second.result.send(Ok(())).unwrap();
    assert_eq!(source.subscription.next().await, Ok(Snapshot::new("second")));
    assert_eq!(source.subscription.state().revision.get(), 1);
}

#[tokio::test]
async fn validator_receives_last_good_value() {
    let mut source = Validated::start("good");
    let request = source.request("good").await;
    assert_eq!(request.before, None);
    request.result.send(Ok(())).unwrap();
    source.subscription.next().await.unwrap();
    source.value.send("bad").unwrap();
    source.reject("bad", FailureKind::Permanent).await;
    source.value.send("better").unwrap();
    assert_eq!(source.request("better").await.before, Some(Snapshot::new("good")));
}

#[tokio::test]
async fn rejection_keeps_last_good_value() {
    let mut source = Validated::start("good");
    source.accept("good").await;
    source.value.send("bad").unwrap();
    source.reject("bad", FailureKind::Permanent).await;
    let state = source.subscription.state();
    assert_eq!((state.revision.get(), state.value), (1, Some(Snapshot::new("good"))));
    let rejected = state.rejected.unwrap();
    assert_eq!((rejected.value, &*rejected.reason), (Snapshot::new("bad"), "bad is bad"));
    assert_eq!(rejected.retry_at, None, "only a different value is validated");
}

/// The source reports a good value, then a bad one, which is rejected, and then the good value again. The good value
/// is published a second time, under a new revision.
#[tokio::test]
async fn same_value_is_published_after_rejection() {
    let mut source = Validated::start("good");
    source.accept("good").await;
    source.value.send("bad").unwrap();
    source.reject("bad", FailureKind::Permanent).await;
    source.value.send("good").unwrap();
    source.accept("good").await;
    let state = source.subscription.state();
    assert_eq!((state.revision.get(), state.rejected), (2, None));
}

#[tokio::test(start_paused = true)]
async fn transient_rejection_is_retried() {
    let mut source = Validated::start("value");
    source.reject("value", FailureKind::Transient { retry_after: None }).await;
    assert!(source.subscription.state().rejected.unwrap().retry_at.is_some());
    source.accept("value").await;
    assert_eq!(source.subscription.state().rejected, None);
}

#[tokio::test(start_paused = true)]
async fn validation_timeout_rejects_and_retries() {
    let mut source = Validated::start("value");
    let mut unanswered = source.request("value").await;
    timeout(TIMEOUT, unanswered.result.closed()).await.unwrap();
    timeout(TIMEOUT, source.subscription.changed()).await.unwrap().unwrap();
    let state = source.subscription.state();
    assert_eq!(state.value, None);
    assert_eq!(&*state.rejected.unwrap().reason, "the validation timed out after 10s");
    source.accept("value").await;
    source.source.stop().await;
}
