//! Loads a configuration: reads the file, and parses and checks its text.

use super::{
    diagnostics::ConfigError,
    lower::{LoweredTables, Lowering},
    lowered_config::{Config, ConfigOrigin, SourceConfig},
    raw::StateTable,
    spanned_toml::Document,
};
use crate::config_read_pool::FILE_ACCESS_TIMEOUT;
use reloader_fs_watch::{
    FileFingerprint, RegularFileError, access_within_blocking, read_regular_file,
};
use std::{collections::HashMap, ops::Range, path::Path, sync::Arc};

/// Maximum size of a configuration file, in bytes.
const MAX_FILE_BYTES: u64 = 16 << 20;

impl Config {
    /// Reads, parses and checks a configuration file.
    ///
    /// # Errors
    ///
    /// All errors of the file, with their positions.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::read_partial(path, None)?.into_valid()
    }

    /// Reads the file of a configuration again. Sources whose tables have not changed are shared with `previous`.
    ///
    /// # Errors
    ///
    /// All errors of the file, with their positions.
    pub(crate) fn read_again(previous: &Self) -> Result<Self, ConfigError> {
        let mut config = Self::read_partial(&previous.path, Some(previous))?;
        config.inherit_address_override(previous);
        config.into_valid()
    }

    /// Reads a file and parses its valid parts. The configuration keeps the errors of the invalid parts, so that
    /// [`error_with`](Self::error_with) reports them together with errors that are found later.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is too large, or is not UTF-8, or its file system does not answer.
    pub(crate) fn read_partial(path: &Path, previous: Option<&Self>) -> Result<Self, ConfigError> {
        let unreadable = |why: &dyn std::fmt::Display| ConfigError::unreadable(path.into(), why);
        let file = path.to_owned();
        let read = move || {
            // Taken before the read, so that the file watch detects a change that happens during the read.
            let fingerprint = FileFingerprint::read(&file);
            read_regular_file(&file, MAX_FILE_BYTES).map(|bytes| (fingerprint, bytes))
        };
        let read = access_within_blocking(path, FILE_ACCESS_TIMEOUT, read);
        let read = read.map_err(|error| ConfigError::no_access(path.into(), &error))?;
        let (fingerprint, bytes) = read.map_err(|error| match error {
            RegularFileError::TooLarge { max_bytes } => {
                unreadable(&format_args!("larger than {} MiB", max_bytes >> 20))
            }
            error => unreadable(&error),
        })?;
        let text = String::from_utf8(bytes).map_err(|_| unreadable(&"not valid UTF-8"))?;
        Ok(Self { fingerprint, ..Self::parse_partial(path, &text.into(), previous) })
    }

    /// Reads the keys `enabled` and `path` of the table `[state]`, from a file that may be invalid.
    pub(crate) fn state_of(path: &Path) -> StateTable {
        let file = path.to_owned();
        let read = move || read_regular_file(&file, MAX_FILE_BYTES);
        let read = access_within_blocking(path, FILE_ACCESS_TIMEOUT, read);
        let bytes = read.ok().and_then(Result::ok).unwrap_or_default();
        let text = String::from_utf8(bytes).unwrap_or_default();
        let (document, _) = Document::parse(&text.into());
        let mut state = StateTable::default();
        state.enabled = document.at("/state/enabled").as_bool().unwrap_or(state.enabled);
        state.path = document.at("/state/path").as_str().map(Into::into);
        state
    }

    /// Parses and checks the text of a configuration file. Does not read the file `path`.
    ///
    /// # Errors
    ///
    /// All errors of the text, with their positions.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        Self::parse_partial(path, &text.into(), None).into_valid()
    }

    /// Parses the text of a configuration file. Keeps its valid parts, and collects the errors of the others.
    fn parse_partial(path: &Path, text: &Arc<str>, previous: Option<&Self>) -> Self {
        let (document, mut diagnostics) = Document::parse(text);
        let defaults = document.at("/defaults").clone();
        let source_ranges = document.source_ranges();
        let mut tables = LoweredTables::default();
        // After a syntax error, the parsed parts may differ from what the operator meant, so none of them is used.
        if diagnostics.is_empty() {
            let previous = previous.filter(|previous| previous.origin.defaults == defaults);
            let unchanged = previous.map(|previous| unchanged(text, &source_ranges, previous));
            (tables, diagnostics) = Lowering::lower(&document, unchanged.unwrap_or_default());
        }
        let LoweredTables { sources, groups, state, log, listen, command } = tables;
        let (source_indices, sources) = sources.into_iter().unzip();
        let origin = ConfigOrigin {
            text: Arc::clone(text),
            source_ranges,
            source_indices,
            defaults,
            diagnostics,
            address_override: None,
        };
        Self {
            path: path.into(),
            fingerprint: None,
            sources,
            groups,
            state,
            log,
            listen,
            command,
            origin,
        }
    }

    fn into_valid(self) -> Result<Self, ConfigError> {
        if self.is_valid() { Ok(self) } else { Err(self.error_with([])) }
    }
}

/// Returns the sources of the previous configuration whose tables are unchanged in the new `text`, by their index in
/// the new file. `ranges` are the ranges of the sources in `text`.
fn unchanged(
    text: &str,
    ranges: &[Range<usize>],
    previous: &Config,
) -> HashMap<usize, Arc<SourceConfig>> {
    let ConfigOrigin { text: old_text, source_ranges, source_indices, .. } = &previous.origin;
    let known = source_indices.iter().zip(&previous.sources);
    let known: HashMap<&str, &Arc<SourceConfig>> = known
        .filter_map(|(index, source)| {
            Some((old_text.get(source_ranges.get(*index)?.clone())?, source))
        })
        .collect();
    let ranges = ranges.iter().enumerate();
    ranges
        .filter_map(|(index, range)| {
            let source = known.get(text.get(range.clone())?)?;
            Some((index, Arc::clone(source)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str, rest: &str) -> String {
        format!("[[source]]\nname = '{name}'\nplugin = 'file'\nconfig.path = '{name}'\n{rest}\n")
    }

    fn parse(text: &str, previous: Option<&Config>) -> Config {
        let config = Config::parse_partial(Path::new("a.toml"), &text.into(), previous);
        config.into_valid().expect("the text is valid")
    }

    /// Returns for each source whether it is shared with the previous configuration.
    fn shared(old: &Config, new: &Config) -> Vec<bool> {
        let is_shared = |new| old.sources.iter().any(|old| Arc::ptr_eq(old, new));
        new.sources.iter().map(is_shared).collect()
    }

    #[test]
    fn sources_with_unchanged_tables_are_shared() {
        let sink = "[[source.sink]]\ntype = 'file'\npath = '/c'\n";
        let [a, b, c] = [source("a", ""), source("b", ""), source("c", sink)];
        let old = parse(&format!("{a}{b}{c}"), None);
        let changed = source("b", "interval = '1s'");
        let new = parse(&format!("{a}{changed}{c}"), Some(&old));
        assert_eq!(shared(&old, &new), [true, false, true]);
        assert_eq!(new.sources, parse(&format!("{a}{changed}{c}"), None).sources);
        let new = parse(&format!("{}{c}{a}", source("x", "")), Some(&old));
        assert_eq!(shared(&old, &new), [false, true, true], "moved");
        let other_sink = c.replace("'/c'", "'/d'");
        let new = parse(&format!("{a}{b}{other_sink}"), Some(&old));
        assert_eq!(shared(&old, &new), [true, true, false]);
    }

    #[test]
    fn changed_defaults_change_all_sources() {
        let [a, b] = [source("a", ""), source("b", "")];
        let old = parse(&format!("[defaults]\ninterval = '1s'\n{a}{b}"), None);
        let new = parse(&format!("[defaults]\ninterval = '2s'\n{a}{b}"), Some(&old));
        assert_eq!(shared(&old, &new), [false, false]);
        assert_eq!(new.sources[0].interval, Some(std::time::Duration::from_secs(2)));
    }

    /// The new text contains the unchanged table of source `b` inside a string, so that `b` is not a source any more.
    #[test]
    fn table_in_a_string_is_no_source() {
        let [a, b] = [source("a", ""), source("b", "")];
        let old = parse(&format!("{a}{b}"), None);
        let new = parse(&format!("{a}config.text = \"\"\"\n{b}\"\"\"\n"), Some(&old));
        assert_eq!(shared(&old, &new), [false]);
    }
}
