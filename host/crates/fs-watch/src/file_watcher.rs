//! File watcher: creates path watches and reads files.

#[cfg(target_os = "linux")]
use crate::page_cache_read::read_from_page_cache;
use crate::{
    intervals::{Intervals, MAX_INTERVAL, MIN_INTERVAL},
    last_writer::LastWriter,
    path_resolver::PathResolver,
    path_watch::PathWatch,
    pending_changes::ChangeSignal,
    settled_read::{ReadError, read_settled},
    watch_registry::WatchRegistry,
};
use std::{
    io,
    path::{Path, absolute},
    sync::Arc,
    time::Duration,
};

/// File watcher. Cheap to clone; all clones share one inotify instance.
#[derive(Debug, Clone)]
pub struct FileWatcher {
    registry: Arc<WatchRegistry>,
    intervals: Intervals,
}

impl FileWatcher {
    /// Creates a watcher without watches. The first watch allocates system resources.
    #[must_use]
    pub fn new() -> Self {
        let intervals = Intervals { poll: Duration::from_secs(1), retry: Duration::from_secs(10) };
        Self { registry: Arc::default(), intervals }
    }

    /// Sets the poll interval of files for which the kernel reports no events. Default: 1 second.
    ///
    /// Such files are on a network file system, in `/proc`, below a directory without read
    /// permission, or beyond the inotify limits of the system. The minimum is 1 millisecond.
    /// [`Duration::MAX`] disables polling. The setting applies to watches that are created
    /// afterwards.
    #[must_use]
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.intervals.poll = interval.clamp(MIN_INTERVAL, MAX_INTERVAL);
        self
    }

    /// Sets the time until inotify is tried again after its limits were reached. Default: 10
    /// seconds.
    ///
    /// The minimum is 1 millisecond. [`Duration::MAX`] disables the retries. The setting applies to
    /// watches that are created afterwards.
    #[must_use]
    pub fn retry_every(mut self, interval: Duration) -> Self {
        self.intervals.retry = interval.clamp(MIN_INTERVAL, MAX_INTERVAL);
        self
    }

    /// Watches a path, which need not exist.
    ///
    /// A relative path is resolved against the current directory of this moment. The watch reports
    /// changes from now on. Files without kernel events are polled
    /// ([`poll_interval`](Self::poll_interval)).
    ///
    /// # Errors
    ///
    /// Returns an error if the path is empty, or if it is relative and there is no current
    /// directory.
    pub async fn watch(&self, path: &Path) -> io::Result<PathWatch> {
        let path = absolute(path)?;
        let (registry, signal) = (Arc::clone(&self.registry), Arc::<ChangeSignal>::default());
        let mut resolver = Box::new(PathResolver::new(path, registry, Arc::clone(&signal)));
        let resolving = tokio::task::spawn_blocking(move || {
            let resolution = resolver.resolve();
            (resolver, resolution)
        });
        let (resolver, resolution) = resolving.await.map_err(io::Error::other)?;
        Ok(PathWatch::new(signal, resolver, resolution, self.intervals))
    }

    /// Reads a whole file of at most `limit` bytes.
    ///
    /// Unless `last_writer` has finished, a recently modified file is read until two reads agree,
    /// so that half-written content is not returned.
    ///
    /// # Errors
    ///
    /// Returns a [`ReadError`] if the file does not exist, is too large or cannot be read.
    pub async fn read(
        &self,
        path: &Path,
        limit: u64,
        last_writer: &LastWriter,
    ) -> Result<Vec<u8>, ReadError> {
        let complete = last_writer.is_done();
        #[cfg(target_os = "linux")]
        if let Some(device) = last_writer.device()
            && let Some(content) = read_from_page_cache(path, limit, complete, device)
        {
            return Ok(content);
        }
        let displayed_path = path.display().to_string();
        let path = path.to_owned();
        tokio::task::spawn_blocking(move || read_settled(&path, limit, complete))
            .await
            .unwrap_or_else(|error| {
                Err(ReadError::Failed { path: displayed_path, error: io::Error::other(error) })
            })
    }
}

impl Default for FileWatcher {
    fn default() -> Self {
        Self::new()
    }
}
