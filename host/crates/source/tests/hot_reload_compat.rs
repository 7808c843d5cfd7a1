//! What a service does that the crate whose API it has does not. Time stands still unless told to run.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use async_trait::async_trait;
use reloader_engine::{
    Settings,
    types::{Failure, FailureKind},
};
use reloader_source::hot_reload_compat::{
    RealtimeWatch, RealtimeWatchHandle, Reload, ReloadResult, ReloaderConfig, ReloaderError,
    ReloaderReceiver, ReloaderService, WatchEvent,
};
use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep},
};

/// A source that is a variable.
#[derive(Clone, Default)]
struct Variable(Arc<Mutex<World>>);

#[derive(Default)]
struct World {
    value: Option<u32>,
    broken: bool,
    /// Not to be loaded now, nor for so long.
    busy: Option<Duration>,
    hangs: bool,
    loads: Vec<Instant>,
    /// Done when a watch is opened, just before it is: nobody is told.
    before_arming: Option<fn(&mut World)>,
    watches: Vec<mpsc::Sender<WatchEvent<u32>>>,
    /// No watch can be opened.
    deaf: bool,
    /// It can never be loaded.
    hopeless: bool,
}

impl Variable {
    fn of(value: u32) -> Self {
        let variable = Self::default();
        variable.change(|world| world.value = Some(value));
        variable
    }

    fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    async fn started(
        &self,
        settings: Settings,
    ) -> (ReloaderReceiver<u32>, JoinHandle<ReloadResult<(), u32>>) {
        let (service, receiver) =
            ReloaderService::<Self, u32>::with_settings(self, settings).await.unwrap();
        (receiver, tokio::spawn(async move { service.start_with_realtime().await }))
    }

    /// The so-manieth watch, when it is open.
    async fn watch(&self, number: usize) -> mpsc::Sender<WatchEvent<u32>> {
        loop {
            if let Some(watch) = self.change(|world| world.watches.get(number).cloned()) {
                return watch;
            }
            sleep(Duration::from_millis(1)).await;
        }
    }
}

#[async_trait]
impl Reload<u32> for Variable {
    type Source = Self;

    async fn new(source: &Self) -> ReloadResult<Self, u32> {
        Ok(source.clone())
    }

    async fn reload(&self) -> ReloadResult<Option<u32>, u32> {
        let (hangs, result) = self.change(|world| {
            world.loads.push(Instant::now());
            if world.hopeless {
                let failure = Failure::new(FailureKind::Config, "there is no such key");
                return (false, Err(ReloaderError::Other(failure.into())));
            }
            if let Some(busy) = world.busy {
                let kind = FailureKind::Transient { retry_after: Some(busy) };
                let failure = Failure::new(kind, "too many requests");
                return (false, Err(ReloaderError::Other(failure.into())));
            }
            let result =
                if world.broken { Err(ReloaderError::Reload("broken")) } else { Ok(world.value) };
            (world.hangs, result)
        });
        if hangs { pending().await } else { result }
    }
}

#[async_trait]
impl RealtimeWatch<u32> for Variable {
    async fn watch_realtime(&self) -> ReloadResult<RealtimeWatchHandle<u32>, u32> {
        if self.change(|world| world.deaf) {
            return Err(ReloaderError::Reload("it cannot be watched"));
        }
        let (sender, receiver) = mpsc::channel(8);
        self.change(|world| {
            if let Some(change) = world.before_arming.take() {
                change(world);
            }
            world.watches.push(sender);
        });
        Ok(RealtimeWatchHandle::new(receiver))
    }
}

async fn wait_for(receiver: &mut ReloaderReceiver<u32>, value: u32) {
    while receiver.get() != Some(value) {
        receiver.changed().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_between_loading_and_listening_is_not_lost() {
    let variable = Variable::of(1);
    variable.change(|world| world.before_arming = Some(|world| world.value = Some(2)));
    let (mut receiver, _task) = variable.started(ReloaderConfig::realtime().settings()).await;
    let before = Instant::now();
    wait_for(&mut receiver, 2).await;
    assert!(before.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn realtime_survives_an_error_of_its_watch() {
    let variable = Variable::of(1);
    let (mut receiver, task) = variable.started(ReloaderConfig::realtime().settings()).await;
    let watch = variable.watch(0).await;
    wait_for(&mut receiver, 1).await;
    variable.change(|world| world.value = Some(2));
    watch.send(WatchEvent::Error("half written".into())).await.unwrap();
    wait_for(&mut receiver, 2).await;
    variable.watch(1).await.send(WatchEvent::Changed(3)).await.unwrap();
    wait_for(&mut receiver, 3).await;
    assert!(!task.is_finished());
}

#[tokio::test(start_paused = true)]
async fn realtime_survives_the_end_of_its_watch() {
    let variable = Variable::of(1);
    let (mut receiver, task) = variable.started(ReloaderConfig::realtime().settings()).await;
    variable.watch(0).await;
    variable.change(|world| {
        world.value = Some(2);
        world.watches[0] = mpsc::channel(1).0;
    });
    wait_for(&mut receiver, 2).await;
    assert!(!task.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_says_nothing_of_a_change_delays_it_and_does_not_lose_it() {
    let variable = Variable::of(1);
    let mut settings = ReloaderConfig::realtime().settings();
    settings.reconcile = Duration::from_secs(60);
    let (mut receiver, _task) = variable.started(settings).await;
    variable.watch(0).await;
    wait_for(&mut receiver, 1).await;
    variable.change(|world| world.value = Some(2));
    let before = Instant::now();
    wait_for(&mut receiver, 2).await;
    assert!(before.elapsed() <= Duration::from_secs(64), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn no_value_yet_and_no_value_any_more_are_told_apart() {
    let variable = Variable::of(1);
    let (mut receiver, task) = variable.started(ReloaderConfig::hybrid(1).settings()).await;
    assert_eq!(receiver.get(), None);
    assert!(receiver.status().revision.get() == 0 && !receiver.status().removed);
    let watch = variable.watch(0).await;
    wait_for(&mut receiver, 1).await;
    assert_eq!(receiver.status().revision.get(), 1);
    watch.send(WatchEvent::Removed).await.unwrap();
    while receiver.get().is_some() {
        receiver.changed().await.unwrap();
    }
    assert!(receiver.status().removed);
    assert_eq!(receiver.status().revision.get(), 2);
    task.abort();
    let _ = task.await;
    assert!(receiver.changed().await.is_err(), "and that nothing will come is told as well");
}

#[tokio::test(start_paused = true)]
async fn a_value_that_cannot_be_loaded_any_more_is_stale_and_says_why() {
    let variable = Variable::of(1);
    let (mut receiver, _task) = variable.started(ReloaderConfig::polling(1).settings()).await;
    wait_for(&mut receiver, 1).await;
    assert!(receiver.status().stale.is_none());
    assert!(receiver.status().last_success_at.is_some());
    variable.change(|world| world.broken = true);
    while receiver.status().stale.is_none() {
        sleep(Duration::from_secs(1)).await;
    }
    let stale = receiver.status().stale.unwrap();
    assert_eq!(&*stale.reason, "Failed to reload: broken");
    assert_eq!(receiver.get(), Some(1), "the last good value stays");
    variable.change(|world| world.broken = false);
    while receiver.status().stale.is_some() {
        sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_that_never_ends_is_given_up_and_tried_again() {
    let variable = Variable::of(1);
    variable.change(|world| world.hangs = true);
    let mut settings = ReloaderConfig::polling(1).settings();
    settings.timeout = Duration::from_secs(5);
    let (mut receiver, _task) = variable.started(settings).await;
    sleep(Duration::from_secs(1)).await;
    variable.change(|world| world.hangs = false);
    let before = Instant::now();
    wait_for(&mut receiver, 1).await;
    assert!(before.elapsed() <= Duration::from_secs(6));
}

#[tokio::test(start_paused = true)]
async fn an_interval_need_not_be_whole_seconds_and_services_do_not_poll_together() {
    let mut first_polls = Vec::new();
    let start = Instant::now();
    let mut services = Vec::new();
    for _ in 0..20 {
        let variable = Variable::of(1);
        let settings = ReloaderConfig::polling(1).interval(Duration::from_millis(250));
        let (receiver, _task) = variable.started(settings).await;
        services.push((variable, receiver));
    }
    sleep(Duration::from_secs(10)).await;
    for (variable, _receiver) in &services {
        let loads = variable.change(|world| world.loads.clone());
        assert!((35..=45).contains(&loads.len()), "{} loads in ten seconds", loads.len());
        first_polls.push(loads[1] - start);
    }
    first_polls.sort();
    first_polls.dedup();
    assert!(first_polls.len() > 15, "{first_polls:?}");
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_tried_again_sooner_than_the_next_poll() {
    let variable = Variable::of(1);
    let (mut receiver, _task) = variable.started(ReloaderConfig::polling(3600).settings()).await;
    wait_for(&mut receiver, 1).await;
    variable.change(|world| (world.broken, world.value) = (true, Some(2)));
    while variable.change(|world| world.loads.len()) < 3 {
        sleep(Duration::from_secs(1)).await;
    }
    variable.change(|world| world.broken = false);
    let before = Instant::now();
    wait_for(&mut receiver, 2).await;
    assert!(before.elapsed() <= Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn a_value_is_not_stale_for_ever_because_the_service_was_started_again() {
    let variable = Variable::of(1);
    let settings = ReloaderConfig::polling(1).settings();
    let (service, receiver) =
        ReloaderService::<Variable, u32>::with_settings(&variable, settings).await.unwrap();
    let until = async |is_stale: bool| {
        let status = async {
            while receiver.status().stale.is_some() != is_stale {
                sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            _ = service.start() => panic!("it ends by itself"),
            () = status => {}
            () = sleep(Duration::from_secs(600)) => panic!("not within ten minutes: {is_stale}"),
        }
    };
    tokio::select! {
        _ = service.start() => panic!("it ends by itself"),
        () = sleep(Duration::from_secs(1)) => {}
    }
    variable.change(|world| world.broken = true);
    until(true).await;
    variable.change(|world| world.broken = false);
    until(false).await;
}

#[tokio::test(start_paused = true)]
async fn a_reloader_may_ask_not_to_be_called_for_a_while() {
    const BUSY: Duration = Duration::from_secs(60);
    let variable = Variable::of(1);
    variable.change(|world| world.busy = Some(BUSY));
    let (mut receiver, _task) = variable.started(ReloaderConfig::polling(1).settings()).await;
    while variable.change(|world| world.loads.is_empty()) {
        sleep(Duration::from_millis(1)).await;
    }
    variable.change(|world| world.busy = None);
    wait_for(&mut receiver, 1).await;
    let loads = variable.change(|world| world.loads.clone());
    assert!(loads[1] - loads[0] >= BUSY, "{:?}", loads[1] - loads[0]);
}

#[tokio::test(start_paused = true)]
async fn a_service_ends_with_the_reason_that_ended_it() {
    let variable = Variable::default();
    variable.change(|world| world.deaf = true);
    let (_receiver, task) = variable.started(ReloaderConfig::hybrid(1).settings()).await;
    sleep(Duration::from_secs(10)).await;
    variable.change(|world| world.hopeless = true);
    let error = task.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "there is no such key");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_was_removed_is_not_asked_more_often_than_before() {
    let variable = Variable::of(1);
    let (mut receiver, _task) = variable.started(ReloaderConfig::realtime().settings()).await;
    wait_for(&mut receiver, 1).await;
    let watch = variable.watch(0).await;
    variable.change(|world| world.value = None);
    watch.send(WatchEvent::Removed).await.unwrap();
    while receiver.get().is_some() {
        receiver.changed().await.unwrap();
    }
    let before = variable.change(|world| world.loads.len());
    sleep(Duration::from_secs(3600)).await;
    let loads = variable.change(|world| world.loads.len()) - before;
    assert!((11..=14).contains(&loads), "{loads} loads in an hour, at five minutes each");
}

/// A value that is dear to copy.
#[derive(Debug)]
struct Large(u32);

static COPIES: AtomicUsize = AtomicUsize::new(0);

impl Clone for Large {
    fn clone(&self) -> Self {
        COPIES.fetch_add(1, Ordering::Relaxed);
        Self(self.0)
    }
}

impl PartialEq for Large {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Large {}

#[derive(Clone)]
struct Events;

#[async_trait]
impl Reload<Large> for Events {
    type Source = ();

    async fn new(_: &()) -> ReloadResult<Self, Large> {
        Ok(Self)
    }

    async fn reload(&self) -> ReloadResult<Option<Large>, Large> {
        Ok(Some(Large(0)))
    }
}

#[async_trait]
impl RealtimeWatch<Large> for Events {
    async fn watch_realtime(&self) -> ReloadResult<RealtimeWatchHandle<Large>, Large> {
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            for number in 1..=100 {
                sleep(Duration::from_millis(10)).await;
                sender.send(WatchEvent::Changed(Large(number))).await.unwrap();
            }
            sender.closed().await;
        });
        Ok(RealtimeWatchHandle::new(receiver))
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_that_comes_is_kept_once_and_handed_on_once() {
    let config = ReloaderConfig::realtime();
    let (service, mut receiver) = ReloaderService::<Events, Large>::new(&(), config).await.unwrap();
    let task = tokio::spawn(async move { service.start_with_realtime().await });
    while receiver.borrow().as_ref().is_none_or(|value| value.0 < 100) {
        receiver.changed().await.unwrap();
    }
    let copies = COPIES.load(Ordering::Relaxed);
    assert!(copies <= 2 * 100 + 8, "{copies} copies of 100 values");
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn a_source_with_nothing_new_is_polled_as_often_as_it_was_said_and_is_not_stale() {
    let variable = Variable::of(1);
    let (mut receiver, _task) = variable.started(ReloaderConfig::polling(60).settings()).await;
    wait_for(&mut receiver, 1).await;
    variable.change(|world| world.value = None);
    sleep(Duration::from_secs(600)).await;
    let loads = variable.change(|world| world.loads.len());
    assert!(loads <= 13, "{loads} loads in ten minutes");
    assert_eq!(receiver.status().stale, None);
    assert_eq!(receiver.get(), Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_started_twice_hands_each_value_on_once() {
    let variable = Variable::of(0);
    let config = ReloaderConfig::polling(1);
    let (service, mut receiver) =
        ReloaderService::<Variable, u32>::new(&variable, config).await.unwrap();
    let both = async { tokio::join!(service.start(), service.start()) };
    let changes = async {
        for value in 0..5 {
            variable.change(|world| world.value = Some(value));
            let until = Instant::now() + Duration::from_secs(3);
            let mut changes = 0;
            while let Ok(changed) = tokio::time::timeout_at(until, receiver.changed()).await {
                changed.unwrap();
                changes += 1;
            }
            assert_eq!(changes, 1, "of {value}");
        }
    };
    tokio::select! {
        _ = both => unreachable!(),
        () = changes => {}
    }
}
