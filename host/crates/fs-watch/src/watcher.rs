//! Watching and reading files: what programs use.

#[cfg(target_os = "linux")]
use crate::read_nonblocking::read_at_once;
use crate::{
    notification::Signal,
    path_watch::PathWatch,
    read::{self, ReadError},
    registry::Shared,
    resolver::Followed,
};
use std::{
    io,
    path::{Path, absolute},
    sync::Arc,
    time::Duration,
};

/// Watches files. Cheap to clone; all clones share the same watches.
#[derive(Debug, Clone)]
pub struct FileWatcher {
    shared: Arc<Shared>,
    settings: Settings,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) probe_every: Duration,
    pub(crate) retry_every: Duration,
}

/// No time between two looks is shorter, so that a file is not looked at in a loop.
const SHORTEST: Duration = Duration::from_millis(1);
/// None is longer: a hundred years are as good as never, and can be added to any instant.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

impl FileWatcher {
    /// A watcher that watches nothing yet, and uses nothing of the system.
    #[must_use]
    pub fn new() -> Self {
        let settings =
            Settings { probe_every: Duration::from_secs(1), retry_every: Duration::from_secs(10) };
        Self { shared: Arc::default(), settings }
    }

    /// How often a file is looked at whose changes the system does not tell: on a network file
    /// system, in `/proc`, in a directory that may not be read, or when the limits for watches are
    /// reached. Every second by default; at least a millisecond, and [`Duration::MAX`] is never. For
    /// what is watched from now on.
    #[must_use]
    pub fn probe_every(mut self, interval: Duration) -> Self {
        self.settings.probe_every = interval.clamp(SHORTEST, LONGEST);
        self
    }

    /// How often events are tried again after the limits for watches were reached. Every 10 seconds
    /// by default. For what is watched from now on.
    #[must_use]
    pub fn retry_every(mut self, interval: Duration) -> Self {
        self.settings.retry_every = interval.clamp(SHORTEST, LONGEST);
        self
    }

    /// Watches a path. It need not exist. A relative one is of the directory that is the current one
    /// now. What changes from now on is told; where the system tells of no changes, the file is
    /// looked at ([`probe_every`](Self::probe_every)).
    ///
    /// # Errors
    ///
    /// When the path is empty, or there is no current directory that it could be relative to.
    pub async fn watch(&self, path: &Path) -> io::Result<PathWatch> {
        let path = absolute(path)?;
        let (shared, signal) = (Arc::clone(&self.shared), Arc::<Signal>::default());
        let mut followed = Box::new(Followed::new(path, shared, Arc::clone(&signal)));
        let following = tokio::task::spawn_blocking(move || {
            let found = followed.follow();
            (followed, found)
        });
        let (followed, found) = following.await.map_err(io::Error::other)?;
        Ok(PathWatch::new(signal, followed, found, self.settings))
    }

    /// Reads a whole file of at most `limit` bytes; not while it is half written.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    pub async fn read(
        &self,
        path: &Path,
        limit: u64,
        last_writer: &LastWriter,
    ) -> Result<Vec<u8>, ReadError> {
        let complete = last_writer.is_done();
        #[cfg(target_os = "linux")]
        if let Some(device) = last_writer.0.as_ref().and_then(|signal| signal.device())
            && let Some(content) = read_at_once(path, limit, complete, device)
        {
            return Ok(content);
        }
        let shown = path.display().to_string();
        let path = path.to_owned();
        tokio::task::spawn_blocking(move || read::read(&path, limit, complete))
            .await
            .unwrap_or_else(|error| {
                Err(ReadError::Failed { path: shown, error: io::Error::other(error) })
            })
    }
}

impl Default for FileWatcher {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether whoever wrote to a file last is known to be done. By default it is not known.
#[derive(Debug, Clone, Default)]
pub struct LastWriter(Option<Arc<Signal>>);

impl LastWriter {
    pub(crate) fn of(signal: &Arc<Signal>) -> Self {
        Self(Some(Arc::clone(signal)))
    }

    /// Whether what is read now is complete, for certain.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.0.as_ref().is_some_and(|signal| signal.is_complete())
    }
}
