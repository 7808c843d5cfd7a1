//! Kernel events of files and mounts, and the interface of their receiver.

use std::{collections::HashSet, ffi::OsStr, path::PathBuf};

/// Kernel event of a directory entry or of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileEvent {
    /// The entry was created: a file that is not written yet, a directory or a link.
    Created,
    /// A file, directory or link was renamed to the entry.
    MovedIn,
    /// The entry was removed, or renamed to another name.
    Removed,
    /// The file was written to or truncated.
    Modified,
    /// A writer closed the file.
    WriterClosed,
    /// Permissions, owner or link count changed.
    AttributesChanged,
    /// The watched inode itself was moved or removed, or the attributes of a watched directory
    /// changed.
    SelfChanged,
    /// The file system of the watched inode was unmounted.
    Unmounted,
}

/// Inotify watch descriptor, unique among all inotify instances of a file watcher.
///
/// The kernel assigns one descriptor to each watched inode, even if several paths name the inode.
/// The kernel does not reuse a descriptor after the watch is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct WatchDescriptor {
    /// Number of the inotify instance: a descriptor of an earlier instance has a different one.
    pub(crate) instance: u64,
    /// Watch descriptor that the kernel assigned, unique within the instance.
    pub(crate) number: i32,
}

/// Handler of the events that an inotify listener reads from the kernel.
pub(crate) trait EventHandler: Send + Sync {
    /// Handles an event of a watched inode, or of the entry `name` in a watched directory.
    fn file_event(&self, watch: WatchDescriptor, name: Option<&OsStr>, event: FileEvent);

    /// Handles the removal of a watch by the kernel.
    fn watch_removed(&self, watch: WatchDescriptor);

    /// Handles a loss of events: any watched file may have changed.
    fn events_lost(&self);

    /// Handles the end of an instance's listener through an error: the watches of this instance report no
    /// more events.
    fn listener_failed(&self, instance: u64);

    /// Handles mounts and unmounts at `mount_points`.
    fn mounts_changed(&self, mount_points: &HashSet<PathBuf>);
}
