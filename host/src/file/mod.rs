//! Files: one shared watcher for all of them, and reading that waits for a writer to be done.

mod chain;
mod read;
mod registry;
mod settle;
mod signal;
mod watcher;

pub use read::ReadError;
pub(crate) use settle::settled;
pub use watcher::{FileWatcher, LastWriter, PathWatch};
