//! The component side: only compiled for WebAssembly, and only used by [`export!`](crate::export).

pub mod bindings;
mod http;
mod imports;
mod log;
mod slot;

pub(crate) use imports::Imports;
pub use slot::Slot;
