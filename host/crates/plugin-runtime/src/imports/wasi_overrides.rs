//! What WASI's own implementation would take or do, and this host does not: texts of any length in a
//! request, which it would keep; sockets and look-ups of names, which it refuses without a word.

use super::View;
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

/// A host, or a path with its query, in bytes. Servers take up to 8 KiB, as a rule.
const TEXT_MAX: usize = 16 << 10;
/// The name of a method or scheme, in bytes.
const NAME_MAX: usize = 64;

/// Puts these in the place of WASI's own.
pub(crate) fn add_to_linker(linker: &mut Linker<View>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    texts(linker)?;
    sockets(linker)?;
    linker.allow_shadowing(false);
    Ok(())
}

type Request = Resource<OutgoingRequest>;
/// What these functions give: whether it was taken.
type Taken = wasmtime::Result<(Result<(), ()>,)>;

fn texts(linker: &mut Linker<View>) -> wasmtime::Result<()> {
    let mut types = linker.instance(HTTP)?;
    types.func_wrap(
        "[method]outgoing-request.set-method",
        |mut store: StoreContextMut<'_, View>, (to, method): (Request, Method)| -> Taken {
            let length = if let Method::Other(name) = &method { name.len() } else { 0 };
            if store.data().is_too_long("the method", length, NAME_MAX) {
                return Ok((Err(()),));
            }
            Ok((store.data_mut().http().set_method(to, method)?,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-scheme",
        |mut store: StoreContextMut<'_, View>, (to, scheme): (Request, Option<Scheme>)| -> Taken {
            let length = if let Some(Scheme::Other(name)) = &scheme { name.len() } else { 0 };
            if store.data().is_too_long("the scheme", length, NAME_MAX) {
                return Ok((Err(()),));
            }
            Ok((store.data_mut().http().set_scheme(to, scheme)?,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-authority",
        |mut store: StoreContextMut<'_, View>, (to, host): (Request, Option<String>)| -> Taken {
            let length = host.as_ref().map_or(0, String::len);
            if store.data().is_too_long("the host", length, TEXT_MAX) {
                return Ok((Err(()),));
            }
            Ok((store.data_mut().http().set_authority(to, host)?,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-path-with-query",
        |mut store: StoreContextMut<'_, View>, (to, path): (Request, Option<String>)| -> Taken {
            let length = path.as_ref().map_or(0, String::len);
            if store.data().is_too_long("the path", length, TEXT_MAX) {
                return Ok((Err(()),));
            }
            Ok((store.data_mut().http().set_path_with_query(to, path)?,))
        },
    )
}

/// What making a socket of a kind gives.
type Made<T> = wasmtime::Result<(Result<Resource<T>, ErrorCode>,)>;

fn sockets(linker: &mut Linker<View>) -> wasmtime::Result<()> {
    linker.instance(&format!("{SOCKETS}/tcp-create-socket{VERSION}"))?.func_wrap(
        "create-tcp-socket",
        |store: StoreContextMut<'_, View>, _: (IpAddressFamily,)| -> Made<TcpSocket> {
            Ok((Err(store.data().refuse_socket("open a TCP socket")),))
        },
    )?;
    linker.instance(&format!("{SOCKETS}/udp-create-socket{VERSION}"))?.func_wrap(
        "create-udp-socket",
        |store: StoreContextMut<'_, View>, _: (IpAddressFamily,)| -> Made<UdpSocket> {
            Ok((Err(store.data().refuse_socket("open a UDP socket")),))
        },
    )?;
    linker.instance(&format!("{SOCKETS}/ip-name-lookup{VERSION}"))?.func_wrap(
        "resolve-addresses",
        |store: StoreContextMut<'_, View>,
         (_, name): (Resource<Network>, String)|
         -> Made<ResolveAddressStream> {
            let shown = HostPort::new(&name, 0).map(|address| address.host());
            let what = format!("look up `{}`", shown.unwrap_or_default());
            Ok((Err(store.data().refuse_socket(&what)),))
        },
    )
}

impl View {
    fn is_too_long(&self, what: &str, length: usize, most: usize) -> bool {
        let is_too_long = length > most;
        if is_too_long {
            self.objections
                .add(&format!("refused a request: {what} has {length} bytes; it may have {most}"));
        }
        is_too_long
    }

    fn refuse_socket(&self, what: &str) -> ErrorCode {
        self.objections.add(&format!(
            "refused to {what}: plugins have no sockets; they connect through the host's `endpoint`"
        ));
        ErrorCode::AccessDenied
    }
}
