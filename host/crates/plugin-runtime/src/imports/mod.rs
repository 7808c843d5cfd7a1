//! What a guest sees of the outside: the imports of `wit/`, each checked against the grants.
#![allow(unreachable_pub, reason = "the generated bindings re-export the types of resources")]

mod endpoint;
mod files;
mod http;
mod log;
mod wasi_overrides;

pub use endpoint::Connection;
pub use files::WatchedFile;

pub(crate) use log::LineBudget;

use crate::{
    bindings::reloader::plugin as wit,
    meter::MemoryMeter,
    source_context::{Configured, Surroundings},
};
use http::Hooks;
use reloader_engine::types::{Failure, FailureKind};
use reloader_fs_watch::LastWriter;
use reloader_policy::Access;
use reloader_util::sanitize::sanitize;
use std::{
    collections::HashMap,
    env,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

/// The data of one store.
pub(crate) struct View {
    surroundings: Arc<Surroundings>,
    configured: Arc<Configured>,
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: Hooks,
    /// Read by wasmtime whenever a memory or a table grows.
    pub(crate) memory: MemoryMeter,
    /// What is known of the writers of the files that this instance watches.
    writers: HashMap<String, LastWriter>,
    /// The last words of a guest that panicked.
    pub(crate) last_words: Option<String>,
    objections: Objections,
}

/// What the host has objected to during a call. A guest may make little of it; its operator wants to
/// know.
#[derive(Debug, Clone)]
pub(crate) struct Objections {
    surroundings: Arc<Surroundings>,
    /// Those that a failure of the call will tell.
    first: Arc<Mutex<Vec<String>>>,
}

/// More objections in a call than these are told at once, and not again with its failure.
const OBJECTIONS: usize = 3;

impl Objections {
    fn new(surroundings: Arc<Surroundings>) -> Self {
        Self { surroundings, first: Arc::default() }
    }

    fn add(&self, what: &str) {
        let refusals = &self.surroundings.refusals;
        refusals.count(what);
        let mut first = self.lock();
        if first.iter().any(|known| known == what) {
            return;
        }
        if first.len() < OBJECTIONS {
            first.push(what.into());
        } else {
            refusals.say(what);
        }
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.lock())
    }

    /// The call has ended otherwise than by a failure that tells them.
    pub(crate) fn say(&self) {
        for objection in self.take() {
            self.surroundings.refusals.say(&objection);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl View {
    pub(crate) fn new(surroundings: Arc<Surroundings>, configured: Arc<Configured>) -> Self {
        let limits = &surroundings.limits;
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles.get());
        let memory = MemoryMeter::new(surroundings.memory.clone(), limits);
        // Nothing is inherited and nothing preopened; sockets are refused by default.
        let mut wasi = WasiCtxBuilder::new();
        wasi.max_random_size(limits.random as u64);
        for name in configured.granted.variables() {
            if let Ok(value) = env::var(name) {
                wasi.env(name, value);
            }
        }
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(limits.http_head);
        let objections = Objections::new(Arc::clone(&surroundings));
        let hooks =
            Hooks::new(Arc::clone(&surroundings), Arc::clone(&configured), objections.clone());
        Self {
            hooks,
            surroundings,
            configured,
            table,
            wasi: wasi.build(),
            http,
            memory,
            writers: HashMap::new(),
            last_words: None,
            objections,
        }
    }

    pub(crate) fn surroundings(&self) -> &Surroundings {
        &self.surroundings
    }

    /// Whether this may be done; if not, why.
    fn may(&self, access: &Access) -> Result<(), String> {
        self.configured.may(access).inspect_err(|why| self.objections.add(why))
    }

    /// What the host objects to in this call.
    pub(crate) fn objections(&self) -> &Objections {
        &self.objections
    }

    /// A failure with what the host objected to during the call, and without what is secret.
    pub(crate) fn complete(&mut self, failure: Failure) -> Failure {
        let (mut message, mut kind) = (failure.message.to_string(), failure.kind);
        for objection in self.objections.take() {
            self.surroundings.refusals.told(&objection);
            if !message.contains(&objection) {
                message = format!("{message} ({objection})");
            }
            if kind == FailureKind::Permanent {
                kind = FailureKind::Denied;
            }
        }
        Failure::new(kind, sanitize(&self.configured.secrets.redact(&message)))
    }
}

/// Everything that a plugin may import.
pub(crate) fn add_to_linker(linker: &mut Linker<View>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    wasi_overrides::add_to_linker(linker)?;
    wit::types::add_to_linker::<_, HasSelf<View>>(linker, |view| view)?;
    wit::log::add_to_linker::<_, HasSelf<View>>(linker, |view| view)?;
    wit::files::add_to_linker::<_, HasSelf<View>>(linker, |view| view)?;
    wit::endpoint::add_to_linker::<_, HasSelf<View>>(linker, |view| view)?;
    Ok(())
}

impl wit::types::Host for View {}

impl WasiView for View {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for View {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.hooks }
    }
}
