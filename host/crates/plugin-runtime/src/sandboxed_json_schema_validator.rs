//! JSON Schema validator: runs the bundled component `json-schema`.
//!
//! A small schema and a small value can take much memory and CPU time to evaluate, so each check runs in the sandbox.
//! The sandbox ends a check that exceeds its limit of memory or CPU time, and frees its memory.

use crate::{
    instance::Instance, json_schema_memory::memory_limit, limits::Limits, plugin_host::Plugin,
    resolved_settings::ResolvedSettings, scheduler::source_cpu_quota::CpuQuota,
    source_context::SourceContext,
};
use async_trait::async_trait;
use reloader_engine::types::{Failure, FailureKind, Snapshot, SourceName};
use reloader_net::EgressSettings;
use reloader_net::secrets::Secrets;
use reloader_policy::Grants;
use reloader_source::{
    decode::Format,
    validator::{Candidate, Rejection, Validator},
};
use reloader_util::{blocking_pool::BlockingPool, sanitize::sanitize};
use serde_json::json;
use std::{
    fmt::Display,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::Semaphore, time::timeout};

/// Thread pool that reads schema files.
static POOL: BlockingPool = BlockingPool::new("reloader-schema", 8);
/// Maximum size of a schema file, in bytes.
const MAX_SCHEMA_BYTES: u64 = 4 << 20;

/// Settings of a [`JsonSchemaValidator`].
#[derive(Debug, Clone)]
pub struct JsonSchemaSettings {
    /// Path of the schema, at most 4 MiB. Its format is TOML or YAML if the extension is `toml`, `yaml` or `yml`, and
    /// JSON otherwise. The file is read for each check.
    pub path: PathBuf,
    /// Format of the values. Default: the format of their media type.
    pub format: Option<Format>,
    /// Rejects `null` and an empty table, list or string.
    pub not_empty: bool,
    /// Timeout of the check of one value.
    pub timeout: Duration,
}

/// Validator that checks values against a JSON Schema, each in a new instance of the bundled component.
///
/// The memory limit of an instance is 24 MiB, plus 16 bytes for each byte of the value, plus 48 bytes for each byte of
/// the schema, at most 128 MiB; or the source's limit `memory`, if that is higher. The CPU time is limited by
/// `call-cpu`. A value whose check exceeds a limit is rejected. In a [`PluginHost`](crate::PluginHost), all concurrent
/// checks with a memory limit above 32 MiB share 256 MiB; further checks wait.
pub struct JsonSchemaValidator {
    plugin: Plugin,
    source: SourceName,
    settings: JsonSchemaSettings,
    limits: Limits,
    cpu_quota: Arc<CpuQuota>,
    /// Held during a read of the schema file. So a file system that hangs blocks one thread only.
    schema_read: Arc<Semaphore>,
}

impl JsonSchemaValidator {
    /// Name of the bundled plugin that the validator runs.
    pub const PLUGIN: &str = "json-schema";

    /// Returns a validator of a source's values. `plugin` is the loaded plugin [`PLUGIN`](Self::PLUGIN).
    #[must_use]
    pub fn new(
        plugin: Plugin,
        source: &str,
        settings: JsonSchemaSettings,
        limits: &Limits,
    ) -> Self {
        // The timeout of the guest call is longer than the timeout of the check, so that a slow check times out first:
        // an exceeded call timeout counts as a crash.
        let limits = Limits { call_timeout: settings.timeout.saturating_mul(2), ..limits.clone() };
        Self {
            plugin,
            source: SourceName::new(source),
            settings,
            limits,
            cpu_quota: Arc::new(CpuQuota::new(Instant::now())),
            schema_read: Arc::new(Semaphore::new(1)),
        }
    }

    /// Checks that the schema can be read and compiled within the deadline of a check.
    ///
    /// # Errors
    ///
    /// The reason, with the path of the schema.
    pub async fn check_schema(&self) -> Result<(), Failure> {
        let deadline = self.settings.timeout;
        let open = async { self.open(self.read().await?, Format::Json, 0).await.map(drop) };
        timeout(deadline, open).await.unwrap_or_else(|_| {
            Err(self.unusable(&format!("not read and compiled within {deadline:?}")))
        })
    }

    /// Reads the schema file.
    async fn read(&self) -> Result<String, Failure> {
        let failed = |error: &dyn Display| {
            Failure::transient(sanitize(&format!(
                "cannot read the schema {}: {error}",
                self.path()
            )))
        };
        let permit = Arc::clone(&self.schema_read).acquire_owned().await;
        let (permit, path) = (permit.map_err(|error| failed(&error))?, self.settings.path.clone());
        let read = POOL.spawn(move || {
            let _permit = permit;
            reloader_fs_watch::read_regular_file(&path, MAX_SCHEMA_BYTES)
        });
        let bytes = read.await.map_err(|error| failed(&error))?;
        String::from_utf8(bytes.map_err(|error| failed(&error))?)
            .map_err(|error| self.unusable(&format!("not UTF-8: {error}")))
    }

    /// Opens an instance for a value of this size. The instance compiles the schema.
    async fn open(
        &self,
        schema: String,
        format: Format,
        value_bytes: usize,
    ) -> Result<Instance, Failure> {
        let memory = memory_limit(value_bytes, schema.len(), self.limits.memory);
        let limits = Arc::new(Limits { memory, ..self.limits.clone() });
        let reservation = self.plugin.large_checks().reserve(memory).await?;
        let source = self.source.clone();
        let context =
            self.plugin.source_context(source, limits, EgressSettings::default(), Arc::default());
        let context = SourceContext {
            cpu_quota: Arc::clone(&self.cpu_quota),
            _reservation: reservation,
            ..context
        };
        let settings = json!({
            "schema": schema,
            "schema_format": name(schema_format(&self.settings.path)),
            "schema_name": self.path(),
            "format": name(format),
            "not_empty": self.settings.not_empty,
        });
        let resolved = ResolvedSettings {
            settings: settings.to_string().into(),
            granted: Grants::default(),
            credentials: Vec::new(),
            secrets: Secrets::default(),
        };
        let (context, resolved) = (Arc::new(context), Arc::new(resolved));
        let opened = Instance::open(self.plugin.linked(), &context, &resolved).await;
        opened.map_err(|failure| match failure.kind {
            FailureKind::Config => Failure::transient(&failure.message),
            FailureKind::Crashed => self.unusable(&failure),
            _ => failure,
        })
    }

    /// Returns the failure of a schema that cannot be used. It is transient, because the schema file may change.
    fn unusable(&self, reason: &dyn Display) -> Failure {
        Failure::transient(format!("the schema {} cannot be used: {reason}", self.path()))
    }

    /// Returns the rejection of a value whose check exceeded a limit, or a transient failure if the check crashed for
    /// another reason, for example because the machine had no free memory.
    fn crash_rejection(&self, reason: &str) -> Rejection {
        let what = format!("the validation against the schema {}", self.path());
        if ["memory", "call-cpu"].iter().any(|limit| reason.contains(&format!("limit `{limit}`"))) {
            rejected(format!(
                "{what} exceeded a limit: {reason}; hint: raise `limits` of the source"
            ))
        } else {
            Failure::transient(format!("{what} failed: {reason}"))
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
            FailureKind::Crashed => self.crash_rejection(&failure.message),
            _ => failure,
        })
    }

    fn time_limit(&self) -> Duration {
        self.settings.timeout
    }
}

fn rejected(reason: String) -> Rejection {
    Failure::permanent(reason)
}

/// Returns the format of a schema by its extension. Default: JSON.
fn schema_format(path: &Path) -> Format {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => Format::Toml,
        Some("yaml" | "yml") => Format::Yaml,
        _ => Format::Json,
    }
}

/// Returns the format of a value by its media type.
fn format_of(value: &Snapshot) -> Result<Format, Rejection> {
    let media_type = value.media_type.as_deref();
    media_type.and_then(Format::of).ok_or_else(|| {
        let media_type = media_type.unwrap_or("none");
        rejected(sanitize(&format!(
            "the media type of the value is not JSON, TOML or YAML: {media_type}; hint: set `parse`"
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
