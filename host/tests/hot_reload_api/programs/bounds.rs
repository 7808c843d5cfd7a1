//! Generic code over the traits of the API, with exactly the bounds that `hot_reload` requires.

use super::hot_reload::{
    RealtimeWatch, RealtimeWatchHandle, Reload, ReloadResult, ReloaderConfig, ReloaderError,
    ReloaderReceiver, ReloaderSender, ReloaderService,
};
use std::{borrow::Cow, fmt::Display, rc::Rc};

pub struct ServiceAndReceiver<T, V, S = &'static str>
where
    T: Reload<V, S>,
    V: Eq + PartialEq + Clone,
    S: Into<Cow<'static, str>> + Display,
{
    service: ReloaderService<T, V, S>,
    receiver: ReloaderReceiver<V, S>,
}

pub async fn create<T, V, S>(
    source: &<T as Reload<V, S>>::Source,
    config: ReloaderConfig,
) -> ReloadResult<ServiceAndReceiver<T, V, S>, V, S>
where
    T: Reload<V, S> + Clone,
    V: Eq + PartialEq + Clone,
    S: Into<Cow<'static, str>> + Display,
{
    let (service, receiver) = ReloaderService::<T, V, S>::new(source, config).await?;
    Ok(ServiceAndReceiver { service, receiver })
}

impl<T, V, S> ServiceAndReceiver<T, V, S>
where
    T: RealtimeWatch<V, S> + Clone,
    V: Eq + PartialEq + Clone,
    S: Into<Cow<'static, str>> + Display,
{
    pub async fn run(&self) -> ReloadResult<(), V, S> {
        self.service.start_with_realtime().await
    }

    pub async fn next(&mut self) -> ReloadResult<Option<V>, V, S> {
        self.receiver.changed().await?;
        Ok(self.receiver.borrow().clone())
    }
}

pub fn spawned<T, V>(service: ReloaderService<T, V>) -> tokio::task::JoinHandle<()>
where
    T: RealtimeWatch<V> + Clone + Send + Sync + 'static,
    V: Eq + PartialEq + Clone + Send + Sync + 'static,
{
    tokio::spawn(async move {
        let _ = service.start_with_realtime().await;
    })
}

pub fn spawned_polling<T, V>(service: ReloaderService<T, V, String>) -> tokio::task::JoinHandle<()>
where
    T: Reload<V, String> + Clone + Send + Sync + 'static,
    V: Eq + PartialEq + Clone + Send + Sync + 'static,
{
    tokio::spawn(async move {
        if let Err(error) = service.start().await {
            let _: String = error.to_string_lossless();
        }
    })
}

trait Lossless {
    fn to_string_lossless(&self) -> String;
}

impl<V: Eq, S: Into<Cow<'static, str>> + Display> Lossless for ReloaderError<V, S> {
    fn to_string_lossless(&self) -> String {
        match self {
            ReloaderError::WatchRecvError(error) => error.to_string(),
            ReloaderError::WatchSendError(error) => error.to_string(),
            ReloaderError::Reload(message) => message.to_string(),
            ReloaderError::Other(error) => error.to_string(),
        }
    }
}

/// Value that is not `Send`.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Local(Rc<str>);

#[derive(Clone)]
struct LocalReloader;

#[async_trait::async_trait]
impl Reload<Local, Cow<'static, str>> for LocalReloader {
    type Source = ();

    async fn new(_: &()) -> ReloadResult<Self, Local, Cow<'static, str>> {
        Ok(Self)
    }

    async fn reload(&self) -> ReloadResult<Option<Local>, Local, Cow<'static, str>> {
        Ok(Some(Local("here".into())))
    }
}

#[tokio::test]
async fn value_without_send_is_received() {
    let (service, mut rx) =
        ReloaderService::<LocalReloader, Local, Cow<'static, str>>::with_delay(&(), 1)
            .await
            .unwrap();
    tokio::select! {
        _ = service.start() => unreachable!(),
        changed = rx.changed() => changed.unwrap(),
    }
    assert_eq!(rx.get(), Some(Local("here".into())));
}

#[test]
fn question_mark_converts_errors() {
    fn other() -> ReloadResult<(), u8> {
        Err(anyhow::anyhow!("no such thing"))?
    }
    fn reload() -> ReloadResult<(), u8, String> {
        Err(ReloaderError::Reload("no".to_owned()))
    }
    assert_eq!(other().unwrap_err().to_string(), "no such thing");
    assert_eq!(reload().unwrap_err().to_string(), "Failed to reload: no");
    let error: Box<dyn std::error::Error + Send + Sync> = reload().unwrap_err().into();
    assert!(error.source().is_none());
}

fn sends<V: Eq>(sender: &ReloaderSender<V>, value: V) -> bool {
    sender.send(Some(value)).is_ok()
}

fn is_closed<V>(handle: RealtimeWatchHandle<V>) -> bool {
    handle.rx.is_closed()
}
