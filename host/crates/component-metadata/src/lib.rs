//! Metadata of a WebAssembly component, read from its bytes without compilation or execution: the description
//! that the SDK embeds, the digest, and the static cost of an instance.
//!
//! The bytes are untrusted. The crate parses them with `wasmparser` alone, so that fuzz targets need no
//! wasmtime.
//!
//! ```
//! use reloader_component_metadata::{ComponentError, Description};
//!
//! let core_module = b"\0asm\x01\0\0\0";
//! assert!(matches!(Description::read(core_module, "mine"), Err(ComponentError::CoreModule)));
//! ```

mod description;
mod static_instantiation_cost;

pub use description::{ComponentError, Description};
pub use static_instantiation_cost::StaticCost;
