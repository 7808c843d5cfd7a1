//! Preflight checks of the environment: warnings, such as a missing program or directory, for a
//! configuration that is valid in itself.

use crate::{
    config::{Config, InvalidSetting},
    state_dir_and_socket_paths::state_directory,
};
use reloader_delivery::SinkSettings;

/// Returns what would fail in the present environment, as lines `FILE:LINE:COLUMN: MESSAGE`. Reads files
/// and users, and changes nothing.
#[must_use]
pub fn preflight_warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut warn = |path: &[&str], message: String| {
        let path = path.iter().map(ToString::to_string).collect();
        warnings.push(InvalidSetting { path, message });
    };
    for (index, source) in config.sources.iter().enumerate() {
        let [list, index] = config.source_path(index);
        check_sinks(&[&list, &index], &[source.name.as_str()], &source.sinks, &mut warn);
        if let Some((validate, command)) = source
            .validate
            .as_ref()
            .and_then(|validate| Some((validate, validate.command.as_ref()?)))
        {
            for (key, message) in command.preflight(validate.directory.as_deref(), &validate.env) {
                warn(&[&list, &index, "validate", key], message);
            }
        }
    }
    for (index, group) in config.groups.iter().enumerate() {
        let sources: Vec<_> = group.sources.iter().map(|name| name.as_str()).collect();
        check_sinks(&["group", &index.to_string()], &sources, &group.sinks, &mut warn);
    }
    if let Some(command) = &config.command {
        for (key, message) in command.command.preflight(command.directory.as_deref(), &command.env)
        {
            warn(&["command", key], message);
        }
    }
    if config.state.enabled {
        match state_directory(config) {
            Err(error) => warn(&["state"], error.to_string()),
            Ok(path) => {
                let existing = path.ancestors().find(|path| path.exists());
                if let Some(existing) = existing.filter(|existing| !existing.is_dir()) {
                    let message = format!("`{}` is not a directory", existing.display());
                    warn(&["state", "path"], message);
                }
            }
        }
    }
    if warnings.is_empty() {
        return Vec::new();
    }
    config.error_with(warnings).to_string().lines().map(Into::into).collect()
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
