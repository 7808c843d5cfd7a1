//! Parsed configuration, with the table `[defaults]` applied to each source.

use super::{
    diagnostics::{ConfigError, Diagnostic, InvalidSetting},
    listen_address::ListenAddress,
    listen_table::ListenTable,
    raw::{LogTable, StateTable},
    spanned_toml::{Document, child_pointer},
};
use reloader_delivery::{
    SinkSettings, WaitSettings, process::SupervisorSettings,
    source_value_validation::ValidateSettings,
};
use reloader_engine::types::{SourceName, Strategy};
use reloader_fs_watch::FileFingerprint;
use reloader_net::TlsSettings;
use reloader_plugin_runtime::Limits;
use reloader_policy::{AddressRange, Credential, Permission};
use serde_json::{Map, Value};
use std::{ops::Range, path::PathBuf, sync::Arc, time::Duration};

/// Configuration file, parsed and checked without its plugins.
#[derive(Debug)]
pub struct Config {
    /// Path of the file.
    pub path: PathBuf,
    /// Fingerprint (metadata) of the file, taken before the file was read. The file watch detects later changes by it.
    pub(crate) fingerprint: Option<FileFingerprint>,
    /// Sources. After a reload, sources with unchanged tables are shared with the previous configuration.
    pub sources: Vec<Arc<SourceConfig>>,
    /// Groups: sources that are delivered together.
    pub groups: Vec<GroupConfig>,
    /// Settings of the state store, which keeps values and delivery records across restarts.
    pub state: StateTable,
    /// Settings of the host's log.
    pub log: LogTable,
    /// Settings of the HTTP API.
    pub listen: ListenTable,
    /// Command that uses the values, supervised by the host.
    pub command: Option<SupervisorSettings>,
    pub(super) origin: ConfigOrigin,
}

/// Text of the file and the positions of its parts: for errors that are found after parsing, and for the comparison
/// with a later version of the file.
#[derive(Debug)]
pub(super) struct ConfigOrigin {
    pub(super) text: Arc<str>,
    /// Range of the text that contains all settings of a source, for each source in the file.
    pub(super) source_ranges: Vec<Range<usize>>,
    /// Index in the file of each source in [`Config::sources`], which omits invalid sources.
    pub(super) source_indices: Vec<usize>,
    /// Table `[defaults]`, on which all sources depend.
    pub(super) defaults: Value,
    /// Errors that were found while parsing.
    pub(super) diagnostics: Vec<Diagnostic>,
    /// Listening address from the command line, which overrides the one in the file.
    pub(super) address_override: Option<ListenAddress>,
}

impl Config {
    /// Returns whether the file was parsed without errors.
    pub(crate) fn is_valid(&self) -> bool {
        self.origin.diagnostics.is_empty()
    }

    /// Returns the path in the file of the table of the source with this index in [`sources`](Self::sources).
    pub(crate) fn source_path(&self, source: usize) -> [String; 2] {
        let index = self.origin.source_indices.get(source).copied().unwrap_or(source);
        ["source".into(), index.to_string()]
    }

    /// Overrides the listening address, also for later reloads of the file.
    ///
    /// # Errors
    ///
    /// The settings of `[listen]` are not allowed with this address; see [`ListenTable::address_error`].
    pub fn serve_at(&mut self, address: ListenAddress) -> Result<(), String> {
        self.listen.address = Some(address.clone());
        self.origin.address_override = Some(address);
        self.listen.address_error().map_or(Ok(()), Err)
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

    /// Returns the error that contains all diagnostics of the file and the `invalid` settings.
    pub(crate) fn error_with(
        &self,
        invalid: impl IntoIterator<Item = InvalidSetting>,
    ) -> ConfigError {
        let ConfigOrigin { text, diagnostics, .. } = &self.origin;
        let (document, _) = Document::parse(text);
        let invalid: Vec<_> = invalid.into_iter().collect();
        let is_temporary = diagnostics.is_empty()
            && !invalid.is_empty()
            && invalid.iter().all(|setting| setting.is_temporary);
        let invalid = invalid.into_iter().map(|InvalidSetting { path, message, .. }| {
            let root = String::new();
            let pointer = path.iter().fold(root, |pointer, name| child_pointer(&pointer, name));
            Diagnostic { span: document.value_span(&pointer), message }
        });
        let all = diagnostics.iter().cloned().chain(invalid).collect();
        let error = ConfigError::new(self.path.clone(), text, all);
        if is_temporary { error.temporary() } else { error }
    }
}

/// Configuration of one source, with the table `[defaults]` applied.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceConfig {
    /// Name of the source, unique in the configuration.
    pub name: SourceName,
    /// Name of a bundled plugin, or path of a component.
    pub plugin: String,
    /// SHA-256 digest that the component must have, in lower-case hexadecimal.
    pub sha256: Option<String>,
    /// Settings of the plugin, with unresolved references to secrets.
    pub settings: Map<String, Value>,
    /// Grants of the plugin.
    pub permission: Permission,
    /// Credentials that the host adds to the requests of the plugin.
    pub credentials: Vec<Credential>,
    /// Settings of the check of new values before they are published; `None` for no check.
    pub validate: Option<ValidateSettings>,
    /// Update strategy; `None` for the default of the plugin.
    pub strategy: Option<Strategy>,
    /// Interval between two reads of the source; `None` for the default.
    pub interval: Option<Duration>,
    /// Poll interval while a watch works; `None` for the default.
    pub reconcile: Option<Duration>,
    /// Time without an answer of the source after which its value is stale; `None` for the default.
    pub stale_after: Option<Duration>,
    /// Set if `[command]` waits for the first value of the source.
    pub required: bool,
    /// Set if the values are stored in the state store.
    pub store: bool,
    /// Set if clients of the API may read the values.
    pub readable: bool,
    /// Resource limits of the plugin.
    pub limits: Limits,
    /// TLS settings for the connections of the plugin.
    pub tls: TlsSettings,
    /// Addresses, in addition to public ones, that the domain names in the settings and grants may resolve to.
    pub addresses: Vec<AddressRange>,
    /// Sinks of the source.
    pub sinks: Vec<SinkSettings>,
}

impl SourceConfig {
    /// Returns the plugins of the source: the source plugin, and the validator plugin if there is one.
    pub fn plugins(&self) -> impl Iterator<Item = &str> {
        let validator = self.validate.as_ref().and_then(|validate| validate.plugin.as_deref());
        [self.plugin.as_str()].into_iter().chain(validator)
    }

    /// Returns whether both sources have the same sinks, `required`, `store` and `readable`.
    pub(crate) fn has_host_settings_of(&self, other: &Self) -> bool {
        let of = |config: &Self| (config.required, config.store, config.readable);
        of(self) == of(other) && self.sinks == other.sinks
    }

    /// Replaces the settings that concern only the host: sinks, `required`, `store` and `readable`.
    pub(crate) fn with_host_settings_of(mut self, other: &Self) -> Self {
        self.sinks.clone_from(&other.sinks);
        self.required = other.required;
        self.store = other.store;
        self.readable = other.readable;
        self
    }
}

/// Returns the name of a sink for display: the configured one, or its kind and its index in the list.
pub(crate) fn sink_name(sink: &SinkSettings, index: usize) -> String {
    sink.name().map_or_else(|| format!("{}-{index}", sink.kind()), Into::into)
}

/// Configuration of a group: sources whose values are delivered together.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupConfig {
    /// Name of the group.
    pub name: String,
    /// Names of the sources in the group.
    pub sources: Vec<SourceName>,
    /// Sources of the group with `required = false`: the group is delivered without them while they have no value.
    pub optional: Vec<SourceName>,
    /// Debounce of a burst of changes; `None` for the default.
    pub wait: Option<WaitSettings>,
    /// Sinks of the group.
    pub sinks: Vec<SinkSettings>,
}
