//! Interface between the kernel event listener and the watch registry.

use crate::notification::FileEvent;
use std::{collections::HashSet, ffi::OsStr, path::PathBuf};

/// Inotify watch descriptor.
///
/// The kernel assigns one descriptor to each watched inode, whatever names the inode has. It does
/// not reuse a descriptor after the watch is removed.
pub(crate) type WatchDescriptor = i32;

/// Receiver of kernel events.
pub(crate) trait EventHandler: Send + Sync {
    /// Handles an event of a watched inode, or of the entry `name` in a watched directory.
    fn file_event(&self, watch: WatchDescriptor, name: Option<&OsStr>, event: FileEvent);

    /// Handles the removal of a watch by the kernel.
    fn watch_removed(&self, watch: WatchDescriptor);

    /// Handles a loss of events: any watched file may have changed.
    fn events_lost(&self);

    /// Handles mounts and unmounts at `mount_points`.
    fn mounts_changed(&self, mount_points: &HashSet<PathBuf>);
}
