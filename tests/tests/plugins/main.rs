//! The bundled plugins against real files, Redis and nginx, validator plugins, and the SDK's example.
#![allow(clippy::unwrap_used, reason = "a failed precondition fails the test")]

mod file;
mod http;
mod hung_file_system;
mod hung_plugin_files;
mod kvs;
mod sdk_example;
mod tls;
mod validator;
