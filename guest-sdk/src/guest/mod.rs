//! Component side of the SDK. Compiled for WebAssembly only and used by [`export!`](crate::export) only.

pub mod bindings;
mod http;
mod imports;
mod log;
mod slot;

pub(crate) use imports::Imports;
pub use slot::Slot;
