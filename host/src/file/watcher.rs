//! One shared watcher for all files: two inotify instances, however many paths are watched.
//!
//! Directories are watched, never files, so that a file that is replaced by renaming is not lost.
//! Where a file's content is expected, every write counts; on the way there, only what is created,
//! removed and renamed. A burst of writes is reported when the writer closes the file, or when it
//! pauses; a rename at once.

use super::{
    chain::{Entry, Role, chain},
    read::{self, ReadError},
};
use notify::{
    Config, Event, EventKind, EventKindMask, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, ModifyKind},
};
use std::{
    collections::{HashMap, HashSet},
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// A file that is being written is reported when its writer has paused for this long …
const SETTLE: Duration = Duration::from_millis(50);
/// … or, if it never pauses, this long after it began.
const MAX_WAIT: Duration = Duration::from_millis(500);

/// Watches files. Cheap to clone; all clones share the same watches.
#[derive(Debug, Clone)]
pub struct FileWatcher {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Started when the first path is watched.
    watchers: Mutex<Option<Watchers>>,
    registry: Mutex<Registry>,
}

/// One for contents, one for the way there: they ask the kernel for different events.
#[derive(Debug)]
struct Watchers {
    content: RecommendedWatcher,
    way: RecommendedWatcher,
}

/// Who wants to know of which directory entry.
#[derive(Debug, Default)]
struct Registry {
    directories: HashMap<PathBuf, Directory>,
}

#[derive(Debug, Default)]
struct Directory {
    entries: HashMap<OsString, Vec<(Role, Weak<Signal>)>>,
    /// How many entries there are in each role; a directory is watched while there are some.
    content: usize,
    way: usize,
}

/// What a [`PathWatch`] waits for.
#[derive(Debug, Default)]
pub(super) struct Signal {
    wake: Notify,
    state: Mutex<Pending>,
    /// The writer that was seen last is done: what is read now is complete.
    complete: AtomicBool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Pending {
    /// Something happened that is complete in itself.
    changed: bool,
    /// The file's own entry is another one: if it is a link now, the path leads somewhere else.
    replaced: bool,
    /// Something on the way moved: the path may lead somewhere else, even if it looks the same.
    moved: bool,
    /// Somebody is writing: since when, and when last.
    writing: Option<(Instant, Instant)>,
}

impl FileWatcher {
    /// A watcher that watches nothing yet, and uses nothing of the system.
    #[must_use]
    pub fn new() -> Self {
        Self { shared: Arc::new(Shared { watchers: Mutex::default(), registry: Mutex::default() }) }
    }

    /// Watches an absolute path. It need not exist.
    ///
    /// # Errors
    ///
    /// When the system's limits are reached, or watching is not supported here.
    pub async fn watch(&self, path: &Path) -> io::Result<PathWatch> {
        let watch = PathWatch {
            path: path.into(),
            shared: Arc::clone(&self.shared),
            signal: Arc::default(),
            entries: HashSet::new(),
        };
        blocking(move || {
            let mut watch = watch;
            watch.follow()?;
            Ok(watch)
        })
        .await
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
    fn is_done(&self) -> bool {
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
    path: PathBuf,
    shared: Arc<Shared>,
    signal: Arc<Signal>,
    entries: HashSet<Entry>,
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
            let woken = signal.wake.notified();
            let pending = {
                let mut state = lock(&self.signal.state);
                let pending = *state;
                (state.changed, state.replaced) = (false, false);
                pending
            };
            if pending.moved || (pending.replaced && self.leads_elsewhere().await?) {
                self.follow_again().await?;
                return Ok(());
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
                            lock(&self.signal.state).writing = None;
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

    async fn leads_elsewhere(&self) -> io::Result<bool> {
        let path = self.path.clone();
        let entries = blocking(move || Ok(chain(&path))).await?;
        Ok(entries.len() != self.entries.len()
            || entries.iter().any(|entry| !self.entries.contains(entry)))
    }

    async fn follow_again(&mut self) -> io::Result<()> {
        // Taken over by the other thread and given back, so that a slow file system blocks nobody.
        let mut other = Self {
            path: self.path.clone(),
            shared: Arc::clone(&self.shared),
            signal: Arc::clone(&self.signal),
            entries: self.entries.clone(),
        };
        let (other, result) = tokio::task::spawn_blocking(move || {
            let result = other.follow();
            (other, result)
        })
        .await
        .map_err(io::Error::other)?;
        let mut other = other;
        self.entries = std::mem::take(&mut other.entries);
        result
    }

    /// Watches what the path leads through now, until that stands still.
    fn follow(&mut self) -> io::Result<()> {
        loop {
            lock(&self.signal.state).moved = false;
            let entries: HashSet<Entry> = chain(&self.path).into_iter().collect();
            for entry in &entries {
                // Also what is watched already: the directory may be another one of the same name.
                self.shared.enter(entry, &self.signal, !self.entries.contains(entry))?;
                self.entries.insert(entry.clone());
            }
            let left: Vec<Entry> = self.entries.difference(&entries).cloned().collect();
            for entry in left {
                self.shared.leave(&entry, &self.signal);
                self.entries.remove(&entry);
            }
            // Whoever moved something between looking and watching is seen by looking again.
            if chain(&self.path).into_iter().collect::<HashSet<_>>() == self.entries {
                return Ok(());
            }
        }
    }
}

impl Drop for PathWatch {
    fn drop(&mut self) {
        for entry in std::mem::take(&mut self.entries) {
            self.shared.leave(&entry, &self.signal);
        }
    }
}

impl Shared {
    fn enter(self: &Arc<Self>, entry: &Entry, signal: &Arc<Signal>, new: bool) -> io::Result<()> {
        if new {
            let mut registry = lock(&self.registry);
            let directory = registry.directories.entry(entry.directory.clone()).or_default();
            *directory.count(entry.role) += 1;
            let watching = directory.entries.entry(entry.name.clone()).or_default();
            watching.push((entry.role, Arc::downgrade(signal)));
        }
        let result = self.with_watchers(|watchers| {
            watchers.of(entry.role).watch(&entry.directory, RecursiveMode::NonRecursive)
        });
        match result {
            // The directory went away meanwhile: the chain will be looked at again.
            Err(error) if is_missing(&error) => Ok(()),
            Err(error) => {
                if new {
                    self.leave(entry, signal);
                }
                Err(explain(error, &entry.directory))
            }
            Ok(()) => Ok(()),
        }
    }

    fn leave(self: &Arc<Self>, entry: &Entry, signal: &Arc<Signal>) {
        let mut registry = lock(&self.registry);
        let Some(directory) = registry.directories.get_mut(&entry.directory) else { return };
        if let Some(watching) = directory.entries.get_mut(&entry.name) {
            let same = |(role, weak): &(Role, Weak<Signal>)| {
                *role == entry.role && std::ptr::eq(weak.as_ptr(), Arc::as_ptr(signal))
            };
            watching.retain(|one| !same(one));
            if watching.is_empty() {
                directory.entries.remove(&entry.name);
            }
        }
        let count = directory.count(entry.role);
        *count = count.saturating_sub(1);
        let unwatch = *count == 0;
        if directory.content + directory.way == 0 {
            registry.directories.remove(&entry.directory);
        }
        drop(registry);
        if unwatch {
            // It fails when the directory is gone, and then there is nothing left to stop.
            let _ =
                self.with_watchers(|watchers| watchers.of(entry.role).unwatch(&entry.directory));
        }
    }

    fn with_watchers<T>(
        self: &Arc<Self>,
        f: impl FnOnce(&mut Watchers) -> notify::Result<T>,
    ) -> notify::Result<T> {
        let mut slot = lock(&self.watchers);
        let watchers = match &mut *slot {
            Some(watchers) => watchers,
            None => slot.insert(Watchers::start(self)?),
        };
        f(watchers)
    }

    /// Called on notify's own threads.
    fn happened(&self, role: Role, event: notify::Result<Event>) {
        let registry = lock(&self.registry);
        let everybody = || registry.directories.values().flat_map(Directory::signals);
        let event = match event {
            Ok(event) if !event.need_rescan() => event,
            // Events were lost, or something is wrong: everybody looks again.
            Ok(_) | Err(_) => return everybody().for_each(|signal| signal.moved()),
        };
        for path in &event.paths {
            // Of a directory that is watched itself, only its own end is of interest.
            if let Some(directory) = registry.directories.get(path)
                && matches!(
                    event.kind,
                    EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_))
                )
            {
                directory.signals().for_each(|signal| signal.moved());
            }
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { continue };
            let Some(directory) = registry.directories.get(parent) else { continue };
            for (wanted, signal) in directory.entries.get(name).into_iter().flatten() {
                if *wanted == role
                    && let Some(signal) = signal.upgrade()
                {
                    signal.happened(role, event.kind);
                }
            }
        }
    }
}

impl Watchers {
    fn start(shared: &Arc<Shared>) -> notify::Result<Self> {
        let start = |role, kinds| {
            let shared = Arc::downgrade(shared);
            let handler = move |event| {
                if let Some(shared) = shared.upgrade() {
                    shared.happened(role, event);
                }
            };
            RecommendedWatcher::new(handler, Config::default().with_event_kinds(kinds))
        };
        let way = EventKindMask::CREATE | EventKindMask::REMOVE | EventKindMask::MODIFY_NAME;
        let content = EventKindMask::CORE | EventKindMask::ACCESS_CLOSE;
        Ok(Self { content: start(Role::Content, content)?, way: start(Role::Way, way)? })
    }

    fn of(&mut self, role: Role) -> &mut RecommendedWatcher {
        match role {
            Role::Content => &mut self.content,
            Role::Way => &mut self.way,
        }
    }
}

impl Directory {
    fn count(&mut self, role: Role) -> &mut usize {
        match role {
            Role::Content => &mut self.content,
            Role::Way => &mut self.way,
        }
    }

    fn signals(&self) -> impl Iterator<Item = Arc<Signal>> + '_ {
        self.entries.values().flatten().filter_map(|(_, signal)| signal.upgrade())
    }
}

impl Signal {
    fn happened(&self, role: Role, kind: EventKind) {
        match (role, kind) {
            (Role::Way, _) => self.moved(),
            (Role::Content, EventKind::Access(AccessKind::Close(AccessMode::Write))) => {
                self.complete.store(true, Ordering::Release);
                self.update(|state| {
                    state.changed = true;
                    state.writing = None;
                });
            }
            // Renamed to here, or away.
            (Role::Content, EventKind::Modify(ModifyKind::Name(_)) | EventKind::Remove(_)) => {
                self.complete.store(true, Ordering::Release);
                self.update(|state| (state.changed, state.replaced) = (true, true));
            }
            // By `open`, which is followed by writing; or a link.
            (Role::Content, EventKind::Create(_)) => {
                self.writes();
                self.update(|state| state.replaced = true);
            }
            (Role::Content, EventKind::Modify(ModifyKind::Metadata(_))) => {
                self.update(|state| state.changed = true);
            }
            (Role::Content, EventKind::Modify(_)) => self.writes(),
            (Role::Content, EventKind::Any | EventKind::Other | EventKind::Access(_)) => {}
        }
    }

    fn moved(&self) {
        self.update(|state| state.moved = true);
    }

    fn writes(&self) {
        self.complete.store(false, Ordering::Release);
        let now = Instant::now();
        self.update(|state| {
            let since = state.writing.map_or(now, |(since, _)| since);
            state.writing = Some((since, now));
        });
    }

    fn update(&self, f: impl FnOnce(&mut Pending)) {
        f(&mut lock(&self.state));
        self.wake.notify_one();
    }
}

async fn blocking<T: Send + 'static>(
    f: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(f).await.map_err(io::Error::other)?
}

fn is_missing(error: &notify::Error) -> bool {
    match &error.kind {
        notify::ErrorKind::PathNotFound => true,
        notify::ErrorKind::Io(error) => {
            matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        }
        _ => false,
    }
}

fn explain(error: notify::Error, directory: &Path) -> io::Error {
    let hint = match &error.kind {
        notify::ErrorKind::MaxFilesWatch => {
            " (the limit `fs.inotify.max_user_watches` is reached; raise it with sysctl)"
        }
        notify::ErrorKind::Io(error) if error.raw_os_error() == Some(24) => {
            " (the limit `fs.inotify.max_user_instances` is reached; raise it with sysctl)"
        }
        _ => "",
    };
    io::Error::other(format!("cannot watch `{}`: {error}{hint}", directory.display()))
}

/// A panic while the lock was held leaves nothing half done here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
