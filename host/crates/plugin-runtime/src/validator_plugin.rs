//! Validator of values by a plugin of the world `validator`.

use crate::{
    configure_error::ConfigureError,
    configured_plugin::{ConfiguredPlugin, SECRET_CHECK_TIMEOUT},
    limits::Limits,
    plugin_host::Plugin,
    resolved_settings::OperatorSettings,
};
use async_trait::async_trait;
use reloader_engine::types::{Failure, FailureKind, SourceName};
use reloader_net::EgressSettings;
use reloader_policy::Permission;
use reloader_source::validator::{Candidate, Rejection, Validator};
use serde_json::{Map, Value};
use std::{sync::Arc, time::Duration};

/// Builder of a validator for the values of one source, in which a plugin performs the check.
#[derive(Clone)]
#[must_use = "the builder does nothing before it is built"]
pub struct ValidatorBuilder {
    plugin: Plugin,
    source: SourceName,
    settings: OperatorSettings,
    limits: Arc<Limits>,
}

impl Plugin {
    /// Returns a builder of a validator for the values of a source. `source` is the name of the source in log events.
    pub fn validator(&self, source: &str) -> ValidatorBuilder {
        // A validator has no access to files or networks, so its settings imply no grants.
        let permission = Permission { implied: false, ..Permission::default() };
        ValidatorBuilder {
            plugin: self.clone(),
            source: SourceName::new(source),
            settings: OperatorSettings { permission, ..OperatorSettings::default() },
            limits: self.shared_limits(),
        }
    }
}

impl ValidatorBuilder {
    /// Sets one of the plugin's settings. `${env:NAME}` and `${file:PATH}` in a string are references to secrets.
    pub fn set(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.settings.settings.insert(name.into(), value.into());
        self
    }

    /// Sets several of the plugin's settings.
    pub fn settings(mut self, settings: Map<String, Value>) -> Self {
        self.settings.settings.extend(settings);
        self
    }

    /// Sets the limits of the validator. Default: those with which the plugin was loaded.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = Arc::new(limits);
        self
    }

    /// Checks the settings, and returns the validator, for
    /// [`SourceBuilder::validate`](crate::SourceBuilder::validate).
    ///
    /// # Errors
    ///
    /// [`ConfigureError`] with all errors of the settings, or if the plugin is a source.
    pub fn build(self) -> Result<Arc<dyn Validator>, ConfigureError> {
        let Self { plugin, source, settings, limits } = self;
        let name = plugin.description().name.clone();
        if !plugin.world().validates {
            return Err(ConfigureError::NotAValidator { plugin: name });
        }
        let time_limit = limits.two_calls_timeout().saturating_add(SECRET_CHECK_TIMEOUT);
        let plugin = plugin.configure(
            source,
            settings,
            limits,
            EgressSettings::default(),
            Arc::default(),
        )?;
        Ok(Arc::new(PluginValidator { name, plugin, time_limit }))
    }
}

/// Validator that opens a new instance for each value: no result depends on an earlier one, and no memory is held
/// between values.
struct PluginValidator {
    name: String,
    plugin: ConfiguredPlugin,
    time_limit: Duration,
}

#[async_trait]
impl Validator for PluginValidator {
    async fn validate(&self, candidate: &Candidate<'_>) -> Result<(), Rejection> {
        let name = &self.name;
        let validator_failure = |failure: Failure| {
            let message = format!("validator `{name}` failed: {failure}");
            Failure::new(failure.kind, message)
        };
        let resolved = self.plugin.resolved_settings().await;
        let instance = self.plugin.open(&resolved).await.map_err(validator_failure)?;
        let outcome = instance.validate(candidate.new.clone(), candidate.before.cloned()).await;
        outcome.result.map_err(|failure| match failure.kind {
            FailureKind::Permanent => {
                Failure::new(failure.kind, format!("rejected by `{name}`: {failure}"))
            }
            _ => validator_failure(failure),
        })
    }

    fn time_limit(&self) -> Duration {
        self.time_limit
    }
}
