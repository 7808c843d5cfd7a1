//! Settings of a worker: timeout, retries, debounce, and the action when a source removes its value.

use reloader_util::units::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Default timeout of one delivery attempt.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// Settings of a worker, the task that delivers the values of its sources to one sink.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerSettings {
    /// Timeout of one attempt to deliver.
    pub timeout: Duration,
    /// Maximum number of retries of the same values, with exponential backoff.
    pub retries: u32,
    /// Interval of further retries after `retries` is exhausted; `None` for no further retries.
    pub retry_later: Option<Duration>,
    /// Action when a source removes its value.
    pub on_removed: OnRemoved,
    /// Debounce of a burst of changes. `None` means no debounce for one source, and
    /// [`WaitSettings::default`] for several sources.
    pub wait: Option<WaitSettings>,
    /// Digest of the sink's settings. When the digest changes, the worker delivers the same values again.
    pub fingerprint: String,
}

/// Action when a source removes its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnRemoved {
    /// The last delivered value stays in place.
    #[default]
    Keep,
    /// The removal is delivered: a file is removed, a command runs with the event `removed`.
    Clear,
}

/// Debounce of a burst of changes.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct WaitSettings {
    /// Time without changes that ends a burst. Default: `50ms`.
    pub min: Time,
    /// Maximum wait for the end of a burst. Default: `1s`.
    pub max: Time,
}

impl Default for WaitSettings {
    fn default() -> Self {
        Self { min: Time(Duration::from_millis(50)), max: Time(Duration::from_secs(1)) }
    }
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            retries: 10,
            retry_later: None,
            on_removed: OnRemoved::default(),
            wait: None,
            fingerprint: String::new(),
        }
    }
}
