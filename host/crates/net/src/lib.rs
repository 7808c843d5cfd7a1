//! Networking of the reloader host: egress of sources, HTTP client of the host, and secrets.
//!
//! Each source has one [`Egress`]. It makes every connection in the same steps (`dial`): it resolves the name
//! once, checks every address against the [`AddressPolicy`](reloader_policy::AddressPolicy) of the source, dials
//! only the checked addresses, and performs the TLS handshake if required. These steps prevent SSRF and DNS
//! rebinding. One deadline covers all of them.
//!
//! # Modules, in reading order
//!
//! - `egress`: the public types of a source's egress; `deadline`, `connection_limit`: its limits.
//! - `bounded_name_lookups`, `name_lookup_pool`, `dial`, `tls_stream`, `stream`, `yielding_stream`: one connection.
//!   `tls_settings`, `tls_config`: the TLS configuration of a source, rebuilt when a file changes. `system_roots`,
//!   `pem`, `crypto_provider`: trust roots, PEM reader and cryptography of all TLS configurations.
//! - `source_http_clients`, `http_exchange`, `response_head_limits`, `body`: one HTTP request.
//!   `connection_thread_executor`: the threads of HTTP connections.
//! - `host_client`: requests of the host itself.
//! - `file_reads`: reads of secrets, certificates and keys, with a deadline.
//! - `secrets`: references in settings, and redaction of the secrets in messages.
//!
//! The crate receives the address policy as an argument and does not depend on plugins. The client of a running
//! host and the fuzzers use parts of it without wasmtime.
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
//! - `file-reads`: reads of files with a deadline. `egress`, `host-client` and `secrets` enable it.
//! - `host-client`: HTTP requests of the host itself, to URLs that the operator configures.
//! - `secrets`: secret references in settings, and redaction.
//! - `tls`: cryptography and PEM reader of all TLS connections. `egress` and `host-client` enable it.

#[cfg(feature = "egress")]
mod body;
#[cfg(feature = "egress")]
mod bounded_name_lookups;
#[cfg(feature = "egress")]
mod connection_limit;
#[cfg(feature = "egress")]
mod connection_thread_executor;
#[cfg(feature = "tls")]
mod crypto_provider;
#[cfg(feature = "egress")]
mod deadline;
#[cfg(feature = "egress")]
mod dial;
#[cfg(feature = "egress")]
mod egress;
#[cfg(feature = "egress")]
mod error_chain;
#[cfg(feature = "file-reads")]
pub mod file_reads;
#[cfg(feature = "host-client")]
pub mod host_client;
#[cfg(feature = "egress")]
mod http_exchange;
#[cfg(any(feature = "egress", feature = "host-client"))]
mod name_lookup_pool;
#[cfg(feature = "tls")]
pub mod pem;
#[cfg(any(feature = "egress", feature = "host-client"))]
mod response_head_limits;
#[cfg(feature = "secrets")]
pub mod secrets;
#[cfg(feature = "egress")]
mod source_http_clients;
#[cfg(feature = "egress")]
mod stream;
#[cfg(any(feature = "egress", feature = "host-client"))]
mod system_roots;
#[cfg(feature = "egress")]
mod tls_config;
#[cfg(feature = "egress")]
mod tls_settings;
#[cfg(feature = "egress")]
mod tls_stream;
#[cfg(any(feature = "egress", feature = "host-client"))]
mod yielding_stream;

#[cfg(feature = "tls")]
pub use crypto_provider::crypto_provider;
#[cfg(feature = "egress")]
pub use {
    body::{Body, BodyError},
    bounded_name_lookups::Resolve,
    deadline::RequestTimeouts,
    dial::DialError,
    egress::{Connection, Egress, EgressLimits, EgressSettings, Network},
    http_exchange::RequestError,
    source_http_clients::RequestBody,
    stream::Stream,
    tls_settings::{TlsError, TlsSettings},
};

#[cfg(all(test, feature = "egress"))]
mod egress_tests;
