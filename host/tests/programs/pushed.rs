//! Sources that push their values: through a channel, with and without something to clean up.

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

/// What the source does, and what was done with it.
#[derive(Default)]
pub struct World {
    /// What loading gives; `None` is "no value".
    loaded: Mutex<Option<u64>>,
    broken: Mutex<bool>,
    loads: AtomicUsize,
    watches: Mutex<Vec<Sender>>,
    cleaned_up: AtomicUsize,
    refuse_watch: Mutex<bool>,
}

impl World {
    fn of(value: u64) -> Arc<Self> {
        let world = Self::default();
        *world.loaded.lock().unwrap() = Some(value);
        Arc::new(world)
    }

    fn watch(&self) -> Option<Sender> {
        self.watches.lock().unwrap().last().cloned()
    }

    /// Waits until a watch is open for the so-manieth time.
    async fn watched(&self, times: usize) -> Sender {
        while self.watches.lock().unwrap().len() < times {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        self.watch().unwrap()
    }
}

#[derive(Clone)]
pub struct Pushed(Arc<World>);

#[async_trait]
impl Reload<u64, String> for Pushed {
    type Source = Arc<World>;

    async fn new(source: &Self::Source) -> ReloadResult<Self, u64, String> {
        Ok(Self(Arc::clone(source)))
    }

    async fn reload(&self) -> ReloadResult<Option<u64>, u64, String> {
        self.0.loads.fetch_add(1, Ordering::SeqCst);
        if *self.0.broken.lock().unwrap() {
            return Err(ReloaderError::Reload(format!("broken at load {}", 1)));
        }
        Ok(*self.0.loaded.lock().unwrap())
    }
}

struct CleanUp(Arc<World>);

impl Drop for CleanUp {
    fn drop(&mut self) {
        self.0.cleaned_up.fetch_add(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl RealtimeWatch<u64, String> for Pushed {
    async fn watch_realtime(&self) -> ReloadResult<RealtimeWatchHandle<u64>, u64, String> {
        if *self.0.refuse_watch.lock().unwrap() {
            return Err(ReloaderError::Reload("cannot be watched".to_owned()));
        }
        let (tx, rx) = mpsc::channel(100);
        self.0.watches.lock().unwrap().push(tx);
        Ok(RealtimeWatchHandle::with_cleanup(rx, Box::new(CleanUp(Arc::clone(&self.0)))))
    }
}

async fn service(
    world: &Arc<World>,
    config: ReloaderConfig,
) -> (ReloaderService<Pushed, u64, String>, ReloaderReceiver<u64, String>) {
    ReloaderService::new(world, config).await.unwrap()
}

async fn wait_for(rx: &mut ReloaderReceiver<u64, String>, value: Option<u64>) {
    while *rx.borrow() != value {
        rx.changed().await.unwrap();
    }
}

/// From here on, `changed` waits for what is new.
async fn all_is_seen(rx: &mut ReloaderReceiver<u64, String>) {
    let _ = tokio::time::timeout(std::time::Duration::ZERO, rx.changed()).await;
}

#[tokio::test]
async fn the_first_value_is_loaded_and_the_others_are_pushed() {
    let world = World::of(0);
    for config in [ReloaderConfig::realtime(), ReloaderConfig::hybrid(10)] {
        let (service, mut rx) = service(&world, config).await;
        let before = world.watches.lock().unwrap().len();
        let task = tokio::spawn(async move { service.start_with_realtime().await });
        wait_for(&mut rx, Some(0)).await;
        let tx = world.watched(before + 1).await;
        for value in 1..=50 {
            tx.send(WatchEvent::Changed(value)).await.unwrap();
        }
        // What loading gives has not changed, and does not undo what was pushed.
        wait_for(&mut rx, Some(50)).await;
        assert_eq!(rx.get(), Some(50));
        task.abort();
    }
}

#[tokio::test]
async fn what_is_pushed_before_anybody_listens_is_the_latest_all_the_same() {
    let world = World::of(0);
    let (service, mut rx) = service(&world, ReloaderConfig::realtime()).await;
    let task = tokio::spawn(async move { service.start_with_realtime().await });
    let tx = world.watched(1).await;
    for value in 1..=3 {
        tx.try_send(WatchEvent::Changed(value)).unwrap();
    }
    wait_for(&mut rx, Some(3)).await;
    task.abort();
}

#[tokio::test]
async fn a_removal_is_none_and_a_value_comes_back() {
    let world = World::of(1);
    let (service, mut rx) = service(&world, ReloaderConfig::realtime()).await;
    let task = tokio::spawn(async move { service.start_with_realtime().await });
    let tx = world.watched(1).await;
    wait_for(&mut rx, Some(1)).await;
    tx.send(WatchEvent::Removed).await.unwrap();
    wait_for(&mut rx, None).await;
    tx.send(WatchEvent::Changed(1)).await.unwrap();
    wait_for(&mut rx, Some(1)).await;
    task.abort();
}

#[tokio::test]
async fn an_equal_value_is_handed_on_only_when_that_is_forced() {
    let world = World::of(1);
    let forced =
        ReloaderConfig { watch_delay_sec: 0, force_reload: true, strategy: WatchStrategy::Polling };
    let (service_, mut rx) = service(&world, forced).await;
    let task = tokio::spawn(async move { service_.start_with_realtime().await });
    for _ in 0..5 {
        rx.changed().await.unwrap();
    }
    task.abort();

    let (service_, mut rx) = service(&world, ReloaderConfig::realtime()).await;
    let task = tokio::spawn(async move { service_.start_with_realtime().await });
    let tx = world.watched(1).await;
    wait_for(&mut rx, Some(1)).await;
    all_is_seen(&mut rx).await;
    tx.send(WatchEvent::Changed(1)).await.unwrap();
    tx.send(WatchEvent::Changed(2)).await.unwrap();
    rx.changed().await.unwrap();
    assert_eq!(rx.get(), Some(2), "the equal one was not news");
    task.abort();
}

#[tokio::test]
async fn hybrid_opens_a_lost_watch_again() {
    let world = World::of(1);
    let (service, mut rx) = service(&world, ReloaderConfig::hybrid(1)).await;
    let task = tokio::spawn(async move { service.start_with_realtime().await });
    wait_for(&mut rx, Some(1)).await;
    let tx = world.watched(1).await;
    *world.loaded.lock().unwrap() = Some(2);
    tx.send(WatchEvent::Error("cut off".into())).await.unwrap();
    wait_for(&mut rx, Some(2)).await;
    let tx = world.watched(2).await;
    assert!(world.cleaned_up.load(Ordering::SeqCst) >= 1);
    tx.send(WatchEvent::Changed(3)).await.unwrap();
    wait_for(&mut rx, Some(3)).await;
    task.abort();
}

#[tokio::test]
async fn hybrid_polls_where_it_cannot_listen() {
    let world = World::of(1);
    *world.refuse_watch.lock().unwrap() = true;
    let (service, mut rx) = service(&world, ReloaderConfig::hybrid(1)).await;
    let task = tokio::spawn(async move { service.start_with_realtime().await });
    wait_for(&mut rx, Some(1)).await;
    *world.loaded.lock().unwrap() = Some(2);
    wait_for(&mut rx, Some(2)).await;
    task.abort();
}

#[tokio::test]
async fn realtime_that_cannot_listen_at_all_ends_with_the_reason() {
    let world = World::of(1);
    *world.refuse_watch.lock().unwrap() = true;
    let (service, _rx) = service(&world, ReloaderConfig::realtime()).await;
    match service.start_with_realtime().await {
        Err(ReloaderError::Reload(reason)) => assert_eq!(reason, "cannot be watched"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn loading_that_fails_keeps_the_value_and_goes_on() {
    let world = World::of(1);
    let (service, mut rx) = service(&world, ReloaderConfig::polling(0)).await;
    let task = tokio::spawn(async move { service.start().await });
    wait_for(&mut rx, Some(1)).await;
    *world.broken.lock().unwrap() = true;
    let loads = world.loads.load(Ordering::SeqCst);
    while world.loads.load(Ordering::SeqCst) < loads + 2 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    assert_eq!(rx.get(), Some(1));
    *world.loaded.lock().unwrap() = None;
    *world.broken.lock().unwrap() = false;
    let loads = world.loads.load(Ordering::SeqCst);
    while world.loads.load(Ordering::SeqCst) < loads + 2 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    assert_eq!(rx.get(), Some(1), "no value is not a removal");
    *world.loaded.lock().unwrap() = Some(2);
    wait_for(&mut rx, Some(2)).await;
    task.abort();
}

#[tokio::test]
async fn a_service_without_receivers_ends_when_there_is_news() {
    let world = World::of(1);
    let (service, rx) = service(&world, ReloaderConfig::polling(0)).await;
    drop(rx);
    match service.start().await {
        Err(ReloaderError::WatchSendError(unsent)) => assert_eq!(unsent.0, Some(1)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_receiver_is_told_when_the_service_is_gone() {
    let world = World::of(1);
    let (service, mut rx) = service(&world, ReloaderConfig::polling(1)).await;
    drop(service);
    assert!(matches!(rx.changed().await, Err(ReloaderError::WatchRecvError(_))));
}

#[tokio::test]
async fn a_service_may_be_started_again_and_remembers_its_value() {
    let world = World::of(1);
    let (service, mut rx) = service(&world, ReloaderConfig::polling(0)).await;
    tokio::select! {
        result = service.start() => panic!("{result:?}"),
        () = wait_for(&mut rx, Some(1)) => {}
    }
    all_is_seen(&mut rx).await;
    let loads = world.loads.load(Ordering::SeqCst);
    tokio::select! {
        result = service.start() => panic!("{result:?}"),
        changed = rx.changed() => panic!("{changed:?}: it is the same value"),
        () = async {
            while world.loads.load(Ordering::SeqCst) < loads + 3 {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        } => {}
    }
}

#[test]
fn a_handle_gives_its_receiver() {
    let (tx, rx) = mpsc::channel(1);
    let mut handle = RealtimeWatchHandle::<u64>::new(rx);
    tx.try_send(WatchEvent::Changed(1)).unwrap();
    match handle.rx.try_recv() {
        Ok(WatchEvent::Changed(value)) => assert_eq!(value, 1),
        Ok(WatchEvent::Removed) | Ok(WatchEvent::Error(_)) | Err(_) => panic!(),
    }
}
