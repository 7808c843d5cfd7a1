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
    file::{FileWatcher, LastWriter, MAX_WAIT, PathWatch, settled},
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
    time::Duration,
};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::timeout,
};
use tracing::warn;

/// One for all: what watches files is shared, however many there are.
static FILES: LazyLock<FileWatcher> = LazyLock::new(FileWatcher::new);

/// How many values, or signs of change, may wait to be taken.
const WAITING: usize = 16;

/// What cannot be loaded may be made of files that are not known yet, and so are not watched. It is
/// tried again after so long …
const AGAIN: Duration = Duration::from_secs(1);
/// … and then after twice as long each time, up to this.
const AGAIN_MAX: Duration = Duration::from_secs(10);

/// A value that names other files each time is loaded so often in a row.
const AT_ONCE: u32 = 4;

/// Can be loaded from a file without blocking.
#[async_trait]
pub trait AsyncFileLoad: Sized {
    /// Why it cannot be loaded.
    type Error: Send;

    /// Loads it. The path has no symbolic links in it: they were followed just before.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or is not what it should be.
    async fn async_load_from<T>(path: T) -> Result<Self, Self::Error>
    where
        T: AsRef<Path> + Send;

    /// Other files that it was made of: when one of them changes, it is loaded again. A relative path
    /// starts at the directory of the main file, or of the one that it leads to as a symbolic link.
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
        settled(path, |path| F::try_from(&real(path)).map_err(|error| error.to_string()))
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
        let mut watched = Watched { main, signals, seen, paths: HashMap::new() };
        let path = real(&self.file_path);
        let loaded = F::async_load_from(&path).await;
        let again = loaded.is_err().then_some(AGAIN);
        if let Ok(loaded) = loaded {
            watched.follow(&path, loaded.dependent_paths()).await;
        }
        let (events, receiver) = mpsc::channel(WAITING);
        // Which ends the task when it is dropped.
        let mut task = JoinSet::new();
        task.spawn(load_changes(self.file_path.clone(), watched, events, again));
        Ok(RealtimeWatchHandle::with_cleanup(receiver, Box::new(task)))
    }

    /// A file that cannot be loaded is still watched.
    fn outlives_errors(&self) -> bool {
        true
    }
}

/// Something has happened to a watched file.
type Signal = io::Result<()>;

/// Loads the file whenever something may have changed, until nobody wants to know. `again`: it could
/// not be loaded, and is to be tried again after so long.
async fn load_changes<F>(
    path: PathBuf,
    mut watched: Watched,
    events: mpsc::Sender<WatchEvent<F>>,
    mut again: Option<Duration>,
) where
    F: AsyncFileLoad + Send + 'static,
    F::Error: Display,
{
    let mut at_once = 0;
    loop {
        let is_told = match again {
            // It names other files than before: what has happened to them since is not told.
            _ if at_once > 0 => true,
            Some(pause) => match timeout(pause, watched.changed()).await {
                Ok(Err(_)) => return,
                told => told.is_ok(),
            },
            None => match watched.changed().await {
                Ok(()) => true,
                Err(_) => return,
            },
        };
        watched.are_quiet(&path).await;
        let path = real(&path);
        let event = match F::async_load_from(&path).await {
            Ok(loaded) => {
                again = None;
                let is_new = watched.follow(&path, loaded.dependent_paths()).await;
                at_once = if is_new && at_once < AT_ONCE { at_once + 1 } else { 0 };
                WatchEvent::Changed(loaded)
            }
            Err(error) => {
                at_once = 0;
                let longer = again.filter(|_| !is_told).map(|pause| AGAIN_MAX.min(pause * 2));
                again = longer.or(Some(AGAIN));
                if !is_told {
                    continue;
                }
                WatchEvent::Error(error.to_string())
            }
        };
        if events.send(event).await.is_err() {
            return;
        }
    }
}

/// Where the file is now, since what it names by relative paths lies there.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// The files that one value is made of. The main one is waited for directly, since each task on the
/// way of a change takes time; each other has a task that tells of its changes.
struct Watched {
    main: PathWatch,
    signals: mpsc::Sender<Signal>,
    seen: mpsc::Receiver<Signal>,
    paths: HashMap<PathBuf, Followed>,
}

struct Followed {
    task: AbortHandle,
    last_writer: LastWriter,
}

impl Watched {
    /// Waits until one of them may have changed. What happens meanwhile to others is seen by the same
    /// load.
    async fn changed(&mut self) -> Signal {
        tokio::select! {
            changed = self.main.changed() => changed?,
            Some(signal) = self.seen.recv() => signal?,
        }
        while let Ok(signal) = self.seen.try_recv() {
            signal?;
        }
        Ok(())
    }

    async fn add(&mut self, path: &Path) -> io::Result<()> {
        let mut watch = FILES.watch(path).await?;
        let signals = self.signals.clone();
        let last_writer = watch.last_writer();
        let task = tokio::spawn(async move {
            loop {
                let signal = watch.changed().await;
                let lost = signal.is_err();
                if signals.send(signal).await.is_err() || lost {
                    return;
                }
            }
        });
        self.paths.insert(path.into(), Followed { task: task.abort_handle(), last_writer });
        Ok(())
    }

    /// Waits, but not for long, until nobody writes to any of them.
    async fn are_quiet(&self, main: &PathBuf) {
        let quiet = async {
            let others = self.paths.iter().map(|(path, other)| (path, other.last_writer.clone()));
            for (path, last_writer) in others.chain([(main, self.main.last_writer())]) {
                if !last_writer.is_done() {
                    settled(path, |_| ()).await;
                }
            }
        };
        let _ = timeout(MAX_WAIT, quiet).await;
    }

    /// Watches these files beside the main one, and no others. Whether one of them is new.
    async fn follow(&mut self, main: &Path, dependent: Vec<PathBuf>) -> bool {
        let directory = main.parent().unwrap_or(main);
        let wanted: Vec<PathBuf> = dependent.into_iter().map(|path| directory.join(path)).collect();
        self.paths.retain(|path, followed| {
            let stays = wanted.contains(path);
            if !stays {
                followed.task.abort();
            }
            stays
        });
        let mut is_new = false;
        for path in wanted {
            if path == main || self.paths.contains_key(&path) {
                continue;
            }
            match self.add(&path).await {
                Ok(()) => is_new = true,
                Err(error) => warn!("`{}` is not watched: {error}", path.display()),
            }
        }
        is_new
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.paths.values().for_each(|followed| followed.task.abort());
    }
}
