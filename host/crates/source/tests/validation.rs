//! Judging a new value: while it takes its time, the source goes on, and only what was let through is
//! seen.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use async_trait::async_trait;
use reloader_engine::{
    Settings,
    types::{Cursor, Event, Failure, FailureKind, Outcome, Snapshot, SourceName, Strategy},
};
use reloader_source::{
    handle::{RestoredState, Source, SourceParts},
    provider::{Provider, Reader, Watcher},
    store::Subscription,
    validator::{Candidate, Rejection, Validator, ValidatorChain},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

/// Reached only when something does not happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A source whose value the test sets, and that tells each change by itself.
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

/// Asks the test.
struct AskTheTest(mpsc::UnboundedSender<Asked>);

struct Asked {
    new: Snapshot,
    before: Option<Snapshot>,
    verdict: oneshot::Sender<Result<(), Rejection>>,
}

#[async_trait]
impl Validator for AskTheTest {
    async fn validate(&self, candidate: &Candidate<'_>) -> Result<(), Rejection> {
        let (verdict, answer) = oneshot::channel();
        let (new, before) = (candidate.new.clone(), candidate.before.cloned());
        self.0.send(Asked { new, before, verdict }).unwrap();
        answer.await.unwrap()
    }
}

struct Judged {
    value: watch::Sender<&'static str>,
    asked: mpsc::UnboundedReceiver<Asked>,
    reader: Subscription,
    source: Source,
}

impl Judged {
    fn start(value: &'static str) -> Self {
        let (value, receiver) = watch::channel(value);
        let (ask, asked) = mpsc::unbounded_channel();
        let settings = Settings::new(Strategy::Hybrid, Duration::from_secs(1));
        let judge = ValidatorChain(vec![Arc::new(AskTheTest(ask))]);
        let name = SourceName::new("app");
        let origin = Arc::new(Text(receiver));
        let making = SourceParts {
            origin,
            settings,
            judge: Some(Arc::new(judge)),
            counters: Arc::default(),
        };
        let source = Source::start_with(name, making, RestoredState::default());
        Self { value, asked, reader: source.subscribe(), source }
    }

    async fn asked(&mut self, about: &'static str) -> Asked {
        let asked = timeout(PATIENCE, self.asked.recv()).await.unwrap().unwrap();
        assert_eq!(asked.new, Snapshot::new(about));
        asked
    }

    async fn accept(&mut self, value: &'static str) {
        self.asked(value).await.verdict.send(Ok(())).unwrap();
        assert_eq!(timeout(PATIENCE, self.reader.next()).await.unwrap(), Ok(Snapshot::new(value)));
    }

    async fn refuse(&mut self, value: &'static str, kind: FailureKind) {
        let refusal = Failure::new(kind, format!("{value} is bad"));
        self.asked(value).await.verdict.send(Err(refusal)).unwrap();
        timeout(PATIENCE, self.reader.changed()).await.unwrap().unwrap();
    }
}

const BAD: FailureKind = FailureKind::Permanent;

#[tokio::test]
async fn a_newer_value_takes_the_place_of_the_one_that_is_being_judged() {
    let mut judged = Judged::start("first");
    let mut first = judged.asked("first").await;
    judged.value.send("second").unwrap();
    // The source was watched meanwhile, and nobody waits for the other judgement any more.
    let second = judged.asked("second").await;
    timeout(PATIENCE, first.verdict.closed()).await.unwrap();
    second.verdict.send(Ok(())).unwrap();
    assert_eq!(judged.reader.next().await, Ok(Snapshot::new("second")));
    assert_eq!(judged.reader.state().revision.get(), 1);
}

#[tokio::test]
async fn a_value_is_judged_beside_the_last_good_one() {
    let mut judged = Judged::start("good");
    let asked = judged.asked("good").await;
    assert_eq!(asked.before, None);
    asked.verdict.send(Ok(())).unwrap();
    judged.reader.next().await.unwrap();
    judged.value.send("bad").unwrap();
    judged.refuse("bad", BAD).await;
    judged.value.send("better").unwrap();
    assert_eq!(judged.asked("better").await.before, Some(Snapshot::new("good")));
}

#[tokio::test]
async fn what_is_refused_is_seen_with_its_reason_and_the_last_good_value_stays() {
    let mut judged = Judged::start("good");
    judged.accept("good").await;
    judged.value.send("bad").unwrap();
    judged.refuse("bad", BAD).await;
    let state = judged.reader.state();
    assert_eq!((state.revision.get(), state.value), (1, Some(Snapshot::new("good"))));
    let refused = state.refused.unwrap();
    assert_eq!((refused.value, &*refused.reason), (Snapshot::new("bad"), "bad is bad"));
    assert_eq!(refused.retry_at, None, "only a different one is tried");
}

#[tokio::test]
async fn good_bad_and_the_same_good_is_let_through_again() {
    let mut judged = Judged::start("good");
    judged.accept("good").await;
    judged.value.send("bad").unwrap();
    judged.refuse("bad", BAD).await;
    judged.value.send("good").unwrap();
    judged.accept("good").await;
    let state = judged.reader.state();
    assert_eq!((state.revision.get(), state.refused), (2, None));
}

#[tokio::test(start_paused = true)]
async fn a_check_that_could_not_be_made_is_made_again() {
    let mut judged = Judged::start("value");
    judged.refuse("value", FailureKind::Transient { retry_after: None }).await;
    assert!(judged.reader.state().refused.unwrap().retry_at.is_some());
    judged.accept("value").await;
    assert_eq!(judged.reader.state().refused, None);
}

#[tokio::test(start_paused = true)]
async fn a_judge_that_does_not_answer_lets_nothing_through_and_is_asked_again() {
    let mut judged = Judged::start("value");
    let mut unanswered = judged.asked("value").await;
    timeout(PATIENCE, unanswered.verdict.closed()).await.unwrap();
    timeout(PATIENCE, judged.reader.changed()).await.unwrap().unwrap();
    let state = judged.reader.state();
    assert_eq!(state.value, None);
    assert_eq!(&*state.refused.unwrap().reason, "the check of the value did not end within 10s");
    judged.accept("value").await;
    judged.source.stop().await;
}
