//! What all watched paths share: who wants to know of which entry, and what the system watches.
//!
//! Two inotify instances, however many paths are watched. Directories are watched, never files.

use super::{
    chain::{Entry, Role},
    signal::{Signal, lock},
};
use notify::{
    Config, Event, EventKind, EventKindMask, RecommendedWatcher, RecursiveMode, Watcher,
    event::ModifyKind,
};
use std::{
    collections::HashMap,
    ffi::OsString,
    io::{
        self,
        ErrorKind::{NotADirectory, NotFound, PermissionDenied},
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, Weak},
};

#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Taken before `registry` where both are.
    watching: Mutex<Watching>,
    /// Also taken by notify's threads.
    registry: Mutex<Registry>,
}

/// What the system has been asked to watch.
#[derive(Debug, Default)]
struct Watching {
    /// Started when the first path is watched.
    watchers: Option<Watchers>,
    directories: HashMap<(PathBuf, Role), Watched>,
}

/// A directory that is watched for one of the roles.
#[derive(Debug)]
struct Watched {
    /// How many entries in it are of interest. It is watched while there are some.
    entries: usize,
    /// Which directory of this name it was, when it was last looked at.
    identity: Option<Identity>,
}

/// Tells a directory from another one that has taken its name.
type Identity = (u64, u64);

/// One for contents, one for the way there: they ask the kernel for different events.
#[derive(Debug)]
struct Watchers {
    content: RecommendedWatcher,
    way: RecommendedWatcher,
}

/// Who wants to know of which directory entry.
type Registry = HashMap<PathBuf, HashMap<OsString, Vec<(Role, Weak<Signal>)>>>;

impl Shared {
    pub(super) fn enter(
        self: &Arc<Self>,
        entry: &Entry,
        signal: &Arc<Signal>,
        new: bool,
    ) -> io::Result<()> {
        let mut watching = lock(&self.watching);
        if new {
            let mut registry = lock(&self.registry);
            let names = registry.entry(entry.directory.clone()).or_default();
            names.entry(entry.name.clone()).or_default().push((entry.role, Arc::downgrade(signal)));
        }
        match watching.watch(self, entry, new) {
            Ok(()) => Ok(()),
            // The directory went away meanwhile: the chain will be looked at again.
            Err(error) if has_kind(&error, &[NotFound, NotADirectory]) => Ok(()),
            // A directory that may be passed through, but not read, is not watched itself.
            Err(error) if entry.role == Role::Way && has_kind(&error, &[PermissionDenied]) => {
                if new {
                    let directory = entry.directory.display();
                    tracing::warn!("changes of `{directory}` itself are not seen: {error}");
                }
                Ok(())
            }
            Err(error) => {
                if new {
                    self.forget(&mut watching, entry, signal);
                }
                Err(explain(error, &entry.directory))
            }
        }
    }

    pub(super) fn leave(&self, entry: &Entry, signal: &Arc<Signal>) {
        self.forget(&mut lock(&self.watching), entry, signal);
    }

    fn forget(&self, watching: &mut Watching, entry: &Entry, signal: &Arc<Signal>) {
        let mut registry = lock(&self.registry);
        if let Some(names) = registry.get_mut(&entry.directory) {
            if let Some(signals) = names.get_mut(&entry.name) {
                let same = |(role, weak): &(Role, Weak<Signal>)| {
                    *role == entry.role && std::ptr::eq(weak.as_ptr(), Arc::as_ptr(signal))
                };
                signals.retain(|one| !same(one));
                if signals.is_empty() {
                    names.remove(&entry.name);
                }
            }
            if names.is_empty() {
                registry.remove(&entry.directory);
            }
        }
        drop(registry);
        watching.unwatch(entry);
    }

    /// Called on notify's own threads.
    fn happened(&self, role: Role, event: notify::Result<Event>) {
        let registry = lock(&self.registry);
        let event = match event {
            Ok(event) if !event.need_rescan() => event,
            // Events were lost, or something is wrong: everybody looks again.
            Ok(_) | Err(_) => {
                let everybody = registry.values().flat_map(signals);
                return everybody.for_each(|signal| signal.moved());
            }
        };
        for path in &event.paths {
            // Of a directory that is watched itself, only its own end is of interest.
            if let Some(names) = registry.get(path)
                && matches!(
                    event.kind,
                    EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_))
                )
            {
                signals(names).for_each(|signal| signal.moved());
            }
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { continue };
            let interested = registry.get(parent).and_then(|names| names.get(name));
            for (wanted, signal) in interested.into_iter().flatten() {
                if *wanted == role
                    && let Some(signal) = signal.upgrade()
                {
                    signal.happened(role, event.kind);
                }
            }
        }
    }
}

fn signals(
    names: &HashMap<OsString, Vec<(Role, Weak<Signal>)>>,
) -> impl Iterator<Item = Arc<Signal>> + '_ {
    names.values().flatten().filter_map(|(_, signal)| signal.upgrade())
}

impl Watching {
    /// Watches an entry's directory, the one that has the name now.
    fn watch(&mut self, shared: &Arc<Shared>, entry: &Entry, new: bool) -> notify::Result<()> {
        let watchers = match &mut self.watchers {
            Some(watchers) => watchers,
            None => self.watchers.insert(Watchers::start(shared)?),
        };
        let key = (entry.directory.clone(), entry.role);
        let watched = self.directories.entry(key).or_insert(Watched { entries: 0, identity: None });
        watched.entries += usize::from(new);
        let watcher = watchers.of(entry.role);
        loop {
            let before = identity(&entry.directory)?;
            if watched.identity.is_some_and(|known| known != before) {
                // notify goes by the name, and would keep the old one.
                let _ = watcher.unwatch(&entry.directory);
            }
            watcher.watch(&entry.directory, RecursiveMode::NonRecursive)?;
            watched.identity = Some(before);
            if identity(&entry.directory)? == before {
                return Ok(());
            }
        }
    }

    /// One entry of the directory less.
    fn unwatch(&mut self, entry: &Entry) {
        let key = (entry.directory.clone(), entry.role);
        let Some(watched) = self.directories.get_mut(&key) else { return };
        watched.entries = watched.entries.saturating_sub(1);
        if watched.entries == 0 {
            self.directories.remove(&key);
            if let Some(watchers) = &mut self.watchers {
                // It fails when the directory is gone, and then there is nothing left to stop.
                let _ = watchers.of(entry.role).unwatch(&entry.directory);
            }
        }
    }
}

fn identity(directory: &Path) -> io::Result<Identity> {
    let metadata = std::fs::metadata(directory)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        Ok((metadata.dev(), metadata.ino()))
    }
    #[cfg(not(unix))]
    {
        let created = metadata.created()?.duration_since(std::time::UNIX_EPOCH);
        Ok((0, created.map_or(0, |at| at.as_nanos() as u64)))
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

fn has_kind(error: &notify::Error, kinds: &[io::ErrorKind]) -> bool {
    match &error.kind {
        notify::ErrorKind::PathNotFound => kinds.contains(&NotFound),
        notify::ErrorKind::Io(error) => kinds.contains(&error.kind()),
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
