//! `FileReloader` of the library on a file system that stops answering.
#![allow(clippy::unwrap_used, reason = "a failed precondition fails the test")]

use async_trait::async_trait;
use e2e::{HungMount, TestHost};
use reloader_host::{
    AsyncFileLoad, FileReloader, ReloaderConfig, ReloaderReceiver, ReloaderService,
};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::Duration,
};

/// Timeout of each wait; reached only on failure.
const TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Text(String);

impl TryFrom<&PathBuf> for Text {
    type Error = io::Error;

    fn try_from(path: &PathBuf) -> io::Result<Self> {
        fs::read_to_string(path).map(Self)
    }
}

#[async_trait]
impl AsyncFileLoad for Text {
    type Error = io::Error;

    async fn async_load_from<T: AsRef<Path> + Send>(path: T) -> io::Result<Self> {
        fs::read_to_string(path).map(Self)
    }
}

type TextReceiver = ReloaderReceiver<Text, String>;

/// Waits until the predicate is true for each receiver.
async fn wait_for_all(receivers: &[TextReceiver], is: impl Fn(&TextReceiver) -> bool) {
    while !receivers.iter().all(&is) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Runs two reloaders, one that polls and one that watches, on a runtime with one thread. Sends a message after the
/// first value, when the values are stale, and after the second value.
fn run_reloaders(path: String, stages: Sender<String>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut receivers = Vec::new();
        for config in [ReloaderConfig::polling(1), ReloaderConfig::hybrid(1)] {
            let service = ReloaderService::<FileReloader<Text>, Text, String>::new(&path, config);
            let (service, receiver) = service.await.unwrap();
            tokio::spawn(async move { service.start_with_realtime().await });
            receivers.push(receiver);
        }
        let has = |text: &'static str| {
            move |receiver: &TextReceiver| receiver.get() == Some(Text(text.into()))
        };
        wait_for_all(&receivers, has("1")).await;
        stages.send("loaded".into()).unwrap();
        wait_for_all(&receivers, |receiver| receiver.status().stale.is_some()).await;
        let reasons = receivers.iter().map(|it| it.status().stale.unwrap().reason.to_string());
        stages.send(reasons.collect::<Vec<_>>().join("\n")).unwrap();
        wait_for_all(&receivers, has("2")).await;
        stages.send("loaded again".into()).unwrap();
    });
}

fn next_stage(stages: &Receiver<String>) -> String {
    stages.recv_timeout(TIMEOUT).expect("the runtime is not blocked")
}

/// The values become stale, with the reason, while the runtime goes on. They are loaded again when the file system
/// answers.
#[test]
fn hung_file_system_does_not_block_the_runtime() {
    let t = TestHost::new();
    fs::create_dir(t.path("mnt")).unwrap();
    t.write("mnt/f", "1");
    let (sender, stages) = channel();
    let path = t.path("mnt/f").display().to_string();
    let reloaders = thread::spawn(move || run_reloaders(path, sender));
    assert_eq!(next_stage(&stages), "loaded");
    let Some(mount) = HungMount::over(&t.path("mnt")) else { return };
    let reasons = next_stage(&stages);
    assert_eq!(reasons.matches("the file system has not answered for 10s").count(), 2, "{reasons}");
    drop(mount);
    t.write("mnt/f", "2");
    assert_eq!(next_stage(&stages), "loaded again");
    reloaders.join().unwrap();
}
