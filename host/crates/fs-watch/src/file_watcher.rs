//! File watcher: creates path watches and reads files.

#[cfg(target_os = "linux")]
use crate::nonblocking_read_from_page_cache::read_from_page_cache;
use crate::{
    file_access_per_owner::{ACCESS_TIMEOUT, FileAccess},
    intervals::{Intervals, MAX_INTERVAL, MIN_INTERVAL},
    path_change_signal::ChangeSignal,
    path_resolver::PathResolver,
    path_watch::{PathWatch, cannot_watch},
    settled_read::{ReadError, read_settled},
    watch_registry::WatchRegistry,
    writer_completion::LastWriter,
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
    access: FileAccess,
}

impl FileWatcher {
    /// Creates a watcher without watches. The first watch allocates system resources.
    #[must_use]
    pub fn new() -> Self {
        let intervals = Intervals { poll: Duration::from_secs(1), retry: Duration::from_secs(10) };
        Self { registry: Arc::default(), intervals, access: FileAccess::new(ACCESS_TIMEOUT) }
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

    /// Sets the timeout of an access to a file. Default: 10 seconds.
    ///
    /// The minimum is 1 millisecond. The setting applies to later watches and reads.
    #[must_use]
    pub fn access_timeout(mut self, timeout: Duration) -> Self {
        self.access.timeout = timeout.clamp(MIN_INTERVAL, MAX_INTERVAL);
        self
    }

    /// Returns a watcher for another owner, such as a source. Both watchers share one inotify instance.
    ///
    /// At most two accesses of an owner run at the same time. An access to a file system that does not answer cannot be
    /// interrupted: two such accesses delay all later ones of their owner, but not those of other owners.
    #[must_use]
    pub fn for_another_owner(&self) -> Self {
        Self { access: self.access.of_another_owner(), ..self.clone() }
    }

    /// Watches a path, which need not exist.
    ///
    /// A relative path is resolved against the current directory at the time of the call. The watch
    /// reports changes from then on. Files without kernel events are polled
    /// ([`poll_interval`](Self::poll_interval)).
    ///
    /// # Errors
    ///
    /// Returns an error if the path is empty, if it is relative and there is no current directory, or
    /// if its file system does not answer.
    pub async fn watch(&self, path: &Path) -> io::Result<PathWatch> {
        let path = absolute(path)?;
        let (registry, signal) = (Arc::clone(&self.registry), Arc::<ChangeSignal>::default());
        let mut resolver = Box::new(PathResolver::new(path.clone(), registry, Arc::clone(&signal)));
        let mut resolving = self.access.start(&path, move || {
            let resolution = resolver.resolve();
            (resolver, resolution)
        });
        let resolved = resolving.result().await;
        let (resolver, resolution) = resolved.map_err(|error| cannot_watch(&path, error))?;
        Ok(PathWatch::new(signal, resolver, resolution, self.intervals, self.access.clone()))
    }

    /// Reads a whole file of at most `limit` bytes.
    ///
    /// Unless `last_writer` has finished, a recently modified file is read until two reads agree,
    /// so that half-written content is not returned.
    ///
    /// # Errors
    ///
    /// Returns a [`ReadError`] if the file does not exist, is too large or cannot be read, or if its
    /// file system does not answer.
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
        let read_path = path.to_owned();
        let mut read = self.access.start(path, move || read_settled(&read_path, limit, complete));
        read.result().await.unwrap_or_else(|error| {
            Err(ReadError::Failed { path: path.display().to_string(), error })
        })
    }
}

impl Default for FileWatcher {
    fn default() -> Self {
        Self::new()
    }
}
