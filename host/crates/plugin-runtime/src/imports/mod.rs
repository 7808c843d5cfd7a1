//! Imports of a guest: the host functions of `wit/`, each checked against the grants.

mod endpoint;
mod files;
pub(crate) mod host_state;
mod http;
mod log;
mod wasi_http_length_limits_and_socket_denials;

use crate::bindings::reloader::plugin as wit;
use host_state::HostState;
use wasmtime::component::{HasSelf, Linker};

/// Adds all functions that a plugin may import to the linker.
pub(crate) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    wasi_http_length_limits_and_socket_denials::add_to_linker(linker)?;
    wit::types::add_to_linker::<_, HasSelf<HostState>>(linker, |state| state)?;
    wit::log::add_to_linker::<_, HasSelf<HostState>>(linker, |state| state)?;
    wit::files::add_to_linker::<_, HasSelf<HostState>>(linker, |state| state)?;
    wit::endpoint::add_to_linker::<_, HasSelf<HostState>>(linker, |state| state)?;
    Ok(())
}

impl wit::types::Host for HostState {}
