//! Replacements for functions of `wasmtime-wasi` and `wasmtime-wasi-http`: parts of a request have a maximum
//! length, and denied sockets and name look-ups are reported to the operator.

use super::host_state::HostState;
use crate::denials::DENIED;
use reloader_policy::HostPort;
use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource},
};
use wasmtime_wasi::p2::bindings::sockets::{
    ip_name_lookup::ResolveAddressStream,
    network::{ErrorCode, IpAddressFamily, Network},
    tcp_create_socket::TcpSocket,
    udp_create_socket::UdpSocket,
};
use wasmtime_wasi_http::{
    WasiHttpView,
    p2::bindings::http::types::{HostOutgoingRequest, Method, OutgoingRequest, Scheme},
};

const HTTP: &str = "wasi:http/types@0.2.12";
const SOCKETS: &str = "wasi:sockets";
const VERSION: &str = "@0.2.12";

/// Maximum length of the host, and of the path with its query, in bytes. Most servers accept 8 KiB.
const MAX_URI_PART_BYTES: usize = 16 << 10;
/// Maximum length of the name of a method or scheme, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// Replaces the setters of HTTP requests, the sockets and the name look-ups in the linker.
pub(crate) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    override_request_setters(linker)?;
    override_sockets(linker)?;
    linker.allow_shadowing(false);
    Ok(())
}

type Request = Resource<OutgoingRequest>;
/// Result of a setter of a request. The error means that the value is invalid.
type SetResult = wasmtime::Result<(Result<(), ()>,)>;

fn override_request_setters(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    let mut types = linker.instance(HTTP)?;
    types.func_wrap(
        "[method]outgoing-request.set-method",
        |mut store: StoreContextMut<'_, HostState>, (to, method): (Request, Method)| -> SetResult {
            let length = if let Method::Other(name) = &method { name.len() } else { 0 };
            if store.data().is_too_long("method", length, MAX_NAME_BYTES) {
                return Ok((Err(()),));
            }
            Ok((store.data_mut().http().set_method(to, method)?,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-scheme",
        |mut store: StoreContextMut<'_, HostState>,
         (to, scheme): (Request, Option<Scheme>)|
         -> SetResult {
            let length = if let Some(Scheme::Other(name)) = &scheme { name.len() } else { 0 };
            if store.data().is_too_long("scheme", length, MAX_NAME_BYTES) {
                return Ok((Err(()),));
            }
            Ok((store.data_mut().http().set_scheme(to, scheme)?,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-authority",
        |mut store: StoreContextMut<'_, HostState>,
         (to, host): (Request, Option<String>)|
         -> SetResult {
            let length = host.as_ref().map_or(0, String::len);
            if store.data().is_too_long("host", length, MAX_URI_PART_BYTES) {
                return Ok((Err(()),));
            }
            Ok((store.data_mut().http().set_authority(to, host)?,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-path-with-query",
        |mut store: StoreContextMut<'_, HostState>,
         (to, path): (Request, Option<String>)|
         -> SetResult {
            let length = path.as_ref().map_or(0, String::len);
            if store.data().is_too_long("path", length, MAX_URI_PART_BYTES) {
                return Ok((Err(()),));
            }
            Ok((store.data_mut().http().set_path_with_query(to, path)?,))
        },
    )
}

/// Result of a function that creates a socket or another resource.
type CreateResult<T> = wasmtime::Result<(Result<Resource<T>, ErrorCode>,)>;

fn override_sockets(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    linker.instance(&format!("{SOCKETS}/tcp-create-socket{VERSION}"))?.func_wrap(
        "create-tcp-socket",
        |store: StoreContextMut<'_, HostState>, _: (IpAddressFamily,)| -> CreateResult<TcpSocket> {
            Ok((Err(store.data().deny_socket("open a TCP socket")),))
        },
    )?;
    linker.instance(&format!("{SOCKETS}/udp-create-socket{VERSION}"))?.func_wrap(
        "create-udp-socket",
        |store: StoreContextMut<'_, HostState>, _: (IpAddressFamily,)| -> CreateResult<UdpSocket> {
            Ok((Err(store.data().deny_socket("open a UDP socket")),))
        },
    )?;
    linker.instance(&format!("{SOCKETS}/ip-name-lookup{VERSION}"))?.func_wrap(
        "resolve-addresses",
        |store: StoreContextMut<'_, HostState>,
         (_, name): (Resource<Network>, String)|
         -> CreateResult<ResolveAddressStream> {
            let host = HostPort::new(&name, 0).map(|address| address.host());
            let action = format!("look up `{}`", host.unwrap_or_default());
            Ok((Err(store.data().deny_socket(&action)),))
        },
    )
}

impl HostState {
    /// Returns whether a part of a request exceeds its maximum length. If so, records a denial.
    fn is_too_long(&self, part: &str, length: usize, max: usize) -> bool {
        let is_too_long = length > max;
        if is_too_long {
            self.call_denials.add(&format!(
                "{DENIED}HTTP request: the {part} has {length} bytes; the maximum is {max}"
            ));
        }
        is_too_long
    }

    /// Records a denial, and returns the error for the guest.
    fn deny_socket(&self, action: &str) -> ErrorCode {
        self.call_denials.add(&format!(
            "{DENIED}cannot {action}: plugins have no sockets; hint: use the import `endpoint`"
        ));
        ErrorCode::AccessDenied
    }
}
