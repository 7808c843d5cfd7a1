//! Driver with a native provider, on a paused clock.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use async_trait::async_trait;
use reloader_engine::{
    Settings,
    types::{Cursor, Event, Failure, FailureKind, Outcome, Snapshot, SourceName, Strategy},
};
use reloader_source::{
    provider::{Provider, Reader, Watcher},
    running_source::Source,
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::Instant,
};

/// Provider of a value that the test sets, with a watch whose events the test sends.
#[derive(Clone, Default)]
struct Variable {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    value: Option<Result<&'static str, Failure>>,
    /// Sender of the events of the armed watch.
    watch: Option<UnboundedSender<Result<Event, Failure>>>,
    is_watch_unavailable: bool,
    /// True if reading and arming panic.
    panics: bool,
    readers_created: usize,
    reads: usize,
    watches_armed: usize,
}

impl Variable {
    fn set(&self, value: &'static str) {
        self.state.lock().unwrap().value = Some(Ok(value));
    }

    fn fail(&self, failure: Failure) {
        self.state.lock().unwrap().value = Some(Err(failure));
    }

    fn send(&self, event: Result<Event, Failure>) {
        let state = self.state.lock().unwrap();
        state.watch.as_ref().unwrap().send(event).unwrap();
    }

    fn source(&self, strategy: Strategy) -> Source {
        let settings = Settings::new(strategy, Duration::from_secs(10));
        Source::start(SourceName::new("variable"), Arc::new(self.clone()), settings)
    }
}

#[async_trait]
impl Provider for Variable {
    fn reader(&self) -> Box<dyn Reader> {
        self.state.lock().unwrap().readers_created += 1;
        Box::new(self.clone())
    }

    async fn arm(&self, _known: Option<Cursor>) -> Result<Box<dyn Watcher>, Failure> {
        let mut state = self.state.lock().unwrap();
        state.watches_armed += 1;
        let panics = state.panics;
        if panics {
            drop(state);
            panic!("arming panicked");
        }
        if state.is_watch_unavailable {
            return Err(Failure::transient("watching is unavailable"));
        }
        let (sender, receiver) = unbounded_channel();
        state.watch = Some(sender);
        Ok(Box::new(ChannelWatcher(receiver)))
    }
}

#[async_trait]
impl Reader for Variable {
    async fn read(&mut self, _known: Option<Cursor>) -> Result<Outcome, Failure> {
        let mut state = self.state.lock().unwrap();
        state.reads += 1;
        let panics = state.panics;
        if panics {
            drop(state);
            panic!("reading panicked");
        }
        match &state.value {
            None => Ok(Outcome::Absent),
            Some(Ok(value)) => Ok(Outcome::Changed(Snapshot::new(*value))),
            Some(Err(failure)) => Err(failure.clone()),
        }
    }
}

struct ChannelWatcher(UnboundedReceiver<Result<Event, Failure>>);

#[async_trait]
impl Watcher for ChannelWatcher {
    async fn next(&mut self) -> Result<Event, Failure> {
        self.0.recv().await.unwrap_or_else(|| Err(Failure::transient("the watch is closed")))
    }
}

#[tokio::test(start_paused = true)]
async fn polling_publishes_change_within_interval() {
    let variable = Variable::default();
    variable.set("a");
    let source = variable.source(Strategy::Polling);
    let mut values = source.subscribe();
    assert_eq!(values.next().await.unwrap(), Snapshot::new("a"));
    variable.set("b");
    let before = Instant::now();
    assert_eq!(values.next().await.unwrap(), Snapshot::new("b"));
    assert!(before.elapsed() <= Duration::from_secs(11));
    assert_eq!(variable.state.lock().unwrap().watches_armed, 0);
}

/// A panic of the provider makes the value stale and does not end the source: a later call may succeed.
#[tokio::test(start_paused = true)]
async fn provider_panic_does_not_end_source() {
    let variable = Variable::default();
    variable.set("a");
    let source = variable.source(Strategy::Hybrid);
    let mut values = source.subscribe();
    assert_eq!(values.next().await.unwrap(), Snapshot::new("a"));
    let before = {
        let mut state = variable.state.lock().unwrap();
        state.panics = true;
        (state.readers_created, state.watches_armed)
    };
    source.reload();
    values.changed().await.unwrap();
    let stale = values.state().stale.unwrap();
    assert!(stale.reason.starts_with("panicked: "), "{stale:?}");
    tokio::time::sleep(Duration::from_secs(5)).await;
    let armed = {
        let mut state = variable.state.lock().unwrap();
        assert!(state.readers_created > before.0, "a reader that has panicked is replaced");
        assert!(state.watches_armed > before.1, "the watch is armed again");
        state.panics = false;
        state.watches_armed
    };
    variable.set("b");
    assert_eq!(values.next().await.unwrap(), Snapshot::new("b"));
    assert_eq!(values.state().stale, None);
    while variable.state.lock().unwrap().watches_armed == armed {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    variable.send(Ok(Event::Changed(Snapshot::new("c"))));
    assert_eq!(values.next().await.unwrap(), Snapshot::new("c"), "the source is watched again");
}

#[tokio::test(start_paused = true)]
async fn reader_of_busy_source_is_kept_until_idle() {
    let variable = Variable::default();
    variable.set("a");
    let source = variable.source(Strategy::Realtime);
    let mut values = source.subscribe();
    values.next().await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut created = Vec::new();
    for value in ["b", "c", "d", "e", "f"] {
        tokio::time::sleep(Duration::from_millis(500)).await;
        variable.set(value);
        variable.send(Ok(Event::Dirty));
        assert_eq!(values.next().await.unwrap(), Snapshot::new(value));
        created.push(variable.state.lock().unwrap().readers_created);
    }
    assert!(
        created[0] < created[2],
        "after an infrequent read, the reader is dropped: {created:?}"
    );
    assert_eq!(created[2], created[4], "after frequent reads, the reader is kept");
    tokio::time::sleep(Duration::from_secs(5)).await;
    variable.set("g");
    variable.send(Ok(Event::Dirty));
    assert_eq!(values.next().await.unwrap(), Snapshot::new("g"));
    assert_eq!(
        variable.state.lock().unwrap().readers_created,
        created[4] + 1,
        "the idle reader was dropped"
    );
}

#[tokio::test(start_paused = true)]
async fn watch_event_publishes_immediately() {
    let variable = Variable::default();
    variable.set("a");
    let source = variable.source(Strategy::Realtime);
    let mut values = source.subscribe();
    values.next().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = Instant::now();
    variable.set("b");
    variable.send(Ok(Event::Dirty));
    assert_eq!(values.next().await.unwrap(), Snapshot::new("b"));
    variable.set("c");
    variable.send(Ok(Event::Changed(Snapshot::new("c"))));
    assert_eq!(values.next().await.unwrap(), Snapshot::new("c"));
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn new_value_after_long_sleep_is_fresh() {
    let variable = Variable::default();
    variable.set("a");
    let source = variable.source(Strategy::Realtime);
    let mut values = source.subscribe();
    values.next().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Simulates a suspension of the machine, after which the event and the staleness deadline are due together.
    variable.set("b");
    variable.send(Ok(Event::Changed(Snapshot::new("b"))));
    tokio::time::advance(Duration::from_secs(1000)).await;
    assert_eq!(values.next().await.unwrap(), Snapshot::new("b"));
    assert_eq!(values.state().stale, None);
}

#[tokio::test(start_paused = true)]
async fn hybrid_polls_until_watch_is_available() {
    let variable = Variable::default();
    variable.set("a");
    variable.state.lock().unwrap().is_watch_unavailable = true;
    let source = variable.source(Strategy::Hybrid);
    let mut values = source.subscribe();
    values.next().await.unwrap();
    variable.set("b");
    assert_eq!(values.next().await.unwrap(), Snapshot::new("b"));
    assert!(variable.state.lock().unwrap().watches_armed > 1);
    variable.state.lock().unwrap().is_watch_unavailable = false;
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert!(variable.state.lock().unwrap().watch.is_some());
}

#[tokio::test(start_paused = true)]
async fn change_after_lost_watch_is_published() {
    let variable = Variable::default();
    variable.set("a");
    let source = variable.source(Strategy::Realtime);
    let mut values = source.subscribe();
    values.next().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    variable.send(Err(Failure::transient("connection lost")));
    // The value changes while no watch is armed.
    variable.set("b");
    assert_eq!(values.next().await.unwrap(), Snapshot::new("b"));
}

#[tokio::test(start_paused = true)]
async fn explicit_reload_reads_immediately() {
    let variable = Variable::default();
    variable.set("a");
    let source = variable.source(Strategy::Polling);
    let mut values = source.subscribe();
    values.next().await.unwrap();
    variable.set("b");
    let before = Instant::now();
    source.reload();
    assert_eq!(values.next().await.unwrap(), Snapshot::new("b"));
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn config_failure_ends_source() {
    let variable = Variable::default();
    let failure = Failure::new(FailureKind::Config, "`key` is missing");
    variable.fail(failure.clone());
    let mut source = variable.source(Strategy::Hybrid);
    let mut values = source.subscribe();
    assert_eq!(source.stopped().await, Err(failure.clone()));
    assert_eq!(source.stopped().await, Err(failure), "a second call returns the same failure");
    assert!(values.next().await.is_err());
    source.stop().await;
}

#[tokio::test(start_paused = true)]
async fn dropped_source_stops() {
    let variable = Variable::default();
    variable.set("a");
    let source = variable.source(Strategy::Polling);
    let mut values = source.subscribe();
    values.next().await.unwrap();
    drop(source);
    assert!(values.next().await.is_err());
    let reads = variable.state.lock().unwrap().reads;
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(variable.state.lock().unwrap().reads, reads);
}

#[tokio::test(start_paused = true)]
async fn crashed_source_is_quarantined_until_reload() {
    let variable = Variable::default();
    variable.set("a");
    let source = variable.source(Strategy::Polling);
    let mut values = source.subscribe();
    values.next().await.unwrap();
    variable.fail(Failure::new(FailureKind::Crashed, "it trapped"));
    source.reload();
    values.changed().await.unwrap();
    assert_eq!(&*values.state().stale.unwrap().reason, "it trapped");
    // The first change of the source's state is the staleness, the second is the quarantine.
    values.changed().await.unwrap();
    let state = values.state();
    let reason = "reading is in quarantine after 5 crashes in a row; last crash: it trapped";
    assert_eq!(&*state.stale.unwrap().reason, reason);
    assert_eq!(state.value, Some(Snapshot::new("a")), "the last good value stays");
    let reads = variable.state.lock().unwrap().reads;
    tokio::time::sleep(Duration::from_secs(299)).await;
    assert_eq!(variable.state.lock().unwrap().reads, reads);
    variable.set("b");
    source.reload();
    assert_eq!(values.next().await.unwrap(), Snapshot::new("b"));
    assert_eq!(values.state().stale, None);
}

/// An idle reader is dropped even if its watch sends heartbeats.
#[tokio::test(start_paused = true)]
async fn heartbeats_do_not_keep_reader() {
    let variable = Variable::default();
    variable.set("a");
    let source = variable.source(Strategy::Realtime);
    source.subscribe().next().await.unwrap();
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        variable.send(Ok(Event::Alive));
    }
    assert_eq!(Arc::strong_count(&variable.state), 2, "the test and the provider of the source");
}

/// Provider whose watch sends [`MAX_EVENTS`](Self::MAX_EVENTS) events without a pause.
#[derive(Clone, Default)]
struct EventFlood(Arc<Mutex<FloodState>>);

#[derive(Default)]
struct FloodState {
    events: usize,
    /// For each read: number of events that were sent before it.
    reads: Vec<usize>,
}

impl EventFlood {
    const MAX_EVENTS: usize = 100_000;

    fn source(&self) -> Source {
        let settings = Settings::new(Strategy::Realtime, Duration::from_secs(10));
        Source::start(SourceName::new("event-flood"), Arc::new(self.clone()), settings)
    }

    fn events(&self) -> usize {
        self.0.lock().unwrap().events
    }
}

#[async_trait]
impl Provider for EventFlood {
    fn reader(&self) -> Box<dyn Reader> {
        Box::new(self.clone())
    }

    async fn arm(&self, _known: Option<Cursor>) -> Result<Box<dyn Watcher>, Failure> {
        Ok(Box::new(self.clone()))
    }
}

#[async_trait]
impl Reader for EventFlood {
    async fn read(&mut self, _known: Option<Cursor>) -> Result<Outcome, Failure> {
        let mut state = self.0.lock().unwrap();
        let events = state.events;
        state.reads.push(events);
        Ok(Outcome::Changed(Snapshot::new(state.reads.len().to_string())))
    }
}

#[async_trait]
impl Watcher for EventFlood {
    async fn next(&mut self) -> Result<Event, Failure> {
        if self.events() == Self::MAX_EVENTS {
            std::future::pending::<()>().await;
        }
        self.0.lock().unwrap().events += 1;
        Ok(Event::Dirty)
    }
}

#[tokio::test(start_paused = true)]
async fn event_flood_does_not_block_reads() {
    let flood = EventFlood::default();
    let source = flood.source();
    let mut values = source.subscribe();
    while values.next().await.unwrap() != Snapshot::new("2") {}
    let events = flood.0.lock().unwrap().reads[1];
    assert!(events < 1000, "{events} events before the read");
}

#[tokio::test(start_paused = true)]
async fn event_flood_does_not_block_stop() {
    let flood = EventFlood::default();
    let source = flood.source();
    while flood.events() == 0 {
        tokio::task::yield_now().await;
    }
    source.stop().await;
    assert!(flood.events() < EventFlood::MAX_EVENTS, "the source ran until the last event");
}

#[tokio::test(start_paused = true)]
async fn read_failure_is_visible_before_first_value() {
    let variable = Variable::default();
    variable.fail(Failure::transient("no route"));
    let source = variable.source(Strategy::Polling);
    let mut values = source.subscribe();
    while values.state().failing.is_none() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(values.state().failing.as_deref(), Some("no route"));
    variable.set("a");
    assert_eq!(values.next().await.unwrap(), Snapshot::new("a"));
    assert_eq!(values.state().failing, None);
}
