//! Stub for systems without inotify. All files are polled there.

use crate::{
    kernel_event_types::{EventHandler, WatchDescriptor},
    symlink_chain::Role,
};
use std::{io, path::Path, sync::Weak};

/// Inotify instance, which cannot exist on this system.
#[derive(Debug)]
pub(crate) enum Inotify {}

impl Inotify {
    pub(crate) fn start(_: u64, _: Weak<dyn EventHandler>) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn number(&self) -> u64 {
        match *self {}
    }

    pub(crate) fn add_watch(&self, _: &Path, _: Role) -> io::Result<WatchDescriptor> {
        match *self {}
    }

    pub(crate) fn remove_watch(&self, _: WatchDescriptor) {
        match *self {}
    }
}
