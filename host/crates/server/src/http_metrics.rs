//! How much is asked.

use http::StatusCode;
use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

/// Counts requests and connections, which are bounded. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Traffic {
    requests: Arc<[AtomicU64; CLASSES.len()]>,
    open: Arc<AtomicUsize>,
    bound: u32,
}

const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

impl Traffic {
    /// With so many connections at most.
    pub(crate) fn new(bound: u32) -> Self {
        Self { requests: Arc::default(), open: Arc::default(), bound }
    }

    /// A request has been answered.
    pub(crate) fn answered(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(2).min(CLASSES.len() - 1);
        self.requests[class].fetch_add(1, Relaxed);
    }

    /// How many requests were answered, by the class of the status.
    pub(crate) fn requests(&self) -> Vec<(&'static str, u64)> {
        CLASSES.into_iter().zip(self.requests.iter().map(|count| count.load(Relaxed))).collect()
    }

    /// How many connections may be open.
    pub(crate) fn bound(&self) -> u32 {
        self.bound
    }

    /// A connection is open, until this is dropped.
    pub(crate) fn opened(&self) -> Open {
        self.open.fetch_add(1, Relaxed);
        Open(Arc::clone(&self.open))
    }

    /// How many connections are open.
    pub(crate) fn connections(&self) -> usize {
        self.open.load(Relaxed)
    }
}

/// An open connection.
pub(crate) struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
