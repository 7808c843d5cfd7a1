//! Threads for operations that may block: writes to a full pipe, accesses to a file system that does not answer.

use reloader_util::blocking_pool::BlockingPool;

/// Pool for the blocking operations of a command.
pub(crate) static POOL: BlockingPool = BlockingPool::new("reloader-cli", 4);
