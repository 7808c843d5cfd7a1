//! What reads bytes from outside, fed with bytes that nobody thought of: `cargo xtask fuzz`, or with
//! [cargo-fuzz](https://rust-fuzz.github.io/book/cargo-fuzz.html) `cargo +nightly fuzz run resp`.
//!
//! A module for each target says what its input looks like (so that seeds can be written by hand) and
//! what must hold of whatever comes out. That nothing panics, hangs or takes memory out of proportion
//! must hold everywhere.
//!
//! The crates of the host that are fuzzed build no wasmtime.

pub mod description;
pub mod endpoint;
pub mod json;
mod memory;
mod pieces;
pub mod resp;
pub mod secrets;
pub mod settings;
pub mod sse;
