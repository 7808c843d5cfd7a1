//! JSON Schema of a configuration file.

use super::{
    listen_table::ListenTable,
    raw::{Group, LogTable, Source, SourceDefaults, StateTable},
};
use reloader_delivery::{SinkSettings, process::SupervisorSettings};
use schemars::JsonSchema;
use serde_json::Value;

/// Returns the JSON Schema of a configuration file, for editors.
#[must_use]
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(File).to_value();
    schema["title"] = "reloader.toml".into();
    schema
}

/// Configuration file of the host.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, rename_all = "kebab-case")]
#[allow(dead_code, reason = "only its schema is used")]
struct File {
    /// Sources: values that the host keeps up to date. At least one is required.
    #[schemars(default)]
    source: Vec<SourceTable>,
    /// Groups: sources that are delivered together.
    #[schemars(default)]
    group: Vec<GroupTable>,
    /// Default settings of all sources. A key of a source overrides the default.
    #[schemars(default)]
    defaults: SourceDefaults,
    /// State that survives a restart: last values, history and delivery records.
    #[schemars(default)]
    state: StateTable,
    /// Log of the host.
    #[schemars(default)]
    log: LogTable,
    /// HTTP API: address, TLS and access.
    #[schemars(default)]
    listen: ListenTable,
    /// Command that uses the values. The host starts it when all required values are available, notifies
    /// it of changes, and ends with its exit status.
    command: Option<SupervisorSettings>,
}

/// Source: a value that the host keeps up to date, and its sinks.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
#[allow(dead_code, reason = "only its schema is used")]
struct SourceTable {
    #[schemars(flatten)]
    own: Source,
    #[schemars(flatten)]
    settings: SourceDefaults,
    /// Sinks: where the values go. Sinks `exec` and `signal` run after the sinks that write files. Otherwise, each
    /// sink works independently.
    #[schemars(default)]
    sink: Vec<SinkSettings>,
}

/// Group: sources that are delivered together, and its sinks.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
#[allow(dead_code, reason = "only its schema is used")]
struct GroupTable {
    #[schemars(flatten)]
    own: Group,
    /// Sinks: where the values go. Sinks `exec` and `signal` run after the sinks that write files. Otherwise, each
    /// sink works independently.
    #[schemars(default)]
    sink: Vec<SinkSettings>,
}
