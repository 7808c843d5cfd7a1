//! Watches files and reads them consistently: one shared watcher for any number of paths, and reads that wait
//! for a writer to finish.
//!
//! A crate of its own: it knows nothing of sources, and Linux's inotify needs care that is tested here alone.
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
//! - `watcher`, `path_watch`: the public types.
//! - `resolver`: watches everything that a path leads through (`symlink_chain`).
//! - `registry`: which watch is interested in which directory.
//! - `inotify`, `mount_watch`: kernel events; `notification` carries them to a watch; `overflow` counts lost
//!   ones.
//! - `poll`: looks at files for which the kernel reports no events (`filesystem_kind`, `inotify_limits`).
//! - `read`, `read_nonblocking`: read a file; `debounce` waits for its writer.

mod debounce;
mod filesystem_kind;
#[cfg(target_os = "linux")]
mod inotify;
#[cfg(not(target_os = "linux"))]
#[path = "inotify_unsupported.rs"]
mod inotify;
mod inotify_limits;
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
mod symlink_chain;
mod watcher;

pub use debounce::{MAX_WAIT, settled};
pub use overflow::overflows;
pub use path_watch::PathWatch;
pub use read::{ReadError, open};
pub use watcher::{FileWatcher, LastWriter};
