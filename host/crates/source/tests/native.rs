//! A source written in Rust, through the same edge as a plugin; time stands still unless told to run.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use async_trait::async_trait;
use reloader_engine::{
    Settings,
    types::{Cursor, Event, Failure, FailureKind, Outcome, Snapshot, SourceName, Strategy},
};
use reloader_source::{
    handle::Source,
    provider::{Provider, Reader, Watcher},
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::Instant,
};

/// A source that is a variable, and whose watch is told what to say.
#[derive(Clone, Default)]
struct Variable {
    world: Arc<Mutex<World>>,
}

#[derive(Default)]
struct World {
    value: Option<Result<&'static str, Failure>>,
    /// The watch that is armed, if there is one.
    watch: Option<UnboundedSender<Result<Event, Failure>>>,
    cannot_watch: bool,
    /// Reading and arming panic.
    is_broken: bool,
    /// How many have been made.
    readers: usize,
    reads: usize,
    armed: usize,
}

impl Variable {
    fn set(&self, value: &'static str) {
        self.world.lock().unwrap().value = Some(Ok(value));
    }

    fn fail(&self, failure: Failure) {
        self.world.lock().unwrap().value = Some(Err(failure));
    }

    fn say(&self, event: Result<Event, Failure>) {
        let world = self.world.lock().unwrap();
        world.watch.as_ref().unwrap().send(event).unwrap();
    }

    fn source(&self, strategy: Strategy) -> Source {
        let settings = Settings::new(strategy, Duration::from_secs(10));
        Source::start(SourceName::new("variable"), Arc::new(self.clone()), settings)
    }
}

#[async_trait]
impl Provider for Variable {
    fn reader(&self) -> Box<dyn Reader> {
        self.world.lock().unwrap().readers += 1;
        Box::new(self.clone())
    }

    async fn arm(&self, _known: Option<Cursor>) -> Result<Box<dyn Watcher>, Failure> {
        let mut world = self.world.lock().unwrap();
        world.armed += 1;
        let is_broken = world.is_broken;
        if is_broken {
            drop(world);
            panic!("no watch");
        }
        if world.cannot_watch {
            return Err(Failure::transient("not today"));
        }
        let (sender, receiver) = unbounded_channel();
        world.watch = Some(sender);
        Ok(Box::new(Listening(receiver)))
    }
}

#[async_trait]
impl Reader for Variable {
    async fn read(&mut self, _known: Option<Cursor>) -> Result<Outcome, Failure> {
        let mut world = self.world.lock().unwrap();
        world.reads += 1;
        let is_broken = world.is_broken;
        if is_broken {
            drop(world);
            panic!("no value");
        }
        match &world.value {
            None => Ok(Outcome::Absent),
            Some(Ok(value)) => Ok(Outcome::Changed(Snapshot::new(*value))),
            Some(Err(failure)) => Err(failure.clone()),
        }
    }
}

struct Listening(UnboundedReceiver<Result<Event, Failure>>);

#[async_trait]
impl Watcher for Listening {
    async fn next(&mut self) -> Result<Event, Failure> {
        self.0.recv().await.unwrap_or_else(|| Err(Failure::transient("the watch is gone")))
    }
}

#[tokio::test(start_paused = true)]
async fn polling_finds_a_change_within_an_interval() {
    let variable = Variable::default();
    variable.set("a");
    let source = variable.source(Strategy::Polling);
    let mut values = source.subscribe();
    assert_eq!(values.next().await.unwrap(), Snapshot::new("a"));
    variable.set("b");
    let before = Instant::now();
    assert_eq!(values.next().await.unwrap(), Snapshot::new("b"));
    assert!(before.elapsed() <= Duration::from_secs(11));
    assert_eq!(variable.world.lock().unwrap().armed, 0);
}

/// A mistake in what is called is no reason to stop: it may work the next time.
#[tokio::test(start_paused = true)]
async fn a_source_whose_code_panics_is_stale_for_that_reason_and_goes_on() {
    let variable = Variable::default();
    variable.set("a");
    let source = variable.source(Strategy::Hybrid);
    let mut values = source.subscribe();
    assert_eq!(values.next().await.unwrap(), Snapshot::new("a"));
    let before = {
        let mut world = variable.world.lock().unwrap();
        world.is_broken = true;
        (world.readers, world.armed)
    };
    source.reload();
    values.changed().await.unwrap();
    let stale = values.state().stale.unwrap();
    assert!(stale.reason.starts_with("panicked: no "), "{stale:?}");
    tokio::time::sleep(Duration::from_secs(5)).await;
    let armed = {
        let mut world = variable.world.lock().unwrap();
        assert!(world.readers > before.0, "what has panicked is not asked again");
        assert!(world.armed > before.1, "which panicked, too");
        world.is_broken = false;
        world.armed
    };
    variable.set("b");
    assert_eq!(values.next().await.unwrap(), Snapshot::new("b"));
    assert_eq!(values.state().stale, None);
    while variable.world.lock().unwrap().armed == armed {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    variable.say(Ok(Event::Changed(Snapshot::new("c"))));
    assert_eq!(values.next().await.unwrap(), Snapshot::new("c"), "it is watched again");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_changes_all_the_time_keeps_what_reads_it_until_it_rests() {
    let variable = Variable::default();
    variable.set("a");
    let source = variable.source(Strategy::Realtime);
    let mut values = source.subscribe();
    values.next().await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut made = Vec::new();
    for value in ["b", "c", "d", "e", "f"] {
        tokio::time::sleep(Duration::from_millis(500)).await;
        variable.set(value);
        variable.say(Ok(Event::Dirty));
        assert_eq!(values.next().await.unwrap(), Snapshot::new(value));
        made.push(variable.world.lock().unwrap().readers);
    }
    assert!(made[0] < made[2], "at first nobody knows that it will change again: {made:?}");
    assert_eq!(made[2], made[4], "then it is kept");
    tokio::time::sleep(Duration::from_secs(5)).await;
    variable.set("g");
    variable.say(Ok(Event::Dirty));
    assert_eq!(values.next().await.unwrap(), Snapshot::new("g"));
    assert_eq!(variable.world.lock().unwrap().readers, made[4] + 1, "it has rested");
}

#[tokio::test(start_paused = true)]
async fn an_event_brings_the_value_at_once() {
    let variable = Variable::default();
    variable.set("a");
    let source = variable.source(Strategy::Realtime);
    let mut values = source.subscribe();
    values.next().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = Instant::now();
    variable.set("b");
    variable.say(Ok(Event::Dirty));
    assert_eq!(values.next().await.unwrap(), Snapshot::new("b"));
    variable.set("c");
    variable.say(Ok(Event::Changed(Snapshot::new("c"))));
    assert_eq!(values.next().await.unwrap(), Snapshot::new("c"));
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_value_that_comes_when_the_one_before_has_just_become_stale_is_not_stale() {
    let variable = Variable::default();
    variable.set("a");
    let source = variable.source(Strategy::Realtime);
    let mut values = source.subscribe();
    values.next().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    // The machine sleeps for long; the event is what it wakes up to.
    variable.set("b");
    variable.say(Ok(Event::Changed(Snapshot::new("b"))));
    tokio::time::advance(Duration::from_secs(1000)).await;
    assert_eq!(values.next().await.unwrap(), Snapshot::new("b"));
    assert_eq!(values.state().stale, None);
}

#[tokio::test(start_paused = true)]
async fn hybrid_polls_while_it_cannot_watch_and_goes_on_trying() {
    let variable = Variable::default();
    variable.set("a");
    variable.world.lock().unwrap().cannot_watch = true;
    let source = variable.source(Strategy::Hybrid);
    let mut values = source.subscribe();
    values.next().await.unwrap();
    variable.set("b");
    assert_eq!(values.next().await.unwrap(), Snapshot::new("b"));
    assert!(variable.world.lock().unwrap().armed > 1);
    variable.world.lock().unwrap().cannot_watch = false;
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert!(variable.world.lock().unwrap().watch.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_lost_is_opened_again_and_nothing_is_missed() {
    let variable = Variable::default();
    variable.set("a");
    let source = variable.source(Strategy::Realtime);
    let mut values = source.subscribe();
    values.next().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    variable.say(Err(Failure::transient("cut off")));
    // It changes while nobody listens.
    variable.set("b");
    assert_eq!(values.next().await.unwrap(), Snapshot::new("b"));
}

#[tokio::test(start_paused = true)]
async fn somebody_may_ask_for_a_reload() {
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
async fn settings_that_can_never_work_end_the_source_with_the_reason() {
    let variable = Variable::default();
    let failure = Failure::new(FailureKind::Config, "`key` is missing");
    variable.fail(failure.clone());
    let mut source = variable.source(Strategy::Hybrid);
    let mut values = source.subscribe();
    assert_eq!(source.stopped().await, Err(failure.clone()));
    assert_eq!(source.stopped().await, Err(failure), "who asks again is told again");
    assert!(values.next().await.is_err());
    source.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_dropped_stops() {
    let variable = Variable::default();
    variable.set("a");
    let source = variable.source(Strategy::Polling);
    let mut values = source.subscribe();
    values.next().await.unwrap();
    drop(source);
    assert!(values.next().await.is_err());
    let reads = variable.world.lock().unwrap().reads;
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(variable.world.lock().unwrap().reads, reads);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_crashes_is_stale_at_once_and_left_alone_until_somebody_insists() {
    let variable = Variable::default();
    variable.set("a");
    let source = variable.source(Strategy::Polling);
    let mut values = source.subscribe();
    values.next().await.unwrap();
    variable.fail(Failure::new(FailureKind::Crashed, "it trapped"));
    source.reload();
    values.changed().await.unwrap();
    assert_eq!(&*values.state().stale.unwrap().reason, "it trapped");
    // The second time that its state changes it is in quarantine.
    values.changed().await.unwrap();
    let state = values.state();
    let reason = "reading is in quarantine after 5 crashes in a row; last crash: it trapped";
    assert_eq!(&*state.stale.unwrap().reason, reason);
    assert_eq!(state.value, Some(Snapshot::new("a")), "the last good value stays");
    let reads = variable.world.lock().unwrap().reads;
    tokio::time::sleep(Duration::from_secs(299)).await;
    assert_eq!(variable.world.lock().unwrap().reads, reads);
    variable.set("b");
    source.reload();
    assert_eq!(values.next().await.unwrap(), Snapshot::new("b"));
    assert_eq!(values.state().stale, None);
}

/// What is kept between two reads is let go although the watch says every second that it works.
#[tokio::test(start_paused = true)]
async fn a_source_at_rest_holds_no_reader_whatever_its_watch_says() {
    let variable = Variable::default();
    variable.set("a");
    let source = variable.source(Strategy::Realtime);
    source.subscribe().next().await.unwrap();
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        variable.say(Ok(Event::Alive));
    }
    assert_eq!(Arc::strong_count(&variable.world), 2, "this one, and the source's own");
}

/// A source whose watch always has something to say, up to a limit.
#[derive(Clone, Default)]
struct Talkative(Arc<Mutex<Talk>>);

#[derive(Default)]
struct Talk {
    said: usize,
    /// How much was said before each read.
    reads: Vec<usize>,
}

impl Talkative {
    const LIMIT: usize = 100_000;

    fn source(&self) -> Source {
        let settings = Settings::new(Strategy::Realtime, Duration::from_secs(10));
        Source::start(SourceName::new("talkative"), Arc::new(self.clone()), settings)
    }

    fn said(&self) -> usize {
        self.0.lock().unwrap().said
    }
}

#[async_trait]
impl Provider for Talkative {
    fn reader(&self) -> Box<dyn Reader> {
        Box::new(self.clone())
    }

    async fn arm(&self, _known: Option<Cursor>) -> Result<Box<dyn Watcher>, Failure> {
        Ok(Box::new(self.clone()))
    }
}

#[async_trait]
impl Reader for Talkative {
    async fn read(&mut self, _known: Option<Cursor>) -> Result<Outcome, Failure> {
        let mut talk = self.0.lock().unwrap();
        let said = talk.said;
        talk.reads.push(said);
        Ok(Outcome::Changed(Snapshot::new(talk.reads.len().to_string())))
    }
}

#[async_trait]
impl Watcher for Talkative {
    async fn next(&mut self) -> Result<Event, Failure> {
        if self.said() == Self::LIMIT {
            std::future::pending::<()>().await;
        }
        self.0.lock().unwrap().said += 1;
        Ok(Event::Dirty)
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_never_stops_talking_does_not_keep_the_source_from_being_read() {
    let talkative = Talkative::default();
    let source = talkative.source();
    let mut values = source.subscribe();
    while values.next().await.unwrap() != Snapshot::new("2") {}
    let said = talkative.0.lock().unwrap().reads[1];
    assert!(said < 1000, "{said} events were heard first");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_never_stops_talking_does_not_keep_the_source_from_being_stopped() {
    let talkative = Talkative::default();
    let source = talkative.source();
    while talkative.said() == 0 {
        tokio::task::yield_now().await;
    }
    source.stop().await;
    assert!(talkative.said() < Talkative::LIMIT, "it went on for as long as it was talked to");
}

#[tokio::test(start_paused = true)]
async fn why_a_source_cannot_be_read_is_known_also_before_there_is_a_value() {
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
