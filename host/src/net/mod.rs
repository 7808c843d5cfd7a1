//! The host's own networking, for `endpoint` and for `wasi:http` alike.
//!
//! A source has one way out, its [`Line`]. Every connection is made in the same steps (`dial`): the
//! name is resolved, once; every address that it stands for is held against the source's
//! [`AddressPolicy`](reloader_policy::AddressPolicy); the addresses that were checked are dialled; and
//! TLS is spoken where it is asked for. All that has one time limit.
//!
//! What a plugin may reach by name has been decided before anything here is called.

mod body;
mod certificates;
mod dial;
mod http;
mod line;
mod resolve;
mod secure;
mod stream;
mod tasks;
mod time;
mod tls;

pub use body::{Body, BodyError};
pub use certificates::{TlsError, TlsSettings};
pub use dial::DialError;
pub use http::{RequestBody, RequestError};
pub use line::{Bounds, Connection, Line, Network, Reach};
pub use resolve::Resolve;
pub use stream::Stream;
pub use time::Times;

#[cfg(test)]
mod tests;
