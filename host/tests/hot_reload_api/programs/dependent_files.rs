//! Program with a file that depends on other files.

use super::hot_reload::{AsyncFileLoad, FileReloader, ReloaderConfig, ReloaderService};
use async_trait::async_trait;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// First line of a file, and the content of the files that its other lines name (parts).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Document {
    title: String,
    parts: Vec<(PathBuf, String)>,
}

impl Document {
    fn load(path: &Path) -> std::io::Result<Self> {
        let text = std::fs::read_to_string(path)?;
        let mut lines = text.lines();
        let title = lines.next().unwrap_or_default().to_owned();
        let parts = lines.map(|line| {
            let full = path.parent().unwrap().join(line);
            Ok((PathBuf::from(line), std::fs::read_to_string(full)?))
        });
        Ok(Self { title, parts: parts.collect::<std::io::Result<_>>()? })
    }
}

impl TryFrom<&PathBuf> for Document {
    type Error = std::io::Error;

    fn try_from(path: &PathBuf) -> Result<Self, Self::Error> {
        Self::load(path)
    }
}

#[async_trait]
impl AsyncFileLoad for Document {
    type Error = std::io::Error;

    async fn async_load_from<T>(path: T) -> Result<Self, Self::Error>
    where
        T: AsRef<Path> + Send,
    {
        Self::load(path.as_ref())
    }

    fn dependent_paths(&self) -> Vec<PathBuf> {
        self.parts.iter().map(|(path, _)| path.clone()).collect()
    }
}

#[tokio::test]
async fn change_of_dependent_file_is_received() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    std::fs::create_dir(root.join("parts")).unwrap();
    std::fs::write(root.join("parts/a"), "A").unwrap();
    std::fs::write(root.join("b"), "B").unwrap();
    std::fs::write(root.join("main"), "Title\nparts/a").unwrap();
    let source = root.join("main").display().to_string();
    let (service, mut rx) = ReloaderService::<FileReloader<Document>, Document, String>::new(
        &source,
        ReloaderConfig::hybrid(10),
    )
    .await
    .unwrap();
    let task = tokio::spawn(async move { service.start_with_realtime().await });
    let text = |document: &Document| {
        document.parts.iter().map(|(_, text)| text.as_str()).collect::<String>()
    };
    // `hot_reload` misses a change that happens before it opens its watch. Therefore the change is repeated.
    let mut change = async |file: &str, content: &str, expected: &str| {
        while rx.get().as_ref().map(text).as_deref() != Some(expected) {
            std::fs::write(root.join(file), content).unwrap();
            let _ = tokio::time::timeout(Duration::from_secs(2), rx.changed()).await;
        }
    };
    change("parts/a", "A", "A").await;
    change("parts/a", "A2", "A2").await;
    // After the main file names the additional part `b`, changes of `b` are received too.
    change("main", "Title\nparts/a\nb", "A2B").await;
    change("b", "B2", "A2B2").await;
    task.abort();
}
