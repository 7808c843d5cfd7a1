//! `FileReloader` with dependent files that change before they are watched, and with relative paths of dependent files
//! in a main file behind a symbolic link.

use async_trait::async_trait;
use reloader_host::{
    AsyncFileLoad, FileReloader, ReloaderConfig, ReloaderReceiver, ReloaderService,
};
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{task::JoinHandle, time::timeout};

/// Timeout of each wait; reached only on failure.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Names and contents of the files that the main file lists.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Parts(Vec<(PathBuf, String)>);

impl TryFrom<&PathBuf> for Parts {
    type Error = io::Error;

    fn try_from(path: &PathBuf) -> io::Result<Self> {
        let part = |name: &str| {
            let part = path.with_file_name(name);
            Ok((name.into(), fs::read_to_string(part)?))
        };
        fs::read_to_string(path)?.lines().map(part).collect::<io::Result<_>>().map(Self)
    }
}

#[async_trait]
impl AsyncFileLoad for Parts {
    type Error = io::Error;

    async fn async_load_from<T: AsRef<Path> + Send>(path: T) -> io::Result<Self> {
        Self::try_from(&path.as_ref().to_path_buf())
    }

    /// Changes a part called `late` after it was read and before it is watched.
    fn dependent_paths(&self) -> Vec<PathBuf> {
        let late = self.0.iter().find(|(name, text)| name.ends_with("late") && text.ends_with("1"));
        if let Some((_, path)) = late {
            fs::write(path.strip_suffix("1").unwrap(), "2").unwrap();
        }
        self.0.iter().map(|(name, _)| name.clone()).collect()
    }
}

async fn start(path: &Path) -> (ReloaderReceiver<Parts, String>, JoinHandle<()>) {
    let path = path.display().to_string();
    let (service, receiver) = ReloaderService::<FileReloader<Parts>, Parts, String>::new(
        &path,
        ReloaderConfig::hybrid(60),
    )
    .await
    .unwrap();
    let task = tokio::spawn(async move {
        let _ = service.start_with_realtime().await;
    });
    (receiver, task)
}

async fn wait_for(receiver: &mut ReloaderReceiver<Parts, String>, expected: &str) {
    let text = |parts: &Parts| parts.0.iter().map(|(_, text)| text.as_str()).collect::<String>();
    let received = async {
        while !receiver.get().as_ref().is_some_and(|parts| text(parts).ends_with(expected)) {
            receiver.changed().await.unwrap();
        }
    };
    let result = timeout(TIMEOUT, received).await;
    assert!(result.is_ok(), "expected {expected}, got {:?}", receiver.get());
}

#[tokio::test]
async fn part_changed_before_watch_is_loaded_again() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let late = root.join("late");
    fs::write(root.join("early"), "0").unwrap();
    fs::write(&late, format!("{}1", late.display())).unwrap();
    fs::write(root.join("main"), "early").unwrap();
    let (mut receiver, task) = start(&root.join("main")).await;
    wait_for(&mut receiver, "0").await;
    fs::write(root.join("main"), "late").unwrap();
    wait_for(&mut receiver, "2").await;
    task.abort();
}

#[cfg(unix)]
#[tokio::test]
async fn relative_parts_start_at_link_target() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    for release in ["1", "2"] {
        fs::create_dir(root.join(release)).unwrap();
        fs::write(root.join(release).join("main"), "part").unwrap();
        fs::write(root.join(release).join("part"), release).unwrap();
    }
    let link = root.join("link");
    std::os::unix::fs::symlink("1/main", &link).unwrap();
    let (mut receiver, task) = start(&link).await;
    wait_for(&mut receiver, "1").await;
    fs::write(root.join("1/part"), "1b").unwrap();
    wait_for(&mut receiver, "1b").await;
    std::os::unix::fs::symlink("2/main", root.join("next")).unwrap();
    fs::rename(root.join("next"), &link).unwrap();
    wait_for(&mut receiver, "2").await;
    fs::write(root.join("2/part"), "2b").unwrap();
    wait_for(&mut receiver, "2b").await;
    task.abort();
}
