//! The host's own networking, for `endpoint` and for `wasi:http` alike: resolving, dialling, TLS.
//!
//! What a plugin may reach has been decided before anything here is called.

mod dial;
mod http;
mod tls;

pub use dial::{Stream, dial};
pub use http::{HttpClient, RequestError};
