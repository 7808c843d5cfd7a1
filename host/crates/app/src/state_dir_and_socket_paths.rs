//! Paths of the state directory and of the control socket.

use crate::{config::Config, config_read_pool::FILE_ACCESS_TIMEOUT};
use anyhow::Context;
use etcetera::BaseStrategy;
use reloader_fs_watch::access_within_blocking;
use sha2::{Digest, Sha256};
use std::{
    env,
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// File name of the control socket in the state directory.
const CONTROL_SOCKET_NAME: &str = "control.sock";

/// Returns the state directory of a configuration. In order of precedence:
///
/// 1. `path` in `[state]`
/// 2. the first directory in `$STATE_DIRECTORY`, which systemd sets for a service
/// 3. a directory below the state directory of the user, named after the configuration file
///
/// # Errors
///
/// None of them applies, because the user has no home directory, or the file system of the configuration file does not
/// answer.
pub fn state_directory(config: &Config) -> anyhow::Result<PathBuf> {
    resolve_state_directory(&config.path, config.state.path.as_deref())
}

/// Returns the path of the control socket of the host that runs with the configuration file `config`.
/// The file may be invalid: a running host keeps its previous configuration then.
///
/// # Errors
///
/// See [`state_directory`]. Also, `config` does not exist or disables the state.
pub fn running_socket(config: &Path) -> anyhow::Result<PathBuf> {
    let file = config.to_owned();
    let exists = access_within_blocking(config, FILE_ACCESS_TIMEOUT, move || fs::metadata(file));
    if let Err(error) = exists.unwrap_or_else(|error| Err(error.into())) {
        anyhow::bail!(
            "cannot read {}: {error}; hint: use `--config` to name the configuration file of the running host",
            config.display()
        );
    }
    let state = Config::state_of(config);
    if !state.enabled {
        anyhow::bail!(
            "{} disables the state (`enabled = false` in `[state]`), so the host has no control socket; \
             use `--url` to name the address of its API",
            config.display()
        );
    }
    Ok(resolve_state_directory(config, state.path.as_deref())?.join(CONTROL_SOCKET_NAME))
}

/// Returns the path of the control socket, or `None` if the state is disabled or has no directory.
#[must_use]
pub fn control_socket(config: &Config) -> Option<PathBuf> {
    let directory = config.state.enabled.then(|| state_directory(config).ok());
    directory.flatten().map(|directory| directory.join(CONTROL_SOCKET_NAME))
}

fn resolve_state_directory(config: &Path, configured: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(path) = configured {
        return Ok(path.into());
    }
    if let Some(paths) = env::var_os("STATE_DIRECTORY").filter(|paths| !paths.is_empty()) {
        // The variable is a list, separated by colons.
        let first = paths.as_bytes().split(|&byte| byte == b':').next().unwrap_or_default();
        return Ok(OsStr::from_bytes(first).into());
    }
    let user = etcetera::choose_base_strategy()
        .ok()
        .and_then(|user| user.state_dir())
        .context("no home directory for the state; hint: set `path` in `[state]`")?;
    let file = config.to_owned();
    let path = access_within_blocking(config, FILE_ACCESS_TIMEOUT, move || file.canonicalize())?;
    let file = path.unwrap_or_else(|_| config.into());
    // The digest of the path separates files with the same name in different directories.
    let digest = Sha256::digest(file.as_os_str().as_bytes());
    let digest: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(user.join("reloader-host").join(format!("{stem}-{digest}")))
}
