//! A plugin that says whether a value may be let through.

use crate::{
    ConfigureError, Limits, Plugin,
    provider::{LOOK, PluginProvider},
    source_builder::CALLS,
    source_context::Written,
};
use async_trait::async_trait;
use reloader_engine::types::{Failure, FailureKind, SourceName};
use reloader_net::Reach;
use reloader_policy::Permission;
use reloader_source::validator::{Candidate, Rejection, Validator};
use serde_json::{Map, Value};
use std::{sync::Arc, time::Duration};

/// A validator in the making. [`build`](Self::build) makes it one.
#[derive(Clone)]
#[must_use = "a validator does nothing before values are given to it"]
pub struct ValidatorBuilder {
    plugin: Plugin,
    source: SourceName,
    written: Written,
    limits: Arc<Limits>,
}

impl Plugin {
    /// This plugin as what judges the values of a source, under whose name it appears in the log.
    pub fn validator(&self, source: &str) -> ValidatorBuilder {
        // It decides by the value alone, whatever its settings are marked with.
        let permission = Permission { implied: false, ..Permission::default() };
        ValidatorBuilder {
            plugin: self.clone(),
            source: SourceName::new(source),
            written: Written { permission, ..Written::default() },
            limits: self.shared_limits(),
        }
    }
}

impl ValidatorBuilder {
    /// Sets one of the plugin's settings. In a text `${env:NAME}` and `${file:PATH}` stand for secrets.
    pub fn set(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.written.settings.insert(name.into(), value.into());
        self
    }

    /// Sets several of the plugin's settings.
    pub fn settings(mut self, settings: Map<String, Value>) -> Self {
        self.written.settings.extend(settings);
        self
    }

    /// How much it may use; by default as much as all sources of its [`PluginHost`](crate::PluginHost).
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = Arc::new(limits);
        self
    }

    /// Checks the settings, and gives what judges values:
    /// [`SourceBuilder::validate`](crate::SourceBuilder::validate) takes it.
    ///
    /// # Errors
    ///
    /// [`ConfigureError`]: everything that is wrong with the settings, or a plugin that is a source.
    pub fn build(self) -> Result<Arc<dyn Validator>, ConfigureError> {
        let Self { plugin, source, written, limits } = self;
        let name = plugin.description().name.clone();
        if !plugin.world().validates {
            return Err(ConfigureError::NotAValidator { plugin: name });
        }
        let time_limit = limits.call_timeout.saturating_mul(2).saturating_add(CALLS + LOOK);
        let parts = plugin.origin(source, written, limits, Reach::default(), Arc::default())?;
        Ok(Arc::new(PluginValidator { name, parts, time_limit }))
    }
}

/// Each value has a fresh instance, so that no judgement depends on the one before, and nothing is held
/// while there is nothing to judge. Calls end by their limits, as a source's do.
struct PluginValidator {
    name: String,
    parts: PluginProvider,
    time_limit: Duration,
}

#[async_trait]
impl Validator for PluginValidator {
    async fn validate(&self, candidate: &Candidate<'_>) -> Result<(), Rejection> {
        let name = &self.name;
        let not_made = |failure: Failure| {
            let message = format!("`{name}` could not judge the value: {failure}");
            Failure::new(failure.kind, message)
        };
        let configured = self.parts.configured().await;
        let instance = self.parts.open(&configured).await.map_err(not_made)?;
        let called = instance.validate(candidate.new.clone(), candidate.before.cloned()).await;
        called.result.map_err(|failure| match failure.kind {
            FailureKind::Permanent => {
                Failure::new(failure.kind, format!("`{name}` refuses the value: {failure}"))
            }
            _ => not_made(failure),
        })
    }

    fn time_limit(&self) -> Duration {
        self.time_limit
    }
}
