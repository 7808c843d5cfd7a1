//! Directories of the package, the program under test and its caches.

use std::{env, path::PathBuf};

/// Returns the directory of the package `e2e`, which cargo passes at run time. A path that is compiled
/// in would be wrong if checkouts in different directories share one target directory.
///
/// # Panics
///
/// If cargo did not start this process.
#[must_use]
pub fn package() -> PathBuf {
    PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap())
}

/// Returns the path of the program under test, which is built with the tests.
#[must_use]
pub fn program() -> PathBuf {
    // Tests and benchmarks run from <target>/<profile>/deps, programs from <target>/<profile>.
    let this = env::current_exe().unwrap();
    let mut folder = this.parent().unwrap();
    if folder.ends_with("deps") {
        folder = folder.parent().unwrap();
    }
    folder.join(format!("e2e-host{}", env::consts::EXE_SUFFIX))
}

/// Returns the target directory of the test components.
pub(crate) fn guest_target() -> PathBuf {
    program().ancestors().nth(2).unwrap().join("guests")
}

/// Returns the value of `XDG_CACHE_HOME` for host processes. All tests share the directory.
pub(crate) fn cache_home() -> PathBuf {
    program().with_file_name("e2e-cache")
}

/// Returns the directory of compiled plugins that all tests share, also tests that run plugins in
/// their own process.
#[must_use]
pub fn plugin_cache() -> PathBuf {
    cache_home().join("reloader-host")
}
