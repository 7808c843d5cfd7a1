//! Source that pushes its values through a channel. The end of a watch runs a cleanup.

use super::hot_reload::{
    RealtimeWatch, RealtimeWatchHandle, Reload, ReloadResult, ReloaderConfig, ReloaderError,
    ReloaderReceiver, ReloaderService, WatchEvent, WatchStrategy,
};
use async_trait::async_trait;
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::mpsc;

type Sender = mpsc::Sender<WatchEvent<u64>>;

/// Behaviour of the test source, and counters of the calls to it.
#[derive(Default)]
pub struct State {
    /// Value that a load returns; `None` if the source has no value.
    loaded: Mutex<Option<u64>>,
    is_broken: Mutex<bool>,
    loads: AtomicUsize,
    watches: Mutex<Vec<Sender>>,
    cleanups: AtomicUsize,
    is_watch_unavailable: Mutex<bool>,
}

impl State {
    fn with_value(value: u64) -> Arc<Self> {
        let state = Self::default();
        *state.loaded.lock().unwrap() = Some(value);
        Arc::new(state)
    }

    fn watch(&self) -> Option<Sender> {
        self.watches.lock().unwrap().last().cloned()
    }

    /// Waits until this many watches have been opened, and returns the sender of the last one.
    async fn wait_for_watch(&self, times: usize) -> Sender {
        while self.watches.lock().unwrap().len() < times {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        self.watch().unwrap()
    }
}

#[derive(Clone)]
pub struct Pushed(Arc<State>);

#[async_trait]
impl Reload<u64, String> for Pushed {
    type Source = Arc<State>;

    async fn new(source: &Self::Source) -> ReloadResult<Self, u64, String> {
        Ok(Self(Arc::clone(source)))
    }

    async fn reload(&self) -> ReloadResult<Option<u64>, u64, String> {
        self.0.loads.fetch_add(1, Ordering::SeqCst);
        if *self.0.is_broken.lock().unwrap() {
            return Err(ReloaderError::Reload(format!("broken at load {}", 1)));
        }
        Ok(*self.0.loaded.lock().unwrap())
    }
}

struct CleanUp(Arc<State>);

impl Drop for CleanUp {
    fn drop(&mut self) {
        self.0.cleanups.fetch_add(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl RealtimeWatch<u64, String> for Pushed {
    async fn watch_realtime(&self) -> ReloadResult<RealtimeWatchHandle<u64>, u64, String> {
        if *self.0.is_watch_unavailable.lock().unwrap() {
            return Err(ReloaderError::Reload("cannot be watched".to_owned()));
        }
        let (tx, rx) = mpsc::channel(100);
        self.0.watches.lock().unwrap().push(tx);
        Ok(RealtimeWatchHandle::with_cleanup(rx, Box::new(CleanUp(Arc::clone(&self.0)))))
    }
}

async fn service(
    state: &Arc<State>,
    config: ReloaderConfig,
) -> (ReloaderService<Pushed, u64, String>, ReloaderReceiver<u64, String>) {
    ReloaderService::new(state, config).await.unwrap()
}

async fn wait_for(rx: &mut ReloaderReceiver<u64, String>, value: Option<u64>) {
    while *rx.borrow() != value {
        rx.changed().await.unwrap();
    }
}

/// Marks the current value as seen, so that `changed` waits for the next one.
async fn mark_seen(rx: &mut ReloaderReceiver<u64, String>) {
    let _ = tokio::time::timeout(std::time::Duration::ZERO, rx.changed()).await;
}

#[tokio::test]
async fn first_value_is_loaded_and_others_are_pushed() {
    let state = State::with_value(0);
    for config in [ReloaderConfig::realtime(), ReloaderConfig::hybrid(10)] {
        let (service, mut rx) = service(&state, config).await;
        let before = state.watches.lock().unwrap().len();
        let task = tokio::spawn(async move { service.start_with_realtime().await });
        wait_for(&mut rx, Some(0)).await;
        let tx = state.wait_for_watch(before + 1).await;
        for value in 1..=50 {
            tx.send(WatchEvent::Changed(value)).await.unwrap();
        }
        // Loads still return 0. They must not replace a pushed value.
        wait_for(&mut rx, Some(50)).await;
        assert_eq!(rx.get(), Some(50));
        task.abort();
    }
}

#[tokio::test]
async fn values_pushed_before_receive_are_coalesced() {
    let state = State::with_value(0);
    let (service, mut rx) = service(&state, ReloaderConfig::realtime()).await;
    let task = tokio::spawn(async move { service.start_with_realtime().await });
    let tx = state.wait_for_watch(1).await;
    for value in 1..=3 {
        tx.try_send(WatchEvent::Changed(value)).unwrap();
    }
    wait_for(&mut rx, Some(3)).await;
    task.abort();
}

#[tokio::test]
async fn removal_is_none_until_next_value() {
    let state = State::with_value(1);
    let (service, mut rx) = service(&state, ReloaderConfig::realtime()).await;
    let task = tokio::spawn(async move { service.start_with_realtime().await });
    let tx = state.wait_for_watch(1).await;
    wait_for(&mut rx, Some(1)).await;
    tx.send(WatchEvent::Removed).await.unwrap();
    wait_for(&mut rx, None).await;
    tx.send(WatchEvent::Changed(1)).await.unwrap();
    wait_for(&mut rx, Some(1)).await;
    task.abort();
}

#[tokio::test]
async fn equal_value_is_sent_only_with_force_reload() {
    let state = State::with_value(1);
    let forced =
        ReloaderConfig { watch_delay_sec: 0, force_reload: true, strategy: WatchStrategy::Polling };
    let (service_, mut rx) = service(&state, forced).await;
    let task = tokio::spawn(async move { service_.start_with_realtime().await });
    for _ in 0..5 {
        rx.changed().await.unwrap();
    }
    task.abort();

    let (service_, mut rx) = service(&state, ReloaderConfig::realtime()).await;
    let task = tokio::spawn(async move { service_.start_with_realtime().await });
    let tx = state.wait_for_watch(1).await;
    wait_for(&mut rx, Some(1)).await;
    mark_seen(&mut rx).await;
    tx.send(WatchEvent::Changed(1)).await.unwrap();
    tx.send(WatchEvent::Changed(2)).await.unwrap();
    rx.changed().await.unwrap();
    assert_eq!(rx.get(), Some(2), "the equal value was not sent");
    task.abort();
}

#[tokio::test]
async fn hybrid_reopens_lost_watch() {
    let state = State::with_value(1);
    let (service, mut rx) = service(&state, ReloaderConfig::hybrid(1)).await;
    let task = tokio::spawn(async move { service.start_with_realtime().await });
    wait_for(&mut rx, Some(1)).await;
    let tx = state.wait_for_watch(1).await;
    *state.loaded.lock().unwrap() = Some(2);
    tx.send(WatchEvent::Error("connection lost".into())).await.unwrap();
    wait_for(&mut rx, Some(2)).await;
    let tx = state.wait_for_watch(2).await;
    assert!(state.cleanups.load(Ordering::SeqCst) >= 1);
    tx.send(WatchEvent::Changed(3)).await.unwrap();
    wait_for(&mut rx, Some(3)).await;
    task.abort();
}

#[tokio::test]
async fn hybrid_polls_without_watch() {
    let state = State::with_value(1);
    *state.is_watch_unavailable.lock().unwrap() = true;
    let (service, mut rx) = service(&state, ReloaderConfig::hybrid(1)).await;
    let task = tokio::spawn(async move { service.start_with_realtime().await });
    wait_for(&mut rx, Some(1)).await;
    *state.loaded.lock().unwrap() = Some(2);
    wait_for(&mut rx, Some(2)).await;
    task.abort();
}

#[tokio::test]
async fn realtime_without_watch_ends_with_error() {
    let state = State::with_value(1);
    *state.is_watch_unavailable.lock().unwrap() = true;
    let (service, _rx) = service(&state, ReloaderConfig::realtime()).await;
    match service.start_with_realtime().await {
        Err(ReloaderError::Reload(reason)) => assert_eq!(reason, "cannot be watched"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn failed_load_keeps_value() {
    let state = State::with_value(1);
    let (service, mut rx) = service(&state, ReloaderConfig::polling(0)).await;
    let task = tokio::spawn(async move { service.start().await });
    wait_for(&mut rx, Some(1)).await;
    *state.is_broken.lock().unwrap() = true;
    let loads = state.loads.load(Ordering::SeqCst);
    while state.loads.load(Ordering::SeqCst) < loads + 2 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    assert_eq!(rx.get(), Some(1));
    *state.loaded.lock().unwrap() = None;
    *state.is_broken.lock().unwrap() = false;
    let loads = state.loads.load(Ordering::SeqCst);
    while state.loads.load(Ordering::SeqCst) < loads + 2 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    assert_eq!(rx.get(), Some(1), "a load without a value is not a removal");
    *state.loaded.lock().unwrap() = Some(2);
    wait_for(&mut rx, Some(2)).await;
    task.abort();
}

#[tokio::test]
async fn service_without_receivers_ends_at_next_value() {
    let state = State::with_value(1);
    let (service, rx) = service(&state, ReloaderConfig::polling(0)).await;
    drop(rx);
    match service.start().await {
        Err(ReloaderError::WatchSendError(unsent)) => assert_eq!(unsent.0, Some(1)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn receiver_fails_without_service() {
    let state = State::with_value(1);
    let (service, mut rx) = service(&state, ReloaderConfig::polling(1)).await;
    drop(service);
    assert!(matches!(rx.changed().await, Err(ReloaderError::WatchRecvError(_))));
}

#[tokio::test]
async fn restarted_service_keeps_value() {
    let state = State::with_value(1);
    let (service, mut rx) = service(&state, ReloaderConfig::polling(0)).await;
    tokio::select! {
        result = service.start() => panic!("{result:?}"),
        () = wait_for(&mut rx, Some(1)) => {}
    }
    mark_seen(&mut rx).await;
    let loads = state.loads.load(Ordering::SeqCst);
    tokio::select! {
        result = service.start() => panic!("{result:?}"),
        changed = rx.changed() => panic!("{changed:?}: it is the same value"),
        () = async {
            while state.loads.load(Ordering::SeqCst) < loads + 3 {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        } => {}
    }
}

#[test]
fn handle_exposes_receiver() {
    let (tx, rx) = mpsc::channel(1);
    let mut handle = RealtimeWatchHandle::<u64>::new(rx);
    tx.try_send(WatchEvent::Changed(1)).unwrap();
    match handle.rx.try_recv() {
        Ok(WatchEvent::Changed(value)) => assert_eq!(value, 1),
        Ok(WatchEvent::Removed) | Ok(WatchEvent::Error(_)) | Err(_) => panic!(),
    }
}
