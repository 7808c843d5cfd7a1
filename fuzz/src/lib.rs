//! Fuzz targets for the parsers of untrusted input. Run them with `cargo xtask fuzz`, or with
//! [cargo-fuzz](https://rust-fuzz.github.io/book/cargo-fuzz.html):
//! `cargo +nightly fuzz run kvs_plugin`.
//!
//! Each target has a module that documents its input format, so that seeds can be written by hand,
//! and the invariants of its output. All targets check that no input causes a panic, a hang or
//! disproportionate memory use.
//!
//! The fuzzed crates of the host do not depend on wasmtime.

pub mod address_and_grants;
pub mod description;
pub mod http_plugin;
mod json_mutator;
pub mod kvs_plugin;
mod memory_limit;
pub mod secrets;
mod server_script;
pub mod settings;
