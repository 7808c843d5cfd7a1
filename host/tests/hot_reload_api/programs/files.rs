//! Program that uses `FileReloader`, compiled against `hot_reload` and against this library.

use super::hot_reload::{
    AsyncFileLoad, FileReloader, RealtimeWatch, Reload, ReloaderConfig, ReloaderError,
    ReloaderReceiver, ReloaderService, WatchEvent,
    file_reloader::{self},
};
use async_trait::async_trait;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text(pub String);

fn parse(text: String) -> Result<Text, String> {
    if text.contains("broken") { Err("invalid content".into()) } else { Ok(Text(text)) }
}

impl TryFrom<&PathBuf> for Text {
    type Error = String;

    fn try_from(path: &PathBuf) -> Result<Self, Self::Error> {
        parse(std::fs::read_to_string(path).map_err(|error| error.to_string())?)
    }
}

#[async_trait]
impl AsyncFileLoad for Text {
    type Error = String;

    async fn async_load_from<T>(path: T) -> Result<Self, Self::Error>
    where
        T: AsRef<Path> + Send,
    {
        parse(tokio::fs::read_to_string(path).await.map_err(|error| error.to_string())?)
    }
}

type Receiver = ReloaderReceiver<Text, String>;

async fn wait_for(rx: &mut Receiver, text: &str) {
    while rx.get() != Some(Text(text.to_owned())) {
        rx.changed().await.unwrap();
    }
}

/// Repeats a change until it is received: `hot_reload` opens its watch after it has loaded the file, and misses a
/// change in between.
async fn change(rx: &mut Receiver, text: &str, change: impl Fn(&str)) {
    while rx.get() != Some(Text(text.to_owned())) {
        change(text);
        let _ = tokio::time::timeout(Duration::from_secs(2), rx.changed()).await;
    }
}

#[tokio::test]
async fn file_changes_are_received_with_each_strategy() {
    for config in
        [ReloaderConfig::polling(1), ReloaderConfig::realtime(), ReloaderConfig::hybrid(1)]
    {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("text").display().to_string();
        std::fs::write(&path, "one").unwrap();
        let (service, mut rx) =
            ReloaderService::<FileReloader<Text>, Text, String>::new(&path, config).await.unwrap();
        let task = tokio::spawn(async move { service.start_with_realtime().await });
        wait_for(&mut rx, "one").await;
        change(&mut rx, "two", |text| std::fs::write(&path, text).unwrap()).await;
        change(&mut rx, "three", |text| {
            std::fs::write(directory.path().join("new"), text).unwrap();
            std::fs::rename(directory.path().join("new"), &path).unwrap();
        })
        .await;
        task.abort();
    }
}

#[tokio::test]
async fn relative_path_becomes_absolute() {
    let reloader =
        <FileReloader<Text> as Reload<Text, String>>::new(&"Cargo.toml".to_owned()).await.unwrap();
    let reloader: file_reloader::FileReloader<Text> = reloader.clone();
    assert!(reloader.file_path.is_absolute());
    assert!(reloader.file_path.ends_with("Cargo.toml"));
    let loaded: Option<Text> = Reload::<Text, String>::reload(&reloader).await.unwrap();
    assert!(loaded.unwrap().0.contains("[package]"));
}

#[tokio::test]
async fn watch_works_without_service() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("text").display().to_string();
    std::fs::write(&path, "one").unwrap();
    let reloader = <FileReloader<Text> as Reload<Text, String>>::new(&path).await.unwrap();
    let mut handle = reloader.watch_realtime().await.unwrap();
    std::fs::write(&path, "two").unwrap();
    match handle.rx.recv().await {
        Some(WatchEvent::Changed(text)) => assert_eq!(text, Text("two".into())),
        other => panic!("{other:?}"),
    }
    std::fs::write(&path, "broken").unwrap();
    match handle.rx.recv().await {
        Some(WatchEvent::Error(reason)) => assert_eq!(reason, "invalid content"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn reload_of_missing_file_fails() {
    let reloader = <FileReloader<Text> as Reload<Text, String>>::new(&"/no/such/file".to_owned())
        .await
        .unwrap();
    match Reload::<Text, String>::reload(&reloader).await {
        Err(ReloaderError::Reload(reason)) => assert!(reason.contains("No such file"), "{reason}"),
        Err(_) | Ok(_) => panic!(),
    }
}
