//! Limit of the concurrent connections of a source.

use reloader_policy::HostPort;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Limit of concurrent connections. At the limit, a new connection fails instead of waiting: the waiting plugin may
/// itself hold the permits, which would be a deadlock.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionLimit {
    permits: Arc<Semaphore>,
    limit: usize,
}

impl ConnectionLimit {
    pub(crate) fn new(limit: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(limit)), limit }
    }

    /// Returns a permit. The connection counts until the permit is dropped.
    pub(crate) fn acquire(&self, to: &HostPort) -> Result<OwnedSemaphorePermit, LimitReached> {
        let permit = Arc::clone(&self.permits).try_acquire_owned();
        permit.map_err(|_| LimitReached { to: to.clone(), limit: self.limit })
    }
}

/// Error: the source has reached its limit of concurrent connections and requests.
#[derive(Debug, thiserror::Error)]
#[error("{to}: too many concurrent connections and requests (limit `connections` is {limit})")]
pub(crate) struct LimitReached {
    to: HostPort,
    limit: usize,
}
