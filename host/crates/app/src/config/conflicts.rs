//! Cross-field validation: settings that are valid alone but conflict with each other.

use super::{
    lowered_config::{GroupConfig, SourceConfig, sink_name},
    spanned_toml::child_pointer,
};
use reloader_delivery::{SinkSettings, WaitSettings};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Returns the conflicts between sources, groups and sinks: the JSON pointer and a message of each. The
/// sources have their index in the file.
pub(crate) fn conflicts(
    sources: &[(usize, SourceConfig)],
    groups: &[GroupConfig],
) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut written = BTreeMap::new();
    for (index, source) in sources {
        let at = child_pointer("/source", index);
        let name = &source.name;
        check_single_writer(&at, name.as_str(), &source.sinks, &mut written, &mut found);
        let Some(input) = input_file(source) else { continue };
        for (index, sink) in source.sinks.iter().enumerate() {
            if sink.writes_to().is_some_and(|path| normalize(path) == input) {
                let message = format!("loop: source `{name}` reads the file that this sink writes");
                found.push((format!("{at}/sink/{index}/path"), message));
            }
        }
    }
    for (index, group) in groups.iter().enumerate() {
        let at = child_pointer("/group", index);
        check_single_writer(&at, &group.name, &group.sinks, &mut written, &mut found);
        if sources.iter().any(|(_, source)| source.name.as_str() == group.name) {
            let message = format!("the name `{}` is already used by a source", group.name);
            found.push((format!("{at}/name"), message));
        }
        for (index, name) in group.sources.iter().enumerate() {
            if group.sources[..index].contains(name) {
                let message = format!("duplicate source `{name}`");
                found.push((format!("{at}/sources/{index}"), message));
            }
        }
        if let Some(WaitSettings { min, max }) = group.wait.filter(|wait| wait.min.0 > wait.max.0) {
            let [min, max] = [min.0, max.0].map(humantime::format_duration);
            found.push((format!("{at}/wait"), format!("`min` ({min}) is more than `max` ({max})")));
        }
        for (index, sink) in group.sinks.iter().enumerate() {
            if sink.kind() == "file" && group.sources.len() > 1 {
                let message = "a `file` sink holds the value of one source; hint: use a `template` sink for \
                               several";
                found.push((format!("{at}/sink/{index}/type"), message.into()));
            }
        }
    }
    found
}

/// Checks that no two sinks write the same file. `written` maps the files to the names of their sinks.
fn check_single_writer(
    at: &str,
    owner: &str,
    sinks: &[SinkSettings],
    written: &mut BTreeMap<PathBuf, String>,
    found: &mut Vec<(String, String)>,
) {
    for (index, sink) in sinks.iter().enumerate() {
        let Some(path) = sink.writes_to() else { continue };
        let name = format!("{owner}/{}", sink_name(sink, index));
        if let Some(other) = written.insert(normalize(path), name) {
            let message = format!("the sink `{other}` writes the same file");
            found.push((format!("{at}/sink/{index}/path"), message));
        }
    }
}

/// Returns the file that a source with the bundled plugin `file` reads.
fn input_file(source: &SourceConfig) -> Option<PathBuf> {
    let path = source.settings.get("path").filter(|_| source.plugin == "file");
    path?.as_str().map(|path| normalize(Path::new(path)))
}

/// Returns the path with its directory resolved, so that different spellings compare equal.
fn normalize(path: &Path) -> PathBuf {
    let directory = path.parent().map_or(Path::new("."), |parent| {
        if parent == Path::new("") { Path::new(".") } else { parent }
    });
    match (directory.canonicalize(), path.file_name()) {
        (Ok(directory), Some(name)) => directory.join(name),
        _ => std::path::absolute(path).unwrap_or_else(|_| path.into()),
    }
}
