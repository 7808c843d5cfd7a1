//! `FileReloader` with a type whose functions panic for some contents of the file.

use async_trait::async_trait;
use reloader_host::{
    AsyncFileLoad, FileReloader, ReloaderConfig, ReloaderReceiver, ReloaderService,
};
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::timeout;

/// Timeout of each wait; reached only on failure.
const TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Text(String);

impl TryFrom<&PathBuf> for Text {
    type Error = io::Error;

    fn try_from(path: &PathBuf) -> io::Result<Self> {
        let text = fs::read_to_string(path)?;
        assert_ne!(text, "panic in try_from");
        Ok(Self(text))
    }
}

#[async_trait]
impl AsyncFileLoad for Text {
    type Error = io::Error;

    async fn async_load_from<T: AsRef<Path> + Send>(path: T) -> io::Result<Self> {
        let text = tokio::fs::read_to_string(path).await?;
        assert!(!text.starts_with("panic in try_from") && text != "panic in async_load_from");
        Ok(Self(text))
    }

    fn dependent_paths(&self) -> Vec<PathBuf> {
        assert_ne!(self.0, "panic in dependent_paths");
        Vec::new()
    }
}

async fn wait_for(receiver: &mut ReloaderReceiver<Text, String>, text: &str) {
    let waiting = async {
        while receiver.get().is_none_or(|value| value.0 != text) {
            receiver.changed().await.expect("the service runs");
        }
    };
    timeout(TIMEOUT, waiting).await.expect("the value arrives");
}

/// A load that panics, even the first one, ends neither the service nor its watch. The last value stays and becomes
/// stale.
#[tokio::test]
async fn panic_of_loader_is_retried_and_watch_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f");
    let source = path.display().to_string();
    for config in [ReloaderConfig::polling(1), ReloaderConfig::realtime()] {
        fs::write(&path, "panic in try_from").unwrap();
        let (service, mut receiver) =
            ReloaderService::<FileReloader<Text>, Text, String>::new(&source, config)
                .await
                .unwrap();
        let task = tokio::spawn(async move { service.start_with_realtime().await });
        fs::write(&path, "first").unwrap();
        wait_for(&mut receiver, "first").await;
        fs::write(&path, "panic in try_from").unwrap();
        let crashed = async {
            while receiver.status().stale.is_none() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(TIMEOUT, crashed).await.expect("the value becomes stale");
        let reason = receiver.status().stale.unwrap().reason;
        assert!(reason.contains("panicked: ") && reason.contains("panic in try_from"), "{reason}");
        assert_eq!(receiver.get(), Some(Text("first".into())));
        // `try_from` accepts these contents, so they are published although the watch fails to load them.
        for text in ["panic in async_load_from", "panic in dependent_paths", "last"] {
            fs::write(&path, text).unwrap();
            wait_for(&mut receiver, text).await;
        }
        assert!(!task.is_finished());
        task.abort();
    }
}
