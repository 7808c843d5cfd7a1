//! Component side of the SDK. Compiled for WebAssembly only and used by [`export!`](crate::export) only.

pub mod bindings;
mod export_dispatch;
mod http;
mod imports;
mod log;

pub use export_dispatch::Slot;
pub(crate) use imports::Imports;
