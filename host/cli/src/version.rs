//! Version of the program and of its parts, for `-V` and `--version`. `build.rs` sets the variables `RELOADER_…` at
//! compile time.

/// Version and commit, for `-V`.
pub(crate) const ONE_LINE_VERSION: &str =
    concat!(env!("CARGO_PKG_VERSION"), " (commit ", env!("RELOADER_COMMIT"), ")");

/// Version, commit, features and interface versions, one per line, for `--version`.
pub(crate) const MULTI_LINE_VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ncommit: ",
    env!("RELOADER_COMMIT"),
    "\nfeatures: ",
    env!("RELOADER_FEATURES"),
    "\nwasmtime: ",
    env!("RELOADER_WASMTIME_VERSION"),
    "\nplugin interface: reloader:plugin@",
    env!("RELOADER_PLUGIN_INTERFACE"),
);
