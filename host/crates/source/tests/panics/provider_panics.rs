//! Panics of a provider, of its readers and watches, of a validator and of the persistence.

use crate::{BoxFuture, Faulty, OnDrop, PANICS, Place, TIMEOUT};
use async_trait::async_trait;
use reloader_engine::{
    Settings,
    types::{Cursor, Event, Failure, FailureKind, Outcome, Snapshot, SourceName, Strategy},
};
use reloader_source::{
    latest_value::Subscription,
    persistence::{Persistence, Publication},
    provider::{Provider, Reader, Watcher},
    running_source::{RestoredState, Source, SourceParts},
    validator::{Candidate, Rejection, Validator, ValidatorChain},
};
use std::{future::pending, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

impl Provider for Faulty {
    fn reader(&self) -> Box<dyn Reader> {
        self.reach(Place::Reader);
        let this = self.clone();
        let on_drop = OnDrop(Box::new(move || this.reach(Place::ReaderDrop)) as _);
        Box::new(FaultyReader { faulty: self.clone(), _on_drop: on_drop })
    }

    fn arm<'a: 'f, 'f>(
        &'a self,
        _: Option<Cursor>,
    ) -> BoxFuture<'f, Result<Box<dyn Watcher>, Failure>> {
        self.reach(Place::Arm);
        Box::pin(async {
            self.reach(Place::ArmFuture);
            let this = self.clone();
            let on_drop = OnDrop(Box::new(move || this.reach(Place::WatchDrop)) as _);
            let (sender, signals) = mpsc::channel(8);
            self.0.lock().unwrap().signal = Some(sender);
            Ok(Box::new(FaultyWatcher { faulty: self.clone(), signals, _on_drop: on_drop }) as _)
        })
    }
}

struct FaultyReader {
    faulty: Faulty,
    _on_drop: OnDrop<Box<dyn FnMut() + Send>>,
}

impl Reader for FaultyReader {
    fn read<'a: 'f, 'f>(
        &'a mut self,
        _: Option<Cursor>,
    ) -> BoxFuture<'f, Result<Outcome, Failure>> {
        self.faulty.reach(Place::Call);
        Box::pin(async {
            self.faulty.reach(Place::Future);
            Ok(Outcome::Changed(Snapshot::new(self.faulty.value())))
        })
    }
}

struct FaultyWatcher {
    faulty: Faulty,
    signals: mpsc::Receiver<()>,
    _on_drop: OnDrop<Box<dyn FnMut() + Send>>,
}

#[async_trait]
impl Watcher for FaultyWatcher {
    async fn next(&mut self) -> Result<Event, Failure> {
        let signal = self.signals.recv().await;
        self.faulty.reach(Place::Next);
        match signal {
            Some(()) => Ok(Event::Changed(Snapshot::new(self.faulty.value()))),
            None => Err(Failure::transient("closed")),
        }
    }
}

#[async_trait]
impl Validator for Faulty {
    async fn validate(&self, _: &Candidate<'_>) -> Result<(), Rejection> {
        self.reach(Place::Validate);
        Ok(())
    }

    fn time_limit(&self) -> Duration {
        self.reach(Place::TimeLimit);
        Duration::from_secs(1)
    }
}

impl Persistence for Faulty {
    fn store(&self, _: Publication, then: Box<dyn FnOnce() + Send>) {
        self.reach(Place::Store);
        then();
    }

    fn rejected(&self, _: &Snapshot, _: &str) {
        self.reach(Place::Store);
    }
}

fn source(faulty: &Faulty, strategy: Strategy) -> Source {
    let parts = SourceParts {
        provider: Arc::new(faulty.clone()),
        settings: Settings::new(strategy, Duration::from_secs(1)),
        validator: Some(Arc::new(ValidatorChain(vec![Arc::new(faulty.clone())]))),
        metrics: Arc::default(),
    };
    let restored = RestoredState { resumed: None, persistence: Some(Arc::new(faulty.clone())) };
    Source::start_with(SourceName::new("faulty"), parts, restored)
}

async fn wait_for_snapshot(values: &mut Subscription, text: &'static str) {
    let waiting = async { while values.next().await.expect("it runs") != Snapshot::new(text) {} };
    timeout(TIMEOUT, waiting).await.expect("the value arrives");
}

/// Sends a change notification to the watch, if one is armed.
fn notify(faulty: &Faulty) {
    if let Some(signal) = &faulty.0.lock().unwrap().signal {
        let _ = signal.try_send(());
    }
}

#[tokio::test(start_paused = true)]
async fn provider_panic_is_retried_and_value_stays() {
    use Place::{Arm, ArmFuture, Call, Future, Next, Reader, ReaderDrop, WatchDrop};
    for place in [Reader, Call, Future, ReaderDrop, Arm, ArmFuture, Next, WatchDrop] {
        let faulty = Faulty::default();
        faulty.set("first", None);
        let source = source(&faulty, Strategy::Hybrid);
        let mut values = source.subscribe();
        wait_for_snapshot(&mut values, "first").await;
        sleep(Duration::from_secs(10)).await;
        faulty.set("second", Some(place));
        match place {
            // Dropping the sender ends the watch, and the driver arms a new one.
            Arm | ArmFuture | WatchDrop => faulty.0.lock().unwrap().signal = None,
            Next => notify(&faulty),
            _ => source.reload(),
        }
        faulty.panicked(1).await;
        faulty.set("third", None);
        wait_for_snapshot(&mut values, "third").await;
        faulty.set("fourth", None);
        // The driver arms a new watch at the latest after the backoff, which is shorter than a minute.
        sleep(Duration::from_secs(60)).await;
        notify(&faulty);
        wait_for_snapshot(&mut values, "fourth").await;
        assert_eq!(values.state().stale, None, "{place:?}");
        source.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn read_panic_makes_value_stale_with_its_message() {
    let faulty = Faulty::default();
    faulty.set("value", None);
    let source = source(&faulty, Strategy::Polling);
    let mut values = source.subscribe();
    wait_for_snapshot(&mut values, "value").await;
    faulty.set("value", Some(Place::Call));
    values.changed().await.unwrap();
    let state = values.state();
    assert_eq!(&*state.stale.unwrap().reason, "panicked: at Call");
    assert_eq!(state.value, Some(Snapshot::new("value")));
    // The second change of the source's state is the quarantine after repeated crashes, as for a plugin.
    values.changed().await.unwrap();
    let reason = values.state().stale.unwrap().reason;
    assert!(reason.starts_with("reading is in quarantine after 5 crashes in a row"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn validator_panic_rejects_and_is_retried() {
    for place in [Place::Validate, Place::TimeLimit] {
        let faulty = Faulty::default();
        faulty.set("first", None);
        let source = source(&faulty, Strategy::Polling);
        let mut values = source.subscribe();
        wait_for_snapshot(&mut values, "first").await;
        faulty.set("second", Some(place));
        faulty.panicked(PANICS).await;
        let state = values.state();
        assert_eq!(state.value, Some(Snapshot::new("first")));
        let rejected = state.rejected.expect("the value is rejected");
        assert_eq!(&*rejected.reason, format!("panicked: at {place:?}"));
        assert!(rejected.retry_at.is_some(), "the value itself may be good");
        faulty.set("second", None);
        wait_for_snapshot(&mut values, "second").await;
        source.stop().await;
    }
}

/// A value that cannot be stored is published nevertheless.
#[tokio::test(start_paused = true)]
async fn persistence_panic_does_not_prevent_publication() {
    let faulty = Faulty::default();
    faulty.set("first", Some(Place::Store));
    let source = source(&faulty, Strategy::Polling);
    let mut values = source.subscribe();
    wait_for_snapshot(&mut values, "first").await;
    faulty.set("second", Some(Place::Store));
    wait_for_snapshot(&mut values, "second").await;
    faulty.set("third", None);
    wait_for_snapshot(&mut values, "third").await;
    assert_eq!(values.state().revision.get(), 3);
}

/// Provider whose read never completes. The future of the read panics when the driver drops it after its deadline.
struct PanicsWhenDropped(Faulty);

#[async_trait]
impl Provider for PanicsWhenDropped {
    fn reader(&self) -> Box<dyn Reader> {
        Box::new(Self(self.0.clone()))
    }

    async fn arm(&self, _: Option<Cursor>) -> Result<Box<dyn Watcher>, Failure> {
        Err(Failure::new(FailureKind::Permanent, "not supported"))
    }
}

#[async_trait]
impl Reader for PanicsWhenDropped {
    async fn read(&mut self, _: Option<Cursor>) -> Result<Outcome, Failure> {
        if self.0.is_faulty(Place::ReaderDrop) {
            let _on_drop = OnDrop(|| self.0.reach(Place::ReaderDrop));
            pending::<()>().await;
        }
        Ok(Outcome::Changed(Snapshot::new(self.0.value())))
    }
}

#[tokio::test(start_paused = true)]
async fn panic_of_cancelled_read_does_not_end_source() {
    let faulty = Faulty::default();
    faulty.set("value", Some(Place::ReaderDrop));
    let mut settings = Settings::new(Strategy::Polling, Duration::from_secs(1));
    settings.timeout = Duration::from_secs(5);
    let provider = Arc::new(PanicsWhenDropped(faulty.clone()));
    let source = Source::start(SourceName::new("slow"), provider, settings);
    let mut values = source.subscribe();
    faulty.panicked(1).await;
    faulty.set("value", None);
    wait_for_snapshot(&mut values, "value").await;
}
