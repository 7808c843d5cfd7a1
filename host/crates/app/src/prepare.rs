//! Preparation of sources: loads the plugins, checks their settings, and builds the validators, so that
//! the sources can be started.

use crate::config::{Config, ConfigError, InvalidSetting, SourceConfig};
use reloader_delivery::{
    SinkSettings,
    source_value_validation::{PluginValidators, ValidateSettings},
};
use reloader_fs_watch::FileFingerprint;
use reloader_plugin_runtime::{
    ConfigureError, JsonSchemaSettings, JsonSchemaValidator, Limits, Plugin, PluginHost,
    SourceBuilder, is_path,
};
use reloader_source::validator::Validator;
use std::{collections::BTreeSet, path::Path, sync::Arc};
use tokio::{sync::Mutex, task::spawn_blocking};

/// Source whose plugins are loaded and whose settings are checked, so that it can be started.
#[derive(Clone)]
pub struct Prepared {
    pub(crate) config: SourceConfig,
    pub(crate) plugin: Plugin,
    pub(crate) builder: SourceBuilder,
    /// Plugin that validates the values.
    validator: Option<Plugin>,
    /// Fingerprints of the plugin files, taken before the files were loaded.
    pub(crate) fingerprints: Vec<(String, Option<FileFingerprint>)>,
}

impl Prepared {
    /// Replaces the settings that concern only the host: sinks, `required`, `store` and `readable`.
    pub(crate) fn with_host_settings_of(mut self, other: &SourceConfig) -> Self {
        self.config = self.config.with_host_settings_of(other);
        self
    }

    /// Returns the digests of the source plugin and of the validator.
    pub(crate) fn plugin_digests(&self) -> [Option<&str>; 2] {
        let plugins = [Some(&self.plugin), self.validator.as_ref()];
        plugins.map(|plugin| plugin.map(|plugin| plugin.description().digest.as_str()))
    }
}

/// Returns the error of the setting `key` in the table of a source.
fn invalid(key: &str, message: impl ToString) -> InvalidSetting {
    InvalidSetting { path: vec![key.into()], message: message.to_string() }
}

/// Returns the errors of a plugin whose settings are below `key` in the table of a source.
fn invalid_plugin_settings(key: &str, error: &ConfigureError) -> Vec<InvalidSetting> {
    // `setting` is a path of keys, separated by dots.
    let below = |setting: Option<&str>, message: String| {
        let levels = setting.into_iter().flat_map(|setting| setting.split('.'));
        let path = [key].into_iter().chain(levels).map(Into::into).collect();
        InvalidSetting { path, message }
    };
    match error {
        ConfigureError::Settings(errors) => {
            errors.iter().map(|error| below(error.setting(), error.to_string())).collect()
        }
        ConfigureError::Grants(errors) => {
            errors.iter().map(|error| below(Some(&error.setting), error.to_string())).collect()
        }
        ConfigureError::Credential(_) => vec![invalid("credentials", error)],
        ConfigureError::CannotWatch { .. } => vec![invalid("strategy", error)],
        ConfigureError::NotASource { .. } | ConfigureError::NotAValidator { .. } => {
            vec![invalid("plugin", error)]
        }
    }
}

/// Reads the fingerprint of a plugin. Returns `None` for a bundled plugin, which has no file.
fn plugin_fingerprint(name: &str) -> Option<FileFingerprint> {
    if is_path(name) { FileFingerprint::read(Path::new(name)) } else { None }
}

/// Loads plugins, each once for all sources.
pub(crate) struct Plugins<'a> {
    runtime: &'a PluginHost,
    loaded: Mutex<Vec<Loaded>>,
}

/// Name and limits with which a plugin was loaded, and the plugin or the error.
type Loaded = (String, Limits, Result<Plugin, String>);

impl<'a> Plugins<'a> {
    pub(crate) fn new(runtime: &'a PluginHost) -> Self {
        Self { runtime, loaded: Mutex::default() }
    }

    async fn load(&self, name: &str, limits: &Limits) -> Result<Plugin, String> {
        let mut loaded = self.loaded.lock().await;
        if let Some((.., plugin)) =
            loaded.iter().find(|(known, with, _)| known == name && with == limits)
        {
            return plugin.clone();
        }
        let plugin = self.runtime.load_within(name, limits).await;
        let plugin = plugin.map_err(|error| error.to_string());
        loaded.push((name.into(), limits.clone(), plugin.clone()));
        plugin
    }

    /// Prepares one source: checks everything that can be checked without opening the source.
    pub(crate) async fn prepare(
        &self,
        config: &SourceConfig,
    ) -> Result<Prepared, Vec<InvalidSetting>> {
        let plugins = config.plugins();
        let fingerprints =
            plugins.map(|plugin| (plugin.to_owned(), plugin_fingerprint(plugin))).collect();
        let plugin = self.load(&config.plugin, &config.limits).await;
        let plugin = plugin.map_err(|error| vec![invalid("plugin", error)])?;
        let digest = &plugin.description().digest;
        if let Some(wanted) = &config.sha256
            && wanted != digest
        {
            let message = format!("SHA-256 mismatch: the plugin has {digest}");
            return Err(vec![invalid("sha256", message)]);
        }
        let mut builder = plugin
            .source(config.name.as_str())
            .settings(config.settings.clone())
            .permission(config.permission.clone())
            .limits(config.limits.clone())
            .tls(config.tls.clone());
        for credential in &config.credentials {
            builder = builder.credential(credential.clone());
        }
        for range in &config.addresses {
            builder = builder.allow_address(*range);
        }
        if let Some(strategy) = config.strategy {
            builder = builder.strategy(strategy);
        }
        if let Some(interval) = config.interval {
            builder = builder.interval(interval);
        }
        if let Some(reconcile) = config.reconcile {
            builder = builder.reconcile(reconcile);
        }
        if let Some(stale_after) = config.stale_after {
            builder = builder.stale_after(stale_after);
        }
        let mut errors = Vec::new();
        let mut validator_plugin = None;
        if let Some(settings) = &config.validate {
            match self.validator_chain(config, settings).await {
                Ok((validators, plugin)) => {
                    builder = validators.into_iter().fold(builder, SourceBuilder::validate);
                    validator_plugin = plugin;
                }
                Err(found) => errors.extend(found),
            }
        }
        if let Err(error) = builder.provider() {
            errors.extend(invalid_plugin_settings("config", &error));
        }
        let tls = config.tls.clone();
        if let Ok(Err(error)) = spawn_blocking(move || tls.check()).await {
            errors.push(invalid("tls", error));
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let config = config.clone();
        Ok(Prepared { config, plugin, builder, validator: validator_plugin, fingerprints })
    }

    /// Creates the validators of a source. Returns them as one, together with the validator plugin.
    async fn validator_chain(
        &self,
        config: &SourceConfig,
        settings: &ValidateSettings,
    ) -> Result<(Option<Arc<dyn Validator>>, Option<Plugin>), Vec<InvalidSetting>> {
        let problems = settings.problems().into_iter();
        let mut errors: Vec<_> = problems.map(|problem| invalid("validate", problem)).collect();
        let mut validators = PluginValidators::default();
        let mut plugin = None;
        if let Some(path) = &settings.schema {
            match self.schema_validator(path, config, settings).await {
                Ok(validator) => validators.schema = Some(validator),
                Err(error) => errors.push(invalid("validate", error)),
            }
        }
        if let Some(name) = &settings.plugin {
            match self.plugin_validator(name, config, settings).await {
                Ok((validator, its_plugin)) => {
                    (validators.plugin, plugin) = (Some(validator), Some(its_plugin));
                }
                Err(error) => {
                    let lines = error.lines();
                    errors.extend(lines.map(|line| invalid("validate", line)));
                }
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok((settings.validator(validators), plugin))
    }

    /// Creates a JSON Schema validator and checks that the schema compiles.
    async fn schema_validator(
        &self,
        path: &Path,
        config: &SourceConfig,
        settings: &ValidateSettings,
    ) -> Result<Arc<dyn Validator>, String> {
        let plugin = self.load(JsonSchemaValidator::PLUGIN, &Limits::default()).await?;
        let settings = JsonSchemaSettings {
            path: path.to_owned(),
            format: settings.format(),
            not_empty: settings.not_empty,
            timeout: settings.timeout.0,
        };
        let name = config.name.as_str();
        let validator = JsonSchemaValidator::new(plugin, name, settings, &config.limits);
        validator.check_schema().await.map_err(|failure| failure.to_string())?;
        Ok(Arc::new(validator))
    }

    /// Creates the validator of a plugin.
    async fn plugin_validator(
        &self,
        name: &str,
        config: &SourceConfig,
        settings: &ValidateSettings,
    ) -> Result<(Arc<dyn Validator>, Plugin), String> {
        let plugin = self.load(name, &config.limits).await?;
        let limits = Limits { call_timeout: settings.timeout.0, ..config.limits.clone() };
        let validator = plugin.validator(config.name.as_str()).settings(settings.config.clone());
        let validator = validator.limits(limits).build().map_err(|error| error.to_string())?;
        Ok((validator, plugin))
    }
}

/// Returns the errors of the sinks of a source or group, with the index of the sink.
fn sink_errors(owner: &str, sinks: &[SinkSettings]) -> Vec<(usize, String)> {
    let mut names = BTreeSet::new();
    let mut errors = Vec::new();
    for (index, sink) in sinks.iter().enumerate() {
        if let Some(name) = sink.name().filter(|name| !names.insert(*name)) {
            errors.push((index, format!("duplicate sink name `{name}`")));
        }
        if let Err(error) = sink.build(owner) {
            errors.push((index, error.to_string()));
        }
    }
    errors
}

/// Prepares all sources of a configuration.
///
/// # Errors
///
/// All errors of the configuration, with their places in the file.
pub async fn prepare(runtime: &PluginHost, config: &Config) -> Result<Vec<Prepared>, ConfigError> {
    let plugins = Plugins::new(runtime);
    let mut prepared = Vec::with_capacity(config.sources.len());
    let mut errors = Vec::new();
    for (index, source) in config.sources.iter().enumerate() {
        match plugins.prepare(source).await {
            Ok(source) => prepared.push(source),
            Err(found) => {
                errors.extend(found.into_iter().map(|InvalidSetting { path, message }| {
                    let path = config.source_path(index).into_iter().chain(path).collect();
                    InvalidSetting { path, message }
                }))
            }
        }
    }
    for (index, source) in config.sources.iter().enumerate().filter(|_| config.is_valid()) {
        for (sink, message) in sink_errors(source.name.as_str(), &source.sinks) {
            let sink = ["sink".into(), sink.to_string()];
            let path = config.source_path(index).into_iter().chain(sink).collect();
            errors.push(InvalidSetting { path, message });
        }
    }
    for (index, group) in config.groups.iter().enumerate().filter(|_| config.is_valid()) {
        for (sink, message) in sink_errors(&group.name, &group.sinks) {
            let path = ["group", &index.to_string(), "sink", &sink.to_string()];
            errors.push(InvalidSetting { path: path.map(Into::into).to_vec(), message });
        }
    }
    if errors.is_empty() && config.is_valid() {
        Ok(prepared)
    } else {
        Err(config.error_with(errors))
    }
}

/// Reads a configuration file and prepares its sources.
///
/// # Errors
///
/// All errors of the file and of the settings of its plugins, with their places in the file.
pub async fn check(
    runtime: &PluginHost,
    path: &Path,
) -> Result<(Config, Vec<Prepared>), ConfigError> {
    let config = Config::read_partial(path)?;
    let prepared = prepare(runtime, &config).await?;
    Ok((config, prepared))
}
