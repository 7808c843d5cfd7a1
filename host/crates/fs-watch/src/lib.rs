//! File watching and consistent reads.
//!
//! [`FileWatcher`] shares one inotify instance among any number of watched paths. A watch follows
//! its path through symbolic links, hard links and mounts. [`FileWatcher::read`] and [`settled`]
//! wait for the writer of a file to finish, so that they do not return half-written content.
//!
//! Files for which the kernel reports no changes, such as files on network file systems, are
//! polled. On systems other than Linux, all files are polled.
//!
//! The crate depends on no other crate of the host and does not know the concept of a source.
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
//! - `watcher`, `path_watch`, `last_writer`: the public types; `settings`: their intervals.
//! - `resolver`: resolves a path and watches every directory entry on it (`symlink_chain`).
//! - `registry`: maps each inotify watch to the path watches that subscribe to it.
//! - `inotify`, `mount_watch`: read kernel events; `event_handler`: their interface to the
//!   registry.
//! - `notification`: pending changes of one path watch.
//! - `overflow`: counter of inotify queue overflows.
//! - `poll`: polling of files without kernel events (`filesystem_kind`, `inotify_limits`).
//! - `read`, `read_nonblocking`: file reads; `debounce`: waits for a writer to finish.

mod debounce;
mod event_handler;
mod filesystem_kind;
#[cfg(target_os = "linux")]
mod inotify;
#[cfg(not(target_os = "linux"))]
#[path = "inotify_unsupported.rs"]
mod inotify;
mod inotify_limits;
mod last_writer;
#[cfg(target_os = "linux")]
mod mount_watch;
mod notification;
mod overflow;
mod path_watch;
mod poll;
mod read;
#[cfg(target_os = "linux")]
mod read_nonblocking;
mod registry;
mod resolver;
mod settings;
mod symlink_chain;
mod watcher;

pub use debounce::{MAX_WAIT, settled};
pub use last_writer::LastWriter;
pub use overflow::overflows;
pub use path_watch::PathWatch;
pub use read::{ReadError, open, read_regular_file};
pub use watcher::FileWatcher;
