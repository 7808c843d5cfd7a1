//! Thread pool for name lookups. A lookup blocks its thread until the name server answers.

use reloader_util::blocking_pool::BlockingPool;
use std::{io, net::SocketAddr};

/// Maximum number of concurrent lookups. Lookups that have been running for more than a second do not count.
const MAX_CONCURRENT_LOOKUPS: usize = 64;

static POOL: BlockingPool = BlockingPool::new("reloader-dns", MAX_CONCURRENT_LOOKUPS);

/// Runs a lookup on a thread of the pool.
pub(crate) async fn run(
    lookup: impl FnOnce() -> io::Result<Vec<SocketAddr>> + Send + 'static,
) -> io::Result<Vec<SocketAddr>> {
    POOL.spawn(lookup).await?
}
