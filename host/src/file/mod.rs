//! Files: one shared watcher for all of them, and reading that waits for a writer to be done.

mod chain;
mod read;
mod watcher;

pub use read::ReadError;
pub use watcher::{FileWatcher, LastWriter, PathWatch};
