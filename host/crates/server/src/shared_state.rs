//! State that all request handlers of the HTTP API share.

use crate::{
    coalesced_response_builds::SharedResponses, etag::Tags, event_log::EventLog,
    http_metrics::HttpMetrics, render_pool::RenderPool, response_budget::ResponseBudget,
};
use reloader_app::Handle;
use std::sync::Arc;
use tokio::sync::watch;

/// Running configuration, event log, counters and budgets of one server.
pub(crate) struct SharedState {
    pub(crate) handle: Handle,
    pub(crate) events: Arc<EventLog>,
    pub(crate) http_metrics: HttpMetrics,
    pub(crate) budget: Arc<ResponseBudget>,
    pub(crate) render_pool: Arc<RenderPool>,
    pub(crate) responses: Arc<SharedResponses>,
    pub(crate) tags: Arc<Tags>,
    /// Becomes `true` when the server stops.
    pub(crate) stop: watch::Receiver<bool>,
}
