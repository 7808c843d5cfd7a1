//! Panics of a reloader and of its value, in a service with the API of `hot_reload`.

use crate::{BoxFuture, Faulty, OnDrop, PANICS, Place, TIMEOUT};
use async_trait::async_trait;
use reloader_source::hot_reload_compat::{
    RealtimeWatch, RealtimeWatchHandle, Reload, ReloadResult, ReloaderConfig, ReloaderError,
    ReloaderReceiver, ReloaderService, WatchEvent,
};
use std::{fmt, time::Duration};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{sleep, timeout},
};

/// Value of a reloader whose comparison and copies can panic.
#[derive(Debug)]
pub(crate) struct Text(&'static str, Faulty);

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.1.reach(Place::Compare);
        self.0 == other.0
    }
}

impl Eq for Text {}

impl Clone for Text {
    fn clone(&self) -> Self {
        self.1.reach(Place::Clone);
        Self(self.0, self.1.clone())
    }
}

/// Error message whose display can panic.
#[derive(Debug)]
struct Message(Faulty);

impl From<Message> for std::borrow::Cow<'static, str> {
    fn from(_: Message) -> Self {
        "failed".into()
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.reach(Place::ErrorDisplay);
        f.write_str("failed")
    }
}

impl Faulty {
    /// Waits until the reloader has an open watch, and returns its sender.
    async fn open_watch(&self) -> mpsc::Sender<WatchEvent<Text>> {
        let open = async {
            loop {
                let watch = self.0.lock().unwrap().watch.clone();
                if let Some(watch) = watch.filter(|watch| !watch.is_closed()) {
                    break watch;
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(TIMEOUT, open).await.expect("the watch is opened")
    }
}

// Written without `async_trait`, so that the functions can panic before they return their future.
impl Reload<Text, Message> for Faulty {
    type Source = Self;

    fn new<'a: 'f, 'f>(source: &'a Self) -> BoxFuture<'f, ReloadResult<Self, Text, Message>> {
        source.reach(Place::Call);
        Box::pin(async {
            source.reach(Place::Future);
            Ok(source.clone())
        })
    }

    fn reload<'a: 'f, 'f>(&'a self) -> BoxFuture<'f, ReloadResult<Option<Text>, Text, Message>> {
        self.reach(Place::Call);
        Box::pin(async {
            tokio::task::yield_now().await;
            self.reach(Place::Future);
            if self.is_faulty(Place::ErrorDisplay) {
                return Err(ReloaderError::Reload(Message(self.clone())));
            }
            Ok(Some(Text(self.value(), self.clone())))
        })
    }
}

#[async_trait]
impl RealtimeWatch<Text, Message> for Faulty {
    async fn watch_realtime(&self) -> ReloadResult<RealtimeWatchHandle<Text>, Text, Message> {
        self.reach(Place::Arm);
        let (sender, receiver) = mpsc::channel(8);
        self.0.lock().unwrap().watch = Some(sender);
        let this = self.clone();
        let cleanup = Box::new(OnDrop(move || this.reach(Place::WatchDrop)));
        Ok(RealtimeWatchHandle::with_cleanup(receiver, cleanup))
    }

    fn outlives_errors(&self) -> bool {
        self.reach(Place::OutlivesErrors);
        false
    }
}

type Service = JoinHandle<ReloadResult<(), Text, Message>>;

async fn start(
    faulty: &Faulty,
    config: ReloaderConfig,
) -> (ReloaderReceiver<Text, Message>, Service) {
    let (service, receiver) =
        ReloaderService::<Faulty, Text, Message>::new(faulty, config).await.unwrap();
    (receiver, tokio::spawn(async move { service.start_with_realtime().await }))
}

async fn wait_for_text(receiver: &mut ReloaderReceiver<Text, Message>, text: &str) {
    let waiting = async {
        while receiver.borrow().as_ref().is_none_or(|value| value.0 != text) {
            receiver.changed().await.expect("the service runs");
        }
    };
    timeout(TIMEOUT, waiting).await.expect("the value arrives");
}

/// A service survives panics in the first load and in later ones.
#[tokio::test(start_paused = true)]
async fn reload_panic_is_retried_and_value_stays() {
    for place in [Place::Call, Place::Future, Place::ErrorDisplay] {
        let faulty = Faulty::default();
        let (mut receiver, task) = start(&faulty, ReloaderConfig::polling(1)).await;
        faulty.set("first", Some(place));
        faulty.panicked(PANICS).await;
        faulty.set("first", None);
        wait_for_text(&mut receiver, "first").await;
        faulty.set("second", Some(place));
        faulty.panicked(PANICS).await;
        assert_eq!(receiver.borrow().as_ref().map(|text| text.0), Some("first"), "{place:?}");
        let stale = receiver.status().stale.expect("the value is stale after a crash");
        assert_eq!(&*stale.reason, format!("panicked: at {place:?}"));
        faulty.set("second", None);
        wait_for_text(&mut receiver, "second").await;
        assert_eq!(receiver.status().stale, None);
        assert!(!task.is_finished());
        task.abort();
    }
}

/// A service has no function that would end a quarantine, so it retries at the latest with the next poll.
#[tokio::test(start_paused = true)]
async fn reload_that_panicked_often_is_retried_with_next_poll() {
    let faulty = Faulty::default();
    faulty.set("value", None);
    let (mut receiver, _task) = start(&faulty, ReloaderConfig::polling(1)).await;
    faulty.set("value", Some(Place::Future));
    faulty.panicked(100).await;
    faulty.set("value", None);
    let before = tokio::time::Instant::now();
    wait_for_text(&mut receiver, "value").await;
    assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn panic_of_new_is_its_error() {
    for place in [Place::Call, Place::Future] {
        let faulty = Faulty::default();
        faulty.set("value", Some(place));
        let config = ReloaderConfig::polling(1);
        let result = ReloaderService::<Faulty, Text, Message>::new(&faulty, config).await;
        let error = result.err().expect("an error").to_string();
        assert_eq!(error, format!("panicked: at {place:?}"));
    }
}

/// A panic in the first opening of a watch does not end a service with the strategy realtime, as an error would.
#[tokio::test(start_paused = true)]
async fn watch_panic_is_retried() {
    for place in [Place::Arm, Place::WatchDrop, Place::OutlivesErrors] {
        let faulty = Faulty::default();
        faulty.set("value", Some(place));
        let (mut receiver, task) = start(&faulty, ReloaderConfig::realtime()).await;
        if place == Place::WatchDrop {
            faulty.open_watch().await;
            faulty.0.lock().unwrap().watch = None;
        }
        faulty.panicked(1).await;
        faulty.set("value", None);
        wait_for_text(&mut receiver, "value").await;
        let watch = faulty.open_watch().await;
        watch.send(WatchEvent::Changed(Text("pushed", faulty.clone()))).await.unwrap();
        wait_for_text(&mut receiver, "pushed").await;
        assert!(!task.is_finished(), "{place:?}");
        task.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn panic_of_value_is_retried_and_value_stays() {
    for place in [Place::Compare, Place::Clone] {
        let faulty = Faulty::default();
        faulty.set("first", None);
        let (mut receiver, task) = start(&faulty, ReloaderConfig::polling(1)).await;
        wait_for_text(&mut receiver, "first").await;
        faulty.set("second", Some(place));
        faulty.panicked(PANICS).await;
        assert_eq!(receiver.borrow().as_ref().map(|text| text.0), Some("first"), "{place:?}");
        let stale = receiver.status().stale.expect("the value is stale after a crash");
        assert_eq!(&*stale.reason, format!("panicked: at {place:?}"));
        faulty.set("second", None);
        wait_for_text(&mut receiver, "second").await;
        assert!(!task.is_finished(), "{place:?}");
        task.abort();
    }
}
