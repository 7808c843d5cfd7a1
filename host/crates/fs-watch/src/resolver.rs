//! Finding out where a path leads, and watching all of that.

use crate::{
    filesystem_kind::Ground,
    inotify::Descriptor,
    inotify_limits::Limit,
    notification::Signal,
    poll::{Signature, signature},
    registry::{Blind, Place, Shared},
    symlink_chain::{Chain, Entry, Role, chain},
};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A path that still leads somewhere else after so many looks is looked at again later.
const LOOKS_MAX: usize = 16;

/// The entries that a path leads through, watched until this is dropped.
#[derive(Debug)]
pub(crate) struct Followed {
    path: PathBuf,
    shared: Arc<Shared>,
    signal: Arc<Signal>,
    watched: Vec<Watched>,
    limited: bool,
    forbidden: bool,
}

/// An entry, and what is watched for it: a directory, by name and inode at once.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Watched {
    entry: Entry,
    /// `None` if it cannot be watched.
    at: Option<Descriptor>,
}

impl Watched {
    /// Whether one message stands for both: a directory may be reached by several paths.
    fn is_told_with(&self, other: &Self) -> bool {
        let told = |watched: &Self| (watched.at, watched.entry.role);
        told(self) == told(other) && self.entry.name == other.entry.name
    }
}

/// What following has found.
#[derive(Debug)]
pub(crate) struct Found {
    /// The path leads somewhere else than before: its content may be another one.
    pub(crate) elsewhere: bool,
    /// Not everything is told: the file must be looked at from time to time.
    pub(crate) unseen: Option<Unseen>,
    /// It is only for want of watches that not everything is told.
    pub(crate) limited: bool,
}

/// What must be looked at.
#[derive(Debug)]
pub(crate) struct Unseen {
    /// What there was when all that can be watched was watched.
    pub(crate) signature: Signature,
    /// Nothing but the content shows a change.
    pub(crate) blindly: bool,
}

/// What stands in the way of events.
#[derive(Debug, Default)]
struct Obstacles {
    limit: Option<Limit>,
    forbidden: Option<(PathBuf, io::Error)>,
}

impl Followed {
    pub(crate) fn new(path: PathBuf, shared: Arc<Shared>, signal: Arc<Signal>) -> Self {
        Self { path, shared, signal, watched: Vec::new(), limited: false, forbidden: false }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Watches what the path leads through now, until that stands still.
    pub(crate) fn follow(&mut self) -> Found {
        let mut elsewhere = false;
        let mut looks = 0;
        loop {
            looks += 1;
            let found = chain(&self.path);
            let mut obstacles = Obstacles::default();
            let watched = self.watch(&found, &mut obstacles);
            // Whoever moved something between looking and watching is seen by looking again: the
            // same inodes, while they are watched, are the same directories and files.
            let stands_still = watched == self.watched;
            elsewhere |= !is_same_way(&watched, &self.watched);
            let before = std::mem::replace(&mut self.watched, watched);
            for left in before {
                if !self.watched.iter().any(|watched| watched.is_told_with(&left)) {
                    self.leave(&left);
                }
            }
            if !stands_still && looks < LOOKS_MAX {
                continue;
            }
            if !stands_still {
                self.signal.moved();
            }
            self.signal.set_device(found.device);
            return self.report(elsewhere, found.ground, obstacles);
        }
    }

    /// From the root down: who creates something below is seen by who is watched above.
    fn watch(&self, found: &Chain, obstacles: &mut Obstacles) -> Vec<Watched> {
        let mut watched = Vec::with_capacity(found.entries.len() + 1);
        for entry in &found.entries {
            let at = match self.shared.arm(place(entry), &self.signal) {
                Ok(at) => Some(at),
                // The chain will be looked at again.
                Err(Blind::Gone) => None,
                Err(Blind::Limit(limit)) => {
                    obstacles.limit = Some(limit);
                    None
                }
                // One may pass through a directory, but not read it; or there are no events here.
                Err(Blind::Never(error)) => {
                    obstacles.forbidden = Some((entry.directory.clone(), error));
                    None
                }
            };
            watched.push(Watched { entry: entry.clone(), at });
        }
        if let (Some(role), Some(last)) = (found.file, found.entries.last()) {
            watched.extend(self.watch_file(Entry { role, ..last.clone() }, obstacles));
        }
        watched
    }

    /// A file that is written to by another name tells of it itself, and so does one that gets
    /// another name. The latter is rare, and most watches are not spent on it.
    fn watch_file(&self, entry: Entry, obstacles: &mut Obstacles) -> Option<Watched> {
        let limits = &self.shared.limits;
        if entry.role == Role::Names
            && !self.watched.iter().any(|watched| watched.entry.role == Role::Names)
            && self.shared.watched_for_names() >= limits.spare_watches()
        {
            return None;
        }
        match self.shared.arm(place(&entry), &self.signal) {
            Ok(at) => Some(Watched { entry, at: Some(at) }),
            Err(Blind::Limit(limit)) if entry.role == Role::File => {
                obstacles.limit = Some(limit);
                None
            }
            // It is gone, or may not be read at all; its directory tells when that changes.
            Err(_) => None,
        }
    }

    fn report(&mut self, elsewhere: bool, ground: Ground, obstacles: Obstacles) -> Found {
        let limited = obstacles.limit.is_some();
        match obstacles.limit {
            Some(limit) if !self.limited => self.shared.limits.reached(limit),
            None if self.limited => self.shared.limits.left(true),
            _ => {}
        }
        self.limited = limited;
        let forbidden = obstacles.forbidden.is_some();
        if let Some((directory, error)) = obstacles.forbidden
            && !self.forbidden
        {
            let (path, directory) = (self.path.display(), directory.display());
            tracing::info!(
                "`{path}` is looked at again and again: changes in `{directory}` are not told: {error}"
            );
        }
        self.forbidden = forbidden;
        let unseen = (limited || forbidden || ground > Ground::Told).then(|| Unseen {
            signature: signature(&self.path),
            blindly: ground == Ground::MadeUp,
        });
        Found { elsewhere, unseen, limited }
    }

    fn leave(&self, watched: &Watched) {
        if let Some(at) = watched.at {
            self.shared.disarm(at, place(&watched.entry), &self.signal);
        }
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        for watched in std::mem::take(&mut self.watched) {
            self.leave(&watched);
        }
        if self.limited {
            self.shared.limits.left(false);
        }
    }
}

fn place(entry: &Entry) -> Place<'_> {
    Place { directory: &entry.directory, name: &entry.name, role: entry.role }
}

/// Whether contents come from the same place, and are told of in the same way.
fn is_same_way(one: &[Watched], other: &[Watched]) -> bool {
    let counts = |watched: &&Watched| watched.entry.role != Role::Names;
    one.iter().filter(counts).eq(other.iter().filter(counts))
}
