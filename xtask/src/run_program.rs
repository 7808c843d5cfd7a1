//! Runs external programs.

use anyhow::{Context, Result, bail};
use std::{
    env,
    ffi::OsStr,
    iter,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Target triple of the plugins.
pub(crate) const WASM: &str = "wasm32-wasip2";

/// Command that runs in a directory of the project.
pub(crate) struct Tool(Command);

/// Returns a cargo command for a directory of the project.
pub(crate) fn cargo(folder: &str) -> Tool {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root().join(folder));
    // These variables of the outer cargo describe the package `xtask`. If the command inherited them, build
    // scripts that depend on them would run again.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    Tool(command)
}

impl Tool {
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        Self(Command::new(program))
    }

    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.0.arg(argument);
        self
    }

    pub(crate) fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.0.args(arguments);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    pub(crate) fn run(mut self) -> Result<()> {
        // Not `{:?}` of the command, which would also print its environment.
        let words = iter::once(self.0.get_program()).chain(self.0.get_args());
        let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
        let shown = words.join(" ");
        let status = self.0.status().with_context(|| format!("cannot start: {shown}"))?;
        if !status.success() {
            bail!("command failed: {shown}: {status}");
        }
        Ok(())
    }
}

/// Returns the root directory of the repository.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("..")
}

/// Returns cargo's target directory.
pub(crate) fn target_directory() -> Result<PathBuf> {
    // This program runs from <target>/<profile>/xtask.
    let program = env::current_exe().context("cannot determine the path of this program")?;
    program
        .ancestors()
        .nth(2)
        .map(Into::into)
        .context("this program is not in a cargo target directory")
}

/// Installs the compiler's WebAssembly target if it is missing.
pub(crate) fn add_wasm_target() -> Result<()> {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", WASM])
        .current_dir(root())
        .stderr(Stdio::null())
        .output()
        .context("cannot start rustc")?;
    let library = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() && Path::new(&library).is_dir() {
        return Ok(());
    }
    eprintln!("adding the target {WASM} …");
    let status = Command::new("rustup").args(["target", "add", WASM]).current_dir(root()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => bail!("command failed: rustup target add {WASM}: {status}"),
        Err(error) => bail!(
            "target {WASM} is not installed and rustup cannot be started ({error}); \
            install the target manually"
        ),
    }
}
