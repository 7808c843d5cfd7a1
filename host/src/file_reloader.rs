//! [`FileReloader`]: keeps a Rust value up to date with a file.
//!
//! The type of the value implements `TryFrom<&PathBuf>` and [`AsyncFileLoad`]:
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
//! greetings.changed().await?; // as soon as the file has been written
//! assert_eq!(greetings.get(), Some(Greeting("Good morning".into())));
//! # Ok(())
//! # }
//! ```

use crate::{
    fs_watch::{FileWatcher, LastWriter, MAX_WAIT, PathWatch, resolve_accessible, settled},
    reload::{RealtimeWatch, RealtimeWatchHandle, Reload, ReloaderError, WatchEvent},
};
use async_trait::async_trait;
use reloader_util::panics;
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

/// File watcher that all reloaders share.
static FILE_WATCHER: LazyLock<FileWatcher> = LazyLock::new(FileWatcher::new);

/// Capacity of the channels for values and for change signals.
const CHANNEL_CAPACITY: usize = 16;

/// Initial delay of the exponential backoff after a failed load. The retry is needed because the value may depend on
/// files that are not known, and therefore not watched, until a load succeeds.
const INITIAL_RETRY_DELAY: Duration = Duration::from_secs(1);
/// Maximum delay of the exponential backoff.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(10);

/// Maximum number of consecutive loads without a wait for a change, if each load adds a dependent file.
const MAX_IMMEDIATE_LOADS: u32 = 4;

/// Value that is loaded from a file without blocking.
#[async_trait]
pub trait AsyncFileLoad: Sized {
    /// Error of a load.
    type Error: Send;

    /// Loads the value. Symbolic links in the path are already resolved.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read or is invalid.
    async fn async_load_from<T>(path: T) -> Result<Self, Self::Error>
    where
        T: AsRef<Path> + Send;

    /// Returns the other files on which the value depends. A change of one of them loads the value again. A relative
    /// path starts at the directory of the main file, after symbolic links are resolved.
    fn dependent_paths(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}

/// Reloader that keeps an `F` up to date with a file. The file may be replaced, written in place, reached through
/// symbolic links, and absent at times.
pub struct FileReloader<F> {
    /// Absolute path of the file. Symbolic links in it are resolved at each load.
    pub file_path: PathBuf,
    files: FileWatcher,
    value: PhantomData<fn() -> F>,
}

impl<F> Clone for FileReloader<F> {
    fn clone(&self) -> Self {
        Self { file_path: self.file_path.clone(), files: self.files.clone(), value: PhantomData }
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
        Ok(Self { file_path, files: FILE_WATCHER.for_another_owner(), value: PhantomData })
    }

    /// Loads the file after its writer has finished: see [`settled`]. `F` need not be `Send`, so `try_from` runs on the
    /// current thread, but only after the file system has answered.
    async fn reload(&self) -> Result<Option<F>, ReloaderError<F, String>> {
        let load = |path: &PathBuf| F::try_from(path).map_err(|error| error.to_string());
        let loaded = settled(&self.file_path, load).await;
        let loaded = loaded.unwrap_or_else(|error| Err(error.to_string()));
        loaded.map(Some).map_err(ReloaderError::Reload)
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
        let to_error = |error: io::Error| ReloaderError::<F, String>::Other(error.into());
        let main = self.files.watch(&self.file_path).await.map_err(to_error)?;
        let (signal_sender, signals) = mpsc::channel(CHANNEL_CAPACITY);
        let mut watched = WatchedFiles { main, signal_sender, signals, dependent: HashMap::new() };
        let loaded = load::<F>(&self.file_path).await;
        let retry_delay = loaded.is_err().then_some(INITIAL_RETRY_DELAY);
        if let Ok(loaded) = loaded {
            watched.set_dependent(&loaded.path, loaded.dependent).await;
        }
        let (events, receiver) = mpsc::channel(CHANNEL_CAPACITY);
        // Dropping the set aborts the task.
        let mut task = JoinSet::new();
        task.spawn(load_changes(self.file_path.clone(), watched, events, retry_delay));
        Ok(RealtimeWatchHandle::with_cleanup(receiver, Box::new(task)))
    }

    /// Returns `true`: a file that cannot be loaded is still watched.
    fn outlives_errors(&self) -> bool {
        true
    }
}

/// Change of a watched file, or the error that ended its watch.
type ChangeSignal = io::Result<()>;

/// Loads the file after each change and sends the result, until the receiver is dropped. `retry_delay` is the delay
/// before the next retry, if the last load failed.
async fn load_changes<F>(
    path: PathBuf,
    mut watched: WatchedFiles,
    events: mpsc::Sender<WatchEvent<F>>,
    mut retry_delay: Option<Duration>,
) where
    F: AsyncFileLoad + Send + 'static,
    F::Error: Display,
{
    let mut immediate_loads = 0;
    loop {
        let is_changed = match retry_delay {
            // The last load added a dependent file, which may have changed before its watch started.
            _ if immediate_loads > 0 => true,
            Some(delay) => match timeout(delay, watched.changed()).await {
                Ok(Err(error)) if error.kind() != io::ErrorKind::TimedOut => return,
                result => matches!(result, Ok(Ok(()))),
            },
            None => match watched.changed().await {
                Ok(()) => true,
                // The file system does not answer. The file is still watched.
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    if events.send(WatchEvent::Error(error.to_string())).await.is_err() {
                        return;
                    }
                    continue;
                }
                Err(_) => return,
            },
        };
        watched.wait_for_writers(&path).await;
        let event = match load(&path).await {
            Ok(Loaded { value, path, dependent }) => {
                retry_delay = None;
                let is_new = watched.set_dependent(&path, dependent).await;
                let is_repeated = is_new && immediate_loads < MAX_IMMEDIATE_LOADS;
                immediate_loads = if is_repeated { immediate_loads + 1 } else { 0 };
                WatchEvent::Changed(value)
            }
            Err(error) => {
                immediate_loads = 0;
                let doubled =
                    retry_delay.filter(|_| !is_changed).map(|delay| MAX_RETRY_DELAY.min(delay * 2));
                retry_delay = doubled.or(Some(INITIAL_RETRY_DELAY));
                if !is_changed {
                    continue;
                }
                WatchEvent::Error(error)
            }
        };
        if events.send(event).await.is_err() {
            return;
        }
    }
}

/// Result of a load: the value, and the files on which it depends.
struct Loaded<F> {
    value: F,
    /// Path of the main file with symbolic links resolved, since relative paths in a file start at the file's real
    /// directory.
    path: PathBuf,
    /// Paths of the other files on which the value depends.
    dependent: Vec<PathBuf>,
}

/// Loads a value after the file system has answered. A panic is an error of the load.
async fn load<F>(path: &Path) -> Result<Loaded<F>, String>
where
    F: AsyncFileLoad + Send,
    F::Error: Display,
{
    let path = resolve_accessible(path).await.map_err(|error| error.to_string())?;
    let loading = async {
        let value = F::async_load_from(&path).await.map_err(|error| error.to_string())?;
        let dependent = value.dependent_paths();
        Ok((value, dependent))
    };
    let loaded = panics::catch_future(loading).await;
    let loaded = loaded.unwrap_or_else(|message| Err(format!("panicked: {message}")));
    loaded.map(|(value, dependent)| Loaded { value, path, dependent })
}

/// Watches of all files of one value. Each dependent file has a task that forwards its changes. The main file has
/// none, since a task adds latency.
struct WatchedFiles {
    main: PathWatch,
    signal_sender: mpsc::Sender<ChangeSignal>,
    signals: mpsc::Receiver<ChangeSignal>,
    dependent: HashMap<PathBuf, DependentFile>,
}

struct DependentFile {
    task: AbortHandle,
    last_writer: LastWriter,
}

impl WatchedFiles {
    /// Waits until one of the files may have changed. Also consumes the pending signals of the dependent files, since
    /// one load reads all files.
    async fn changed(&mut self) -> ChangeSignal {
        tokio::select! {
            changed = self.main.changed() => changed?,
            Some(signal) = self.signals.recv() => signal?,
        }
        while let Ok(signal) = self.signals.try_recv() {
            signal?;
        }
        Ok(())
    }

    /// Watches a dependent file.
    async fn add(&mut self, path: &Path) -> io::Result<()> {
        let mut watch = FILE_WATCHER.for_another_owner().watch(path).await?;
        let signals = self.signal_sender.clone();
        let last_writer = watch.last_writer();
        let task = tokio::spawn(async move {
            loop {
                let signal = watch.changed().await;
                // A file whose file system does not answer is still watched.
                let is_timeout = |error: &io::Error| error.kind() == io::ErrorKind::TimedOut;
                if signal.as_ref().is_err_and(is_timeout) {
                    continue;
                }
                let is_lost = signal.is_err();
                if signals.send(signal).await.is_err() || is_lost {
                    return;
                }
            }
        });
        let file = DependentFile { task: task.abort_handle(), last_writer };
        self.dependent.insert(path.into(), file);
        Ok(())
    }

    /// Waits until the writers of all files have finished, for at most [`MAX_WAIT`].
    async fn wait_for_writers(&self, main: &Path) {
        let writers = async {
            let dependent = self
                .dependent
                .iter()
                .map(|(path, file)| (path.as_path(), file.last_writer.clone()));
            for (path, last_writer) in dependent.chain([(main, self.main.last_writer())]) {
                if !last_writer.is_done() {
                    // Ignores an error: if the file system does not answer, the next load reports it.
                    let _ = settled(path, |_| ()).await;
                }
            }
        };
        let _ = timeout(MAX_WAIT, writers).await;
    }

    /// Replaces the set of dependent files, and returns whether a file was added.
    async fn set_dependent(&mut self, main: &Path, paths: Vec<PathBuf>) -> bool {
        let directory = main.parent().unwrap_or(main);
        let wanted: Vec<PathBuf> = paths.into_iter().map(|path| directory.join(path)).collect();
        self.dependent.retain(|path, file| {
            let is_wanted = wanted.contains(path);
            if !is_wanted {
                file.task.abort();
            }
            is_wanted
        });
        let mut is_new = false;
        for path in wanted {
            if path == main || self.dependent.contains_key(&path) {
                continue;
            }
            match self.add(&path).await {
                Ok(()) => is_new = true,
                Err(error) => {
                    warn!(path = %path.display(), %error, "watching a file on which the value depends failed")
                }
            }
        }
        is_new
    }
}

impl Drop for WatchedFiles {
    fn drop(&mut self) {
        self.dependent.values().for_each(|file| file.task.abort());
    }
}
