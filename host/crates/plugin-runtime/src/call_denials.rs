//! Denials during one call: reported with the call's failure, or logged.

use crate::source_context::SourceContext;
use reloader_util::sync::Mutex;
use std::sync::Arc;

/// Denials during one call. The host reports them to the operator even if the guest omits them from its answer.
#[derive(Debug, Clone)]
pub(crate) struct CallDenials {
    context: Arc<SourceContext>,
    /// Messages of the denials to report with a failure of the call.
    pending: Arc<Mutex<Vec<String>>>,
}

/// Maximum number of denials to report with the call's failure. Further ones are logged immediately.
const MAX_PENDING_DENIALS: usize = 3;

impl CallDenials {
    pub(crate) fn new(context: Arc<SourceContext>) -> Self {
        Self { context, pending: Arc::default() }
    }

    /// Counts a denial, and keeps its message for the report with the call's failure.
    pub(crate) fn add(&self, message: &str) {
        let denials = &self.context.denials;
        denials.count(message);
        let mut pending = self.pending.lock();
        if pending.iter().any(|known| known == message) {
            return;
        }
        if pending.len() < MAX_PENDING_DENIALS {
            pending.push(message.into());
        } else {
            denials.log(message);
        }
    }

    /// Takes the denials to report with the call's failure.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.pending.lock())
    }

    /// Logs the denials that no failure of the call has reported.
    pub(crate) fn log(&self) {
        for message in self.take() {
            self.context.denials.log(&message);
        }
    }
}
