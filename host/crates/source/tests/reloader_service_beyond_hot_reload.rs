//! Behaviour of a reloader service that the crate `hot_reload` does not have, on a paused clock.
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

/// Reloader of a value that the test sets.
#[derive(Clone, Default)]
struct Variable(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    value: Option<u32>,
    /// True if loading the value fails.
    is_broken: bool,
    /// Set if loading fails with a failure that requests this delay before the retry.
    retry_after: Option<Duration>,
    /// True if loading never returns.
    hangs: bool,
    /// Time of each load.
    loads: Vec<Instant>,
    /// Change of the state just before the next watch is opened. The watch reports no event for it.
    before_arming: Option<fn(&mut State)>,
    watches: Vec<mpsc::Sender<WatchEvent<u32>>>,
    /// True if opening a watch fails.
    is_watch_unavailable: bool,
    /// True if loading fails with a failure of the kind `Config`.
    is_misconfigured: bool,
}

impl Variable {
    fn with_value(value: u32) -> Self {
        let variable = Self::default();
        variable.change(|state| state.value = Some(value));
        variable
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    async fn start(
        &self,
        settings: Settings,
    ) -> (ReloaderReceiver<u32>, JoinHandle<ReloadResult<(), u32>>) {
        let (service, receiver) =
            ReloaderService::<Self, u32>::with_settings(self, settings).await.unwrap();
        (receiver, tokio::spawn(async move { service.start_with_realtime().await }))
    }

    /// Waits for the watch with this number, counted from 0, and returns its sender.
    async fn watch(&self, number: usize) -> mpsc::Sender<WatchEvent<u32>> {
        loop {
            if let Some(watch) = self.change(|state| state.watches.get(number).cloned()) {
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
        let (hangs, result) = self.change(|state| {
            state.loads.push(Instant::now());
            if state.is_misconfigured {
                let failure = Failure::new(FailureKind::Config, "the key is invalid");
                return (false, Err(ReloaderError::Other(failure.into())));
            }
            if state.retry_after.is_some() {
                let kind = FailureKind::Transient { retry_after: state.retry_after };
                let failure = Failure::new(kind, "too many requests");
                return (false, Err(ReloaderError::Other(failure.into())));
            }
            let result = if state.is_broken {
                Err(ReloaderError::Reload("broken"))
            } else {
                Ok(state.value)
            };
            (state.hangs, result)
        });
        if hangs { pending().await } else { result }
    }
}

#[async_trait]
impl RealtimeWatch<u32> for Variable {
    async fn watch_realtime(&self) -> ReloadResult<RealtimeWatchHandle<u32>, u32> {
        if self.change(|state| state.is_watch_unavailable) {
            return Err(ReloaderError::Reload("watching is unavailable"));
        }
        let (sender, receiver) = mpsc::channel(8);
        self.change(|state| {
            if let Some(change) = state.before_arming.take() {
                change(state);
            }
            state.watches.push(sender);
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
async fn change_between_load_and_watch_is_published() {
    let variable = Variable::with_value(1);
    variable.change(|state| state.before_arming = Some(|state| state.value = Some(2)));
    let (mut receiver, _task) = variable.start(ReloaderConfig::realtime().settings()).await;
    let before = Instant::now();
    wait_for(&mut receiver, 2).await;
    assert!(before.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn realtime_survives_watch_error() {
    let variable = Variable::with_value(1);
    let (mut receiver, task) = variable.start(ReloaderConfig::realtime().settings()).await;
    let watch = variable.watch(0).await;
    wait_for(&mut receiver, 1).await;
    variable.change(|state| state.value = Some(2));
    watch.send(WatchEvent::Error("half written".into())).await.unwrap();
    wait_for(&mut receiver, 2).await;
    variable.watch(1).await.send(WatchEvent::Changed(3)).await.unwrap();
    wait_for(&mut receiver, 3).await;
    assert!(!task.is_finished());
}

#[tokio::test(start_paused = true)]
async fn realtime_survives_end_of_watch() {
    let variable = Variable::with_value(1);
    let (mut receiver, task) = variable.start(ReloaderConfig::realtime().settings()).await;
    variable.watch(0).await;
    variable.change(|state| {
        state.value = Some(2);
        state.watches[0] = mpsc::channel(1).0;
    });
    wait_for(&mut receiver, 2).await;
    assert!(!task.is_finished());
}

#[tokio::test(start_paused = true)]
async fn missed_event_is_found_by_reconcile_read() {
    let variable = Variable::with_value(1);
    let mut settings = ReloaderConfig::realtime().settings();
    settings.reconcile = Duration::from_secs(60);
    let (mut receiver, _task) = variable.start(settings).await;
    variable.watch(0).await;
    wait_for(&mut receiver, 1).await;
    variable.change(|state| state.value = Some(2));
    let before = Instant::now();
    wait_for(&mut receiver, 2).await;
    assert!(before.elapsed() <= Duration::from_secs(64), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn status_distinguishes_missing_and_removed_value() {
    let variable = Variable::with_value(1);
    let (mut receiver, task) = variable.start(ReloaderConfig::hybrid(1).settings()).await;
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
    assert!(receiver.changed().await.is_err(), "the service has stopped");
}

#[tokio::test(start_paused = true)]
async fn load_failure_makes_value_stale() {
    let variable = Variable::with_value(1);
    let (mut receiver, _task) = variable.start(ReloaderConfig::polling(1).settings()).await;
    wait_for(&mut receiver, 1).await;
    assert!(receiver.status().stale.is_none());
    assert!(receiver.status().last_success_at.is_some());
    variable.change(|state| state.is_broken = true);
    while receiver.status().stale.is_none() {
        sleep(Duration::from_secs(1)).await;
    }
    let stale = receiver.status().stale.unwrap();
    assert_eq!(&*stale.reason, "Failed to reload: broken");
    assert_eq!(receiver.get(), Some(1), "the last good value stays");
    variable.change(|state| state.is_broken = false);
    while receiver.status().stale.is_some() {
        sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn hanging_load_times_out_and_is_retried() {
    let variable = Variable::with_value(1);
    variable.change(|state| state.hangs = true);
    let mut settings = ReloaderConfig::polling(1).settings();
    settings.timeout = Duration::from_secs(5);
    let (mut receiver, _task) = variable.start(settings).await;
    sleep(Duration::from_secs(1)).await;
    variable.change(|state| state.hangs = false);
    let before = Instant::now();
    wait_for(&mut receiver, 1).await;
    assert!(before.elapsed() <= Duration::from_secs(6));
}

/// Services that start together do not poll at the same times: jitter spreads their first polls.
#[tokio::test(start_paused = true)]
async fn polls_are_spread_at_subsecond_interval() {
    let mut first_polls = Vec::new();
    let start = Instant::now();
    let mut services = Vec::new();
    for _ in 0..20 {
        let variable = Variable::with_value(1);
        let settings = ReloaderConfig::polling(1).interval(Duration::from_millis(250));
        let (receiver, _task) = variable.start(settings).await;
        services.push((variable, receiver));
    }
    sleep(Duration::from_secs(10)).await;
    for (variable, _receiver) in &services {
        let loads = variable.change(|state| state.loads.clone());
        assert!((35..=45).contains(&loads.len()), "{} loads in ten seconds", loads.len());
        first_polls.push(loads[1] - start);
    }
    first_polls.sort();
    first_polls.dedup();
    assert!(first_polls.len() > 15, "{first_polls:?}");
}

#[tokio::test(start_paused = true)]
async fn failed_load_is_retried_before_next_poll() {
    let variable = Variable::with_value(1);
    let (mut receiver, _task) = variable.start(ReloaderConfig::polling(3600).settings()).await;
    wait_for(&mut receiver, 1).await;
    variable.change(|state| (state.is_broken, state.value) = (true, Some(2)));
    while variable.change(|state| state.loads.len()) < 3 {
        sleep(Duration::from_secs(1)).await;
    }
    variable.change(|state| state.is_broken = false);
    let before = Instant::now();
    wait_for(&mut receiver, 2).await;
    assert!(before.elapsed() <= Duration::from_secs(10));
}

/// A value that becomes stale in one run of a service becomes fresh again in the next run of the same service.
#[tokio::test(start_paused = true)]
async fn restarted_service_makes_value_fresh() {
    let variable = Variable::with_value(1);
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
            _ = service.start() => panic!("the service ended"),
            () = status => {}
            () = sleep(Duration::from_secs(600)) => panic!("not within ten minutes: stale = {is_stale}"),
        }
    };
    tokio::select! {
        _ = service.start() => panic!("the service ended"),
        () = sleep(Duration::from_secs(1)) => {}
    }
    variable.change(|state| state.is_broken = true);
    until(true).await;
    variable.change(|state| state.is_broken = false);
    until(false).await;
}

#[tokio::test(start_paused = true)]
async fn reloader_sets_delay_before_retry() {
    const RETRY_AFTER: Duration = Duration::from_secs(60);
    let variable = Variable::with_value(1);
    variable.change(|state| state.retry_after = Some(RETRY_AFTER));
    let (mut receiver, _task) = variable.start(ReloaderConfig::polling(1).settings()).await;
    while variable.change(|state| state.loads.is_empty()) {
        sleep(Duration::from_millis(1)).await;
    }
    variable.change(|state| state.retry_after = None);
    wait_for(&mut receiver, 1).await;
    let loads = variable.change(|state| state.loads.clone());
    assert!(loads[1] - loads[0] >= RETRY_AFTER, "{:?}", loads[1] - loads[0]);
}

/// A failure of the kind `Config` ends a service that has never had a value.
#[tokio::test(start_paused = true)]
async fn config_failure_ends_service() {
    let variable = Variable::default();
    variable.change(|state| state.is_watch_unavailable = true);
    let (_receiver, task) = variable.start(ReloaderConfig::hybrid(1).settings()).await;
    sleep(Duration::from_secs(10)).await;
    variable.change(|state| state.is_misconfigured = true);
    let error = task.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "the key is invalid");
}

/// After a removal that the watch reported, the source is read at the reconcile interval, not more often.
#[tokio::test(start_paused = true)]
async fn removed_value_is_read_at_reconcile_interval() {
    let variable = Variable::with_value(1);
    let (mut receiver, _task) = variable.start(ReloaderConfig::realtime().settings()).await;
    wait_for(&mut receiver, 1).await;
    let watch = variable.watch(0).await;
    variable.change(|state| state.value = None);
    watch.send(WatchEvent::Removed).await.unwrap();
    while receiver.get().is_some() {
        receiver.changed().await.unwrap();
    }
    let before = variable.change(|state| state.loads.len());
    sleep(Duration::from_secs(3600)).await;
    let loads = variable.change(|state| state.loads.len()) - before;
    assert!((11..=14).contains(&loads), "{loads} loads in an hour, at five minutes each");
}

/// Value that counts its copies.
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
async fn pushed_value_is_copied_at_most_twice() {
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

/// A `reload` that returns `None` confirms the published value: the value stays fresh, and the loads stay at the
/// poll interval.
#[tokio::test(start_paused = true)]
async fn unchanged_value_stays_fresh_at_poll_interval() {
    let variable = Variable::with_value(1);
    let (mut receiver, _task) = variable.start(ReloaderConfig::polling(60).settings()).await;
    wait_for(&mut receiver, 1).await;
    variable.change(|state| state.value = None);
    sleep(Duration::from_secs(600)).await;
    let loads = variable.change(|state| state.loads.len());
    assert!(loads <= 13, "{loads} loads in ten minutes");
    assert_eq!(receiver.status().stale, None);
    assert_eq!(receiver.get(), Some(1));
}

#[tokio::test(start_paused = true)]
async fn service_started_twice_sends_values_once() {
    let variable = Variable::with_value(0);
    let config = ReloaderConfig::polling(1);
    let (service, mut receiver) =
        ReloaderService::<Variable, u32>::new(&variable, config).await.unwrap();
    let both = async { tokio::join!(service.start(), service.start()) };
    let changes = async {
        for value in 0..5 {
            variable.change(|state| state.value = Some(value));
            let until = Instant::now() + Duration::from_secs(3);
            let mut changes = 0;
            while let Ok(changed) = tokio::time::timeout_at(until, receiver.changed()).await {
                changed.unwrap();
                changes += 1;
            }
            assert_eq!(changes, 1, "changes for the value {value}");
        }
    };
    tokio::select! {
        _ = both => unreachable!(),
        () = changes => {}
    }
}
