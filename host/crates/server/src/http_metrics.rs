//! HTTP metrics: answered requests by status class, and open connections.

use http::StatusCode;
use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

/// Counters of one listener. Clones share the counters.
#[derive(Debug, Clone, Default)]
pub(crate) struct HttpMetrics {
    requests: Arc<[AtomicU64; STATUS_CLASSES.len()]>,
    open_connections: Arc<AtomicUsize>,
}

const STATUS_CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

impl HttpMetrics {
    /// Counts an answered request.
    pub(crate) fn count_request(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(2);
        self.requests[class.min(STATUS_CLASSES.len() - 1)].fetch_add(1, Relaxed);
    }

    /// Returns the number of answered requests of each status class.
    pub(crate) fn requests(&self) -> Vec<(&'static str, u64)> {
        let counts = self.requests.iter().map(|count| count.load(Relaxed));
        STATUS_CLASSES.into_iter().zip(counts).collect()
    }

    /// Counts a connection as open until the guard is dropped.
    pub(crate) fn count_connection(&self) -> OpenConnection {
        self.open_connections.fetch_add(1, Relaxed);
        OpenConnection(Arc::clone(&self.open_connections))
    }

    /// Returns the number of open connections.
    pub(crate) fn open_connections(&self) -> usize {
        self.open_connections.load(Relaxed)
    }
}

/// Guard that counts a connection as open until the guard is dropped.
pub(crate) struct OpenConnection(Arc<AtomicUsize>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
