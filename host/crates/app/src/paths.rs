//! Where things lie on this machine.

use crate::Config;
use anyhow::Context;
use etcetera::BaseStrategy;
use sha2::{Digest, Sha256};
use std::{
    env,
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// The directory of a configuration's state: the one that it names; or the one that systemd made for the
/// service (`$STATE_DIRECTORY`); or one of the user's, named after the file.
///
/// # Errors
///
/// When there is neither, as the user has no home directory.
pub fn state_directory(config: &Config) -> anyhow::Result<PathBuf> {
    directory(&config.path, config.state.path.as_deref())
}

/// Where a running host with this file is asked and told things. The file may be wrong, and the host have
/// refused it.
///
/// # Errors
///
/// As [`state_directory`]; when there is no such file, or it says that there is no state.
pub fn running_socket(config: &Path) -> anyhow::Result<PathBuf> {
    if let Err(error) = std::fs::metadata(config) {
        anyhow::bail!(
            "{}: {error}; name the running host's file with `--config`",
            config.display()
        );
    }
    let state = Config::state_of(config);
    if !state.enabled {
        anyhow::bail!(
            "{} keeps no state (`enabled = false` in `[state]`), so its host has no socket there; name where \
             it serves with `--url`",
            config.display()
        );
    }
    Ok(directory(config, state.path.as_deref())?.join(SOCKET))
}

/// Where a host with this configuration is asked and told things: a socket in the state's directory, if there
/// is one.
#[must_use]
pub fn control_socket(config: &Config) -> Option<PathBuf> {
    let directory = config.state.enabled.then(|| state_directory(config).ok());
    directory.flatten().map(|directory| directory.join(SOCKET))
}

/// The name of the socket, in the state's directory.
const SOCKET: &str = "control.sock";

fn directory(config: &Path, path: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(path) = path {
        return Ok(path.into());
    }
    if let Some(made) = env::var_os("STATE_DIRECTORY").filter(|made| !made.is_empty()) {
        // There may be several, with colons between.
        let first = made.as_bytes().split(|&byte| byte == b':').next().unwrap_or_default();
        return Ok(OsStr::from_bytes(first).into());
    }
    let user = etcetera::choose_base_strategy()
        .ok()
        .and_then(|user| user.state_dir())
        .context("there is no home directory to keep the state in; set `path` in `[state]`")?;
    let file = config.canonicalize().unwrap_or_else(|_| config.into());
    // Two files of one name in different directories have nothing to do with each other.
    let digest = Sha256::digest(file.as_os_str().as_bytes());
    let digest: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(user.join("reloader-host").join(format!("{stem}-{digest}")))
}
