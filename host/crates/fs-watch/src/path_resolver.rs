//! Resolution of a watched path, with a watch on every entry that it resolves through.

use crate::{
    file_fingerprint::FileFingerprint,
    filesystem_kind::FilesystemKind,
    inotify_limits::Limit,
    kernel_event_types::WatchDescriptor,
    metadata_poll::read_fingerprint,
    path_change_signal::ChangeSignal,
    symlink_chain::{self, Entry, Role, SymlinkChain},
    watch_registry::{ArmError, WatchRegistry, WatchTarget},
};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Maximum number of passes in one resolution. A path that changes even during the last pass is
/// resolved again later.
const MAX_RESOLUTION_PASSES: usize = 16;

/// Watched path and the watches on its entries, which are removed when the resolver is dropped.
#[derive(Debug)]
pub(crate) struct PathResolver {
    path: PathBuf,
    registry: Arc<WatchRegistry>,
    signal: Arc<ChangeSignal>,
    armed: Vec<ArmedEntry>,
    /// An inotify limit prevents at least one of the watches. The limit tracker then counts the path.
    limited: bool,
    /// An entry cannot be watched for a reason other than a limit, such as its permissions. The
    /// reason has been logged.
    events_unavailable: bool,
}

/// Directory entry that the path resolves through, and the watch for it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ArmedEntry {
    entry: Entry,
    /// Descriptor of the watch, or `None` if the entry cannot be watched.
    descriptor: Option<WatchDescriptor>,
}

impl ArmedEntry {
    /// Returns whether both entries have the same subscription. This is also the case if their
    /// paths differ but lead to the same directory.
    fn shares_subscription_with(&self, other: &Self) -> bool {
        let key = |armed: &Self| (armed.descriptor, armed.entry.role);
        key(self) == key(other) && self.entry.name == other.entry.name
    }
}

/// Result of resolving the path and arming the watches of its entries.
#[derive(Debug)]
pub(crate) struct Resolution {
    /// The path resolves through other entries than before, so that its content may differ.
    pub(crate) target_changed: bool,
    /// Parameters of polling, if the kernel does not report all changes of the path.
    pub(crate) polling: Option<PollBaseline>,
    /// An inotify limit prevents at least one of the watches. The path watch tries again later.
    pub(crate) limited: bool,
}

/// Initial fingerprint for polling the file, and whether its metadata shows changes.
#[derive(Debug)]
pub(crate) struct PollBaseline {
    /// Fingerprint of the file after the watches were armed.
    pub(crate) fingerprint: Option<FileFingerprint>,
    /// The metadata of the file does not show changes, so that each poll reports a possible change.
    pub(crate) ignores_metadata: bool,
}

/// Reasons why the kernel does not report all changes of a path.
#[derive(Debug, Default)]
struct EventGaps {
    limit: Option<Limit>,
    unavailable: Option<(PathBuf, io::Error)>,
}

impl PathResolver {
    pub(crate) fn new(
        path: PathBuf,
        registry: Arc<WatchRegistry>,
        signal: Arc<ChangeSignal>,
    ) -> Self {
        let (armed, limited, events_unavailable) = (Vec::new(), false, false);
        Self { path, registry, signal, armed, limited, events_unavailable }
    }

    /// Returns the watched path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Resolves the path and watches its entries, until two passes agree. Blocks on the file
    /// system.
    pub(crate) fn resolve(&mut self) -> Resolution {
        let mut target_changed = false;
        let mut passes = 0;
        loop {
            passes += 1;
            let chain = symlink_chain::resolve(&self.path);
            let mut gaps = EventGaps::default();
            let armed = self.arm_chain(&chain, &mut gaps);
            // A second pass detects changes between the resolution and the watches of the first
            // pass. The same descriptors mean the same inodes, as the kernel does not reuse
            // descriptors.
            let stable = armed == self.armed;
            target_changed |= !is_same_target(&armed, &self.armed);
            let previous = std::mem::replace(&mut self.armed, armed);
            for old in previous {
                if !self.armed.iter().any(|armed| armed.shares_subscription_with(&old)) {
                    self.disarm(&old);
                }
            }
            if !stable && passes < MAX_RESOLUTION_PASSES {
                continue;
            }
            if !stable {
                self.signal.mark_resolution_stale();
            }
            self.signal.set_device(chain.device);
            return self.finish(target_changed, chain.kind, gaps);
        }
    }

    /// Arms watches top-down, so that a concurrent creation is reported by the parent watch.
    fn arm_chain(&self, chain: &SymlinkChain, gaps: &mut EventGaps) -> Vec<ArmedEntry> {
        let mut armed = Vec::with_capacity(chain.entries.len() + 1);
        for entry in &chain.entries {
            let descriptor = match self.registry.arm(watch_target(entry), &self.signal) {
                Ok(descriptor) => Some(descriptor),
                // The entry has changed since the resolution. The next pass of the loop resolves the path again.
                Err(ArmError::Vanished) => None,
                Err(ArmError::LimitReached(limit)) => {
                    gaps.limit = Some(limit);
                    None
                }
                // The directory has execute permission but no read permission, or the system has no
                // inotify.
                Err(ArmError::Unavailable(error)) => {
                    gaps.unavailable = Some((entry.directory.clone(), error));
                    None
                }
            };
            armed.push(ArmedEntry { entry: entry.clone(), descriptor });
        }
        if let (Some(role), Some(last)) = (chain.inode_role, chain.entries.last()) {
            armed.extend(self.arm_inode(Entry { role, ..last.clone() }, gaps));
        }
        armed
    }

    /// Watches the inode of the file for writes through another path, or for a new hard link.
    ///
    /// New hard links are rare. The watches that detect them ([`Role::LinkCount`]) have a budget, so
    /// that most of the user's watches stay available.
    fn arm_inode(&self, entry: Entry, gaps: &mut EventGaps) -> Option<ArmedEntry> {
        let limits = &self.registry.limits;
        if entry.role == Role::LinkCount
            && !self.armed.iter().any(|armed| armed.entry.role == Role::LinkCount)
            && self.registry.link_count_subscriptions() >= limits.link_count_watch_budget()
        {
            return None;
        }
        match self.registry.arm(watch_target(&entry), &self.signal) {
            Ok(descriptor) => Some(ArmedEntry { entry, descriptor: Some(descriptor) }),
            Err(ArmError::LimitReached(limit)) if entry.role == Role::Inode => {
                gaps.limit = Some(limit);
                None
            }
            // The file does not exist or is not readable: the watch of its directory reports when
            // that changes. Or a limit prevents a link-count watch, which is optional.
            Err(_) => None,
        }
    }

    fn finish(
        &mut self,
        target_changed: bool,
        kind: FilesystemKind,
        gaps: EventGaps,
    ) -> Resolution {
        let limited = gaps.limit.is_some();
        match gaps.limit {
            Some(limit) if !self.limited => self.registry.limits.add_limited_path(limit),
            None if self.limited => self.registry.limits.remove_limited_path(true),
            _ => {}
        }
        self.limited = limited;
        let events_unavailable = gaps.unavailable.is_some();
        if let Some((directory, error)) = gaps.unavailable
            && !self.events_unavailable
        {
            tracing::info!(
                path = %self.path.display(),
                directory = %directory.display(),
                %error,
                "file events unavailable, polling the file"
            );
        }
        self.events_unavailable = events_unavailable;
        let must_poll = limited || events_unavailable || kind > FilesystemKind::Local;
        let polling = must_poll.then(|| PollBaseline {
            fingerprint: read_fingerprint(&self.path),
            ignores_metadata: kind == FilesystemKind::Pseudo,
        });
        Resolution { target_changed, polling, limited }
    }

    fn disarm(&self, armed: &ArmedEntry) {
        if let Some(descriptor) = armed.descriptor {
            self.registry.disarm(descriptor, watch_target(&armed.entry), &self.signal);
        }
    }
}

impl Drop for PathResolver {
    fn drop(&mut self) {
        for armed in std::mem::take(&mut self.armed) {
            self.disarm(&armed);
        }
        if self.limited {
            self.registry.limits.remove_limited_path(false);
        }
    }
}

fn watch_target(entry: &Entry) -> WatchTarget<'_> {
    WatchTarget { directory: &entry.directory, name: &entry.name, role: entry.role }
}

/// Returns whether both lists name the same entries with the same watches, apart from link-count
/// watches, which do not affect the content.
fn is_same_target(one: &[ArmedEntry], other: &[ArmedEntry]) -> bool {
    let affects_content = |armed: &&ArmedEntry| armed.entry.role != Role::LinkCount;
    one.iter().filter(affects_content).eq(other.iter().filter(affects_content))
}
