//! Host state: the data of one instance's store, on which the imports operate.

use super::http::HttpHooks;
use crate::{
    call_denials::CallDenials, memory_limiter::MemoryLimiter, resolved_settings::ResolvedSettings,
    source_context::SourceContext,
};
use reloader_engine::types::{Failure, FailureKind};
use reloader_fs_watch::LastWriter;
use reloader_policy::Access;
use reloader_util::sanitize::{prefix, sanitize};
use std::{collections::HashMap, env, sync::Arc};
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

/// Data of the host in the store of one plugin instance. The imported functions use it.
pub(crate) struct HostState {
    pub(crate) context: Arc<SourceContext>,
    pub(crate) resolved: Arc<ResolvedSettings>,
    pub(crate) table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: HttpHooks,
    /// Called by wasmtime before each growth of a memory or a table.
    pub(crate) memory: MemoryLimiter,
    /// For the path of each file that the instance watches: whether the last writer of the file has finished, so that
    /// a read need not wait for the writer.
    pub(crate) writers: HashMap<String, LastWriter>,
    /// Message of the guest's panic, from the import `log`.
    pub(crate) panic_message: Option<String>,
    pub(crate) call_denials: CallDenials,
}

impl HostState {
    pub(crate) fn new(context: Arc<SourceContext>, resolved: Arc<ResolvedSettings>) -> Self {
        let limits = &context.limits;
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles.get());
        let memory = MemoryLimiter::new(context.memory.clone(), limits);
        // No inherited environment, no preopened directories; WASI denies sockets by default.
        let mut wasi = WasiCtxBuilder::new();
        wasi.max_random_size(limits.random as u64);
        for name in resolved.granted.variables() {
            if let Ok(value) = env::var(name) {
                wasi.env(name, value);
            }
        }
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(limits.http_head);
        let call_denials = CallDenials::new(Arc::clone(&context));
        let hooks =
            HttpHooks::new(Arc::clone(&context), Arc::clone(&resolved), call_denials.clone());
        Self {
            hooks,
            context,
            resolved,
            table,
            wasi: wasi.build(),
            http,
            memory,
            writers: HashMap::new(),
            panic_message: None,
            call_denials,
        }
    }

    /// Checks an access against the grants, and records a denial.
    ///
    /// # Errors
    ///
    /// The reason of the denial, with the grant that would allow the access.
    pub(crate) fn check_access(&self, access: &Access) -> Result<(), String> {
        self.resolved.check_access(access).inspect_err(|reason| self.call_denials.add(reason))
    }

    /// Adds the call's denials to a failure, and redacts secrets in it.
    pub(crate) fn complete_failure(&mut self, failure: Failure) -> Failure {
        let (mut message, mut kind) = (failure.message.to_string(), failure.kind);
        for denial in self.call_denials.take() {
            self.context.denials.mark_reported(&denial);
            if !message.contains(&denial) {
                message = format!("{message} ({denial})");
            }
            if kind == FailureKind::Permanent {
                kind = FailureKind::Denied;
            }
        }
        Failure::new(kind, sanitize(&self.resolved.secrets.redact(&message)))
    }

    /// Returns a guest's text for display: secrets are redacted, then control characters are escaped and a long text is
    /// truncated.
    pub(crate) fn displayable(&self, text: &str) -> String {
        sanitize(&self.resolved.secrets.redact(prefix(text)))
    }
}

impl WasiView for HostState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for HostState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.hooks }
    }
}
