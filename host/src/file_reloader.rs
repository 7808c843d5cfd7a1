//! A file as the source of a Rust value: [`FileReloader`].
//!
//! A type that can be made of a file's path is kept up to date with it:
//!
//! ```
//! use reloader_host::{ReloaderConfig, ReloaderService, file_reloader::{AsyncFileLoad, FileReloader}};
//! use std::{convert::Infallible, path::{Path, PathBuf}};
//!
//! #[derive(Debug, Clone, PartialEq, Eq)]
//! struct Greeting(String);
//!
//! impl TryFrom<&PathBuf> for Greeting {
//!     type Error = std::io::Error;
//!
//!     fn try_from(path: &PathBuf) -> Result<Self, Self::Error> {
//!         std::fs::read_to_string(path).map(Greeting)
//!     }
//! }
//!
//! #[async_trait::async_trait]
//! impl AsyncFileLoad for Greeting {
//!     type Error = std::io::Error;
//!
//!     async fn async_load_from<T: AsRef<Path> + Send>(path: T) -> Result<Self, Self::Error> {
//!         tokio::fs::read_to_string(path).await.map(Greeting)
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> anyhow::Result<()> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("greeting").display().to_string();
//! # std::fs::write(&path, "Hello")?;
//! let (service, mut greetings) =
//!     ReloaderService::<FileReloader<Greeting>, Greeting, String>::new(&path, ReloaderConfig::hybrid(10))
//!         .await?;
//! tokio::spawn(async move { service.start_with_realtime().await });
//! greetings.changed().await?;
//! assert_eq!(greetings.get(), Some(Greeting("Hello".into())));
//! # std::fs::write(&path, "Good morning")?;
//! greetings.changed().await?; // as soon as somebody has written the file
//! assert_eq!(greetings.get(), Some(Greeting("Good morning".into())));
//! # Ok(())
//! # }
//! ```

use crate::{
    file::{FileWatcher, PathWatch, settled},
    reload::{RealtimeWatch, RealtimeWatchHandle, Reload, ReloaderError, WatchEvent},
};
use async_trait::async_trait;
use std::{
    collections::HashMap,
    fmt::Display,
    io,
    marker::PhantomData,
    path::{Path, PathBuf, absolute},
    sync::LazyLock,
};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};
use tracing::warn;

/// One for all: what watches files is shared, however many there are.
static FILES: LazyLock<FileWatcher> = LazyLock::new(FileWatcher::new);

/// How many values, or signs of change, may wait to be taken.
const WAITING: usize = 16;

/// How often a value that is made of ever other files is loaded in a row.
const LOADS: usize = 4;

/// Can be loaded from a file without blocking.
#[async_trait]
pub trait AsyncFileLoad: Sized {
    /// Why it cannot be loaded.
    type Error: Send;

    /// Loads it.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or is not what it should be.
    async fn async_load_from<T>(path: T) -> Result<Self, Self::Error>
    where
        T: AsRef<Path> + Send;

    /// Other files that it was made of: when one of them changes, it is loaded again. A relative path
    /// starts at the directory of the main file.
    fn dependent_paths(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}

/// Keeps an `F` up to date with a file. The file may be replaced, written in place, be reached through
/// symbolic links, and be absent for a while.
pub struct FileReloader<F> {
    /// The file, as an absolute path; symbolic links in it are followed anew each time.
    pub file_path: PathBuf,
    value: PhantomData<fn() -> F>,
}

impl<F> Clone for FileReloader<F> {
    fn clone(&self) -> Self {
        Self { file_path: self.file_path.clone(), value: PhantomData }
    }
}

#[async_trait]
impl<F> Reload<F, String> for FileReloader<F>
where
    F: Eq + PartialEq + for<'a> TryFrom<&'a PathBuf> + Sync,
    for<'a> <F as TryFrom<&'a PathBuf>>::Error: Display,
{
    type Source = String;

    async fn new(source: &String) -> Result<Self, ReloaderError<F, String>> {
        let file_path = absolute(source).map_err(|error| ReloaderError::Other(error.into()))?;
        Ok(Self { file_path, value: PhantomData })
    }

    /// Loads the file when nobody is writing to it: one that was just written to is given a moment,
    /// and one that is empty a little longer.
    async fn reload(&self) -> Result<Option<F>, ReloaderError<F, String>> {
        let path = &self.file_path;
        settled(path, |path| F::try_from(path).map_err(|error| error.to_string()))
            .await
            .map(Some)
            .map_err(ReloaderError::Reload)
    }
}

#[async_trait]
impl<F> RealtimeWatch<F, String> for FileReloader<F>
where
    F: Eq + PartialEq + for<'a> TryFrom<&'a PathBuf> + AsyncFileLoad + Sync + Send + 'static,
    <F as AsyncFileLoad>::Error: Display,
    for<'a> <F as TryFrom<&'a PathBuf>>::Error: Display,
{
    async fn watch_realtime(&self) -> Result<RealtimeWatchHandle<F>, ReloaderError<F, String>> {
        let failed = |error: io::Error| ReloaderError::<F, String>::Other(error.into());
        let main = FILES.watch(&self.file_path).await.map_err(failed)?;
        let (signals, seen) = mpsc::channel(WAITING);
        let mut dependent = Dependent { signals, paths: HashMap::new() };
        if let Ok(loaded) = F::async_load_from(&self.file_path).await {
            dependent.follow(&self.file_path, loaded.dependent_paths()).await;
        }
        let (events, receiver) = mpsc::channel(WAITING);
        // Which ends the task when it is dropped.
        let mut task = JoinSet::new();
        task.spawn(load_changes(self.file_path.clone(), Watched { main, seen }, dependent, events));
        Ok(RealtimeWatchHandle::with_cleanup(receiver, Box::new(task)))
    }

    /// A file that cannot be loaded is still watched.
    fn outlives_errors(&self) -> bool {
        true
    }
}

/// What has happened to a watched file; `true`: its last writer is known to be done.
type Signal = io::Result<bool>;

/// Loads the file whenever something may have changed, until nobody wants to know.
async fn load_changes<F>(
    path: PathBuf,
    mut watched: Watched,
    mut dependent: Dependent,
    events: mpsc::Sender<WatchEvent<F>>,
) where
    F: AsyncFileLoad + Send + 'static,
    F::Error: Display,
{
    while let Ok(complete) = watched.changed().await {
        if !complete {
            file_is_quiet(&path).await;
        }
        for _ in 0..LOADS {
            let mut is_known = true;
            let event = match F::async_load_from(&path).await {
                Ok(loaded) => {
                    is_known = dependent.follow(&path, loaded.dependent_paths()).await;
                    WatchEvent::Changed(loaded)
                }
                Err(error) => WatchEvent::Error(error.to_string()),
            };
            if events.send(event).await.is_err() {
                return;
            }
            // What changed before it was watched is seen by loading once more.
            if is_known {
                break;
            }
        }
    }
}

/// The files that one value is made of. The main one is waited for directly: each task on the way of
/// a change costs time.
struct Watched {
    main: PathWatch,
    seen: mpsc::Receiver<Signal>,
}

impl Watched {
    async fn changed(&mut self) -> Signal {
        let mut signal = tokio::select! {
            changed = self.main.changed() => changed.map(|()| self.main.last_writer().is_done()),
            Some(signal) = self.seen.recv() => signal,
        };
        // What happened meanwhile is seen by the same load.
        while let (Ok(complete), Ok(next)) = (&mut signal, self.seen.try_recv()) {
            let done = *complete;
            signal = next.map(|complete| complete && done);
        }
        signal
    }
}

async fn file_is_quiet(path: &PathBuf) {
    settled(path, |_| ()).await;
}

/// The other files, a task each that tells of its changes.
struct Dependent {
    signals: mpsc::Sender<Signal>,
    paths: HashMap<PathBuf, AbortHandle>,
}

impl Dependent {
    /// Watches these files, and no others. Relative ones are of the main file's directory. Whether
    /// all of them have been watched before.
    async fn follow(&mut self, main: &Path, wanted: Vec<PathBuf>) -> bool {
        let directory = main.parent().unwrap_or(main);
        let wanted: Vec<PathBuf> = wanted.into_iter().map(|path| directory.join(path)).collect();
        self.paths.retain(|path, task| {
            let stays = wanted.contains(path);
            if !stays {
                task.abort();
            }
            stays
        });
        let mut all_known = true;
        for path in wanted {
            if self.paths.contains_key(&path) {
                continue;
            }
            match self.add(&path).await {
                Ok(()) => all_known = false,
                Err(error) => warn!("`{}` is not watched: {error}", path.display()),
            }
        }
        all_known
    }

    async fn add(&mut self, path: &Path) -> io::Result<()> {
        let mut watch = FILES.watch(path).await?;
        let signals = self.signals.clone();
        let task = tokio::spawn(async move {
            loop {
                let signal = watch.changed().await.map(|()| watch.last_writer().is_done());
                let lost = signal.is_err();
                if signals.send(signal).await.is_err() || lost {
                    return;
                }
            }
        });
        self.paths.insert(path.into(), task.abort_handle());
        Ok(())
    }
}

impl Drop for Dependent {
    fn drop(&mut self) {
        self.paths.values().for_each(AbortHandle::abort);
    }
}
