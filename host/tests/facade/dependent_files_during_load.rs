//! `FileReloader` with dependent files that change during a load.

use async_trait::async_trait;
use reloader_host::{
    AsyncFileLoad, FileReloader, RealtimeWatch, RealtimeWatchHandle, Reload, WatchEvent,
};
use std::{
    fs,
    io::{self, Seek, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};
use tokio::time::timeout;

/// Timeout of each wait; reached only on failure.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Maximum pause between two writes for which the reloader still waits for the writer.
const MAX_WRITER_PAUSE: Duration = Duration::from_millis(25);

/// First line of a file, and the content of the files that its other lines name (parts).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Document {
    title: String,
    parts: Vec<(PathBuf, String)>,
}

impl Document {
    fn text(&self) -> String {
        let parts = self.parts.iter().map(|(_, text)| text.as_str());
        std::iter::once(self.title.as_str()).chain(parts).collect::<Vec<_>>().join(" ")
    }
}

impl TryFrom<&PathBuf> for Document {
    type Error = io::Error;

    fn try_from(path: &PathBuf) -> io::Result<Self> {
        let text = fs::read_to_string(path)?;
        let mut lines = text.lines();
        let title = lines.next().unwrap_or_default().to_owned();
        let parts = lines.map(|line| {
            let full = path.parent().unwrap().join(line);
            let text = fs::read_to_string(&full)?;
            Ok((full, text))
        });
        Ok(Self { title, parts: parts.collect::<io::Result<_>>()? })
    }
}

#[async_trait]
impl AsyncFileLoad for Document {
    type Error = io::Error;

    async fn async_load_from<T: AsRef<Path> + Send>(path: T) -> io::Result<Self> {
        Self::try_from(&path.as_ref().to_owned())
    }

    fn dependent_paths(&self) -> Vec<PathBuf> {
        for (path, text) in &self.parts {
            // Simulates a change of the part after the reloader has read it and before it watches it.
            if text == "early" {
                fs::write(path, "late").unwrap();
            }
        }
        self.parts.iter().map(|(path, _)| path.clone()).collect()
    }
}

/// Watch of a document.
struct DocumentWatch(RealtimeWatchHandle<Document>);

impl DocumentWatch {
    async fn open(path: &Path) -> Self {
        let path = path.display().to_string();
        let reloader = <FileReloader<Document> as Reload<_, String>>::new(&path).await.unwrap();
        Self(reloader.watch_realtime().await.unwrap())
    }

    async fn wait_for(&mut self, text: &str) {
        let received = async {
            loop {
                match self.0.rx.recv().await {
                    Some(WatchEvent::Changed(document)) if document.text() == text => return,
                    Some(_) => {}
                    None => panic!("the watch has ended"),
                }
            }
        };
        assert!(timeout(TIMEOUT, received).await.is_ok(), "{text:?} has not arrived");
    }
}

#[tokio::test]
async fn part_changed_during_load_is_loaded_again() {
    let directory = tempfile::tempdir().unwrap();
    let (main, part) = (directory.path().join("main"), directory.path().join("part"));
    fs::write(&part, "early").unwrap();
    fs::write(&main, "1").unwrap();
    let mut watch = DocumentWatch::open(&main).await;
    fs::write(&main, "2\npart").unwrap();
    watch.wait_for("2 late").await;
}

#[tokio::test]
async fn missing_part_is_watched_once_created() {
    let directory = tempfile::tempdir().unwrap();
    let (main, part) = (directory.path().join("main"), directory.path().join("part"));
    fs::write(&main, "1\npart").unwrap();
    let mut watch = DocumentWatch::open(&main).await;
    fs::write(&part, "a").unwrap();
    watch.wait_for("1 a").await;
    fs::write(&part, "b").unwrap();
    watch.wait_for("1 b").await;
    // After a successful load, the main file names a part that does not exist.
    fs::write(&main, "2\nother").unwrap();
    loop {
        if let Some(WatchEvent::Error(_)) = watch.0.rx.recv().await {
            break;
        }
    }
    fs::write(directory.path().join("other"), "c").unwrap();
    watch.wait_for("2 c").await;
}

/// A part is replaced while a writer still writes the main file. The reloader waits for the writer, and never loads the
/// half-written main file.
#[tokio::test]
async fn part_change_waits_for_writer_of_main_file() {
    let directory = tempfile::tempdir().unwrap();
    let (main, part) = (directory.path().join("main"), directory.path().join("part"));
    fs::write(&main, "all\npart").unwrap();
    fs::write(&part, "0").unwrap();
    let mut watch = DocumentWatch::open(&main).await;
    for round in 1..=20 {
        let (main, part, new) = (main.clone(), part.clone(), directory.path().join("new"));
        let writer = thread::spawn(move || {
            let mut file = fs::File::create(main).unwrap();
            let (began, mut last, mut longest_pause) =
                (Instant::now(), Instant::now(), MAX_WRITER_PAUSE);
            let mut is_replaced = false;
            while began.elapsed() < 6 * MAX_WRITER_PAUSE {
                file.write_all(b"half").unwrap();
                longest_pause = longest_pause.max(last.elapsed());
                last = Instant::now();
                if began.elapsed() > MAX_WRITER_PAUSE && !is_replaced {
                    fs::write(&new, round.to_string()).unwrap();
                    fs::rename(&new, &part).unwrap();
                    is_replaced = true;
                }
            }
            file.set_len(0).unwrap();
            file.rewind().unwrap();
            file.write_all(b"all\npart").unwrap();
            longest_pause == MAX_WRITER_PAUSE
        });
        let mut seen = Vec::new();
        while seen.last() != Some(&format!("all {round}")) {
            let event = timeout(TIMEOUT, watch.0.rx.recv()).await.expect("an event");
            if let Some(WatchEvent::Changed(document)) = event {
                seen.push(document.text());
            }
        }
        // On a busy machine the writer may pause longer than `MAX_WRITER_PAUSE`. The reloader then treats it as
        // finished, so the round is repeated.
        if writer.join().unwrap() {
            assert!(
                seen.iter().all(|text| !text.contains("half")),
                "a half-written file was loaded"
            );
            return;
        }
    }
}
