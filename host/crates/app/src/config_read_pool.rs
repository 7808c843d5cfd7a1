//! Thread pool for reading and checking configurations, and the time limit of a file access.

use reloader_util::blocking_pool::BlockingPool;
use std::time::Duration;

/// Stack size of a thread. The parser recurses for each level of a nested value, up to 80 levels.
const STACK_BYTES: usize = 8 << 20;

/// Threads for functions that access several files in sequence and would block an async thread.
pub(crate) static CONFIG_POOL: BlockingPool =
    BlockingPool::new("reloader-config", 4).with_stack_bytes(STACK_BYTES);

/// Time limit of one access to a file.
pub(crate) const FILE_ACCESS_TIMEOUT: Duration = Duration::from_secs(10);
