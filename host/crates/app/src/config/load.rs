//! Loads a configuration: reads the file, and parses and checks its text.

use super::{
    diagnostics::ConfigError,
    lower::{LoweredTables, Lowering},
    lowered_config::{Config, ConfigOrigin},
    raw::StateTable,
    spanned_toml::Document,
};
use reloader_fs_watch::{FileFingerprint, RegularFileError, read_regular_file};
use std::{fs, path::Path};

/// Maximum size of a configuration file.
const MAX_FILE_BYTES: u64 = 16 << 20;

impl Config {
    /// Reads, parses and checks a configuration file.
    ///
    /// # Errors
    ///
    /// All errors of the file, with their positions.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::read_partial(path)?.into_valid()
    }

    /// Reads a file and parses its valid parts. The errors of the other parts are kept for
    /// [`error_with`](Self::error_with), so that they can be reported together with later ones.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is too large, or is not UTF-8.
    pub(crate) fn read_partial(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |why: &dyn std::fmt::Display| ConfigError::unreadable(path.into(), why);
        // Taken before the read, so that a concurrent change is detected later.
        let fingerprint = FileFingerprint::read(path);
        let bytes = read_regular_file(path, MAX_FILE_BYTES).map_err(|error| match error {
            RegularFileError::TooLarge { max_bytes } => {
                unreadable(&format_args!("larger than {} MiB", max_bytes >> 20))
            }
            error => unreadable(&error),
        })?;
        let text = String::from_utf8(bytes).map_err(|_| unreadable(&"not valid UTF-8"))?;
        Ok(Self { fingerprint, ..Self::parse_partial(path, text) })
    }

    /// Reads the keys `enabled` and `path` of the table `[state]`, from a file that may be invalid.
    pub(crate) fn state_of(path: &Path) -> StateTable {
        let text = fs::read_to_string(path).unwrap_or_default();
        let (document, _) = Document::parse(&text);
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
        Self::parse_partial(path, text.into()).into_valid()
    }

    /// Parses the valid parts of a text.
    fn parse_partial(path: &Path, text: String) -> Self {
        let (document, mut diagnostics) = Document::parse(&text);
        let mut tables = LoweredTables::default();
        // The parts of a document with syntax errors may not be what the operator wrote.
        if diagnostics.is_empty() {
            (tables, diagnostics) = Lowering::lower(&document);
        }
        let LoweredTables { sources, groups, state, log, listen, command } = tables;
        let (source_indices, sources) = sources.into_iter().unzip();
        let origin =
            ConfigOrigin { text, document, source_indices, diagnostics, address_override: None };
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
