//! Host objects that a guest holds by resource handles: connections and watched files.
#![allow(unreachable_pub, reason = "the generated bindings re-export the types of resources")]

/// Connection of a guest.
pub struct Connection(pub(crate) reloader_net::Connection);

/// Watch of a guest on a file.
pub struct WatchedFile(pub(crate) reloader_fs_watch::PathWatch);
