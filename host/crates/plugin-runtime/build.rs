//! Builds the bundled plugins for WebAssembly, with a separate cargo process.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio, exit},
};

const TARGET: &str = "wasm32-wasip2";
const PLUGINS: [&str; 4] = ["file", "http", "json-schema", "kvs"];

fn main() {
    if env::var_os("CARGO_FEATURE_BUNDLED").is_none() {
        return;
    }
    // Reads the variable at run time instead of with `env!`: checkouts that share a target directory also share the
    // compiled build script.
    let root =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"))
            .join("../../..");
    for input in ["plugins", "guest-sdk", "wit"] {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    // OUT_DIR is <target>/<profile>/build/<package>/out. All profiles share <target>/guests.
    let guests = out.ancestors().nth(4).expect("OUT_DIR is deep").join("guests");
    build(&root.join("plugins"), &guests);
    let list: String = PLUGINS
        .iter()
        .map(|name| {
            let file = format!("{}.wasm", name.replace('-', "_"));
            let component = guests.join(TARGET).join("release").join(file);
            // The crate embeds a copy: a later build of the plugins overwrites the original.
            let copy = out.join(format!("{name}.wasm"));
            if let Err(error) = fs::copy(&component, &copy) {
                fail(&format!("plugin `{name}` was not built: {error}"));
            }
            format!("(\"{name}\", include_bytes!({:?}).as_slice()),", copy.display().to_string())
        })
        .collect();
    fs::write(out.join("bundled.rs"), format!("[{list}]")).expect("OUT_DIR can be written");
}

/// Runs cargo in the workspace of the plugins.
fn build(plugins: &Path, guests: &Path) {
    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo sets CARGO"));
    cargo
        .args(["build", "--release", "--locked", "--target", TARGET, "--manifest-path"])
        .arg(plugins.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(guests)
        .stdout(Stdio::null());
    // Removes the settings of the outer build, which do not apply to the WebAssembly target.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let outer = name.starts_with("CARGO_CFG_")
            || name.starts_with("CARGO_PROFILE_")
            || name.starts_with("CARGO_FEATURE_")
            || name.starts_with("CARGO_PKG_");
        if outer {
            cargo.env_remove(name);
        }
    }
    for name in [
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "CARGO_BUILD_TARGET",
        "CARGO_TARGET_DIR",
        "CARGO_MAKEFLAGS",
        "MAKEFLAGS",
        "TARGET",
    ] {
        cargo.env_remove(name);
    }
    if has_target() == Some(false) {
        fail(&format!(
            "the plugins require the target {TARGET}: run `cargo xtask test` once, which adds it, \
             or `rustup target add {TARGET}`"
        ));
    }
    match cargo.status() {
        Ok(status) if status.success() => {}
        Ok(status) => fail(&format!("the build of the plugins failed: {status}")),
        Err(error) => fail(&format!("cannot run cargo: {error}")),
    }
}

/// Returns whether the standard library of the target is installed, or `None` if the compiler does not report it.
fn has_target() -> Option<bool> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let path = String::from_utf8(output.stdout).ok()?;
    Some(Path::new(path.trim()).exists())
}

fn fail(message: &str) -> ! {
    for line in message.lines() {
        println!("cargo::error={line}");
    }
    exit(1)
}
