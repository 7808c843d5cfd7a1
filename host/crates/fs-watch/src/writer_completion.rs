//! Completion state of the last writer of a watched file.

use crate::path_change_signal::ChangeSignal;
#[cfg(target_os = "linux")]
use crate::symlink_chain::Device;
use std::sync::Arc;

/// Completion state of the last writer of a file: finished or unknown. The default is unknown.
///
/// [`FileWatcher::read`](crate::FileWatcher::read) skips the wait for a writer that has finished.
#[derive(Debug, Clone, Default)]
pub struct LastWriter(Option<Arc<ChangeSignal>>);

impl LastWriter {
    /// Returns the state of the last writer that `signal` has recorded.
    pub(crate) fn new(signal: &Arc<ChangeSignal>) -> Self {
        Self(Some(Arc::clone(signal)))
    }

    /// Returns whether the last writer has finished, so that the content read now is complete.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.0.as_ref().is_some_and(|signal| signal.is_writer_done())
    }

    /// Returns the device of the file, if the last resolution of its path found one.
    #[cfg(target_os = "linux")]
    pub(crate) fn device(&self) -> Option<Device> {
        self.0.as_ref().and_then(|signal| signal.device())
    }
}
