//! What of a configuration would not work on this machine as it is now, though nothing is wrong with it
//! by itself.

use crate::config::Config;
use crate::paths::state_directory;
use reloader_delivery::SinkSettings;

/// All of that, a line each: `file:line:column: why`.
#[must_use]
pub fn doubts(config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    let mut doubt = |at: &[&str], why: String| {
        found.push((at.iter().map(ToString::to_string).collect::<Vec<_>>(), why));
    };
    for (index, source) in config.sources.iter().enumerate() {
        let [list, index] = config.place(index);
        of_sinks(&[&list, &index], &[source.name.as_str()], &source.sinks, &mut doubt);
        if let Some((validate, command)) = source
            .validate
            .as_ref()
            .and_then(|validate| Some((validate, validate.command.as_ref()?)))
        {
            for (key, why) in command.doubts(validate.directory.as_deref(), &validate.env) {
                doubt(&[&list, &index, "validate", key], why);
            }
        }
    }
    for (index, group) in config.groups.iter().enumerate() {
        let sources: Vec<_> = group.sources.iter().map(|name| name.as_str()).collect();
        of_sinks(&["group", &index.to_string()], &sources, &group.sinks, &mut doubt);
    }
    if let Some(command) = &config.command {
        for (key, why) in command.command.doubts(command.directory.as_deref(), &command.env) {
            doubt(&["command", key], why);
        }
    }
    if config.state.enabled {
        match state_directory(config) {
            Err(error) => doubt(&["state"], error.to_string()),
            Ok(path) => {
                let there = path.ancestors().find(|path| path.exists());
                if let Some(there) = there.filter(|there| !there.is_dir()) {
                    let why = format!("`{}` is no directory", there.display());
                    doubt(&["state", "path"], why);
                }
            }
        }
    }
    if found.is_empty() {
        return Vec::new();
    }
    config.wrong(found).to_string().lines().map(Into::into).collect()
}

fn of_sinks(
    at: &[&str],
    sources: &[&str],
    sinks: &[SinkSettings],
    doubt: &mut impl FnMut(&[&str], String),
) {
    for (index, sink) in sinks.iter().enumerate() {
        let index = index.to_string();
        for (key, why) in sink.doubts(sources) {
            doubt(&[at, &["sink", &index, key]].concat(), why);
        }
    }
}
