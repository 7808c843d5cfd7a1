//! File watching and consistent reads.
//!
//! [`FileWatcher`] shares one inotify instance among any number of watched paths. A watch follows
//! its path through symbolic links, hard links and mounts. [`FileWatcher::read`] and [`settled`]
//! wait for the writer of a file to finish, so that they do not return half-written content.
//!
//! Files for which the kernel reports no changes, such as files on network file systems, are
//! polled. On systems other than Linux, all files are polled.
//!
//! The crate does not know the concept of a source.
//!
//! ```
//! use reloader_fs_watch::FileWatcher;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("app.toml");
//! std::fs::write(&path, "a = 1")?;
//! let files = FileWatcher::new();
//! let mut watch = files.watch(&path).await?;
//! std::fs::write(&path, "a = 2")?;
//! watch.changed().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Modules, in reading order
//!
//! - `file_watcher`, `path_watch`, `writer_completion`: the public types; `intervals`: their intervals.
//! - `path_resolver`: resolves a path and watches every directory entry on it. `symlink_chain`
//!   follows symbolic links, such as `..data` of a Kubernetes volume.
//! - `watch_registry`: maps each inotify watch to the path watches that subscribe to it.
//! - `inotify_listener`, `mount_watch`: read kernel events; `kernel_event_types`: their interface to the
//!   registry; `overflow_counter`: lost events.
//! - `path_change_signal`: pending changes of one path watch.
//! - `file_access_per_owner`, `file_access_with_deadline`: blocking file accesses on threads of their own, with a deadline. The
//!   first also limits the accesses of one owner. `file_system_slots`: limit of concurrent accesses to one file
//!   system; `mount_point_of_path`: the file system to which a path leads.
//! - `metadata_poll`: polling of files without kernel events (`filesystem_kind`, `inotify_limits`);
//!   `file_fingerprint`: compares two versions of a file by their metadata.
//! - `settled_read`, `nonblocking_read_from_page_cache`, `regular_file`: file reads; `settle`: waits for a writer to
//!   finish.

mod file_access_per_owner;
mod file_access_with_deadline;
mod file_fingerprint;
mod file_system_slots;
mod file_watcher;
mod filesystem_kind;
mod inotify_limits;
#[cfg(target_os = "linux")]
mod inotify_listener;
#[cfg(not(target_os = "linux"))]
#[path = "inotify_listener_stub.rs"]
mod inotify_listener;
mod intervals;
mod kernel_event_types;
mod metadata_poll;
#[cfg(target_os = "linux")]
mod mount_point_of_path;
#[cfg(target_os = "linux")]
mod mount_watch;
#[cfg(target_os = "linux")]
mod nonblocking_read_from_page_cache;
mod overflow_counter;
mod path_change_signal;
mod path_resolver;
mod path_watch;
mod regular_file;
mod settle;
mod settled_read;
mod symlink_chain;
mod watch_registry;
mod writer_completion;

pub use file_access_per_owner::{FileAccess, RunningAccess};
pub use file_access_with_deadline::{FileAccessError, access_within, access_within_blocking};
pub use file_fingerprint::FileFingerprint;
pub use file_system_slots::slots_of as file_system_slots;
pub use file_watcher::FileWatcher;
pub use overflow_counter::overflows;
pub use path_watch::PathWatch;
pub use regular_file::{RegularFileError, open, open_without_following_link, read_regular_file};
pub use settle::{MAX_WAIT, resolve_accessible, settled};
pub use settled_read::ReadError;
pub use writer_completion::LastWriter;
