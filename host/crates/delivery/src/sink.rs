//! The trait [`Sink`], its result and its error.

use crate::{delivery_values::Update, serial_blocking_jobs::BlockingOperation};
use async_trait::async_trait;
use std::{path::PathBuf, time::Duration};

/// A destination of values.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Delivers the values of `update`.
    ///
    /// A worker makes one call at a time, and repeats a failed call with the same update. It drops
    /// the future when the attempt exceeds its timeout. Work that continues after that, e.g. on
    /// another thread, must not undo what a later call does.
    ///
    /// # Errors
    ///
    /// Returns the reason of the failure and whether to retry.
    async fn deliver(&self, update: &Update) -> Result<Delivered, SinkError>;

    /// Returns whether the sink itself detects that a value is already delivered, e.g. by comparing
    /// a file with it.
    ///
    /// A worker calls such a sink at every start. It calls other sinks at a start only if the values
    /// differ from the delivery record.
    fn detects_unchanged(&self) -> bool {
        false
    }

    /// Returns the blocking operation that occupies a thread for this sink now, if any.
    ///
    /// A worker names it when an attempt exceeds its timeout. A worker that stops does not wait for an
    /// operation that has been blocked for some seconds.
    fn blocking_operation(&self) -> Option<BlockingOperation> {
        None
    }

    /// Returns the interval in which the worker looks for an [external change](Self::external_change) and
    /// repairs the target; `None` for never.
    fn repair_interval(&self) -> Option<Duration> {
        None
    }

    /// Returns how another program may have changed the target since the last successful delivery; `None` if
    /// the target is unchanged.
    ///
    /// The worker then delivers the same values again. The check must be cheap, and may report a change where
    /// there is none.
    async fn external_change(&self) -> Option<ExternalChange> {
        None
    }
}

/// Change of a target by another program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalChange {
    /// Path of the changed file.
    pub path: PathBuf,
    /// The change: "the file is missing".
    pub reason: String,
}

/// Result of a successful delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivered {
    /// The delivery changed the target.
    Changed,
    /// The target already had the values.
    Same,
}

/// A failed delivery.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SinkError {
    /// Reason for the operator. It must not contain the value, which may be a secret.
    pub message: String,
    /// Retry policy.
    pub retry: Retry,
}

/// Retry policy of a failed delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Retry with backoff.
    Yes,
    /// Retry with backoff, but not before this time has passed.
    After(Duration),
    /// Do not retry; the same values always fail with these settings.
    No,
}

impl SinkError {
    /// Returns a transient error: a retry may succeed.
    pub fn transient(message: impl Into<String>) -> Self {
        Self { message: message.into(), retry: Retry::Yes }
    }

    /// Returns a permanent error: a retry with the same values fails again.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self { message: message.into(), retry: Retry::No }
    }
}
