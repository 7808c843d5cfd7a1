//! What a guest sees of the outside: the imports of `wit/`, each checked against the grants.
#![allow(unreachable_pub, reason = "the generated bindings re-export the types of resources")]

mod endpoint;
mod files;
mod http;
mod log;

pub use endpoint::Connection;
pub use files::WatchedFile;

use super::{Limits, bindings::reloader::plugin as wit, meter::MemoryMeter};
use crate::{
    capability::{Grants, RefusedAddress},
    file::{FileWatcher, LastWriter},
    model::SourceName,
    net::Line,
};
use http::Hooks;
use log::LineBudget;
use std::{collections::HashMap, sync::Arc};
use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

/// What the instances of one source share.
#[derive(Debug)]
pub(super) struct Surroundings {
    pub(super) source: SourceName,
    pub(super) grants: Grants,
    pub(super) limits: Limits,
    pub(super) files: FileWatcher,
    pub(super) line: Line,
}

impl Surroundings {
    /// Says in the log that a granted name stands for an address that it may not stand for.
    fn refused_address(&self, refused: &RefusedAddress) {
        tracing::warn!(source = %self.source, "{refused}");
    }
}

/// The data of one store.
pub(super) struct View {
    surroundings: Arc<Surroundings>,
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: Hooks,
    /// Read by wasmtime whenever a memory or a table grows.
    pub(super) memory: MemoryMeter,
    /// What is known of the writers of the files that this instance watches.
    writers: HashMap<String, LastWriter>,
    lines: LineBudget,
    /// The last words of a guest that panicked.
    pub(super) last_words: Option<String>,
}

impl View {
    pub(super) fn new(surroundings: Arc<Surroundings>) -> Self {
        let limits = &surroundings.limits;
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles);
        let memory = MemoryMeter::new(limits.memory, limits.table_elements);
        // Nothing is inherited and nothing preopened; sockets are refused by default.
        let wasi = WasiCtxBuilder::new().max_random_size(limits.random).build();
        Self {
            hooks: Hooks::new(Arc::clone(&surroundings)),
            lines: LineBudget::new(limits.log_lines),
            surroundings,
            table,
            wasi,
            http: WasiHttpCtx::new(),
            memory,
            writers: HashMap::new(),
            last_words: None,
        }
    }
}

impl View {
    pub(super) fn surroundings(&self) -> &Surroundings {
        &self.surroundings
    }
}

/// Everything that a plugin may import.
pub(super) fn add_to_linker(linker: &mut Linker<View>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
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
