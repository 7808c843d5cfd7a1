//! Files: one shared watcher for all of them, and reading that waits for a writer to be done.
//!
//! In reading order: `watcher` is what programs use, and `path_watch` what they wait with. `follow`
//! watches all that a path leads through (`chain`), by way of the `registry`, which knows who wants to
//! be told of what; `inotify` and `mounts` listen to the kernel, and `signal` carries what they hear to
//! whoever waits, and `overflow` counts how often that was not all. Where the kernel does not tell (`ground`, `limits`), `probe` looks. `read` and
//! `read_at_once` read, and `settle` waits for the writer of a file that a program reads by itself.

mod chain;
mod follow;
mod ground;
#[cfg(target_os = "linux")]
mod inotify;
#[cfg(not(target_os = "linux"))]
#[path = "no_events.rs"]
mod inotify;
mod limits;
#[cfg(target_os = "linux")]
mod mounts;
mod overflow;
mod path_watch;
mod probe;
mod read;
#[cfg(target_os = "linux")]
mod read_at_once;
mod registry;
mod settle;
mod signal;
mod watcher;

pub use overflow::overflows;
pub use path_watch::PathWatch;
pub use read::ReadError;
#[cfg(feature = "plugins")]
pub(crate) use read::open;
pub(crate) use settle::{MAX_WAIT, settled};
pub use watcher::{FileWatcher, LastWriter};
