//! Threads of the server for operations that block: accesses to the files of sockets and certificates, and hashes of
//! large values.

use reloader_util::blocking_pool::BlockingPool;

/// Pool for all blocking operations of the server.
pub(crate) static POOL: BlockingPool = BlockingPool::new("reloader-server", 4);
