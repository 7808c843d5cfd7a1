//! Threads that load components: they read files, parse untrusted bytes, and link components.
//!
//! A file system that stops answering blocks neither the shutdown nor the loading of other plugins.

use crate::load_error::LoadReason;
use reloader_util::blocking_pool::{BlockingError, BlockingPool};
use std::{io, time::Duration};
use tokio::time::timeout;

/// Maximum number of operations that run at the same time. Operations that a file system blocks do not count.
const MAX_CONCURRENT_LOADS: usize = 4;
/// Stack size of a thread, in bytes. The parser and the linker of components are recursive.
const STACK_BYTES: usize = 2 << 20;
/// Time limit of an access to the file of a component, and of an access to the cache.
const FILE_TIMEOUT: Duration = Duration::from_secs(10);

static POOL: BlockingPool =
    BlockingPool::new("reloader-plugin", MAX_CONCURRENT_LOADS).with_stack_bytes(STACK_BYTES);

/// Runs a computation that may take long, such as parsing an untrusted component.
pub(crate) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LoadReason> + Send + 'static,
) -> Result<T, LoadReason> {
    let result = POOL.spawn(work).await;
    result.unwrap_or_else(|error| {
        let message = error.to_string();
        Err(match error {
            BlockingError::Panicked(_) => LoadReason::Unusable(message),
            _ => LoadReason::NoResources(message),
        })
    })
}

/// Runs an access to files on a thread of the pool.
///
/// # Errors
///
/// An error of the kind [`TimedOut`](io::ErrorKind::TimedOut) if the access takes more than ten seconds.
pub(crate) async fn access_files<T: Send + 'static>(
    access: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let result = timeout(FILE_TIMEOUT, POOL.spawn(access)).await.map_err(|_| {
        let message = format!("no answer within {FILE_TIMEOUT:?}; does its file system respond?");
        io::Error::new(io::ErrorKind::TimedOut, message)
    })?;
    result.map_err(|error: BlockingError| error.into())
}
