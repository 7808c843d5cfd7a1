//! Health of the state store: whether writes reach the disk.

use jiff::Timestamp;
use std::sync::Arc;

/// Health of the state store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Health {
    /// Failure of the last write; `None` if the write succeeded. While writes fail, a crash loses published values.
    pub failing: Option<WriteFailure>,
    /// Number of committed transactions.
    pub commits: u64,
    /// Number of failed transactions.
    pub failures: u64,
}

/// Ongoing failure to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteFailure {
    /// Reason of the last failed write, for the operator.
    pub reason: Arc<str>,
    /// Time of the first failed write since the last successful one.
    pub since: Timestamp,
}
