//! Source context: state that the instances of one source share.

use crate::{
    denials::Denials, guest_log_limit::GuestLogLimit, limits::Limits, memory_limiter::MemoryBudget,
    scheduler::source_cpu_quota::CpuQuota,
};
use reloader_engine::types::SourceName;
use reloader_fs_watch::FileWatcher;
use reloader_net::Egress;
use reloader_source::metrics::Counters;
use reloader_util::sync::Mutex;
use std::{sync::Arc, time::Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// State that the instances of one source share, for the lifetime of the source.
#[derive(Debug)]
pub(crate) struct SourceContext {
    pub(crate) source: SourceName,
    pub(crate) limits: Arc<Limits>,
    pub(crate) files: FileWatcher,
    pub(crate) egress: Egress,
    /// Memory budget that all instances of the source share.
    pub(crate) memory: MemoryBudget,
    /// Held while a large store is dropped in a pool. The next instance is opened only afterwards, so that the mapped
    /// memory of the source stays within its limit.
    pub(crate) pending_drop: Arc<Semaphore>,
    pub(crate) log_limit: Mutex<GuestLogLimit>,
    pub(crate) denials: Denials,
    pub(crate) counters: Arc<Counters>,
    pub(crate) cpu_quota: Arc<CpuQuota>,
    /// Reservation for a large JSON Schema check in [`LargeChecks`](crate::json_schema_memory::LargeChecks). Released
    /// when the last instance is dropped.
    pub(crate) _reservation: Option<OwnedSemaphorePermit>,
}

impl SourceContext {
    pub(crate) fn new(
        source: SourceName,
        limits: Arc<Limits>,
        files: FileWatcher,
        egress: Egress,
        counters: Arc<Counters>,
    ) -> Self {
        let now = Instant::now();
        Self {
            memory: MemoryBudget::new(limits.memory),
            pending_drop: Arc::new(Semaphore::new(1)),
            log_limit: Mutex::new(GuestLogLimit::new(limits.log_lines, now)),
            denials: Denials::new(source.clone(), Arc::clone(&counters)),
            cpu_quota: Arc::new(CpuQuota::new(now)),
            _reservation: None,
            counters,
            source,
            limits,
            files,
            egress,
        }
    }
}
