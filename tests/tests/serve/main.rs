//! Tests of the HTTP API of a running host.
#![allow(clippy::unwrap_used, reason = "a failed precondition fails the test")]

mod access;
mod api;
mod cli_and_rust_client;
mod connection_limit;
mod events;
mod malformed_requests;
mod many_sources;
mod metrics;
mod open_file_limit;
mod openapi_conformance;
mod otel;
mod page;
mod raw_client;
mod revocation;
mod rights_across_reloads;
mod served;
