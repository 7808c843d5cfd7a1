//! JSON Schema validator: runs the bundled component `json-schema`.
//!
//! The evaluation of a schema is not bounded by the size of the schema and the value, so it runs in the
//! sandbox. A check that exceeds its memory or CPU time ends there, and its memory is returned.

use crate::{
    Limits, Plugin,
    instance::Instance,
    scheduler::cpu_quota::Pace,
    source_context::{Configured, Surroundings},
};
use async_trait::async_trait;
use reloader_engine::types::{Failure, FailureKind, Snapshot, SourceName};
use reloader_net::Reach;
use reloader_net::secrets::Secrets;
use reloader_policy::Grants;
use reloader_source::{
    decode::Format,
    validator::{Candidate, Rejection, Validator},
};
use reloader_util::sanitize::sanitize;
use serde_json::json;
use std::{
    fmt::Display,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

/// Maximum size of a schema file, in bytes.
const MAX_SCHEMA_BYTES: usize = 4 << 20;
/// Memory limit of a check on an empty value, in bytes.
const BASE_MEMORY: usize = 24 << 20;
/// How much the memory limit grows for each byte of the value, in bytes. Measured: 5 to 11 for ordinary
/// JSON, 25 for a list of numbers, 66 for a list of objects with a nameless member each.
const MEMORY_PER_VALUE_BYTE: usize = 16;
/// How much the memory limit grows for each byte of the schema, in bytes. Measured: 19 for a schema of
/// 10,000 properties.
const MEMORY_PER_SCHEMA_BYTE: usize = 48;
/// Maximum memory limit of a check, in bytes, unless the source's own limit `memory` is higher.
const MAX_MEMORY: usize = 128 << 20;
/// Checks with a higher memory limit share [`LARGE_CHECKS_MIB`], in bytes.
const LARGE_CHECK: usize = 32 << 20;
/// Memory of all concurrent large checks of a runtime, in MiB.
pub(crate) const LARGE_CHECKS_MIB: usize = 256;

/// Settings of a [`JsonSchemaValidator`].
#[derive(Debug, Clone)]
pub struct JsonSchemaSettings {
    /// The path of the schema: JSON, or TOML or YAML if its extension says so. It is read for each check,
    /// and has at most 4 MiB.
    pub path: PathBuf,
    /// The format of the values. Default: the one of their media type.
    pub format: Option<Format>,
    /// Whether an empty table, list or text, and `null`, are rejected.
    pub not_empty: bool,
    /// The deadline of a check.
    pub timeout: Duration,
}

/// Validates values against a JSON Schema, each in a fresh instance of the bundled component.
///
/// The memory limit of an instance is 24 MiB, 16 bytes for each byte of the value, and 48 bytes for each byte
/// of the schema, at most 128 MiB; or the source's limit `memory`, if that is higher. The CPU time is limited
/// by `call-cpu`. A value whose check exceeds a limit is rejected. Checks with more than 32 MiB share 256 MiB
/// of their [`PluginHost`](crate::PluginHost), and wait for each other.
pub struct JsonSchemaValidator {
    plugin: Plugin,
    source: SourceName,
    settings: JsonSchemaSettings,
    limits: Limits,
    pace: Arc<Pace>,
    /// Allows one read of the schema file at a time: one that hangs occupies one thread.
    reading: Arc<Semaphore>,
}

impl JsonSchemaValidator {
    /// The name of the bundled plugin that it runs.
    pub const PLUGIN: &str = "json-schema";

    /// Creates a validator of a source's values. `plugin` is [`PLUGIN`](Self::PLUGIN), loaded.
    #[must_use]
    pub fn new(
        plugin: Plugin,
        source: &str,
        settings: JsonSchemaSettings,
        limits: &Limits,
    ) -> Self {
        // The caller's deadline comes first, and says nothing about the value.
        let limits = Limits { call_timeout: settings.timeout.saturating_mul(2), ..limits.clone() };
        Self {
            plugin,
            source: SourceName::new(source),
            settings,
            limits,
            pace: Arc::default(),
            reading: Arc::new(Semaphore::new(1)),
        }
    }

    /// Checks that the schema can be read and compiled within the deadline of a check.
    ///
    /// # Errors
    ///
    /// Why it cannot, with the schema's path.
    pub async fn check_schema(&self) -> Result<(), Failure> {
        let deadline = self.settings.timeout;
        let opening = async { self.open(self.read().await?, Format::Json, 0).await.map(drop) };
        timeout(deadline, opening).await.unwrap_or_else(|_| {
            Err(self.unusable(&format!("it was not read and compiled within {deadline:?}")))
        })
    }

    /// Reads the schema file.
    async fn read(&self) -> Result<String, Failure> {
        let failed = |error: &dyn Display| {
            Failure::transient(sanitize(&format!(
                "the schema {} cannot be read: {error}",
                self.path()
            )))
        };
        let turn = Arc::clone(&self.reading).acquire_owned().await;
        let (turn, path) = (turn.map_err(|error| failed(&error))?, self.settings.path.clone());
        let reading = spawn_blocking(move || {
            let _turn = turn;
            read(&path)
        });
        let bytes = reading.await.map_err(|error| failed(&error))?;
        String::from_utf8(bytes.map_err(|error| failed(&error))?)
            .map_err(|error| self.unusable(&format!("it is not UTF-8: {error}")))
    }

    /// Opens an instance for a value of this size. It compiles the schema.
    async fn open(
        &self,
        schema: String,
        format: Format,
        value_bytes: usize,
    ) -> Result<Instance, Failure> {
        let memory = memory_limit(value_bytes, schema.len(), self.limits.memory);
        let limits = Arc::new(Limits { memory, ..self.limits.clone() });
        let reservation = self.plugin.reserve(memory).await?;
        let surroundings =
            self.plugin.surroundings(self.source.clone(), limits, Reach::default(), Arc::default());
        let surroundings = Surroundings {
            pace: Arc::clone(&self.pace),
            _reservation: reservation,
            ..surroundings
        };
        let settings = json!({
            "schema": schema,
            "schema_format": name(schema_format(&self.settings.path)),
            "schema_name": self.path(),
            "format": name(format),
            "not_empty": self.settings.not_empty,
        });
        let configured = Configured {
            settings: settings.to_string(),
            granted: Grants::default(),
            credentials: Vec::new(),
            secrets: Secrets::default(),
        };
        let (surroundings, configured) = (Arc::new(surroundings), Arc::new(configured));
        let opened = Instance::open(self.plugin.linked(), &surroundings, &configured).await;
        opened.map_err(|failure| match failure.kind {
            FailureKind::Config => Failure::transient(&failure.message),
            FailureKind::Crashed => self.unusable(&failure),
            _ => failure,
        })
    }

    fn unusable(&self, reason: &dyn Display) -> Failure {
        Failure::transient(format!("the schema {} cannot be used: {reason}", self.path()))
    }

    /// Rejects a value whose check exceeded a limit. A check that ended otherwise, e.g. because the machine
    /// had no memory left, is repeated later.
    fn not_checked(&self, reason: &str) -> Rejection {
        let what = format!("the value could not be checked against the schema {}", self.path());
        if ["memory", "call-cpu"].iter().any(|limit| reason.contains(&format!("limit `{limit}`"))) {
            rejected(format!(
                "{what} within the limits: {reason}; `limits` of the source can be raised"
            ))
        } else {
            Failure::transient(format!("{what}: {reason}"))
        }
    }

    fn path(&self) -> String {
        sanitize(&self.settings.path.display().to_string())
    }
}

#[async_trait]
impl Validator for JsonSchemaValidator {
    async fn validate(&self, candidate: &Candidate<'_>) -> Result<(), Rejection> {
        let value = candidate.new;
        let format = match self.settings.format {
            Some(format) => format,
            None => format_of(value)?,
        };
        let instance = self.open(self.read().await?, format, value.content.len()).await?;
        let value = Snapshot::new(value.content.clone());
        let checked = instance.validate(value, None).await.result;
        checked.map_err(|failure| match failure.kind {
            FailureKind::Crashed => self.not_checked(&failure.message),
            _ => failure,
        })
    }

    fn time_limit(&self) -> Duration {
        self.settings.timeout
    }
}

fn rejected(reason: String) -> Rejection {
    Failure::new(FailureKind::Permanent, reason)
}

/// Returns the memory limit of a check, in bytes: whole MiB, unless it is the source's.
fn memory_limit(value_bytes: usize, schema_bytes: usize, of_source: usize) -> usize {
    let for_value = value_bytes.saturating_mul(MEMORY_PER_VALUE_BYTE);
    let for_schema = schema_bytes.saturating_mul(MEMORY_PER_SCHEMA_BYTE);
    let grown = for_value.saturating_add(for_schema).min(MAX_MEMORY - BASE_MEMORY);
    (BASE_MEMORY + grown.next_multiple_of(1 << 20)).max(of_source)
}

/// Returns how much a check with this memory limit takes of [`LARGE_CHECKS_MIB`].
pub(crate) fn reserved_mib(memory: usize) -> usize {
    if memory > LARGE_CHECK { memory.div_ceil(1 << 20).min(LARGE_CHECKS_MIB) } else { 0 }
}

/// Returns the format of a schema: JSON, unless its extension says otherwise.
fn schema_format(path: &Path) -> Format {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => Format::Toml,
        Some("yaml" | "yml") => Format::Yaml,
        _ => Format::Json,
    }
}

/// Returns the format that a value's media type says.
fn format_of(value: &Snapshot) -> Result<Format, Rejection> {
    let media_type = value.media_type.as_deref();
    media_type.and_then(Format::of).ok_or_else(|| {
        let says = media_type.unwrap_or("nothing");
        rejected(sanitize(&format!(
            "the value does not say that it is JSON, TOML or YAML, but {says}; name its form with `parse`"
        )))
    })
}

/// Returns the name of a format in the plugin's settings.
fn name(format: Format) -> &'static str {
    match format {
        Format::Json => "json",
        Format::Toml => "toml",
        Format::Yaml => "yaml",
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = reloader_fs_watch::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_SCHEMA_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_SCHEMA_BYTES {
        return Err(io::Error::other(format!("it has more than {MAX_SCHEMA_BYTES} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_limit_grows_with_input_up_to_cap() {
        assert_eq!(memory_limit(0, 0, 0), 24 << 20);
        assert_eq!(memory_limit(1, 0, 0), 25 << 20);
        assert_eq!(memory_limit(1 << 20, 0, 0), 40 << 20);
        assert_eq!(memory_limit(0, 1 << 20, 0), 72 << 20);
        assert_eq!(memory_limit(8 << 20, 4 << 20, 0), 128 << 20);
        assert_eq!(memory_limit(8 << 20, 0, 200 << 20), 200 << 20);
        assert_eq!(memory_limit(usize::MAX, usize::MAX, 0), 128 << 20);
    }

    #[test]
    fn reservation_is_for_large_checks() {
        assert_eq!(reserved_mib(32 << 20), 0);
        assert_eq!(reserved_mib(40 << 20), 40);
        assert_eq!(reserved_mib(1 << 30), LARGE_CHECKS_MIB);
    }
}
