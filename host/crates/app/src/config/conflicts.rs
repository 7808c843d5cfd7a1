//! What is right by itself, and cannot stand together.

use super::{GroupConfig, SourceConfig, spanned_toml::below};
use reloader_delivery::{SinkSettings, WaitSettings};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// All of that: the pointer, and what is wrong there. The tables are at the places that they have here.
pub(crate) fn conflicts(
    sources: &[(usize, SourceConfig)],
    groups: &[GroupConfig],
) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut written = BTreeMap::new();
    for (index, source) in sources {
        let at = below("/source", index);
        one_writer_each(&at, source.name.as_str(), &source.sinks, &mut written, &mut found);
        let Some(own) = file_of(source) else { continue };
        for (index, sink) in source.sinks.iter().enumerate() {
            if sink.writes_to().is_some_and(|path| place(path) == own) {
                let message = "the source reads this file: each write would be a new value";
                found.push((format!("{at}/sink/{index}/path"), message.into()));
            }
        }
    }
    for (index, group) in groups.iter().enumerate() {
        let at = below("/group", index);
        one_writer_each(&at, &group.name, &group.sinks, &mut written, &mut found);
        if sources.iter().any(|(_, source)| source.name.as_str() == group.name) {
            let message = format!("there is a source named `{}`", group.name);
            found.push((format!("{at}/name"), message));
        }
        for (index, name) in group.sources.iter().enumerate() {
            if group.sources[..index].contains(name) {
                let message = format!("`{name}` is in this group already");
                found.push((format!("{at}/sources/{index}"), message));
            }
        }
        if let Some(WaitSettings { min, max }) = group.wait.filter(|wait| wait.min.0 > wait.max.0) {
            let [min, max] = [min.0, max.0].map(humantime::format_duration);
            found.push((format!("{at}/wait"), format!("`min` ({min}) is more than `max` ({max})")));
        }
        for (index, sink) in group.sinks.iter().enumerate() {
            if sink.kind() == "file" && group.sources.len() > 1 {
                let message = "a file holds the value of one source; for several, use `template`";
                found.push((format!("{at}/sink/{index}/type"), message.into()));
            }
        }
    }
    found
}

/// No two sinks write the same file: the last one would win, which is another one each time.
fn one_writer_each(
    at: &str,
    of: &str,
    sinks: &[SinkSettings],
    written: &mut BTreeMap<PathBuf, String>,
    found: &mut Vec<(String, String)>,
) {
    for (index, sink) in sinks.iter().enumerate() {
        let Some(path) = sink.writes_to() else { continue };
        let name = sink.name().map_or_else(|| format!("{}-{index}", sink.kind()), Into::into);
        if let Some(other) = written.insert(place(path), format!("{of}/{name}")) {
            let message = format!("the sink `{other}` writes this file, too");
            found.push((format!("{at}/sink/{index}/path"), message));
        }
    }
}

/// The file that a source reads, if it reads one.
fn file_of(source: &SourceConfig) -> Option<PathBuf> {
    let path = source.settings.get("path").filter(|_| source.plugin == "file");
    path?.as_str().map(|path| place(Path::new(path)))
}

/// Where that is, however it is written.
fn place(path: &Path) -> PathBuf {
    let directory = path.parent().map_or(Path::new("."), |parent| {
        if parent == Path::new("") { Path::new(".") } else { parent }
    });
    match (directory.canonicalize(), path.file_name()) {
        (Ok(directory), Some(name)) => directory.join(name),
        _ => std::path::absolute(path).unwrap_or_else(|_| path.into()),
    }
}
