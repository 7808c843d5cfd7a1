//! Host objects that a guest holds by resource handles: connections and watched files.
#![allow(unreachable_pub, reason = "the generated bindings re-export the types of resources")]

/// Connection that a guest has opened through the host, as a WIT resource.
pub struct Connection(pub(crate) reloader_net::Connection);

/// Watch that a guest has opened on a file, as a WIT resource.
pub struct WatchedFile(pub(crate) reloader_fs_watch::PathWatch);
