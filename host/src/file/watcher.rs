//! Watching and reading files.
//!
//! Directories are watched, never files, so that a file that is replaced by renaming is not lost.
//! Where a file's content is expected, every write counts; on the way there, only what is created,
//! removed and renamed. A burst of writes is reported when the writer closes the file, or when it
//! pauses; a rename at once.

use super::{
    chain::{Entry, chain},
    read::{self, ReadError},
    registry::Shared,
    signal::Signal,
};
use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{task::JoinHandle, time::sleep_until};

/// A file that is being written is reported when its writer has paused for this long …
const SETTLE: Duration = Duration::from_millis(50);
/// … or, if it never pauses, this long after it began.
const MAX_WAIT: Duration = Duration::from_millis(500);

/// A path that still leads somewhere else after so many looks is looked at again later.
const FOLLOW_MAX: usize = 16;

/// Watches files. Cheap to clone; all clones share the same watches.
#[derive(Debug, Clone)]
pub struct FileWatcher {
    shared: Arc<Shared>,
}

impl FileWatcher {
    /// A watcher that watches nothing yet, and uses nothing of the system.
    #[must_use]
    pub fn new() -> Self {
        Self { shared: Arc::default() }
    }

    /// Watches an absolute path. It need not exist.
    ///
    /// # Errors
    ///
    /// When the system's limits are reached, or watching is not supported here.
    pub async fn watch(&self, path: &Path) -> io::Result<PathWatch> {
        let mut followed = Followed {
            path: path.into(),
            shared: Arc::clone(&self.shared),
            signal: Arc::default(),
            entries: Vec::new(),
        };
        let signal = Arc::clone(&followed.signal);
        let followed = tokio::task::spawn_blocking(move || followed.follow().map(|()| followed))
            .await
            .map_err(io::Error::other)??;
        Ok(PathWatch { signal, way: Way::Known(Box::new(followed)), owed: false })
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
        let shown = path.display().to_string();
        let path = path.to_owned();
        tokio::task::spawn_blocking(move || read::read(&path, limit, complete))
            .await
            .unwrap_or_else(|error| {
                Err(ReadError::Failed { path: shown, error: io::Error::other(error) })
            })
    }
}

/// Whether whoever wrote to a file last is known to be done. By default it is not known.
#[derive(Debug, Clone, Default)]
pub struct LastWriter(Option<Arc<Signal>>);

impl LastWriter {
    /// Whether what is read now is complete, for certain.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.0.as_ref().is_some_and(|signal| signal.complete.load(Ordering::Acquire))
    }
}

impl Default for FileWatcher {
    fn default() -> Self {
        Self::new()
    }
}

/// Tells when the content of a path may have changed.
#[derive(Debug)]
pub struct PathWatch {
    signal: Arc<Signal>,
    way: Way,
    /// A change that was seen, and will be reported when it is known where the path leads.
    owed: bool,
}

/// Where a path leads.
#[derive(Debug)]
enum Way {
    Known(Box<Followed>),
    /// Being found out, on another thread, so that a slow file system blocks nobody.
    Following(JoinHandle<(Box<Followed>, io::Result<bool>)>),
    /// Following has failed.
    Lost,
}

impl PathWatch {
    /// Waits until the content may have changed since the last call. Nothing is lost when the future
    /// is dropped.
    ///
    /// # Errors
    ///
    /// When the path can no longer be watched.
    pub async fn changed(&mut self) -> io::Result<()> {
        let signal = Arc::clone(&self.signal);
        loop {
            if let Way::Following(following) = &mut self.way {
                let (followed, leads_elsewhere) = following.await.map_err(io::Error::other)?;
                self.way = Way::Known(followed);
                let changed = std::mem::take(&mut self.owed);
                if leads_elsewhere? || changed {
                    return Ok(());
                }
            }
            let woken = signal.wake.notified();
            let pending = signal.take();
            if pending.moved || pending.replaced {
                self.owed |= pending.changed;
                self.follow_again(pending.moved)?;
                continue;
            }
            if pending.changed {
                return Ok(());
            }
            match pending.writing {
                None => woken.await,
                Some((since, last)) => {
                    let at = (last + SETTLE).min(since + MAX_WAIT);
                    tokio::select! {
                        biased;
                        () = woken => {}
                        () = sleep_until(at) => {
                            signal.settled();
                            return Ok(());
                        }
                    }
                }
            }
        }
    }

    /// What is known of the file's last writer, for [`FileWatcher::read`].
    #[must_use]
    pub fn last_writer(&self) -> LastWriter {
        LastWriter(Some(Arc::clone(&self.signal)))
    }

    /// Finds out whether the path leads somewhere else now, and watches that. `moved`: something on
    /// the way is another one, even if it has the same name.
    fn follow_again(&mut self, moved: bool) -> io::Result<()> {
        let Way::Known(mut followed) = std::mem::replace(&mut self.way, Way::Lost) else {
            return Err(io::Error::other("the path could not be followed"));
        };
        self.way = Way::Following(tokio::task::spawn_blocking(move || {
            let leads_elsewhere = moved || chain(&followed.path) != followed.entries;
            let result = if leads_elsewhere { followed.follow() } else { Ok(()) };
            (followed, result.map(|()| leads_elsewhere))
        }));
        Ok(())
    }
}

/// The entries that a path leads through, watched until this is dropped.
#[derive(Debug)]
struct Followed {
    path: PathBuf,
    shared: Arc<Shared>,
    signal: Arc<Signal>,
    entries: Vec<Entry>,
}

impl Followed {
    /// Watches what the path leads through now, until that stands still.
    fn follow(&mut self) -> io::Result<()> {
        for _ in 0..FOLLOW_MAX {
            // From the root down: who creates something below is seen by who is watched above.
            let entries = chain(&self.path);
            for entry in &entries {
                // Also what is watched already: the directory may be another one of the same name.
                let new = !self.entries.contains(entry);
                self.shared.enter(entry, &self.signal, new)?;
                if new {
                    self.entries.push(entry.clone());
                }
            }
            for left in std::mem::take(&mut self.entries) {
                if !entries.contains(&left) {
                    self.shared.leave(&left, &self.signal);
                }
            }
            self.entries = entries;
            // Whoever moved something between looking and watching is seen by looking again.
            if chain(&self.path) == self.entries {
                return Ok(());
            }
        }
        // It does not stand still; the next call goes on.
        self.signal.moved();
        Ok(())
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        for entry in std::mem::take(&mut self.entries) {
            self.shared.leave(&entry, &self.signal);
        }
    }
}
