//! Files that are made of others, where what is followed changes while it is found out.
#![cfg(feature = "file-reloader")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

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

/// Only reached on failure.
const DEADLINE: Duration = Duration::from_secs(20);
/// A writer that pauses for no longer is still writing.
const PAUSE: Duration = Duration::from_millis(25);

/// The first line of a file, and the content of the files that the other lines name.
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
            // Somebody is just in time: it has been read, and is not yet followed.
            if text == "early" {
                fs::write(path, "late").unwrap();
            }
        }
        self.parts.iter().map(|(path, _)| path.clone()).collect()
    }
}

/// Listens to a file, and to what it is made of.
struct Listener(RealtimeWatchHandle<Document>);

impl Listener {
    async fn of(path: &Path) -> Self {
        let path = path.display().to_string();
        let reloader = <FileReloader<Document> as Reload<_, String>>::new(&path).await.unwrap();
        Self(reloader.watch_realtime().await.unwrap())
    }

    async fn comes_to_know(&mut self, text: &str) {
        let known = async {
            loop {
                match self.0.rx.recv().await {
                    Some(WatchEvent::Changed(document)) if document.text() == text => return,
                    Some(_) => {}
                    None => panic!("it listens no more"),
                }
            }
        };
        assert!(timeout(DEADLINE, known).await.is_ok(), "{text:?} has not arrived");
    }
}

#[tokio::test]
async fn a_part_that_changes_while_the_whole_is_loaded_is_loaded_again() {
    let directory = tempfile::tempdir().unwrap();
    let (main, part) = (directory.path().join("main"), directory.path().join("part"));
    fs::write(&part, "early").unwrap();
    fs::write(&main, "1").unwrap();
    let mut listener = Listener::of(&main).await;
    fs::write(&main, "2\npart").unwrap();
    listener.comes_to_know("2 late").await;
}

#[tokio::test]
async fn a_part_that_is_missing_at_first_is_followed_when_it_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let (main, part) = (directory.path().join("main"), directory.path().join("part"));
    fs::write(&main, "1\npart").unwrap();
    let mut listener = Listener::of(&main).await;
    fs::write(&part, "a").unwrap();
    listener.comes_to_know("1 a").await;
    fs::write(&part, "b").unwrap();
    listener.comes_to_know("1 b").await;
    // The same, when it was known to be loaded before.
    fs::write(&main, "2\nother").unwrap();
    loop {
        if let Some(WatchEvent::Error(_)) = listener.0.rx.recv().await {
            break;
        }
    }
    fs::write(directory.path().join("other"), "c").unwrap();
    listener.comes_to_know("2 c").await;
}

/// What happens to a part is complete, and says nothing of the main file, which is being written.
#[tokio::test]
async fn what_happens_to_a_part_does_not_show_a_main_file_that_is_half_written() {
    let directory = tempfile::tempdir().unwrap();
    let (main, part) = (directory.path().join("main"), directory.path().join("part"));
    fs::write(&main, "all\npart").unwrap();
    fs::write(&part, "0").unwrap();
    let mut listener = Listener::of(&main).await;
    for round in 1..=20 {
        let (main, part, new) = (main.clone(), part.clone(), directory.path().join("new"));
        let writer = thread::spawn(move || {
            let mut file = fs::File::create(main).unwrap();
            let (began, mut last, mut longest_pause) = (Instant::now(), Instant::now(), PAUSE);
            let mut is_replaced = false;
            while began.elapsed() < 6 * PAUSE {
                file.write_all(b"half").unwrap();
                longest_pause = longest_pause.max(last.elapsed());
                last = Instant::now();
                if began.elapsed() > PAUSE && !is_replaced {
                    fs::write(&new, round.to_string()).unwrap();
                    fs::rename(&new, &part).unwrap();
                    is_replaced = true;
                }
            }
            file.set_len(0).unwrap();
            file.rewind().unwrap();
            file.write_all(b"all\npart").unwrap();
            longest_pause == PAUSE
        });
        let mut seen = Vec::new();
        while seen.last() != Some(&format!("all {round}")) {
            let event = timeout(DEADLINE, listener.0.rx.recv()).await.expect("it arrives");
            if let Some(WatchEvent::Changed(document)) = event {
                seen.push(document.text());
            }
        }
        // Who pauses for too long on a busy machine may well be taken to be done.
        if writer.join().unwrap() {
            assert!(seen.iter().all(|text| !text.contains("half")), "it was not waited for");
            return;
        }
    }
}
