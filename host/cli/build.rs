//! Sets the compile-time variables that `--version` prints: commit, features, versions of wasmtime and of the plugin
//! interface.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

fn main() {
    // Read at run time: checkouts that share a target directory also share this compiled build script, so `env!` could
    // name another checkout.
    let manifest = env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let root = PathBuf::from(manifest).join("../..");
    let set = |name: &str, value: Option<String>| {
        println!("cargo::rustc-env={name}={}", value.as_deref().unwrap_or("unknown"));
    };
    set("RELOADER_COMMIT", given_commit().or_else(|| git_commit(&root)));
    set("RELOADER_FEATURES", Some(features()));
    let lock = read(&root.join("Cargo.lock"));
    set("RELOADER_WASMTIME_VERSION", lock.and_then(|lock| locked_version(&lock, "wasmtime")));
    let wit = read(&root.join("wit/worlds.wit"));
    set("RELOADER_PLUGIN_INTERFACE", wit.and_then(|wit| interface_version(&wit)));
}

/// Returns the enabled features of this package.
fn features() -> String {
    let names = env::vars()
        .filter_map(|(name, _)| name.strip_prefix("CARGO_FEATURE_").map(str::to_lowercase));
    let mut names: Vec<_> = names.filter(|name| name != "default").collect();
    names.sort();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

/// Returns the commit that the variable `RELOADER_COMMIT` sets for builds without `.git`.
fn given_commit() -> Option<String> {
    println!("cargo::rerun-if-env-changed=RELOADER_COMMIT");
    env::var("RELOADER_COMMIT").ok().filter(|commit| !commit.is_empty())
}

/// Returns the short hash of the checked-out commit; `None` if `root` is not the top of a git checkout.
fn git_commit(root: &Path) -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").current_dir(root).args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        (output.status.success() && !text.is_empty()).then_some(text)
    };
    // A source archive may be unpacked inside the checkout of another project.
    let top = git(&["rev-parse", "--show-toplevel"])?;
    if fs::canonicalize(top).ok()? != fs::canonicalize(root).ok()? {
        return None;
    }
    // HEAD names a branch, and the branch is a file or a line in `packed-refs`. If the file of the branch is missing,
    // cargo watches its directory instead: a missing watched file would rerun this build script at each build.
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    for name in ["HEAD", "packed-refs"].into_iter().chain(branch.as_deref()) {
        let path = root.join(git(&["rev-parse", "--git-path", name])?);
        if let Some(existing) = path.ancestors().find(|path| path.exists())
            && (existing == path || name.starts_with("refs/"))
        {
            println!("cargo::rerun-if-changed={}", existing.display());
        }
    }
    git(&["rev-parse", "--short", "HEAD"])
}

/// Reads a file. Cargo reruns this build script when the file changes.
fn read(path: &Path) -> Option<String> {
    println!("cargo::rerun-if-changed={}", path.display());
    fs::read_to_string(path).ok()
}

/// Returns the version of a package in `Cargo.lock`.
fn locked_version(lock: &str, package: &str) -> Option<String> {
    let entry = lock
        .split("[[package]]")
        .find(|entry| entry.lines().any(|line| line == format!("name = \"{package}\"")))?;
    let version = entry.lines().find_map(|line| line.strip_prefix("version = "))?;
    Some(version.trim_matches('"').into())
}

/// Returns the version in the package declaration of a WIT file.
fn interface_version(wit: &str) -> Option<String> {
    let package = wit.lines().find_map(|line| line.strip_prefix("package reloader:plugin@"))?;
    Some(package.trim_end_matches(';').into())
}
