//! Configured plugin: a plugin with the settings of one source. Opens instances, refreshes secrets, and applies the
//! limits of values.

use crate::{
    configure_error::ConfigureError,
    denials::RATE_LIMITED,
    instance::Instance,
    limits::Limits,
    plugin_host::Plugin,
    resolved_settings::{OperatorSettings, ResolvedSettings},
    source_context::SourceContext,
    value_and_event_rate_limit::RateLimit,
};
use reloader_engine::types::{Cursor, Failure, Snapshot, SourceName};
use reloader_net::EgressSettings;
use reloader_policy::{Decision, Grant, Permission};
use reloader_source::{metrics::Counters, provider::Confinement};
use reloader_util::{blocking_pool::BlockingPool, sanitize::sanitize, sync::Mutex};
use serde_json::{Map, Value};
use std::{sync::Arc, time::Duration};
use tokio::{sync::Semaphore, time::timeout};
use tracing::{info, warn};

/// Threads that resolve settings. They wait for files with secrets.
pub(crate) static SETTINGS_POOL: BlockingPool = BlockingPool::new("reloader-setup", 8);
/// Time limit of one check whether files with secrets have changed. The time limit of reading one file is five seconds.
pub(crate) const SECRET_CHECK_TIMEOUT: Duration = Duration::from_secs(6);
/// Maximum length of a cursor, in bytes.
const MAX_CURSOR_BYTES: usize = 64 << 10;
/// Maximum length of a media type, in bytes. RFC 6838 allows 127 characters on each side of the slash, and
/// parameters may follow.
const MAX_MEDIA_TYPE_BYTES: usize = 1 << 10;

impl Plugin {
    /// Returns the accesses that a source with these settings would request, and the grants that it would get.
    ///
    /// # Errors
    ///
    /// All errors of the settings.
    pub fn decide(
        &self,
        settings: Map<String, Value>,
        permission: Permission,
    ) -> Result<Decision, ConfigureError> {
        let settings = OperatorSettings { settings, permission, credentials: Vec::new() };
        settings.resolve(&self.description().settings).map(|(_, decision)| decision)
    }

    /// Resolves the settings, and returns the plugin that is configured for a source.
    ///
    /// # Errors
    ///
    /// All errors of the settings.
    pub(crate) fn configure(
        &self,
        source: SourceName,
        settings: OperatorSettings,
        limits: Arc<Limits>,
        reach: EgressSettings,
        counters: Arc<Counters>,
    ) -> Result<ConfiguredPlugin, ConfigureError> {
        let (resolved, _) = settings.resolve(&self.description().settings)?;
        let value_rate_limit = RateLimit::of_value_bytes(limits.value_rate());
        Ok(ConfiguredPlugin {
            shared: Arc::new(Shared {
                plugin: self.clone(),
                settings,
                context: Arc::new(self.source_context(source, limits, reach, counters)),
                resolved: Mutex::new(Arc::new(resolved)),
                secret_error: Mutex::default(),
                secret_check: Arc::new(Semaphore::new(1)),
                value_rate_limit,
            }),
        })
    }
}

/// Plugin with the settings of one source. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ConfiguredPlugin {
    shared: Arc<Shared>,
}

struct Shared {
    plugin: Plugin,
    settings: OperatorSettings,
    context: Arc<SourceContext>,
    /// Settings with the secrets as the last successful check has read them.
    resolved: Mutex<Arc<ResolvedSettings>>,
    /// Error of the last check of the files with secrets.
    secret_error: Mutex<Option<String>>,
    /// Held during a check of the files with secrets.
    secret_check: Arc<Semaphore>,
    value_rate_limit: RateLimit,
}

/// Logs the totals of denied accesses when the source is dropped. The last instance of the source, which shares the
/// [`SourceContext`], may be dropped later, in a pool.
impl Drop for Shared {
    fn drop(&mut self) {
        self.context.denials.log_totals();
    }
}

impl ConfiguredPlugin {
    /// Opens an instance of the plugin, and passes it the settings `resolved`.
    pub(crate) async fn open(&self, resolved: &Arc<ResolvedSettings>) -> Result<Instance, Failure> {
        Instance::open(self.shared.plugin.linked(), self.context(), resolved).await
    }

    pub(crate) fn context(&self) -> &Arc<SourceContext> {
        &self.shared.context
    }

    /// Returns the settings for an instance, after a check whether a file with a secret has changed. If the check fails
    /// or the new secret is invalid, logs the error and returns the previous settings.
    pub(crate) async fn resolved_settings(&self) -> Arc<ResolvedSettings> {
        let current = Arc::clone(&self.shared.resolved.lock());
        if current.secrets.files().next().is_none() {
            return current;
        }
        let (shared, known) = (Arc::clone(&self.shared), Arc::clone(&current));
        // Callers during a check get the current settings. So a file system that hangs blocks one thread only.
        let Ok(permit) = Arc::clone(&self.shared.secret_check).try_acquire_owned() else {
            return current;
        };
        let check = SETTINGS_POOL.spawn(move || {
            let _permit = permit;
            let schema = &shared.plugin.description().settings;
            let resolve = || shared.settings.resolve(schema).map_err(|error| error.to_string());
            known.secrets.are_outdated().and_then(|outdated| outdated.then(resolve).transpose())
        });
        let source = &self.context().source;
        let (settings, error) = match timeout(SECRET_CHECK_TIMEOUT, check).await {
            Err(_) => {
                let files: Vec<_> =
                    current.secrets.files().map(|file| format!("`{}`", file.display())).collect();
                let error =
                    format!("not read within {SECRET_CHECK_TIMEOUT:?}: {}", files.join(", "));
                (current, Some(error))
            }
            Ok(Ok(Ok(Some((new, _))))) => {
                info!(%source, "secret changed, opening a new plugin instance");
                let new = Arc::new(new);
                *self.shared.resolved.lock() = Arc::clone(&new);
                (new, None)
            }
            Ok(Ok(Err(error))) => (current, Some(error)),
            Ok(Ok(Ok(None))) => (current, None),
            Ok(Err(error)) => (current, Some(error.to_string())),
        };
        let mut last_error = self.shared.secret_error.lock();
        // A repeated error is logged only the first time.
        if let Some(error) = error.as_ref().filter(|_| *last_error != error) {
            warn!(%source, %error, "secret refresh failed, keeping the previous secret");
        }
        *last_error = error;
        drop(last_error);
        settings
    }

    /// Waits until the value rate limit permits another value.
    pub(crate) async fn wait_for_value_rate(&self) {
        if self.shared.value_rate_limit.wait().await {
            self.report_rate_limited("too many bytes of values", "value-rate");
        }
    }

    /// Counts and logs that a rate limit delays the source.
    pub(crate) fn report_rate_limited(&self, reason: &str, limit: &str) {
        let SourceContext { limits, denials, .. } = &**self.context();
        let limit = limits.cite(limit);
        denials.count_rate_limited(&format!("{RATE_LIMITED}{reason}; {limit} per second"));
    }

    /// Charges a value to the rate limit, checks its size, and redacts secrets in its media type and in the
    /// displayed form of its cursor.
    ///
    /// # Errors
    ///
    /// A permanent failure if the value, its cursor or its media type is too large.
    pub(crate) fn check_snapshot(
        &self,
        snapshot: Snapshot,
        resolved: &ResolvedSettings,
    ) -> Result<Snapshot, Failure> {
        let Snapshot { content, media_type, cursor } = snapshot;
        let limits = &self.context().limits;
        self.shared.value_rate_limit.charge(content.len());
        if content.len() > limits.value {
            return Err(too_large("value", content.len(), &limits.cite("value")));
        }
        let cursor_text = cursor.as_ref().map_or("", Cursor::as_str);
        for (what, text, max) in [
            ("cursor", cursor_text, MAX_CURSOR_BYTES),
            ("media type", media_type.as_deref().unwrap_or_default(), MAX_MEDIA_TYPE_BYTES),
        ] {
            if text.len() > max {
                return Err(too_large(what, text.len(), &format!("the maximum is {max}")));
            }
        }
        let secrets = &resolved.secrets;
        Ok(Snapshot {
            content,
            media_type: media_type.map(|text| sanitize(&secrets.redact(&text)).into()),
            cursor: cursor.map(|cursor| {
                let shown = secrets.redact(cursor.as_str()).into_owned();
                cursor.shown_as(&shown)
            }),
        })
    }

    /// Returns the grants, denials and memory usage of the source.
    pub(crate) fn confinement(&self) -> Confinement {
        let resolved = Arc::clone(&self.shared.resolved.lock());
        let context = self.context();
        let shown = |grant: &Grant| sanitize(&resolved.secrets.redact(&grant.in_words()));
        Confinement {
            granted: resolved.granted.iter().map(shown).collect(),
            denied: context.denials.all(),
            memory: context.limits.memory.saturating_sub(context.memory.remaining()),
        }
    }
}

fn too_large(what: &str, bytes: usize, limit: &str) -> Failure {
    let message = format!("the plugin's {what} has {bytes} bytes; {limit}");
    Failure::permanent(message)
}
