//! Components that are built for the tests: by a cargo of their own, once.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// A component of `tests/guests`, built.
///
/// # Panics
///
/// When it cannot be built.
#[must_use]
pub fn guest(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| build(&crate::package().join("guests"), &["--locked"]));
    folder.join(format!("{name}.wasm"))
}

/// The example of a validator, built: a component of `plugins/` that is not bundled.
///
/// # Panics
///
/// When it cannot be built.
#[must_use]
pub fn limits_check() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let plugins = crate::package().join("../plugins");
    let folder = BUILT.get_or_init(|| build(&plugins, &["--locked", "-p", "limits-check"]));
    folder.join("limits_check.wasm")
}

/// Builds a package for WebAssembly as its author would, and gives the folder with what came out.
///
/// # Panics
///
/// When it cannot be built.
#[must_use]
pub fn build(package: &Path, options: &[&str]) -> PathBuf {
    // The folder that the bundled plugins are built in: most of the work is done there already.
    let target = crate::program().ancestors().nth(2).unwrap().join("guests");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--release", "--target", "wasm32-wasip2"])
        .args(options)
        .arg("--target-dir")
        .arg(&target)
        .current_dir(package);
    for name in ["CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_TARGET_DIR"] {
        cargo.env_remove(name);
    }
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    target.join("wasm32-wasip2").join("release")
}
