//! Test components written in Rust. A separate cargo process builds each workspace once.

use crate::paths::{guest_target, package};
use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// Builds `tests/guests` and returns the path of the component with this name.
///
/// # Panics
///
/// If the build fails.
#[must_use]
pub fn guest(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| build_guest(&package().join("guests"), &["--locked"]));
    folder.join(format!("{name}.wasm"))
}

/// Builds the example validator `plugins/number-range`, which is not bundled, and returns its path.
///
/// # Panics
///
/// If the build fails.
#[must_use]
pub fn number_range() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let plugins = package().join("../plugins");
    let folder = BUILT.get_or_init(|| build_guest(&plugins, &["--locked", "-p", "number-range"]));
    folder.join("number_range.wasm")
}

/// Builds a package for WebAssembly with the command that a plugin author uses. Returns the
/// directory of the built components.
///
/// # Panics
///
/// If the build fails.
#[must_use]
pub fn build_guest(package: &Path, options: &[&str]) -> PathBuf {
    // The bundled plugins are built in the same directory, so that cargo reuses their dependencies.
    let target = guest_target();
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
