//! State that all request handlers share.

use crate::{
    etag::Tags, event_log::EventLog, http_metrics::HttpMetrics, response_budget::ResponseBudget,
};
use reloader_app::Handle;
use std::sync::Arc;
use tokio::sync::watch;

/// Running configuration, event log, counters and budgets of one server.
pub(crate) struct SharedState {
    pub(crate) handle: Handle,
    pub(crate) events: Arc<EventLog>,
    pub(crate) http_metrics: HttpMetrics,
    pub(crate) budget: ResponseBudget,
    pub(crate) tags: Arc<Tags>,
    /// Becomes `true` when the server stops.
    pub(crate) stop: watch::Receiver<bool>,
}
