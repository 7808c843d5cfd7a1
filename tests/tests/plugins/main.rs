//! The bundled plugins against real files, Redis and nginx, validator plugins, and the SDK's example.
#![allow(clippy::unwrap_used, reason = "a failed precondition fails the test")]

mod file;
mod http;
mod hung_component_files_and_cache;
mod hung_file_system;
mod kvs;
mod sdk_example;
mod tls;
mod validator;
