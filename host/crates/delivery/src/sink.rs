//! The trait [`Sink`], its result and its error.

use crate::{delivery_values::Update, serial_blocking_jobs::BlockingOperation};
use async_trait::async_trait;
use bytes::Bytes;
use reloader_util::digest::Digest;
use std::{future::pending, path::PathBuf, time::Duration};

/// A destination to which the host delivers the values of sources, e.g. a file, a command or a webhook.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Delivers the values of `update`.
    ///
    /// A worker makes one call at a time, and repeats a failed call with the same update. The worker drops
    /// the future when the attempt exceeds its timeout. A thread that the sink has started and that continues
    /// after the drop must not overwrite the result of a later call.
    ///
    /// # Errors
    ///
    /// Returns the reason of the failure and whether to retry.
    async fn deliver(&self, update: &Update) -> Result<Delivered, SinkError>;

    /// Returns the content of the file that [`deliver`](Self::deliver) would write; `None` if it would remove the file, or
    /// if the sink writes no file. Changes nothing.
    ///
    /// # Errors
    ///
    /// The reason why the content cannot be determined.
    async fn preview(&self, _update: &Update) -> Result<Option<Bytes>, SinkError> {
        Ok(None)
    }

    /// Returns whether the sink itself detects that a value is already delivered, e.g. by comparing the
    /// file with the value.
    ///
    /// If so, the worker calls [`deliver`](Self::deliver) at every start. Otherwise, the worker calls it at a
    /// start only if the values differ from the delivery record.
    fn detects_unchanged(&self) -> bool {
        false
    }

    /// Returns the blocking operation that occupies a thread for this sink now, if any.
    ///
    /// If an attempt exceeds its timeout, the error names the operation. A worker that stops does not wait for
    /// an operation that has run for 3 seconds.
    fn blocking_operation(&self) -> Option<BlockingOperation> {
        None
    }

    /// Returns the interval at which the worker checks for an [external change](Self::external_change) and
    /// repairs the target; `None` for no checks.
    fn repair_interval(&self) -> Option<Duration> {
        None
    }

    /// Returns how another program may have changed the target since the last successful delivery; `None` if
    /// the target is unchanged.
    ///
    /// After a reported change, the worker delivers the same values again. The check must be cheap. It may
    /// report a change although the target still has the values.
    async fn external_change(&self) -> Option<ExternalChange> {
        None
    }

    /// Returns the content of the file that the sink writes; `None` if the sink writes no file, or before the first
    /// successful delivery.
    ///
    /// A notifier beside the sink runs only after this content has changed.
    fn file_content(&self) -> Option<FileContent> {
        None
    }

    /// Waits until a file from which the sink derives the content has changed, such as a template. Never returns for a
    /// sink without such a file. The worker then delivers the same values again.
    async fn input_changed(&self) {
        pending().await
    }
}

/// Content of the file that a sink writes, after the last successful delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileContent {
    /// Digest of the content; `None` if the sink has removed the file.
    pub digest: Option<Digest>,
    /// Number of writes and removals that changed the file, since the start of the sink.
    pub writes: u64,
}

/// Change that another program has made to a file that the sink wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalChange {
    /// Path of the changed file.
    pub path: PathBuf,
    /// Description of the change, e.g. "the file is missing".
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
    /// Reason of the failure, for the operator. It must not contain the value, which may be a secret.
    pub message: String,
    /// Whether and when the delivery is retried.
    pub retry: Retry,
}

/// Decision whether and when a failed delivery is retried.
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
