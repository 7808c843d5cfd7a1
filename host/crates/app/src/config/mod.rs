//! Configuration file `reloader.toml`: parsing, checks, errors with positions, and its JSON Schema.

mod conflicts;
mod deserialize;
mod diagnostics;
mod listen;
mod lower;
mod raw;
mod spanned_toml;
mod types;

pub use diagnostics::ConfigError;
pub use listen::{ListenAddress, ListenTable, ListenTls, Scope, Token, TokenDigest};
pub use raw::{LogFormat, LogLevel, LogTable, StateTable};
pub use types::{Config, GroupConfig, SourceConfig};

use crate::reload_triggers::Stamp;
use diagnostics::Diagnostic;
use lower::{LoweredTables, Lowering};
use serde_json::Value;
use spanned_toml::{Document, child_pointer};
use std::{fs, path::Path};
use types::ConfigOrigin;

/// Maximum size of a configuration file.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Returns the JSON Schema of a configuration file, for editors.
#[must_use]
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(raw::File).to_value();
    schema["title"] = "reloader.toml".into();
    schema
}

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
        // The stamp is taken before the read, so that a concurrent change is detected later.
        let stamp = Stamp::of(path);
        let metadata = fs::metadata(path).map_err(|error| unreadable(&error))?;
        if !metadata.is_file() {
            return Err(unreadable(&"not a regular file"));
        }
        if metadata.len() > MAX_FILE_BYTES {
            return Err(unreadable(&format_args!("larger than {} MiB", MAX_FILE_BYTES >> 20)));
        }
        let bytes = fs::read(path).map_err(|error| unreadable(&error))?;
        let text = String::from_utf8(bytes).map_err(|_| unreadable(&"not valid UTF-8"))?;
        Ok(Self { stamp, ..Self::parse_partial(path, text) })
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

    /// Parses and checks the text of the file `path`, which is not read.
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
            stamp: None,
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

    /// Returns whether the file has no errors.
    pub(crate) fn is_valid(&self) -> bool {
        self.origin.diagnostics.is_empty()
    }

    /// Returns the path of the table of a source in the file.
    pub(crate) fn source_path(&self, source: usize) -> [String; 2] {
        let index = self.origin.source_indices.get(source).copied().unwrap_or(source);
        ["source".into(), index.to_string()]
    }

    /// Overrides the listening address, also for later reloads of the file.
    ///
    /// # Errors
    ///
    /// The settings of `[listen]` are not allowed with this address; see [`ListenTable::problem`].
    pub fn serve_at(&mut self, address: ListenAddress) -> Result<(), String> {
        self.listen.address = Some(address.clone());
        self.origin.address_override = Some(address);
        self.listen.problem().map_or(Ok(()), Err)
    }

    /// Takes over the override of the listening address from the previous configuration.
    pub(crate) fn inherit_address_override(&mut self, previous: &Self) {
        if let Some(address) = &previous.origin.address_override {
            self.listen.address = Some(address.clone());
            self.origin.address_override = Some(address.clone());
        }
    }

    /// Returns whether a sink writes to standard output.
    #[must_use]
    pub fn prints_values(&self) -> bool {
        let groups = self.groups.iter().map(|group| &group.sinks);
        let mut all = self.sources.iter().map(|source| &source.sinks).chain(groups).flatten();
        all.any(|sink| sink.kind() == "stdout")
    }

    /// Returns the error with all diagnostics of the file, and with `found`: the path of each setting in
    /// the file, and a message.
    pub(crate) fn error_with(
        &self,
        found: impl IntoIterator<Item = (Vec<String>, String)>,
    ) -> ConfigError {
        let ConfigOrigin { text, document, diagnostics, .. } = &self.origin;
        let found = found.into_iter().map(|(path, message)| {
            let root = String::new();
            let pointer = path.iter().fold(root, |pointer, name| child_pointer(&pointer, name));
            Diagnostic { span: document.value_span(&pointer), message }
        });
        let all = diagnostics.iter().cloned().chain(found).collect();
        ConfigError::new(self.path.clone(), text, all)
    }
}
