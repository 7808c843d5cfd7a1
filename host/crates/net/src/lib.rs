//! Networking of the reloader host: egress of sources under an address policy, the host's own requests, and
//! secrets.
//!
//! A source has one [`Line`]. Each connection is made in the same steps (`dial`): the name is resolved once,
//! every address is checked against the source's [`AddressPolicy`](reloader_policy::AddressPolicy), the checked
//! addresses are dialled, and TLS is negotiated where it is required. One deadline covers all steps.
//!
//! A crate of its own: it takes the policy as an argument and knows nothing of plugins, so the client of a
//! running host and the fuzzers use parts of it without wasmtime.
//!
#![cfg_attr(feature = "secrets", doc = "```")]
#![cfg_attr(not(feature = "secrets"), doc = "```ignore")]
//! use reloader_net::secrets::Secrets;
//! use serde_json::json;
//!
//! let settings = json!({ "path": "app.toml" }).as_object().cloned().unwrap_or_default();
//! let revealed = Secrets::default().reveal_all(&json!({}), &settings).expect("no reference");
//! assert_eq!(revealed, settings);
//! ```
//!
//! # Features
//!
//! All are off by default.
//!
//! - `egress`: connections and HTTP requests of sources.
//! - `host-client`: requests to addresses that the operator names.
//! - `secrets`: references to secrets in settings, and their redaction.

#[cfg(feature = "egress")]
mod body;
#[cfg(feature = "egress")]
mod deadline;
#[cfg(feature = "egress")]
mod dial;
#[cfg(feature = "egress")]
mod egress;
#[cfg(feature = "egress")]
mod executor;
#[cfg(feature = "host-client")]
pub mod host_client;
#[cfg(feature = "egress")]
mod http_client;
#[cfg(feature = "egress")]
mod resolve;
#[cfg(feature = "secrets")]
pub mod secrets;
#[cfg(feature = "egress")]
mod stream;
#[cfg(feature = "egress")]
mod tls_config;
#[cfg(feature = "egress")]
mod tls_settings;
#[cfg(feature = "egress")]
mod tls_stream;

#[cfg(feature = "egress")]
pub use {
    body::{Body, BodyError},
    deadline::Times,
    dial::DialError,
    egress::{Bounds, Connection, Line, Network, Reach},
    http_client::{RequestBody, RequestError},
    resolve::Resolve,
    stream::Stream,
    tls_settings::{TlsError, TlsSettings},
};

#[cfg(all(test, feature = "egress"))]
mod tests;
