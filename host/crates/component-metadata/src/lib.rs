//! What the bytes of a WebAssembly component say, without compiling or running it: the description that the SDK
//! embeds, the digest, and the static cost of an instance.
//!
//! A crate of its own, because it parses untrusted bytes by `wasmparser` alone: it is fuzzed without wasmtime.
//!
//! ```
//! use reloader_component_metadata::{ArtifactError, Description};
//!
//! let core_module = b"\0asm\x01\0\0\0";
//! assert!(matches!(Description::read(core_module, "mine"), Err(ArtifactError::CoreModule)));
//! ```

mod metadata;
mod static_cost;

pub use metadata::{ArtifactError, Description};
