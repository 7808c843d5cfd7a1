//! Cross-field validation: settings that are valid alone but conflict with each other.

use super::{
    lowered_config::{GroupConfig, SourceConfig, sink_name},
    spanned_toml::child_pointer,
};
use reloader_delivery::{SinkSettings, WaitSettings};
use reloader_fs_watch::access_within_blocking;
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

/// Time limit for resolving all directories together, in case a file system does not answer.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(1);

/// Returns the conflicts between sources, groups and sinks, each as a JSON pointer and a message. `sources`
/// contains each source with its index in the file.
pub(crate) fn conflicts(
    sources: &[(usize, Arc<SourceConfig>)],
    groups: &[GroupConfig],
) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut written = HashMap::new();
    let sinks = sources.iter().map(|(_, source)| &source.sinks);
    let sinks = sinks.chain(groups.iter().map(|group| &group.sinks)).flatten();
    let inputs = sources.iter().filter(|(_, source)| !source.sinks.is_empty());
    let inputs = inputs.filter_map(|(_, source)| input_file(source));
    let templates = sinks.clone().filter_map(SinkSettings::template_file);
    let written_files = sinks.filter_map(SinkSettings::writes_to);
    let files = Files::new(written_files.chain(templates).chain(inputs));
    let names: HashSet<&str> = sources.iter().map(|(_, source)| source.name.as_str()).collect();
    for (index, source) in sources {
        let at = child_pointer("/source", index);
        let name = &source.name;
        let sinks = &source.sinks;
        check_single_writer(&at, name.as_str(), sinks, (&files, &mut written), &mut found);
        let input = input_file(source).filter(|_| !sinks.is_empty());
        let Some(input) = input.map(|path| files.normalize(path)) else { continue };
        for (index, sink) in source.sinks.iter().enumerate() {
            if sink.writes_to().is_some_and(|path| files.normalize(path) == input) {
                let message = format!("loop: source `{name}` reads the file that this sink writes");
                found.push((format!("{at}/sink/{index}/path"), message));
            }
        }
    }
    for (index, group) in groups.iter().enumerate() {
        let at = child_pointer("/group", index);
        let sinks = &group.sinks;
        check_single_writer(&at, &group.name, sinks, (&files, &mut written), &mut found);
        if names.contains(group.name.as_str()) {
            let message = format!("the name `{}` is already used by a source", group.name);
            found.push((format!("{at}/name"), message));
        }
        let mut members = HashSet::new();
        for (index, name) in group.sources.iter().enumerate() {
            if !members.insert(name) {
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
    (files, written): (&Files, &mut HashMap<PathBuf, String>),
    found: &mut Vec<(String, String)>,
) {
    for (index, sink) in sinks.iter().enumerate() {
        let Some(path) = sink.writes_to() else { continue };
        let template = sink.template_file().map(|path| files.normalize(path));
        if template == Some(files.normalize(path)) {
            let message = "loop: the sink writes its own template file";
            found.push((format!("{at}/sink/{index}/path"), message.into()));
        }
        let name = format!("{owner}/{}", sink_name(sink, index));
        if let Some(other) = written.insert(files.normalize(path), name) {
            let message = format!("the sink `{other}` writes the same file");
            found.push((format!("{at}/sink/{index}/path"), message));
        }
    }
}

/// Returns the file that a source with the bundled plugin `file` reads.
fn input_file(source: &SourceConfig) -> Option<&Path> {
    let path = source.settings.get("path").filter(|_| source.plugin == "file");
    path?.as_str().map(Path::new)
}

/// Real paths of the resolved directories, by their paths in the configuration.
struct Files(HashMap<PathBuf, PathBuf>);

impl Files {
    /// Resolves the directories of the files whose file name occurs in several directories. Files with different
    /// names are different files, so that their directories need no resolution.
    fn new<'a>(paths: impl Iterator<Item = &'a Path>) -> Self {
        let mut by_name = HashMap::<&OsStr, BTreeSet<&Path>>::new();
        for path in paths {
            if let Some(name) = path.file_name() {
                by_name.entry(name).or_default().insert(directory(path));
            }
        }
        let ambiguous = by_name.into_values().filter(|directories| directories.len() > 1);
        let directories: BTreeSet<&Path> = ambiguous.flatten().collect();
        let directories: Vec<_> = directories.into_iter().map(Path::to_owned).collect();
        Self(resolve(&directories))
    }

    /// Returns the path with its directory resolved, so that different spellings compare equal.
    fn normalize(&self, path: &Path) -> PathBuf {
        match (self.0.get(directory(path)), path.file_name()) {
            (Some(directory), Some(name)) => directory.join(name),
            _ => std::path::absolute(path).unwrap_or_else(|_| path.into()),
        }
    }
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."))
}

/// Returns the real paths of the directories that exist. If a file system does not answer, the remaining directories
/// are omitted, and their files are compared by their unresolved paths.
fn resolve(directories: &[PathBuf]) -> HashMap<PathBuf, PathBuf> {
    let end = Instant::now() + RESOLVE_TIMEOUT;
    let resolve = |directory: &PathBuf| {
        let limit = end.saturating_duration_since(Instant::now());
        let path = directory.clone();
        let real = access_within_blocking(directory, limit, move || path.canonicalize());
        Some((directory.clone(), real.ok()?.ok()?))
    };
    directories.iter().filter_map(resolve).collect()
}
