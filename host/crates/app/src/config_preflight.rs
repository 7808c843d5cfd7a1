//! Preflight checks of the environment: warnings, such as a missing program or directory, for a
//! configuration that is valid in itself.

use crate::{
    config::{Config, InvalidSetting},
    config_read_pool::FILE_ACCESS_TIMEOUT,
    state_dir_and_socket_paths::state_directory,
};
use reloader_delivery::{PreflightWarning, SinkSettings, process::CommandLine};
use reloader_fs_watch::access_within_blocking;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Returns a warning for each setting that would fail in the present environment, as lines
/// `FILE:LINE:COLUMN: MESSAGE`. Reads files and the user database, and changes nothing.
#[must_use]
pub fn preflight_warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut warn = |path: &[&str], message: String| {
        let path = path.iter().map(ToString::to_string).collect();
        warnings.push(InvalidSetting::new(path, message));
    };
    for (index, source) in config.sources.iter().enumerate() {
        let [list, index] = config.source_path(index);
        check_sinks(&[&list, &index], &[source.name.as_str()], &source.sinks, &mut warn);
        if let Some((validate, command)) = source
            .validate
            .as_ref()
            .and_then(|validate| Some((validate, validate.command.as_ref()?)))
        {
            let directory = validate.directory.as_deref();
            for (key, message) in check_command(command, directory, &validate.env) {
                warn(&[&list, &index, "validate", key], message);
            }
        }
    }
    for (index, group) in config.groups.iter().enumerate() {
        let sources: Vec<_> = group.sources.iter().map(|name| name.as_str()).collect();
        check_sinks(&["group", &index.to_string()], &sources, &group.sinks, &mut warn);
    }
    if let Some(command) = &config.command {
        let directory = command.directory.as_deref();
        for (key, message) in check_command(&command.command, directory, &command.env) {
            warn(&["command", key], message);
        }
    }
    if config.state.enabled {
        match state_directory(config) {
            Err(error) => warn(&["state"], error.to_string()),
            Ok(path) => {
                let directory = path.clone();
                let find = move || {
                    let existing = path.ancestors().find(|path| path.exists());
                    existing.filter(|existing| !existing.is_dir()).map(PathBuf::from)
                };
                match access_within_blocking(&directory, FILE_ACCESS_TIMEOUT, find) {
                    Ok(None) => {}
                    Ok(Some(existing)) => {
                        let message = format!("`{}` is not a directory", existing.display());
                        warn(&["state", "path"], message);
                    }
                    Err(error) => warn(&["state", "path"], format!("not checked: {error}")),
                }
            }
        }
    }
    if warnings.is_empty() {
        return Vec::new();
    }
    config.error_with(warnings).to_string().lines().map(Into::into).collect()
}

fn check_command(
    command: &CommandLine,
    directory: Option<&Path>,
    env: &BTreeMap<String, String>,
) -> Vec<PreflightWarning> {
    let (command, env) = (command.clone(), env.clone());
    let directory = directory.map(Path::to_owned);
    // Path under which the check is registered. If the check hangs, later checks of the same program fail at once, and
    // checks of other programs still run.
    let program = match &command {
        CommandLine::Program(words) => words.first().map_or("", String::as_str),
        CommandLine::Shell(_) => "",
    };
    let path = directory.as_deref().unwrap_or(Path::new("")).join(program);
    let checked = access_within_blocking(&path, FILE_ACCESS_TIMEOUT, move || {
        command.preflight(directory.as_deref(), &env)
    });
    checked.unwrap_or_else(|error| vec![("command", format!("not checked: {error}"))])
}

fn check_sinks(
    path: &[&str],
    sources: &[&str],
    sinks: &[SinkSettings],
    warn: &mut impl FnMut(&[&str], String),
) {
    for (index, sink) in sinks.iter().enumerate() {
        let index = index.to_string();
        for (key, message) in sink.preflight(sources) {
            warn(&[path, &["sink", &index, key]].concat(), message);
        }
    }
}
